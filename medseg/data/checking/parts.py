"""A split held against the cases: patients in two parts, cases that it does not know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from medseg.data.case import Case, some_of
from medseg.data.checking.findings import WHOLE, Finding, counted, found
from medseg.data.splits import PARTS, Split


def parts_of(split: Split | None) -> dict[str, str]:
    """The part of each case; empty where there is no split."""
    return {name: part for part in PARTS for name in getattr(split, part)} if split else {}


def split_findings(split: Split, cases: Sequence[Case], others: Iterable[str] = ()) -> Iterator[Finding]:
    """Patients in two parts, cases in none, and names that no case has.

    Args:
        split: As it was read.
        cases: Of the data set.
        others: Ids that are no cases and may stand in the split all the same.
    """
    part_of = parts_of(split)
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.group, []).append(case)
    for members in groups.values():
        parts = {case.id: part_of[case.id] for case in members if case.id in part_of}
        if len(set(parts.values())) > 1:
            told = ", ".join(f"{name} in {part}" for name, part in parts.items())
            yield found("SPLIT_LEAK", members[0].id, f"cases of one patient are in several parts: {told}")
    unknown = sorted({case.id for case in cases} - set(part_of))
    absent = sorted(set(part_of) - {case.id for case in cases} - set(others))
    if unknown:
        yield found("SPLIT_PARTIAL", WHOLE, f"{counted(len(unknown), 'case')} in no part: {some_of(unknown, 5)}")
    if absent:
        yield found("SPLIT_PARTIAL", WHOLE, f"{counted(len(absent), 'name')} of no case here: {some_of(absent, 5)}")
