"""Masks that are bare arrays or hold a part of their image's voxels: put on its grid, or refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medseg.data.volume import Volume
from medseg.errors import GridError
from medseg.geometry import (
    NEAR_GRID_VOXELS,
    Grid,
    corner_distance_voxels,
    corner_indices,
    flip_axes,
    is_same_grid,
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
            "store it as (slices, rows, columns) where that differs, or with the image's 'affine' in the archive",
        )
    if array.ndim == len(grid.shape) == 3 and _count_slices(array.shape, grid.shape) is not None:
        problem = f"{_count_slices(array.shape, grid.shape)} slices, the image has {grid.shape[2]}"
        raise GridError("SLICES_DIFFER", case, problem, "export image and mask of the same slices")
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
