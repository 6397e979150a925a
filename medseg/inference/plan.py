"""What a case may take in memory, and the first plan that keeps to it; without PyTorch, for exported bundles too."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Protocol, TypeVar

from medseg.data.payload import memory_limit
from medseg.errors import ImageError
from medseg.inference.options import PredictOptions


class Plan(Protocol):
    """How a case will be run."""

    @property
    def case(self) -> str:
        """Its id."""

    @property
    def parts(self) -> Mapping[str, int]:
        """Bytes by what they hold; not all are held at the same time."""

    @property
    def peak_bytes(self) -> int:
        """The most that the case takes at once."""


PlanType = TypeVar("PlanType", bound=Plan)


def allowed_bytes(options: PredictOptions) -> int | None:
    """What a case may take: ``options.max_ram``, or half of what is free; None where that is not known."""
    if options.max_ram is not None:
        return options.max_ram
    free = memory_limit()
    return None if free is None else free // 2  # The rest is for the cases that are read and written meanwhile.


def first_fitting(plans: Iterable[PlanType], most_bytes: int | None) -> PlanType:
    """The first plan that takes no more than ``most_bytes``; None allows any.

    Args:
        plans: At least one, each smaller than the one before.
        most_bytes: Of ``allowed_bytes``.

    Raises:
        ImageError: ``MEMORY_BUDGET``: none does; the remedy names the size that would do.
    """
    tried = []
    for plan in plans:
        if most_bytes is None or plan.peak_bytes <= most_bytes:
            return plan
        tried.append(plan)
    first, least = tried[0], tried[-1]
    parts = ", ".join(f"{name} {_gb(size)}" for name, size in least.parts.items())
    raise ImageError(
        "MEMORY_BUDGET",
        first.case,
        f"it takes {_gb(first.peak_bytes)} GB as it is and {_gb(least.peak_bytes)} GB at least ({parts}), "
        f"{_gb(most_bytes or 0)} GB are allowed",
        f"raise --max-ram to {math.ceil(least.peak_bytes / 2**20)}M where there is more memory, or crop the image",
    )


def _gb(size: int) -> str:
    return f"{size / 1e9:.3g}"
