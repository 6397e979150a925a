"""What a split must not divide: images that are the same, or nearly, and the cases of one patient."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from medseg.checking.case_statistics import CaseStatistics
from medseg.data.cases.case import Case, some_of
from medseg.data.splits import Split
from medseg.findings import WHOLE, Finding
from medseg.options import SPLIT_PARTS
from medseg.text import pluralise

NEARLY_SAME = 0.999
"""Correlation of two thumbnails from which on the images show the same."""

ROWS_AT_ONCE = 512


def map_parts(split: Split | None) -> dict[str, str]:
    """The part of each case; empty where there is no split."""
    return {name: part for part in SPLIT_PARTS for name in getattr(split, part)} if split else {}


def check_split(split: Split, cases: Sequence[Case], others: Iterable[str] = ()) -> Iterator[Finding]:
    """Patients in two parts, cases in none, and names that no case has.

    Args:
        split: The split as it was read.
        cases: The cases of the data set.
        others: Ids that are no cases and may stand in the split all the same.
    """
    part_of = map_parts(split)
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.group, []).append(case)
    for members in groups.values():
        parts = {case.id: part_of[case.id] for case in members if case.id in part_of}
        if len(set(parts.values())) > 1:
            told = ", ".join(f"{name} in {part}" for name, part in parts.items())
            yield Finding(members[0].id, "SPLIT_LEAK", f"cases of one patient are in several parts: {told}")
    unknown = sorted({case.id for case in cases} - set(part_of))
    absent = sorted(set(part_of) - {case.id for case in cases} - set(others))
    if unknown:
        yield Finding(WHOLE, "SPLIT_PARTIAL", f"{pluralise(len(unknown), 'case')} in no part: {some_of(unknown, 5)}")
    if absent:
        yield Finding(WHOLE, "SPLIT_PARTIAL", f"{pluralise(len(absent), 'name')} of no case here: {some_of(absent, 5)}")


def find_copies(statistics: Sequence[CaseStatistics], part_of: Mapping[str, str]) -> Iterator[Finding]:
    """Equal images, nearly equal images of other patients, and equal masks of different images.

    Args:
        statistics: What is kept of all cases.
        part_of: The part of the split that each case is in; empty where there is no split.
    """
    equal = _pair_equal([(each, each.image.digest) for each in statistics if each.image])
    for first, second in equal:
        yield _find_pair("DUPLICATE_IMAGE", "DUPLICATE_LEAK", first, second, "the same image", part_of)
    for first, second, likeness in _pair_near(statistics, part_of):
        told = f"nearly the same image (correlation {likeness:.4f})"
        yield _find_pair("NEAR_DUPLICATE_IMAGE", "NEAR_DUPLICATE_LEAK", first, second, told, part_of)
    drawn = [each for each in statistics if each.image and each.mask and not (each.mask.is_empty or each.mask.is_full)]
    for first, second in _pair_equal([(each, each.mask.digest) for each in drawn if each.mask]):
        if first.image and second.image and first.image.digest != second.image.digest:
            yield Finding(second.case, "DUPLICATE_LABEL", f"the same mask as {first.case}, whose image is another")


def _find_pair(
    code: str, leak: str, first: CaseStatistics, second: CaseStatistics, told: str, part_of: Mapping[str, str]
) -> Finding:
    parts = part_of.get(first.case), part_of.get(second.case)
    if None not in parts and parts[0] != parts[1]:
        return Finding(second.case, leak, f"{told} as {first.case}; they are in {parts[1]} and {parts[0]}")
    return Finding(second.case, code, f"{told} as {first.case}")


def _pair_equal(digests: Sequence[tuple[CaseStatistics, str]]) -> Iterator[tuple[CaseStatistics, CaseStatistics]]:
    """Each case with the first that has the same digest."""
    first: dict[str, CaseStatistics] = {}
    for each, digest in digests:
        if digest in first:
            yield first[digest], each
        else:
            first[digest] = each


def _pair_near(
    statistics: Sequence[CaseStatistics], part_of: Mapping[str, str]
) -> Iterator[tuple[CaseStatistics, CaseStatistics, float]]:
    """Each case with the one before it, of another patient, that is most alike; one in another part comes first."""
    by_kind: dict[int, list[CaseStatistics]] = {}
    for each in statistics:
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
                    yield _choose_worst(alike, second, part_of)


def _choose_worst(
    alike: list[tuple[CaseStatistics, float]], second: CaseStatistics, part_of: Mapping[str, str]
) -> tuple[CaseStatistics, CaseStatistics, float]:
    part = part_of.get(second.case)
    first, likeness = max(alike, key=lambda pair: (part_of.get(pair[0].case, part) != part, pair[1]))
    return first, second, likeness


def _are_different(first: CaseStatistics, second: CaseStatistics) -> bool:
    same = first.image and second.image and first.image.digest == second.image.digest
    return first.group != second.group and not same
