"""Masks that are bare arrays: which axis is which is told from the image's size, or refused."""

from __future__ import annotations

from dataclasses import replace

from numpy.typing import NDArray

from medseg.data.volume import Volume
from medseg.errors import GridError
from medseg.geometry import Grid, is_same_grid

READINGS: dict[int, dict[tuple[int, ...], str]] = {
    3: {(2, 1, 0): "slices, rows, columns", (1, 0, 2): "rows, columns, slices", (0, 1, 2): "columns, rows, slices"},
    2: {(1, 0): "rows, columns", (0, 1): "columns, rows"},
}
"""How bare arrays are commonly stored, by number of axes: the order that makes them (X, Y[, Z])."""


def on_grid(mask: Volume, grid: Grid, case: object) -> Volume:
    """``mask``, if it is a bare array, on the grid of its image; any other is returned as it is.

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
    if mask.has_grid or is_same_grid(mask.grid, grid):
        return mask
    return replace(mask, array=placed(mask.array, grid, case), affine=grid.affine, has_grid=True)


def placed(array: NDArray, grid: Grid, case: object) -> NDArray:
    """``array``, its axes put in the order of ``grid``'s by their sizes alone.

    Raises:
        GridError: As :func:`on_grid`.
    """
    readings = READINGS.get(array.ndim, {}) if array.ndim == len(grid.shape) else {}
    fitting = [order for order in readings if tuple(array.shape[axis] for axis in order) == grid.shape]
    if len(fitting) == 1:
        return array.transpose(fitting[0])
    stored, wanted = _size(array.shape), _size(grid.shape)
    if fitting:
        names = " or ".join(readings[order] for order in fitting)
        raise GridError(
            "AXES_AMBIGUOUS",
            case,
            f"an array of {stored} without an affine could be {names}",
            "store it as (slices, rows, columns) where that differs, or with the image's 'affine' in the archive",
        )
    if array.ndim == len(grid.shape) == 3 and _in_plane(array.shape, grid.shape) is not None:
        problem = f"{_in_plane(array.shape, grid.shape)} slices, the image has {grid.shape[2]}"
        raise GridError("SLICES_DIFFER", case, problem, "export image and mask of the same slices")
    raise GridError(
        "GRID_MISMATCH",
        case,
        f"an array of {stored} does not fit the image's {wanted} voxels (columns, rows, slices)",
        "store it as (slices, rows, columns) of the image that it was drawn on",
    )


def _in_plane(stored: tuple[int, ...], wanted: tuple[int, ...]) -> int | None:
    """The number of slices in an array whose other two axes are the image's columns and rows."""
    columns_rows = sorted(wanted[:2])
    if sorted(stored[1:]) == columns_rows:
        return stored[0]
    return stored[2] if sorted(stored[:2]) == columns_rows else None


def _size(shape: tuple[int, ...]) -> str:
    return "×".join(str(n) for n in shape)
