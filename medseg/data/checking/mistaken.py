"""Label maps that lie among the images under names of their own, so that no layout takes them for masks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import PurePath

from medseg.data.cases.case import Case
from medseg.data.checking.facts import Facts, ImageFacts
from medseg.data.checking.findings import Finding, found
from medseg.geometry import NEAR_GRID_VOXELS, corner_distance_voxels

CODE = "LOOKS_LIKE_MASK"
UNTRUE = frozenset({"CT_NOT_HU", "FEW_GREY_LEVELS"})
"""What rules for images find in label maps."""

MASK_WORD = re.compile(
    r"(?<![a-z])(masks?|seg(s|m|mentations?)?|labels?|labelmaps?|gt|truth|annotations?|rois?|manual)(?![a-z])",
    re.IGNORECASE,
)


def without_mistaken(
    cases: Sequence[Case], facts: Sequence[Facts], findings: Sequence[Finding]
) -> tuple[list[Facts], list[Finding]]:
    """The cases without images that look like masks of others, and the findings with what is true of those instead.

    Args:
        cases: All of the data set.
        facts: Of each.
        findings: Of each case by itself.
    """
    lonely = {case.id for case in cases if not case.label_files}
    mistaken = {finding.case: finding for finding in _mistaken([each for each in facts if each.case in lonely], facts)}
    kept = [each for each in findings if each.case not in mistaken or each.code not in UNTRUE]
    seen = [replace(each, image=None) if each.case in mistaken else each for each in facts]
    return seen, [*kept, *mistaken.values()]


def _mistaken(lonely: Sequence[Facts], facts: Sequence[Facts]) -> Iterator[Finding]:
    owners: dict[tuple[int, ...], list[tuple[str, ImageFacts]]] = {}
    for each in facts:
        if each.image and not each.image.label_values:
            owners.setdefault(each.image.shape, []).append((each.case, each.image))
    for each in lonely:
        image = each.image
        owner = _owner(each.case, image, owners.get(image.shape, ())) if image and image.label_values else None
        if image and owner:
            what = f"{image.label_values} whole values from 0 on the grid of {owner}: its mask, by the looks of it"
            yield found(CODE, each.case, what)


def _owner(case: str, image: ImageFacts, others: Sequence[tuple[str, ImageFacts]]) -> str | None:
    """The image that a label map was drawn on: one that its name names, else any on its grid.

    Pictures of one size are all on one grid, which says nothing: theirs needs a name.
    """
    named = next((name for name, other in others if _is_named_after(case, name) and _lies_on(image, other)), None)
    if named is not None or not (MASK_WORD.search(case) or (len(image.shape) == 3 and image.has_grid)):
        return named
    return next((name for name, other in others if _lies_on(image, other)), None)


def _is_named_after(case: str, other: str) -> bool:
    """Whether a name has another one in it as whole words: ``ct_lungs`` and ``ct``, but not ``ct10`` and ``ct1``."""
    stem = re.escape(PurePath(other).name)
    return re.search(rf"(?<![A-Za-z0-9]){stem}(?![A-Za-z0-9])", PurePath(case).name) is not None


def _lies_on(image: ImageFacts, other: ImageFacts) -> bool:
    return corner_distance_voxels(image.grid, other.grid) <= NEAR_GRID_VOXELS
