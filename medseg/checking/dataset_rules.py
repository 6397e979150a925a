"""What shows only beside the other cases: outliers, mixtures, rare labels, and images that a split must not divide."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from medseg.checking.case_statistics import MOST_COUNTED_LABELS, CaseStatistics, ImageStatistics
from medseg.checking.read_case import Expected
from medseg.data.cases.case import Case
from medseg.data.labels import WHITE, is_white_only
from medseg.data.splits import Split
from medseg.findings import WHOLE, Finding
from medseg.geometry import NEAR_GRID_VOXELS, corner_distance_voxels
from medseg.options import SPLIT_PARTS
from medseg.text import list_some, pluralise

FEWEST_CASES = 5
"""Fewer say nothing of what is usual."""

SPACING_RATIO = 3.0
SHAPE_RATIO = 4.0
INTENSITY_RATIO = 20.0
PIECES_RATIO = 10
FEWEST_PIECES = 20
RARE_SHARE = 0.05
RARE_CASES = 2
NOMINAL_CASES = 10
USUALLY_EMPTY = 0.2
MOST_OUTLIERS = 0.25
MOST_BESIDE_WHITE = 32
"""Beside more labels, 255 is likely to be one of them."""


def apply_dataset_rules(statistics: Sequence[CaseStatistics], expected: Expected) -> Iterator[Finding]:
    """All that the rules find in the cases beside each other."""
    for rule in DATASET_RULES:
        yield from rule(statistics, expected)


def take_white_as_one(statistics: Sequence[CaseStatistics], expected: Expected) -> tuple[CaseStatistics, ...]:
    """The cases with 255 counted as label 1, where masks hold nothing else and nothing names the labels."""
    white = set(_find_white_cases(statistics, expected))
    return tuple(_rename_white(each) if each.case in white else each for each in statistics)


def _rename_white(statistics: CaseStatistics) -> CaseStatistics:
    if statistics.mask is None:
        return statistics
    voxels, pieces = (
        {1 if value == WHITE else value: count for value, count in table.items()}
        for table in (statistics.mask.voxels, statistics.mask.pieces)
    )
    return replace(statistics, mask=replace(statistics.mask, voxels=voxels, pieces=pieces))


def _find_white_cases(statistics: Sequence[CaseStatistics], expected: Expected) -> list[str]:
    others = _collect_other_values(statistics)
    if expected.values is not None or others:
        return []
    return [each.case for each in statistics if each.mask and is_white_only(tuple(each.mask.stored_values))]


def _collect_other_values(statistics: Sequence[CaseStatistics]) -> set[int]:
    """Stored values but 0 and 255, of masks that are no blurred pictures."""
    masks = [each.mask for each in statistics if each.mask is not None and not each.mask.has_soft_edges]
    return {value for mask in masks for value in mask.stored_values} - {0, WHITE}


def _check_white(statistics: Sequence[CaseStatistics], expected: Expected) -> Iterator[Finding]:
    """Masks of 0 and 255 where nothing names the labels; 255 beside other labels."""
    for case in _find_white_cases(statistics, expected):
        yield Finding(case, "LABEL_MAPPED", "value 255 is taken as label 1")
    others = sorted(_collect_other_values(statistics))
    if expected.values is not None or not 0 < len(others) < MOST_BESIDE_WHITE:
        return
    for each in statistics:
        if each.mask is not None and WHITE in each.mask.stored_values and not each.mask.has_soft_edges:
            yield Finding(
                each.case, "LABEL_IGNORE_255", f"value 255 stands beside {list_some([*map(str, others)], 8, ' …')}"
            )


def _check_empty(statistics: Sequence[CaseStatistics], expected: Expected) -> Iterator[Finding]:
    """Masks without a label: odd where they are few, the nature of the data where they are many."""
    masks = [(each.case, each.mask) for each in statistics if each.mask is not None]
    empty = [case for case, mask in masks if mask.is_empty]
    is_usual = len(masks) >= FEWEST_CASES and len(empty) > USUALLY_EMPTY * len(masks)
    for case in empty:
        finding = Finding(case, "MASK_EMPTY", f"no voxel above 0, as in {len(empty)} of {len(masks)} masks")
        yield replace(finding, severity="info") if is_usual else finding


def _check_rare(statistics: Sequence[CaseStatistics], expected: Expected) -> Iterator[Finding]:
    masks = [(each.case, each.mask.voxels) for each in statistics if each.mask is not None]
    shown = Counter(value for _, voxels in masks for value in voxels if value > 0)
    names = dict(expected.names)
    for value in sorted(set(expected.values or ()) - {0, *shown} if masks else ()):
        if names.get(value) != "ignore":
            yield Finding(WHOLE, "LABEL_ABSENT", f"no mask holds label {_name_label(value, names)}")
    most = max(RARE_CASES, int(RARE_SHARE * len(masks)))
    for value, times in sorted(shown.items()):
        if len(masks) >= 2 * FEWEST_CASES and times <= most and len(shown) > 1:
            cases = ", ".join(case for case, voxels in masks if value in voxels)
            what = f"label {_name_label(value, names)} is in {times} of {len(masks)} masks: {cases}"
            is_stray = value not in names and times <= RARE_CASES and _is_apart(value, shown, most)
            yield Finding(WHOLE, "LABEL_STRAY" if is_stray else "LABEL_RARE", what)


def _is_apart(value: int, shown: Counter[int], most: int) -> bool:
    """Whether a number between a label and the next one that is not rare is no label: 7 where masks hold 0 and 1."""
    common = [0, *(other for other, times in shown.items() if times > most)]
    nearest = min(common, key=lambda other: abs(other - value))
    between = range(min(nearest, value) + 1, max(nearest, value))
    return len(common) <= MOST_COUNTED_LABELS and any(other not in shown for other in between)


def _check_fragments(statistics: Sequence[CaseStatistics], expected: Expected) -> Iterator[Finding]:
    pieces: dict[int, list[tuple[str, int]]] = {}
    for each in statistics:
        for value, count in each.mask.pieces.items() if each.mask else ():
            pieces.setdefault(value, []).append((each.case, count))
    for value, counted in pieces.items():
        usual = float(np.median([count for _, count in counted]))
        for case, count in counted if len(counted) >= FEWEST_CASES else ():
            if count > max(PIECES_RATIO * usual, usual + FEWEST_PIECES):
                what = f"label {value} is in {count} pieces, in other cases in {usual:g} (median)"
                yield Finding(case, "LABEL_FRAGMENTED", what)


def _check_sizes(statistics: Sequence[CaseStatistics], expected: Expected) -> Iterator[Finding]:
    """Spacings and shapes far from the median, along the body's axes, among cases of as many axes."""
    for axes in (2, 3):
        own = [(each.case, each.image) for each in statistics if each.image and len(each.image.shape) == axes]
        if len(own) < FEWEST_CASES:
            continue
        spacings = np.array([_order_along_body(image, image.spacing_mm) for _, image in own])
        yield from _find_outliers("SPACING_OUTLIER", "mm", [case for case, _ in own], spacings, SPACING_RATIO)
        shapes = np.array([_order_along_body(image, image.shape) for _, image in own], dtype=float)
        yield from _find_outliers("SHAPE_OUTLIER", "voxels", [case for case, _ in own], shapes, SHAPE_RATIO)


def _find_outliers(code: str, unit: str, cases: list[str], sizes: NDArray, ratio: float) -> Iterator[Finding]:
    usual = np.median(sizes, axis=0)
    far = [
        Finding(case, code, f"{_format_size(size)} {unit}, the median is {_format_size(usual)}")
        for case, size in zip(cases, sizes, strict=True)
        if bool((np.maximum(size / usual, usual / size) > ratio).any())
    ]
    yield from _tell_if_few(
        far, len(cases), f"are more than {ratio:g} times off the median, {_format_size(usual)} {unit}"
    )


def _tell_if_few(far: list[Finding], count: int, told: str) -> list[Finding]:
    """The outliers; where they are many there is no usual case, which is told once."""
    if len(far) <= MOST_OUTLIERS * count:
        return far
    return [Finding(WHOLE, far[0].code, f"{len(far)} of {count} cases {told}")]


def _order_along_body(image: ImageStatistics, numbers: Sequence[float]) -> list[float]:
    """Numbers of voxel axes in the order right-left, front-back, up-down; of pictures as they are, for they turn."""
    if len(image.shape) == 2:
        return sorted(float(number) for number in numbers)
    order = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}
    placed = sorted(zip(image.orientation, numbers, strict=True), key=lambda pair: order.get(pair[0], 3))
    return [float(number) for _, number in placed]


def _check_nominal_spacing(statistics: Sequence[CaseStatistics], expected: Expected) -> Iterator[Finding]:
    """Spacings that may mean nothing: pictures, bare arrays, 1×1×1 mm, the same in all though shapes differ."""
    images = [(each, each.image) for each in statistics if each.image]
    bare = [each for each, image in images if not image.has_grid]
    flat = [each for each, image in images if len(image.shape) == 2 and _is_unit(image) and image.has_grid]
    if bare or flat:
        what = f"{len(bare) + len(flat)} of {len(images)} images are pictures or bare arrays: 1 pixel is taken as 1 mm"
        yield Finding(WHOLE, "SPACING_NOMINAL", what)
    volumes = [(each, image) for each, image in images if len(image.shape) == 3 and image.has_grid]
    unit = [each for each, image in volumes if _is_unit(image)]
    if unit:
        what = f"{len(unit)} of {len(volumes)} volumes have 1×1×1 mm: resampled to it, or never set"
        yield Finding(WHOLE, "SPACING_NOMINAL", what)
    spacings = {tuple(round(mm, 3) for mm in image.spacing_mm) for _, image in volumes}
    patients = {each.group for each, _ in volumes}
    if len(spacings) == 1 and not unit and len(patients) >= NOMINAL_CASES and len({i.shape for _, i in volumes}) > 1:
        what = f"all {len(volumes)} volumes have exactly {_format_size(*spacings)} mm, though their shapes differ"
        yield Finding(WHOLE, "SPACING_NOMINAL", f"{what}: resampled to it, or not the scanner's")


def _check_mixtures(statistics: Sequence[CaseStatistics], expected: Expected) -> Iterator[Finding]:
    images = [(each.case, each.image) for each in statistics if each.image]
    axes = Counter(len(image.shape) for _, image in images)
    if len(axes) > 1:
        yield from _find_rarer("DIMENSIONS_MIXED", "axes", [(case, len(image.shape)) for case, image in images])
    if images and not frozenset.intersection(*(image.channels for _, image in images)):
        yield from _find_rarer("CHANNELS_MIXED", "channel(s)", [(case, max(image.channels)) for case, image in images])
    turned = Counter(image.orientation for _, image in images if len(image.shape) == 3)
    if len(turned) > 1:
        counted = ", ".join(f"{count} × {letters}" for letters, count in turned.most_common())
        yield Finding(WHOLE, "ORIENTATION_MIXED", counted)
    volumes = [(case, image) for case, image in images if len(image.shape) == 3]
    in_hu = [case for case, image in volumes if image.looks_like_hu]
    if 0 < len(in_hu) < len(volumes):
        others = [case for case, image in volumes if not image.looks_like_hu]
        few, kind = (in_hu, "reach") if len(in_hu) <= len(others) else (others, "do not reach")
        for case in few:
            what = f"its values {kind} down to -500 as Hounsfield units do; of {len(volumes)} volumes {len(in_hu)} do"
            yield Finding(case, "MODALITIES_MIXED", what)


def _find_rarer(code: str, unit: str, kinds: Sequence[tuple[str, int]]) -> Iterator[Finding]:
    """A finding for each case that is not of the most common kind."""
    usual, times = Counter(kind for _, kind in kinds).most_common(1)[0]
    for case, kind in kinds:
        if kind != usual:
            yield Finding(case, code, f"{kind} {unit}, while {times} of {len(kinds)} cases have {usual}")


def _check_intensities(statistics: Sequence[CaseStatistics], expected: Expected) -> Iterator[Finding]:
    """Images whose values span another range altogether."""
    spans = [
        (each.case, each.image.high - each.image.low) for each in statistics if each.image and each.image.levels > 1
    ]
    spans = [(case, span) for case, span in spans if span > 0]
    usual = float(np.median([span for _, span in spans])) if len(spans) >= FEWEST_CASES else 0.0
    far = [
        Finding(
            case, "INTENSITY_OUTLIER", f"its values (1st to 99th percentile) span {span:.4g}, the median is {usual:.4g}"
        )
        for case, span in (spans if usual else ())
        if max(span / usual, usual / span) > INTENSITY_RATIO
    ]
    yield from _tell_if_few(
        far, len(spans), f"span values more than {INTENSITY_RATIO:g} times off the median, {usual:.4g}"
    )


DATASET_RULES: tuple[Callable[[Sequence[CaseStatistics], Expected], Iterator[Finding]], ...] = (
    _check_white,
    _check_empty,
    _check_rare,
    _check_fragments,
    _check_sizes,
    _check_nominal_spacing,
    _check_mixtures,
    _check_intensities,
)


def _is_unit(image: ImageStatistics) -> bool:
    return all(abs(mm - 1) < 1e-6 for mm in image.spacing_mm)


def _name_label(value: int, names: dict[int, str]) -> str:
    return f"{value} ({names[value]})" if value in names else str(value)


def _format_size(numbers: Sequence[float] | NDArray) -> str:
    return "×".join(f"{number:.4g}" for number in numbers)


CODE = "LOOKS_LIKE_MASK"
UNTRUE = frozenset({"CT_NOT_HU", "FEW_GREY_LEVELS"})
"""What rules for images find in label maps."""

MASK_WORD = re.compile(
    r"(?<![a-z])(masks?|seg(s|m|mentations?)?|labels?|labelmaps?|gt|truth|annotations?|rois?|manual)(?![a-z])",
    re.IGNORECASE,
)


def drop_unlabelled_masks(
    cases: Sequence[Case], statistics: Sequence[CaseStatistics], findings: Sequence[Finding]
) -> tuple[list[CaseStatistics], list[Finding]]:
    """The cases without images that look like masks of others, and the findings with what is true of those instead.

    Args:
        cases: All cases of the data set.
        statistics: What is kept of each.
        findings: What each case shows by itself.
    """
    lonely = {case.id for case in cases if not case.label_files}
    mistaken = {
        finding.case: finding
        for finding in _find_unlabelled_masks([each for each in statistics if each.case in lonely], statistics)
    }
    kept = [each for each in findings if each.case not in mistaken or each.code not in UNTRUE]
    seen = [replace(each, image=None) if each.case in mistaken else each for each in statistics]
    return seen, [*kept, *mistaken.values()]


def _find_unlabelled_masks(lonely: Sequence[CaseStatistics], statistics: Sequence[CaseStatistics]) -> Iterator[Finding]:
    owners: dict[tuple[int, ...], list[tuple[str, ImageStatistics]]] = {}
    for each in statistics:
        if each.image and not each.image.label_values:
            owners.setdefault(each.image.shape, []).append((each.case, each.image))
    for each in lonely:
        image = each.image
        owner = _find_owner(each.case, image, owners.get(image.shape, ())) if image and image.label_values else None
        if image and owner:
            what = f"{image.label_values} whole values from 0 on the grid of {owner}: its mask, by the looks of it"
            yield Finding(each.case, CODE, what)


def _find_owner(case: str, image: ImageStatistics, others: Sequence[tuple[str, ImageStatistics]]) -> str | None:
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


def _lies_on(image: ImageStatistics, other: ImageStatistics) -> bool:
    return corner_distance_voxels(image.grid, other.grid) <= NEAR_GRID_VOXELS


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
        yield Finding(WHOLE, "SPLIT_PARTIAL", f"{pluralise(len(unknown), 'case')} in no part: {list_some(unknown, 5)}")
    if absent:
        yield Finding(
            WHOLE, "SPLIT_PARTIAL", f"{pluralise(len(absent), 'name')} of no case here: {list_some(absent, 5)}"
        )


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
