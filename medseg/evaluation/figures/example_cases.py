"""The cases of a picture: their files found by name and read onto the reference's grid, the best and worst chosen."""

from __future__ import annotations

import contextlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from medseg.data.cases import open_dataset, open_images
from medseg.data.image_files import find_masks, image_stem
from medseg.data.read import read, read_mask
from medseg.data.volume import Volume
from medseg.errors import ImageError
from medseg.evaluation.figures.drawing import Labels
from medseg.evaluation.metrics import score, tabulate
from medseg.evaluation.pairing import name_file, pair_masks, strip_role
from medseg.evaluation.score import align_mask, align_together
from medseg.evaluation.summaries import Row, average
from medseg.geometry import Grid

SLICE_NAME = re.compile(r"(.+)#(\d+)")
"""How an evaluation names a slice of a case."""

MaskPath = str | Path | Sequence[str | Path]
"""Where a mask lies, or the masks whose union it is."""


@dataclass(frozen=True)
class Example:
    """One case to draw, all of it on the reference's grid.

    Args:
        case: The case's name.
        image: (X, Y[, Z]), or with channels first.
        truth: (X, Y[, Z]).
        predictions: One (X, Y[, Z]) for each folder of masks.
        grid: The grid of the reference.
    """

    case: str
    image: NDArray
    truth: NDArray
    predictions: tuple[NDArray, ...]
    grid: Grid


@dataclass(frozen=True)
class ExampleFiles:
    """Where images, references and masks of cases lie, and how the masks are to be read.

    Args:
        images: Path of the (first) image, by the case's name.
        references: Path of each case's reference.
        masks: Path of each case's mask, for each folder of masks.
        values: The labels that may occur, where they are 0 and 1 only.
        slice_axis: Axis of the stored reference whose slices ``case#012`` names.
        renamed: Values of the references, and what they are read as.
        names: What segments of DICOM objects are recognised by, for each label.
    """

    images: Mapping[str, str]
    references: Mapping[str, MaskPath]
    masks: tuple[Mapping[str, MaskPath], ...]
    values: tuple[int, ...] | None = None
    slice_axis: int = 2
    renamed: Mapping[int, int] = field(default_factory=dict)
    names: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    @property
    def cases(self) -> list[str]:
        """Every case that has an image, a reference and a mask in each folder."""
        return [case for case in self.references if self.holds(case)]

    def holds(self, case: str) -> bool:
        """Whether a case, or the case of a slice, has all its files."""
        name, _ = self._split_slice(case)
        has_masks = name in self.references and all(name in masks for masks in self.masks)
        return has_masks and self._find_image(name) is not None

    def read(self, case: str) -> Example:
        """The case's arrays; of a slice, these alone, one voxel thick.

        Raises:
            ImageError: A file cannot be read, or image and masks do not hold the same voxels.
        """
        name, index = self._split_slice(case)
        truth, predictions, grid = self.read_masks(name)
        path = self._find_image(name) or ""
        image = _align_image(read(path), grid, path)
        if index is not None:
            image = image.take([index], axis=self.slice_axis - 3)
            truth = truth.take([index], axis=self.slice_axis)
            predictions = tuple(each.take([index], axis=self.slice_axis) for each in predictions)
            grid = Grid(truth.shape, grid.affine)
        return Example(case, image, truth, predictions, grid)

    def read_masks(self, case: str) -> tuple[NDArray, tuple[NDArray, ...], Grid]:
        """Truth and predictions of a whole case, and the reference's grid; of a bare array, the masks'.

        Raises:
            ImageError: A file cannot be read, or the masks do not hold the same voxels.
        """
        reference = read_mask(self.references[case], None if self.renamed else self.values, self.names)
        files = [masks[case] for masks in self.masks]
        reference, predictions = align_together(
            reference, [read_mask(file, self.values, self.names) for file in files], [self.references[case], *files]
        )
        truth = reference.array.copy()
        for old, new in self.renamed.items():
            truth[reference.array == old] = new
        return truth, predictions, reference.grid

    def _split_slice(self, case: str) -> tuple[str, int | None]:
        """The case's name, and the slice's index where a slice is named."""
        match = None if case in self.references else SLICE_NAME.fullmatch(case)
        return (match[1], int(match[2])) if match else (case, None)

    def _find_image(self, case: str) -> str | None:
        return _find_path(self.images, case)


def find_examples(
    images: str | Path,
    masks: Iterable[str | Path],
    references: str | Path,
    labels: Mapping[int, str],
    settings: Mapping[str, str] | None = None,
) -> ExampleFiles:
    """Match images, references and one or more folders of masks by the cases' names.

    Args:
        images: Folder of the images, or what else ``medseg.data.cases.open_images`` opens.
        masks: Folders of masks.
        references: The references that ``evaluate`` was given.
        labels: Name of each value.
        settings: The settings of the evaluation whose cases are asked for.

    Raises:
        InputError: A folder is missing or empty, or no name agrees.
        DatasetError: Two files could be meant by one name.
    """
    pairings = [pair_masks(Path(folder), Path(references)).pairs for folder in masks]
    settings = settings or {}
    axis = re.search(r"\d", settings.get("slices", ""))
    renamed = re.findall(r"(\d+)=(\d+)", settings.get("renamed", ""))
    return ExampleFiles(
        images=_add_other_names({case.id: case.images[0] for case in open_images(images)}),
        references={pair.case: pair.reference for pairs in pairings for pair in pairs},
        masks=tuple({pair.case: pair.mask for pair in pairs if pair.mask is not None} for pairs in pairings),
        values=_limit_values(labels),
        slice_axis=int(axis[0]) if axis else 2,
        renamed={int(old): int(new) for old, new in renamed},
        names={value: (name,) for value, name in labels.items()},
    )


def find_dataset_examples(
    data: str | Path,
    masks: Iterable[str | Path | Sequence[str | Path]],
    labels: Mapping[int, str],
    renamed: Mapping[int, int] | None = None,
) -> ExampleFiles:
    """Images and references of a data set as training reads it, with one or more folders of masks of its cases.

    Args:
        data: A data set in any layout that ``medseg.data.cases`` knows.
        masks: The folder of each network that ``medseg predict`` filled, or those of its folds.
        labels: Name of each value.
        renamed: Values of the references, and what they are read as.

    Raises:
        DatasetError: The data set cannot be used.
        ImageError: There is no such folder of masks.
    """
    cases = open_dataset(data).cases
    found = []
    for folders in masks:
        by_name = {
            (path.parent.relative_to(folder) / image_stem(path)).as_posix(): path
            for folder in map(Path, [folders] if isinstance(folders, str | Path) else folders)
            for path in find_masks(folder)
        }
        named = {case.id: _find_path(by_name, case.id) for case in cases}
        found.append({case: path for case, path in named.items() if path is not None})
    return ExampleFiles(
        images={case.id: case.images[0] for case in cases},
        references={case.id: case.label for case in cases if case.label is not None},
        masks=tuple(found),
        values=_limit_values(labels),
        renamed=renamed or {},
        names={value: (name,) for value, name in labels.items()},
    )


def _limit_values(labels: Mapping[int, str]) -> tuple[int, ...] | None:
    return tuple(labels) if set(labels) == {0, 1} else None


def _add_other_names(found: Mapping[str, str]) -> dict[str, str]:
    """``found`` also by the names without ``_gt`` and the like, and by the files' names where no two share one."""
    ends = Counter(name_file(case) for case in found)
    shorter = {name_file(case): path for case, path in found.items() if ends[name_file(case)] == 1}
    return {**shorter, **{strip_role(case): path for case, path in found.items()}, **found}


def _find_path(paths: Mapping[str, Any], case: str) -> Any:
    return next((paths[name] for name in (case, strip_role(case), name_file(case)) if name in paths), None)


def _align_image(image: Volume, grid: Grid, path: str) -> NDArray:
    """The image's voxels, with its channels, in the order of ``grid``."""
    if not image.has_channels:
        return align_mask(image, grid, path)
    return np.stack([align_mask(Volume(channel, image.affine), grid, path) for channel in image.array])


class Judged(Protocol):
    """Scores with what they are scores of; an ``Evaluation``, or one read from a run's folder."""

    @property
    def labels(self) -> Mapping[int, str]:
        """Name of each value."""

    @property
    def rows(self) -> Sequence[Row]:
        """One per case and class."""

    @property
    def settings(self) -> Mapping[str, str]:
        """What was compared and how."""


def rank_cases(rows: Sequence[Row], files: ExampleFiles) -> list[tuple[str, float]]:
    """Cases with all their files and the mean of their foreground Dice, highest first."""
    scores: dict[str, list[float]] = {}
    for row in rows:
        if row.value != 0 and row.status == "scored" and not math.isnan(row.scores["dice"]):
            scores.setdefault(row.case, []).append(row.scores["dice"])
    means = [(case, fmean(values)) for case, values in scores.items() if files.holds(case)]
    return sorted(means, key=lambda pair: (-pair[1], pair[0]))


def choose_cases(ranking: Sequence[tuple[str, float]], count: int) -> list[tuple[str, str, float]]:
    """(kind, case, Dice): at most ``count`` each of the best, the in-between around the median, and the worst."""
    each = max(1, min(count, len(ranking) // 3))
    best, rest = ranking[:each], ranking[each:]
    worst, between = rest[max(0, len(rest) - each) :], rest[: max(0, len(rest) - each)]
    start = (len(between) - each + 1) // 2
    kinds = {"best": best, "in between": between[max(0, start) : max(0, start) + each], "worst": worst}
    return [(kind, case, dice) for kind, cases in kinds.items() for case, dice in cases]


def read_chosen_cases(
    ranking: Sequence[tuple[str, float]], files: ExampleFiles, count: int
) -> list[tuple[str, float, Example]]:
    """(kind, Dice, example) of the chosen cases; the next in rank stands in for one that cannot be read."""
    read: dict[str, Example] = {}
    while unread := [case for _, case, _ in choose_cases(ranking, count) if case not in read]:
        for case in unread:
            try:
                read[case] = files.read(case)
            except ImageError:
                ranking = [pair for pair in ranking if pair[0] != case]
    return [(kind, dice, read[case]) for kind, case, dice in choose_cases(ranking, count)]


def spread_cases(files: ExampleFiles, labels: Labels, count: int) -> list[str]:
    """``count`` cases from the highest to the lowest mean Dice of all networks."""
    means: list[tuple[float, str]] = []
    for case in files.cases:
        with contextlib.suppress(ImageError):
            truth, predictions, _ = files.read_masks(case)
            dices = [calculate_foreground_dice(prediction, truth, labels) for prediction in predictions]
            means.append((-fmean(0.0 if math.isnan(dice) else dice for dice in dices), case))
    return _pick_evenly(means, count)


def spread_cases_by_scores(networks: Sequence[Sequence[Row]], files: ExampleFiles, count: int) -> list[str]:
    """As ``spread_cases``, by the scores that each network's masks were given; no mask is read.

    Cases without a score by every network are left out.

    Args:
        networks: The scores of each network.
        files: The files of the cases, with the masks of all networks.
        count: How many cases.
    """
    found = [dict(rank_cases(rows, files)) for rows in networks]
    shared = [case for case in found[0] if all(case in scores for scores in found)]
    return _pick_evenly([(-fmean(scores[case] for scores in found), case) for case in shared], count)


def _pick_evenly(means: Sequence[tuple[float, str]], count: int) -> list[str]:
    """``count`` cases at even steps from the lowest number to the highest."""
    ordered = sorted(means)
    ranks = sorted({round(rank) for rank in np.linspace(0, len(ordered) - 1, min(count, len(ordered)))})
    return [ordered[rank][1] for rank in ranks]


def calculate_foreground_dice(prediction: NDArray, truth: NDArray, labels: Labels) -> float:
    """Mean Dice of the foreground classes that one of the masks holds, named or not; nan where both are empty."""
    values = sorted({0, *labels, *np.unique(truth).tolist(), *np.unique(prediction).tolist()})
    dice = score(tabulate(prediction, truth).to_confusion(values, "example"))["dice"]
    return average(each for value, each in zip(values, dice.tolist(), strict=True) if value != 0)
