"""A mask and its reference to tables of voxels: on one grid, values read as labels, whole or slice by slice.

What the values are called is said by the caller, a dataset.json, a record beside the masks, or by their numbers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.data.align import complete, put_on_grid
from medseg.data.labels import WHITE, is_white_only
from medseg.data.read import read_mask
from medseg.data.volume import Volume
from medseg.errors import DatasetError, ImageError, UsageError
from medseg.evaluation.metrics import Tabulation, tabulate
from medseg.evaluation.pairing import Pair
from medseg.findings import Finding
from medseg.geometry import NEAR_GRID_VOXELS, SAME_GRID_VOXELS, Grid, corner_distance_voxels, reindex
from medseg.options import SLICE_AXES

BACKGROUND_NAME = "background"
IGNORED_NAME = "ignore"
"""Name of the value that marks voxels without a reference (nnU-Net); they count nowhere."""


@dataclass(frozen=True)
class Counted:
    """Voxels by value of one case, before it is known what the values mean.

    Args:
        case: The case's name.
        tables: The voxels under the case's name, or those of each slice under ``case#012``; all of them
            list the same values.
        is_sliced: Whether slices are judged, and not the whole.
        voxel_volume_ml: Volume of one voxel of the reference.
        is_missing: Whether there is no mask.
        notes: What is odd about the files, or was done to them.
        renamed: Values of the reference that were read as others.
    """

    case: str
    tables: Mapping[str, Tabulation]
    is_sliced: bool
    voxel_volume_ml: float
    is_missing: bool
    notes: tuple[Finding, ...]
    renamed: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Counting:
    """How cases are counted.

    Args:
        known: Name of each label; None where nothing says.
        missing: ``zero``, ``skip`` or ``error``.
        slice_axis: Axis of the stored reference along which every slice is a case; None for whole cases.
        renamed: Values of the references, and what they are read as.
        read_reference: Gives a case's reference, where it is not read from its file as it is.

    Raises:
        UsageError: There is no such axis.
    """

    known: Mapping[int, str] | None
    missing: str
    slice_axis: int | None = None
    renamed: Mapping[int, int] = field(default_factory=dict)
    read_reference: Callable[[Pair], Volume] | None = None

    def __post_init__(self) -> None:
        if self.slice_axis is not None and self.slice_axis not in SLICE_AXES:
            raise UsageError("SETTING_INVALID", "slices", f"{self.slice_axis!r} is no axis", "give 0, 1 or 2")

    @property
    def values(self) -> tuple[int, ...] | None:
        """The labels that reading holds the files against.

        It can cut a picture's soft edges and read 255 as 1, but only where 1 is the one class.
        """
        return (0, 1) if self.known and set(self.known) == {0, 1} else None

    @property
    def names(self) -> dict[int, tuple[str]]:
        """By what the segments of DICOM objects are recognised; empty where nothing names the labels."""
        return {label: (name,) for label, name in (self.known or {}).items()}

    def count(self, pair: Pair) -> Counted:
        """The tables of one case: one, or one per slice; a picture is one slice.

        Raises:
            ImageError: A file cannot be trusted, or the mask is missing and ``missing`` is ``error``.
        """
        if pair.mask is None and self.missing == "error":
            raise ImageError("MASK_MISSING", pair.reference, "there is no mask for this reference", "predict the case")
        reference = self._read_reference(pair)
        notes = [Finding(pair.case, note.code, f"reference: {note.problem}") for note in reference.notes]
        prediction = np.zeros_like(reference.array)
        if pair.mask is not None:
            mask = read_mask(pair.mask, self.values, self.names)
            reference, mask = complete([reference, mask], [pair.reference, pair.mask])
            reference, (prediction,) = align_together(reference, [mask], [pair.reference, pair.mask])
            notes += [Finding(pair.case, note.code, f"mask: {note.problem}") for note in mask.notes]
            notes += _note_grid(mask.grid, reference.grid, pair.case)
        tables = self._tabulate(pair.case, prediction, reference.array)
        found = {value for table in tables.values() for value in table.reference_values}
        renamed = {old: new for old, new in self.renamed.items() if old in found}
        notes += [_note_renamed(pair.case, *values) for values in renamed.items()]
        return Counted(
            case=pair.case,
            tables={name: rename_values(table, self.renamed) for name, table in tables.items()},
            is_sliced=self.slice_axis is not None,
            voxel_volume_ml=reference.grid.voxel_volume_ml,
            is_missing=pair.mask is None,
            notes=tuple(notes),
            renamed=frozenset(renamed),
        )

    def _read_reference(self, pair: Pair) -> Volume:
        if self.read_reference:
            return self.read_reference(pair)
        # A reference that is renamed may hold values that no label has.
        return read_mask(pair.reference, None if self.renamed else self.values, self.names)

    def _tabulate(self, case: str, prediction: NDArray, reference: NDArray) -> dict[str, Tabulation]:
        axis = self.slice_axis
        if axis is None or reference.ndim <= 2:
            return {case: tabulate(prediction, reference)}
        slices = range(reference.shape[axis])
        tables = [tabulate(prediction.take(index, axis), reference.take(index, axis)) for index in slices]
        # A mask of 0 and 255 is known by the values of the whole of it.
        rows = sorted({value for table in tables for value in table.reference_values})
        columns = sorted({value for table in tables for value in table.prediction_values})
        return {f"{case}#{index:03d}": table.widened(rows, columns) for index, table in enumerate(tables)}


def rename_values(table: Tabulation, renamed: Mapping[int, int]) -> Tabulation:
    """``table`` with values of the reference read as others, all at once; equal ones are added up.

    >>> import numpy as np
    >>> table = Tabulation((0, 1, 4), (0, 3), np.array([[5, 1], [2, 0], [0, 3]]))
    >>> rename_values(table, {4: 3, 1: 3}).voxels.tolist()
    [[5, 1], [2, 3]]
    """
    values = [renamed.get(value, value) for value in table.reference_values]
    rows, position = np.unique(np.array(values, dtype=np.int64), return_inverse=True)
    voxels = np.zeros((rows.size, len(table.prediction_values)), dtype=np.int64)
    np.add.at(voxels, position, table.voxels)
    return replace(table, reference_values=tuple(rows.tolist()), voxels=voxels)


def map_white(table: Tabulation, names: Mapping[int, str]) -> tuple[Tabulation, list[str]]:
    """``table`` with 255 read as the only foreground class, and a sentence for each mask so read.

    Unchanged where there are several classes, where 255 has a name, or where a mask holds
    other values beside 0 and 255.
    """
    foreground = [value for value in names if value != 0]
    if len(foreground) != 1 or WHITE in names:
        return table, []
    class_value, told = foreground[0], []
    if is_white_only(table.reference_values):
        table = replace(table, reference_values=_replace_white(table.reference_values, class_value))
        told.append("reference")
    if is_white_only(table.prediction_values):
        table = replace(table, prediction_values=_replace_white(table.prediction_values, class_value))
        told.append("mask")
    what = f"is drawn in 0 and 255; 255 was read as {class_value} ({names[class_value]})"
    return table, [f"{role} {what}" for role in told]


def _replace_white(values: tuple[int, ...], class_value: int) -> tuple[int, ...]:
    return tuple(class_value if value == WHITE else value for value in values)


def align_together(
    reference: Volume, masks: Sequence[Volume], names: Sequence[object]
) -> tuple[Volume, tuple[NDArray, ...]]:
    """A reference, on the masks' grid if it is a bare array, and the masks' voxels in the reference's order.

    Args:
        reference: Labels.
        masks: Labels of the same case.
        names: What errors call the reference, then the masks.

    Raises:
        GridError: They do not hold the same voxels.
    """
    reference, *masks = complete([reference, *masks], names)
    for mask in masks:
        reference = put_on_grid(reference, mask.grid, names[0])
    return reference, tuple(align_mask(mask, reference.grid, name) for mask, name in zip(masks, names[1:], strict=True))


def align_mask(mask: Volume, target: Grid, case: object) -> NDArray:
    """The mask's voxels in the order of ``target``'s; corners may lie up to 0.1 voxel apart.

    Raises:
        GridError: The grids do not hold the same voxels.
    """
    if corner_distance_voxels(mask.grid, target) <= NEAR_GRID_VOXELS:
        return mask.array
    return reindex(mask.array, mask.grid, target, case)


def _note_grid(mask: Grid, reference: Grid, case: str) -> list[Finding]:
    """What ``align_mask`` did to a mask."""
    apart = corner_distance_voxels(mask, reference)
    if apart <= SAME_GRID_VOXELS:
        return []
    if apart <= NEAR_GRID_VOXELS:
        return [Finding(case, "GRID_NEAR", f"mask and reference lie {apart:.2g} voxels apart")]
    change = f"mask is stored as {mask.orientation}, reference as {reference.orientation}"
    return [Finding(case, "GRID_REINDEXED", f"{change}; its axes were turned, no voxel changed")]


def _note_renamed(case: str, old: int, new: int) -> Finding:
    return Finding(case, "LABEL_MAPPED", f"reference: {old} was read as {new}, as asked")


def find_names(labels: Mapping[int, str] | None, references: Path, masks: Path) -> dict[int, str] | None:
    """Name of each value, rising, with the background; None where nothing names them.

    Args:
        labels: The names that the caller gave; else a dataset.json in or above ``references`` is read,
            else the record that `medseg predict` leaves beside its masks.
        references: The folder or file of the reference masks.
        masks: The folder or file of the masks to judge.

    Raises:
        DatasetError: The dataset.json or the record cannot be read.
    """
    named = labels or _read_names_beside(references) or _read_recorded_names(masks)
    return add_background({int(value): str(name) for value, name in named.items()}) if named else None


def number_names(tables: Sequence[Tabulation]) -> dict[int, str]:
    """``class 1`` … for each value in any mask, where nothing names them; always with the background."""
    return add_background({value: f"class {value}" for value in _find_values(tables) if value != 0})


def split_ignored(names: Mapping[int, str]) -> tuple[dict[int, str], int | None]:
    """The names to score, and the value whose voxels are left out, if one is named ``ignore``."""
    ignored = next((value for value, name in names.items() if name == IGNORED_NAME), None)
    return {value: name for value, name in names.items() if value != ignored}, ignored


def add_background(names: dict[int, str]) -> dict[int, str]:
    """The names, rising by value; 0 is the background where nothing else is said of it."""
    return dict(sorted({0: BACKGROUND_NAME, **names}.items()))


def _find_values(tables: Sequence[Tabulation]) -> list[int]:
    """Every value in any mask; 1 stands for 255 where masks hold nothing else but 0."""
    sides = (
        {value for table in tables for value in table.reference_values},
        {value for table in tables for value in table.prediction_values},
    )
    if all(side <= {0, 1} or side <= {0, WHITE} for side in sides):
        return [0, 1] if sides[0] | sides[1] > {0} else [0]
    return sorted(sides[0] | sides[1])


def _read_names_beside(references: Path) -> dict[int, str] | None:
    folder = references if references.is_dir() else references.parent
    places = [folder / "dataset.json", folder.parent / "dataset.json"]
    for place in [references, *places] if references.suffix == ".json" else places:
        if place.is_file():
            return _read_names(place)
    return None


def _read_recorded_names(masks: Path) -> dict[int, str] | None:
    record = (masks if masks.is_dir() else masks.parent) / "predictions.json"
    return _read_names(record) if record.is_file() else None


def _read_names(path: Path) -> dict[int, str] | None:
    """Value to name from ``labels`` of a dataset.json, written either way round; None where it has none.

    Labels of overlapping regions (lists of values) name no single value: None as well.
    """
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError("DESCRIPTION_INVALID", path, str(error), "correct the file, or give the labels") from error
    labels = description.get("labels") if isinstance(description, dict) else None
    if not isinstance(labels, dict) or not labels:
        return None
    if all(_is_whole(value) for value in labels.values()):
        return {int(value): str(name) for name, value in labels.items()}
    if all(_is_whole(value) for value in labels):
        return {int(value): str(name) for value, name in labels.items()}
    return None


def _is_whole(value: object) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool) and str(value).isdecimal()
