"""What a split must not divide: images that are the same, or nearly, and the cases of one patient."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from medseg.data.cases.case import Case, some_of
from medseg.data.checking.facts import Facts
from medseg.data.checking.findings import WHOLE, Finding, counted, found
from medseg.data.splits import Split
from medseg.options import SPLIT_PARTS

NEARLY_SAME = 0.999
"""Correlation of two thumbnails from which on the images show the same."""

ROWS_AT_ONCE = 512


def parts_of(split: Split | None) -> dict[str, str]:
    """The part of each case; empty where there is no split."""
    return {name: part for part in SPLIT_PARTS for name in getattr(split, part)} if split else {}


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


def copy_findings(facts: Sequence[Facts], part_of: Mapping[str, str]) -> Iterator[Finding]:
    """Equal images, nearly equal images of other patients, and equal masks of different images.

    Args:
        facts: Of all cases.
        part_of: The part of the split that each case is in; empty where there is no split.
    """
    equal = _equal_pairs([(each, each.image.digest) for each in facts if each.image])
    for first, second in equal:
        yield _pair("DUPLICATE_IMAGE", "DUPLICATE_LEAK", first, second, "the same image", part_of)
    for first, second, likeness in _near_pairs(facts, part_of):
        told = f"nearly the same image (correlation {likeness:.4f})"
        yield _pair("NEAR_DUPLICATE_IMAGE", "NEAR_DUPLICATE_LEAK", first, second, told, part_of)
    drawn = [each for each in facts if each.image and each.mask and not (each.mask.is_empty or each.mask.is_full)]
    for first, second in _equal_pairs([(each, each.mask.digest) for each in drawn if each.mask]):
        if first.image and second.image and first.image.digest != second.image.digest:
            yield found("DUPLICATE_LABEL", second.case, f"the same mask as {first.case}, whose image is another")


def _pair(code: str, leak: str, first: Facts, second: Facts, told: str, part_of: Mapping[str, str]) -> Finding:
    parts = part_of.get(first.case), part_of.get(second.case)
    if None not in parts and parts[0] != parts[1]:
        return found(leak, second.case, f"{told} as {first.case}; they are in {parts[1]} and {parts[0]}")
    return found(code, second.case, f"{told} as {first.case}")


def _equal_pairs(digests: Sequence[tuple[Facts, str]]) -> Iterator[tuple[Facts, Facts]]:
    """Each case with the first that has the same digest."""
    first: dict[str, Facts] = {}
    for each, digest in digests:
        if digest in first:
            yield first[digest], each
        else:
            first[digest] = each


def _near_pairs(facts: Sequence[Facts], part_of: Mapping[str, str]) -> Iterator[tuple[Facts, Facts, float]]:
    """Each case with the one before it, of another patient, that is most alike; one in another part comes first."""
    by_kind: dict[int, list[Facts]] = {}
    for each in facts:
        if each.image and each.image.thumbnail is not None:
            by_kind.setdefault(len(each.image.thumbnail), []).append(each)
    for members in by_kind.values():
        small = np.array([each.image.thumbnail for each in members if each.image], dtype=np.float32)
        for start in range(0, len(members), ROWS_AT_ONCE):
            likeness = small[start : start + ROWS_AT_ONCE] @ small.T
            for row, second in enumerate(members[start : start + ROWS_AT_ONCE]):
                before = np.flatnonzero(likeness[row, : start + row] > NEARLY_SAME)
                alike = [(members[n], float(likeness[row, n])) for n in before if _are_different(members[n], second)]
                if alike:
                    yield _worst(alike, second, part_of)


def _worst(alike: list[tuple[Facts, float]], second: Facts, part_of: Mapping[str, str]) -> tuple[Facts, Facts, float]:
    part = part_of.get(second.case)
    first, likeness = max(alike, key=lambda pair: (part_of.get(pair[0].case, part) != part, pair[1]))
    return first, second, likeness


def _are_different(first: Facts, second: Facts) -> bool:
    same = first.image and second.image and first.image.digest == second.image.digest
    return first.group != second.group and not same
