"""Parts of a volume: one slice, one time frame."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from medseg.data.volume import Volume
from medseg.errors import ImageError


def slice_of(volume: Volume, index: int, path: Path) -> Volume:
    """Slice ``index`` along the third axis, its grid starting at that slice; a 2D image is its own slice 0.

    Raises:
        ImageError: ``SLICE_NOT_FOUND``.
    """
    axis = 3 if volume.has_channels else 2
    count = volume.array.shape[axis] if volume.array.ndim > axis else 1
    if index >= count:
        raise ImageError("SLICE_NOT_FOUND", path, f"slice {index} of {count} (counted from 0)", "name one it holds")
    if volume.array.ndim <= axis:
        return volume
    affine = volume.affine.copy()
    affine[:, 3] += index * affine[:, 2]
    return replace(volume, array=volume.array[..., index], affine=affine)


def frame_of(volume: Volume, index: int, path: Path, has_time: bool) -> Volume:
    """Frame ``index`` along the fourth axis, where that is known to be time and not channels.

    Raises:
        ImageError: ``FRAME_NOT_FOUND``.
    """
    count = volume.array.shape[0] if volume.has_channels and volume.array.ndim == 4 else 1
    if not has_time or index >= count:
        problem = f"frame {index} of {count} (counted from 0) in {path.name}"
        raise ImageError("FRAME_NOT_FOUND", path, problem, "name a frame that a 4D NIfTI file holds")
    if volume.array.ndim < 4:
        return volume
    # A copy lets the other frames go.
    return replace(volume, array=volume.array[index].copy(), has_channels=False)
