"""A volume on a sheared grid, as of a tilted gantry, resampled onto a grid with perpendicular axes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from medseg.data.volume import LEAST_SHEAR, Note, Volume

AIR_HU = -1024
"""What a CT shows outside the patient; the background of rectified CT volumes."""

SHEAR_CODES = ("GANTRY_TILT", "SHEARED_GRID")
ROUNDING_VOXELS = 1e-6


def is_sheared(affine: NDArray[np.float64]) -> bool:
    """Whether two voxel axes are not perpendicular."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return float(np.abs(directions.T @ directions - np.eye(3)).max()) > LEAST_SHEAR


def rectified(volume: Volume, background: float | None = None, *, is_mask: bool = False) -> Volume:
    """The volume on the perpendicular grid that keeps its first axis, its planes and every voxel's volume.

    Values are interpolated linearly between neighbours (of masks, the nearest is taken);
    of a gantry tilt, whose planes are only shifted, no two slices are mixed. The grid is
    as large as it takes to hold the whole volume.

    Args:
        volume: 3D; returned as it is where its axes are perpendicular, or it is 2D.
        background: Value outside the volume, such as ``AIR_HU``; None takes the smallest there is.
        is_mask: Whether the values are labels; the background is then 0.
    """
    if len(volume.spatial_shape) != 3 or not is_sheared(volume.affine):
        return volume
    affine, shape = _perpendicular(volume.affine, volume.spatial_shape)
    to_stored = np.linalg.inv(volume.affine) @ affine
    outside = 0 if is_mask else volume.array.min() if background is None else background
    channels = volume.array if volume.has_channels else volume.array[None]
    moved = np.stack([_moved(channel, to_stored, shape, float(outside), is_mask) for channel in channels])
    notes = tuple(note for note in volume.notes if note.code not in SHEAR_CODES)
    note = Note("GRID_RECTIFIED", "the voxels were resampled from a sheared grid onto perpendicular axes")
    return replace(volume, array=moved if volume.has_channels else moved[0], affine=affine, notes=(*notes, note))


def _perpendicular(
    affine: NDArray[np.float64], shape: tuple[int, ...]
) -> tuple[NDArray[np.float64], tuple[int, int, int]]:
    """Gram and Schmidt's axes, and the shape in which they hold every stored voxel."""
    axes = affine[:3, :3].copy()
    for column in (1, 2):
        for before in range(column):
            share = axes[:, before] @ axes[:, column] / (axes[:, before] @ axes[:, before])
            axes[:, column] -= share * axes[:, before]
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in shape])).reshape(3, -1)
    places = np.linalg.solve(axes, affine[:3, :3] @ corners)
    first = np.floor(places.min(axis=1) + ROUNDING_VOXELS)
    last = np.ceil(places.max(axis=1) - ROUNDING_VOXELS)
    result = np.eye(4)
    result[:3, :3], result[:3, 3] = axes, affine[:3, 3] + axes @ first
    x, y, z = (last - first + 1).astype(int)
    return result, (int(x), int(y), int(z))


def _moved(
    array: NDArray, to_stored: NDArray[np.float64], shape: tuple[int, int, int], outside: float, is_mask: bool
) -> NDArray:
    dtype = array.dtype
    exact = np.float32 if dtype.itemsize <= 2 or dtype == np.float32 else np.float64
    moved = affine_transform(
        array,
        to_stored[:3, :3],
        to_stored[:3, 3],
        output_shape=shape,
        output=dtype if is_mask else exact,
        order=0 if is_mask else 1,
        mode="constant",
        cval=outside,
    )
    if moved.dtype == dtype:
        return moved
    limits = np.iinfo(dtype) if dtype.kind in "iu" else None
    return moved.astype(dtype) if limits is None else np.clip(np.rint(moved), limits.min, limits.max).astype(dtype)
