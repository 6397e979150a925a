"""The files behind an example, found by the case's name and read onto the reference's grid."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.data.cases import open_dataset, open_images
from medseg.data.image_files import find_masks, image_stem
from medseg.data.read import read, read_mask
from medseg.data.volume import Volume
from medseg.evaluation.counting import aligned, together
from medseg.evaluation.pairs import pair_masks, plain_name
from medseg.geometry import Grid

SLICE = re.compile(r"(.+)#(\d+)")
"""How an evaluation names a slice of a case."""

MaskPath = str | Path | Sequence[str | Path]
"""Where a mask lies, or the masks whose union it is."""


@dataclass(frozen=True)
class Example:
    """One case to draw, all of it on the reference's grid.

    Args:
        case: Its name.
        image: (X, Y[, Z]), or with channels first.
        truth: (X, Y[, Z]).
        predictions: One (X, Y[, Z]) for each folder of masks.
        grid: Of the reference.
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
        references: Where each case's reference lies.
        masks: For each folder of masks, where each case's mask lies.
        values: The labels that may occur, where they are 0 and 1 only.
        slice_axis: Axis of the stored reference whose slices ``case#012`` names.
        renamed: Values of the references, and what they are read as.
        names: Of each label, by which segments of DICOM objects are recognised.
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
        name, _ = self._split(case)
        has_masks = name in self.references and all(name in masks for masks in self.masks)
        return has_masks and self._image(name) is not None

    def read(self, case: str) -> Example:
        """The case's arrays; of a slice, these alone, one voxel thick.

        Raises:
            ImageError: A file cannot be read, or image and masks do not hold the same voxels.
        """
        name, index = self._split(case)
        truth, predictions, grid = self.read_masks(name)
        path = self._image(name) or ""
        image = _image_on(read(path), grid, path)
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
        reference, predictions = together(
            reference, [read_mask(file, self.values, self.names) for file in files], [self.references[case], *files]
        )
        truth = reference.array.copy()
        for old, new in self.renamed.items():
            truth[reference.array == old] = new
        return truth, predictions, reference.grid

    def _split(self, case: str) -> tuple[str, int | None]:
        """The case's name, and the slice's index where a slice is named."""
        match = None if case in self.references else SLICE.fullmatch(case)
        return (match[1], int(match[2])) if match else (case, None)

    def _image(self, case: str) -> str | None:
        return _named(self.images, case)


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
        references: As given to ``evaluate``.
        labels: Name of each value.
        settings: Of the evaluation whose cases are asked for.

    Raises:
        InputError: A folder is missing or empty, or no name agrees.
        DatasetError: Two files could be meant by one name.
    """
    pairings = [pair_masks(Path(folder), Path(references)).pairs for folder in masks]
    settings = settings or {}
    axis = re.search(r"\d", settings.get("slices", ""))
    renamed = re.findall(r"(\d+)=(\d+)", settings.get("renamed", ""))
    return ExampleFiles(
        images=_by_any_name({case.id: case.images[0] for case in open_images(images)}),
        references={pair.case: pair.reference for pairs in pairings for pair in pairs},
        masks=tuple({pair.case: pair.mask for pair in pairs if pair.mask is not None} for pairs in pairings),
        values=_binary(labels),
        slice_axis=int(axis[0]) if axis else 2,
        renamed={int(old): int(new) for old, new in renamed},
        names={value: (name,) for value, name in labels.items()},
    )


def examples_of_dataset(
    data: str | Path,
    masks: Iterable[str | Path | Sequence[str | Path]],
    labels: Mapping[int, str],
    renamed: Mapping[int, int] | None = None,
) -> ExampleFiles:
    """Images and references of a data set as training reads it, with one or more folders of masks of its cases.

    Args:
        data: A data set in any layout that ``medseg.data.cases`` knows.
        masks: For each network the folder that ``medseg predict`` filled, or those of its folds.
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
        named = {case.id: _named(by_name, case.id) for case in cases}
        found.append({case: path for case, path in named.items() if path is not None})
    return ExampleFiles(
        images={case.id: case.images[0] for case in cases},
        references={case.id: case.label for case in cases if case.label is not None},
        masks=tuple(found),
        values=_binary(labels),
        renamed=renamed or {},
        names={value: (name,) for value, name in labels.items()},
    )


def _binary(labels: Mapping[int, str]) -> tuple[int, ...] | None:
    return tuple(labels) if set(labels) == {0, 1} else None


def _by_any_name(found: Mapping[str, str]) -> dict[str, str]:
    """``found`` also by the names without ``_gt`` and the like, and by the files' names where no two share one."""
    ends = Counter(_file_name(case) for case in found)
    shorter = {_file_name(case): path for case, path in found.items() if ends[_file_name(case)] == 1}
    return {**shorter, **{plain_name(case): path for case, path in found.items()}, **found}


def _named(paths: Mapping[str, Any], case: str) -> Any:
    return next((paths[name] for name in (case, plain_name(case), _file_name(case)) if name in paths), None)


def _file_name(case: str) -> str:
    return plain_name(case).rpartition("/")[2]


def _image_on(image: Volume, grid: Grid, path: str) -> NDArray:
    """The image's voxels, with its channels, in the order of ``grid``."""
    if not image.has_channels:
        return aligned(image, grid, path)
    return np.stack([aligned(Volume(channel, image.affine), grid, path) for channel in image.array])
