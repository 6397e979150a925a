"""Sizes of the parts of a split, from fractions, ratios or numbers to groups."""

from __future__ import annotations

import math
from collections.abc import Sequence

from medseg.errors import DatasetError, UsageError

Sizes = str | Sequence[float]
"""``(0.7, 0.2, 0.1)``, ``"8:1:1"`` or ``(250, 74, 45)``."""


def group_counts(wanted: Sizes, count: int) -> list[int]:
    """Numbers of groups in the three parts: exact, or by largest remainder.

    Args:
        wanted: Fractions, a ratio in text, or numbers; of two parts or three.
        count: How many groups there are.

    Raises:
        UsageError: SPLIT_SIZES, they make no sense.
        DatasetError: SPLIT_SIZES, numbers that do not add up to ``count``.
    """
    shares = _numbers(wanted)
    is_ratio = isinstance(wanted, str) or math.isclose(sum(shares), 1, abs_tol=1e-6)
    if not is_ratio and all(share == int(share) for share in shares):
        if sum(shares) != count:
            raise DatasetError(
                "SPLIT_SIZES",
                str(wanted),
                f"adds up to {int(sum(shares))}, but there are {count} groups (patients)",
                f"give numbers that add up to {count}, fractions, or a ratio in text such as '8:1:1'",
            )
        return [int(share) for share in shares]
    if not is_ratio:
        raise _bad_sizes(wanted)
    exact = [share / sum(shares) * count for share in shares]
    sizes = [math.floor(value + 1e-9) for value in exact]
    by_remainder = sorted(range(3), key=lambda part: (sizes[part] - exact[part], part))
    for part in by_remainder[: count - sum(sizes)]:
        sizes[part] += 1
    return sizes


def _numbers(wanted: Sizes) -> list[float]:
    try:
        shares = [float(share) for share in (wanted.split(":") if isinstance(wanted, str) else wanted)]
    except (TypeError, ValueError) as error:
        raise _bad_sizes(wanted) from error
    if len(shares) not in (2, 3) or not all(math.isfinite(s) and s >= 0 for s in shares) or sum(shares) <= 0:
        raise _bad_sizes(wanted)
    return [*shares, 0.0][:3]


def _bad_sizes(wanted: object) -> UsageError:
    return UsageError(
        "SPLIT_SIZES",
        str(wanted),
        "not two or three sizes",
        "give fractions that add up to 1, '8:1:1', or numbers of groups",
    )
