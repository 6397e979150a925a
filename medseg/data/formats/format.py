"""What every format is to the rest of the package: one ``Format``, and what a header says, an ``Extent``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.data.volume import Volume, put_channels_first
from medseg.geometry import spacing_mm


@dataclass(frozen=True)
class Extent:
    """What a header says of an image's voxels.

    Args:
        shape: Voxels along its two or three spatial axes.
        affine: 4 by 4, voxel index to RAS+ mm.
        channels: Values per voxel.
        stored_bytes: Bytes of one value.
    """

    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    channels: int
    stored_bytes: int

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Distance between neighbouring voxels along the axes of ``shape``."""
        return spacing_mm(self.affine)[: len(self.shape)]

    @classmethod
    def of(cls, volume: Volume) -> Extent:
        """The extent of a volume that was read."""
        channels = volume.array.shape[0] if volume.has_channels else 1
        return cls(volume.spatial_shape, volume.affine, channels, volume.array.itemsize)


def hold_any(volume: Volume, suffix: str) -> str:
    """Refuse nothing: the ``refuse`` of a format that holds every volume."""
    return ""


@dataclass(frozen=True)
class Format:
    """One format: its files, and how they are read and written.

    Args:
        name: What users call it.
        suffixes: Lower-case endings of its files, the longest first.
        read: From a file to a volume, strictly. Of a picture it takes a page, counted from 0, besides; where
            ``has_series``, the name of a series.
        extent: The extent by the header alone, with what ``read`` takes besides; None where only reading tells it.
        write: From a volume to a new file; None where the format is not written.
        written: The endings under which it is written.
        refuse: Why it cannot hold a volume under an ending; an empty text where it can.
        is_picture: Whether it has pages and no grid, and a mask in it may have soft edges or be grey in colours.
        has_frames: Whether a fourth axis is time.
        has_series: Whether a folder of its files can hold several images.
        read_indices: As ``read``, but a palette's indices in place of its colours; None where it has no palette.
        read_segments: A mask whose segments may bear names, from a file and names by label; gives None where the file
            holds an image. None where the format has no such masks.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[..., Volume]
    extent: Callable[..., Extent] | None = None
    write: Callable[[Volume, Path], None] | None = None
    written: tuple[str, ...] = ()
    refuse: Callable[[Volume, str], str] = hold_any
    is_picture: bool = False
    has_frames: bool = False
    has_series: bool = False
    read_indices: Callable[..., Volume] | None = None
    read_segments: Callable[..., Volume | None] | None = None


def unread(sizes: Sequence[int], dtype: np.dtype) -> NDArray:
    """An array of these sizes whose voxels share one place in memory, to stand for voxels that were not read."""
    return np.broadcast_to(np.zeros((), dtype), tuple(sizes))


def extent_of_axes(sizes: Sequence[int], dtype: np.dtype, affine: NDArray[np.float64], case: object) -> Extent:
    """The extent that reading makes of axes of these sizes, a fourth being channels.

    Raises:
        ImageError: ``IMAGE_NOT_3D``: five or more axes are in use.
    """
    array, has_channels = put_channels_first(unread(sizes, dtype), case)
    return Extent.of(Volume(array, affine, has_channels))
