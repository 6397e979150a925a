"""A mask and its reference to tables of voxels: brought onto one grid, renamed, whole or slice by slice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medseg.data.images import Volume, read_mask
from medseg.data.joining import completed
from medseg.data.placing import on_grid
from medseg.errors import ImageError, UsageError
from medseg.evaluation.classes import rename_values
from medseg.evaluation.metrics import Tabulation, tabulate
from medseg.evaluation.pairs import Pair
from medseg.evaluation.tables import Finding
from medseg.geometry import NEAR_GRID_VOXELS, SAME_GRID_VOXELS, Grid, corner_distance_voxels, reindex

SLICE_AXES = (0, 1, 2)


@dataclass(frozen=True)
class Counted:
    """Voxels by value of one case, before it is known what the values mean.

    Args:
        case: Its name.
        tables: Its voxels under its name, or those of each slice under ``case#012``; all of them
            list the same values.
        is_sliced: Whether slices are judged, and not the whole.
        voxel_volume_ml: Of the reference's grid.
        is_missing: Whether there is no mask.
        notes: On the files.
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
        reference = self._reference(pair)
        notes = [Finding(pair.case, note.code, f"reference: {note.text}") for note in reference.notes]
        prediction = np.zeros_like(reference.array)
        if pair.mask is not None:
            mask = read_mask(pair.mask, self.values, self.names)
            reference, mask = completed([reference, mask], [pair.reference, pair.mask])
            reference, (prediction,) = together(reference, [mask], [pair.reference, pair.mask])
            notes += [Finding(pair.case, note.code, f"mask: {note.text}") for note in mask.notes]
            notes += _grid_notes(mask.grid, reference.grid, pair.case)
        tables = self._tables(pair.case, prediction, reference.array)
        found = {value for table in tables.values() for value in table.reference_values}
        renamed = {old: new for old, new in self.renamed.items() if old in found}
        notes += [_renamed_note(pair.case, *values) for values in renamed.items()]
        return Counted(
            case=pair.case,
            tables={name: rename_values(table, self.renamed) for name, table in tables.items()},
            is_sliced=self.slice_axis is not None,
            voxel_volume_ml=reference.grid.voxel_volume_ml,
            is_missing=pair.mask is None,
            notes=tuple(notes),
            renamed=frozenset(renamed),
        )

    def _reference(self, pair: Pair) -> Volume:
        if self.read_reference:
            return self.read_reference(pair)
        # A reference that is renamed may hold values that no label has.
        return read_mask(pair.reference, None if self.renamed else self.values, self.names)

    def _tables(self, case: str, prediction: NDArray, reference: NDArray) -> dict[str, Tabulation]:
        axis = self.slice_axis
        if axis is None or reference.ndim <= 2:
            return {case: tabulate(prediction, reference)}
        slices = range(reference.shape[axis])
        tables = [tabulate(prediction.take(index, axis), reference.take(index, axis)) for index in slices]
        # A mask of 0 and 255 is known by the values of the whole of it.
        rows = sorted({value for table in tables for value in table.reference_values})
        columns = sorted({value for table in tables for value in table.prediction_values})
        return {f"{case}#{index:03d}": table.widened(rows, columns) for index, table in enumerate(tables)}


def together(reference: Volume, masks: Sequence[Volume], names: Sequence[object]) -> tuple[Volume, tuple[NDArray, ...]]:
    """A reference, on the masks' grid if it is a bare array, and the masks' voxels in the reference's order.

    Args:
        reference: Labels.
        masks: Labels of the same case.
        names: Of the reference, then of the masks, for errors.

    Raises:
        GridError: They do not hold the same voxels.
    """
    reference, *masks = completed([reference, *masks], names)
    for mask in masks:
        reference = on_grid(reference, mask.grid, names[0])
    return reference, tuple(aligned(mask, reference.grid, name) for mask, name in zip(masks, names[1:], strict=True))


def aligned(mask: Volume, target: Grid, case: object) -> NDArray:
    """The mask's voxels in the order of ``target``'s; corners may lie up to 0.1 voxel apart.

    Raises:
        GridError: The grids do not hold the same voxels.
    """
    if corner_distance_voxels(mask.grid, target) <= NEAR_GRID_VOXELS:
        return mask.array
    return reindex(mask.array, mask.grid, target, case)


def _grid_notes(mask: Grid, reference: Grid, case: str) -> list[Finding]:
    """What ``aligned`` did to a mask."""
    apart = corner_distance_voxels(mask, reference)
    if apart <= SAME_GRID_VOXELS:
        return []
    if apart <= NEAR_GRID_VOXELS:
        return [Finding(case, "GRID_NEAR", f"mask and reference lie {apart:.2g} voxels apart")]
    change = f"mask is stored as {mask.orientation}, reference as {reference.orientation}"
    return [Finding(case, "GRID_REINDEXED", f"{change}; its axes were turned, no voxel changed")]


def _renamed_note(case: str, old: int, new: int) -> Finding:
    return Finding(case, "LABEL_MAPPED", f"reference: {old} was read as {new}, as asked")
