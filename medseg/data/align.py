"""Images and masks brought onto one grid, voxel for voxel or not at all: axes turned, parts spread, several joined."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medseg.data.volume import Volume
from medseg.errors import GridError, LabelError
from medseg.findings import Finding
from medseg.geometry import (
    NEAR_GRID_VOXELS,
    Grid,
    corner_distance_voxels,
    corner_indices,
    flip_axes,
    is_same_grid,
    reindex,
    size_text,
)

READINGS: dict[int, dict[tuple[int, ...], str]] = {
    3: {(2, 1, 0): "slices, rows, columns", (1, 0, 2): "rows, columns, slices", (0, 1, 2): "columns, rows, slices"},
    2: {(1, 0): "rows, columns", (0, 1): "columns, rows"},
}
"""How bare arrays are commonly stored, by number of axes: the order that makes them (X, Y[, Z])."""


def put_on_grid(mask: Volume, grid: Grid, case: object) -> Volume:
    """``mask``, if it is a bare array or a part, on the grid of its image; any other is returned as it is.

    A stack of a series' slices in the order of their positions, ``numpy.stack(slices)``,
    is (slices, rows, columns); volumes here are (columns, rows, slices).

    Args:
        mask: Labels, without channels.
        grid: The image's grid.
        case: Named in the error.

    Raises:
        GridError: ``AXES_AMBIGUOUS``: the sizes fit in more than one way; ``SLICES_DIFFER``;
            ``GRID_MISMATCH``: they fit in none.
    """
    if is_same_grid(mask.grid, grid):
        return replace(mask, is_partial=False) if mask.is_partial else mask
    if mask.is_partial:
        array, _ = spread(mask.array, mask.grid, grid, case)
        return replace(mask, array=array, affine=grid.affine, is_partial=False)
    if mask.has_grid:
        return mask
    return replace(mask, array=order_axes(mask.array, grid, case), affine=grid.affine, has_grid=True)


def order_axes(array: NDArray, grid: Grid, case: object) -> NDArray:
    """``array``, its axes put in the order of ``grid``'s by their sizes alone.

    Raises:
        GridError: As :func:`put_on_grid`.
    """
    readings = READINGS.get(array.ndim, {}) if array.ndim == len(grid.shape) else {}
    fitting = [order for order in readings if tuple(array.shape[axis] for axis in order) == grid.shape]
    if len(fitting) == 1:
        return array.transpose(fitting[0])
    stored, wanted = size_text(array.shape), size_text(grid.shape)
    if fitting:
        names = " or ".join(readings[order] for order in fitting)
        raise GridError(
            "AXES_AMBIGUOUS",
            case,
            f"an array of {stored} without an affine could be {names}",
        )
    if array.ndim == len(grid.shape) == 3 and _count_slices(array.shape, grid.shape) is not None:
        problem = f"{_count_slices(array.shape, grid.shape)} slices, the image has {grid.shape[2]}"
        raise GridError("SLICES_DIFFER", case, problem)
    raise GridError(
        "GRID_MISMATCH",
        case,
        f"an array of {stored} does not fit the image's {wanted} voxels (columns, rows, slices)",
        "store it as (slices, rows, columns) of the image that it was drawn on",
    )


def spread(array: NDArray, source: Grid, target: Grid, case: object) -> tuple[NDArray, float]:
    """Labels of some of ``target``'s voxels on all of them, background elsewhere; none is interpolated.

    Args:
        array: Labels (X, Y, Z) on ``source``, whose axes may run otherwise than ``target``'s.
        source: Where ``array`` lies.
        target: The grid wanted.
        case: Named in the error.

    Returns:
        Labels on ``target``, and how far corners lay from its voxels, in voxels (at most 0.1).

    Raises:
        GridError: ``GRID_MISMATCH``: they are not its voxels, or foreground lies outside.
    """
    turn, offset, apart = _find_turn(source, target)
    if apart > NEAR_GRID_VOXELS:
        problem = f"its {size_text(source.shape)} voxels are not among the {size_text(target.shape)} of the image"
        raise GridError("GRID_MISMATCH", case, problem, "export the mask on the image that it was drawn on")
    order = [int(axis) for axis in np.abs(turn).argmax(axis=1)]
    signs = [int(turn[row, axis]) for row, axis in enumerate(order)]
    moved = flip_axes(array, order, signs)
    starts = [
        int(start) if sign > 0 else int(start) - size + 1
        for start, sign, size in zip(offset, signs, moved.shape, strict=True)
    ]
    if moved.shape == target.shape and not any(starts):
        return moved, apart
    return _paste(moved, starts, target, case), apart


def cover(grids: Sequence[Grid]) -> Grid:
    """The smallest grid along the axes of the first that holds the voxels of all."""
    first = grids[0]
    corners = np.concatenate(
        [corner_indices(grid.shape) @ (np.linalg.inv(first.affine) @ grid.affine).T for grid in grids]
    )
    low, high = np.rint(corners[:, :3].min(axis=0)), np.rint(corners[:, :3].max(axis=0))
    affine = first.affine.copy()
    affine[:3, 3] = (first.affine @ [*low, 1])[:3]
    return Grid(tuple(int(n) for n in high - low + 1), affine)


def stack(volumes: Sequence[Volume], paths: Sequence[str | os.PathLike]) -> Volume:
    """The volumes as channels of one, on the first one's grid.

    Args:
        volumes: At least one; those with channels give all of theirs.
        paths: Where they come from, for the error.

    Raises:
        GridError: ``GRID_MISMATCH``: they do not hold the same voxels.
    """
    first = volumes[0]
    if len(volumes) == 1:
        return first
    channels: list[NDArray] = []
    notes: list[Finding] = []
    for volume, path in zip(volumes, paths, strict=True):
        parts = list(volume.array) if volume.has_channels else [volume.array]
        if not is_same_grid(volume.grid, first.grid):
            parts = [reindex(part, volume.grid, first.grid, path) for part in parts]
        channels += parts
        notes += volume.notes
    return Volume(np.stack(channels), first.affine, True, tuple(notes))


def unite(masks: Sequence[Volume], paths: Sequence[str | os.PathLike]) -> Volume:
    """The union of masks that each hold a part of the structures, such as the left and the right lung.

    Args:
        masks: At least one, of labels, without channels, on one grid.
        paths: Where they come from, for the error.

    Raises:
        GridError: ``GRID_MISMATCH``: they lie on different grids.
        LabelError: ``LABEL_OVERLAP``: a voxel has different labels in two of them.
    """
    masks = complete(masks, paths)
    union, notes = masks[0].array, list(masks[0].notes)
    for mask, path in zip(masks[1:], paths[1:], strict=True):
        if not is_same_grid(mask.grid, masks[0].grid):
            first, other = size_text(masks[0].spatial_shape), size_text(mask.spatial_shape)
            problem = f"{other} voxels, {paths[0]} has {first}, or they lie elsewhere"
            raise GridError("GRID_MISMATCH", path, problem, "export all parts of the mask from the same image")
        clash = (union != 0) & (mask.array != 0) & (union != mask.array)
        if clash.any():
            at = tuple(int(place[0]) for place in np.nonzero(clash))
            problem = f"{int(clash.sum())} voxels, such as {at}, have another label in {paths[0]}"
            raise LabelError("LABEL_OVERLAP", path, problem, "give each voxel one label in all parts of the mask")
        union = np.where(union != 0, union, mask.array)
        notes += [note for note in mask.notes if note not in notes]
    return replace(masks[0], array=union, notes=tuple(notes))


def complete(masks: Sequence[Volume], names: Sequence[object]) -> Sequence[Volume]:
    """Masks of some of an image's voxels on the grid of one that has them all, or on the one that covers all.

    Args:
        masks: Of one image; those that are not ``is_partial`` are returned as they are.
        names: Of each, for the error.

    Raises:
        GridError: ``GRID_MISMATCH``: they do not lie on the same voxels.
    """
    if not any(mask.is_partial for mask in masks):
        return masks
    whole = next((mask.grid for mask in masks if not mask.is_partial), None)
    grid = whole or cover([mask.grid for mask in masks])
    moved = [
        put_on_grid(mask, grid, name) if mask.is_partial else mask for mask, name in zip(masks, names, strict=True)
    ]
    return [replace(mask, is_partial=whole is None) for mask in moved]


def _paste(moved: NDArray, starts: list[int], target: Grid, case: object) -> NDArray:
    cuts = [
        (max(0, -start), max(0, min(size, n - start)))
        for start, size, n in zip(starts, moved.shape, target.shape, strict=True)
    ]
    inside = moved[tuple(slice(first, max(first, end)) for first, end in cuts)]
    if np.count_nonzero(inside) < np.count_nonzero(moved):
        problem = f"{np.count_nonzero(moved) - np.count_nonzero(inside)} voxels of it lie outside the image"
        raise GridError("GRID_MISMATCH", case, problem, "export the mask on the image that it was drawn on")
    whole = np.zeros(target.shape, dtype=moved.dtype)
    if inside.size:
        begins = [start + first for start, (first, _) in zip(starts, cuts, strict=True)]
        whole[tuple(slice(begin, begin + n) for begin, n in zip(begins, inside.shape, strict=True))] = inside
    return whole


def _find_turn(source: Grid, target: Grid) -> tuple[NDArray, NDArray, float]:
    """How whole-numbered voxels of ``source`` become those of ``target``: turn, offset, and the corners' error."""
    index_change = np.linalg.inv(target.affine) @ source.affine
    turn = np.rint(index_change[:3, :3])
    is_turn = (np.abs(turn).sum(axis=0) == 1).all() and (np.abs(turn).sum(axis=1) == 1).all()
    if not is_turn or len(source.shape) != 3 or len(target.shape) != 3:
        return turn, np.zeros(3), float("inf")
    middle = (np.array(source.shape) - 1) / 2
    offset = np.rint(index_change[:3, :3] @ middle + index_change[:3, 3] - turn @ middle)
    whole = np.eye(4)
    whole[:3, :3], whole[:3, 3] = turn, offset
    return turn, offset, corner_distance_voxels(source, Grid(source.shape, target.affine @ whole))


def _count_slices(stored: tuple[int, ...], wanted: tuple[int, ...]) -> int | None:
    """The number of slices in an array whose other two axes are the image's columns and rows."""
    columns_rows = sorted(wanted[:2])
    if sorted(stored[1:]) == columns_rows:
        return stored[0]
    return stored[2] if sorted(stored[:2]) == columns_rows else None
