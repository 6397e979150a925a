"""Images that are the same, or nearly, and whether a split parts them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from medseg.data.checking.facts import Facts
from medseg.data.checking.findings import Finding, found

NEARLY_SAME = 0.999
"""Correlation of two thumbnails from which on the images show the same."""

ROWS_AT_ONCE = 512


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
