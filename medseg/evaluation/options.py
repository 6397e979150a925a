"""How masks are compared with their references."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from medseg.data.splits import Split
from medseg.errors import UsageError
from medseg.evaluation.results import MISSING_POLICY
from medseg.evaluation.score import SLICE_AXES

Missing = Literal["zero", "skip", "error"]


@dataclass(frozen=True)
class EvaluateOptions:
    """How masks are compared with their references.

    Args:
        labels: Name of each value; otherwise from a dataset.json in or above the references,
            from the record that `medseg predict` left beside the masks, from the references' data
            set where its layout says, or ``class 1`` ….
        held_out: Split, or its JSON file, or the names of the test cases; adds a column and a table per part.
        missing: What a reference without a mask counts: ``zero``, ``skip`` or ``error``.
        background: Value 0 counts among the lowest scores, and in a mean beside the foreground's.
        slices: Axis (from 0) of the stored reference along which every slice is a case, ``case7#012``.
        renamed: Values of the references to read as others, such as ``{4: 3}``.

    Raises:
        UsageError: MISSING_UNKNOWN, or SETTING_INVALID where there is no such axis.
    """

    labels: Mapping[int, str] | None = None
    held_out: Split | Collection[str] | str | Path | None = None
    missing: Missing = "zero"
    background: bool = False
    slices: int | None = None
    renamed: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.missing not in MISSING_POLICY:
            choices = ", ".join(MISSING_POLICY)
            raise UsageError("MISSING_UNKNOWN", "missing", f"{self.missing!r}", f"choose one of {choices}")
        if self.slices is not None and (type(self.slices) is not int or self.slices not in SLICE_AXES):
            raise UsageError("SETTING_INVALID", "slices", f"{self.slices!r} is no axis", "give 0, 1 or 2")

    def to_record(self) -> dict[str, str]:
        """What was asked for beyond a plain comparison of whole cases, and what a missing mask counts."""
        asked = {"missing": str(self.missing)}
        asked |= {"background": "a class as well"} if self.background else {}
        asked |= {"slices": f"along axis {self.slices}"} if self.slices is not None else {}
        told = ", ".join(f"{old}={new}" for old, new in self.renamed.items())
        return asked | ({"renamed": told} if told else {})
