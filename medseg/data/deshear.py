"""A volume on a sheared grid, as of a tilted gantry, resampled onto a grid with perpendicular axes."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from medseg.data.formats.payload import check_memory
from medseg.data.volume import LEAST_SHEAR, Volume
from medseg.findings import make_note
from medseg.geometry import Grid, corner_indices, shear_cosine

SHEAR_CODES = ("GANTRY_TILT", "SHEARED_GRID")
"""Of the notes by which readers tell of sheared grids."""

ROUNDING_VOXELS = 1e-6


def is_sheared(affine: NDArray[np.float64]) -> bool:
    """Whether two voxel axes are not perpendicular."""
    return shear_cosine(affine) > LEAST_SHEAR


def make_perpendicular(grid: Grid) -> Grid:
    """The grid that keeps the first axis, the planes and every voxel's volume, large enough for all stored voxels.

    Its axes are those of Gram and Schmidt; a grid whose axes are perpendicular is its own.

    Args:
        grid: 3D.
    """
    if not is_sheared(grid.affine):
        return grid
    stored = grid.affine[:3, :3]
    axes = stored.copy()
    for column in (1, 2):
        for before in range(column):
            share = axes[:, before] @ axes[:, column] / (axes[:, before] @ axes[:, before])
            axes[:, column] -= share * axes[:, before]
    places = np.linalg.solve(axes, stored @ corner_indices(grid.shape)[:, :3].T)
    first = np.floor(places.min(axis=1) + ROUNDING_VOXELS)
    last = np.ceil(places.max(axis=1) - ROUNDING_VOXELS)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes, grid.affine[:3, 3] + axes @ first
    return Grid(tuple(int(n) for n in last - first + 1), affine)


def deshear(volume: Volume, case: object = "the volume", *, is_mask: bool = False) -> Volume:
    """The volume on the :func:`perpendicular` grid of its own.

    Values are interpolated linearly between neighbours (of masks, the nearest is taken);
    of a gantry tilt, whose planes are only shifted, no two slices are mixed. Outside the
    stored voxels stands the smallest value of each channel, of masks 0.

    Args:
        volume: Returned as it is where its axes are perpendicular, or it is 2D.
        case: Named in the error.
        is_mask: Whether the values are labels.

    Raises:
        ImageError: ``MEMORY_BUDGET``: of axes that are nearly parallel the perpendicular grid is far larger.
    """
    if len(volume.spatial_shape) != 3 or not is_sheared(volume.affine):
        return volume
    grid = make_perpendicular(volume.grid)
    growth = prod(grid.shape) / prod(volume.spatial_shape)
    check_memory(int(volume.array.nbytes * growth), case, "its voxels on perpendicular axes")
    to_stored = np.linalg.inv(volume.affine) @ grid.affine
    is_inside = _resample(np.ones(volume.spatial_shape, dtype=bool), to_stored, grid.shape, is_mask=True)
    channels = volume.array if volume.has_channels else volume.array[None]
    moved = np.stack([_resample(channel, to_stored, grid.shape, is_mask=is_mask) for channel in channels])
    for channel, stored in zip(moved, channels, strict=True):
        channel[~is_inside] = 0 if is_mask else _smallest(stored)
    notes = tuple(note for note in volume.notes if note.code not in SHEAR_CODES)
    note = make_note("GRID_RECTIFIED", "the voxels were resampled from a sheared grid onto perpendicular axes")
    array = moved if volume.has_channels else moved[0]
    return replace(volume, array=array, affine=grid.affine, notes=(*notes, note))


def _smallest(channel: NDArray) -> float:
    finite = channel[np.isfinite(channel)] if channel.dtype.kind == "f" else channel
    return finite.min() if finite.size else 0


def _resample(array: NDArray, to_stored: NDArray[np.float64], shape: tuple[int, ...], *, is_mask: bool) -> NDArray:
    """The values at another grid's voxels; beyond the edge those of the edge, or nothing of masks."""
    dtype = array.dtype
    exact = np.float32 if dtype.itemsize <= 2 or dtype == np.float32 else np.float64
    moved = affine_transform(
        array,
        to_stored[:3, :3],
        to_stored[:3, 3],
        output_shape=shape,
        output=dtype if is_mask else exact,
        order=0 if is_mask else 1,
        # With "constant" rounding alone would put a voxel on the edge outside.
        mode="grid-constant" if is_mask else "nearest",
    )
    if moved.dtype == dtype:
        return moved
    limits = np.iinfo(dtype) if dtype.kind in "iu" else None
    return moved.astype(dtype) if limits is None else np.clip(np.rint(moved), limits.min, limits.max).astype(dtype)
