"""How large an image is, from its header where the format allows it, so that no voxel is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.data.case import SERIES_PART
from medseg.data.dicom.pixels import find_stored_dtype
from medseg.data.dicom.rules import examine, list_errors
from medseg.data.dicom.series import choose_series, look_into, split_stack
from medseg.data.images import read
from medseg.data.itk_formats import itk_extent
from medseg.data.nifti import nifti_extent
from medseg.data.volume import channels_first
from medseg.geometry import spacing_mm

ITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
NIFTI_SUFFIXES = (".nii", ".nii.gz")


@dataclass(frozen=True)
class Extent:
    """What a header says of an image's voxels.

    Args:
        shape: Along its two or three spatial axes.
        affine: 4 by 4, voxel index to RAS+ mm.
        channels: Values per voxel.
        stored_bytes: Of one value.
    """

    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    channels: int
    stored_bytes: int

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Along the axes of ``shape``."""
        return spacing_mm(self.affine)[: len(self.shape)]


def read_extent(paths: Sequence[str]) -> Extent:
    """The extent of a case's images, one per channel or one for all.

    Headers alone are read of NIfTI, NRRD, MetaImage and DICOM; pictures, arrays and parts such as ``FILE#3`` are read
    whole. That a header can be read does not say that the voxels can.

    Args:
        paths: As for ``medseg.data.images.read``.

    Raises:
        ImageError: As ``medseg.data.images.read``, for what the header shows.
    """
    extents = [_extent(path) for path in paths]
    first = extents[0]
    return Extent(first.shape, first.affine, sum(each.channels for each in extents), first.stored_bytes)


def _extent(path: str) -> Extent:
    name, _, series = path.partition(SERIES_PART)
    suffix = Path(path).name.lower() if Path(path).is_file() else ""
    if suffix.endswith(NIFTI_SUFFIXES):
        sizes, dtype, affine = nifti_extent(Path(path))
        shape, channels = _told_apart(sizes, path)
        return Extent(shape, affine, channels, dtype.itemsize)
    if suffix.endswith(ITK_SUFFIXES):
        shape, channels, dtype, affine = itk_extent(Path(path))
        return Extent(shape, affine, channels, dtype.itemsize)
    if Path(name).is_dir():
        return _dicom_extent(Path(name), series or None)
    volume = read(path)
    array = volume.array
    return Extent(volume.spatial_shape, volume.affine, array.shape[0] if volume.has_channels else 1, array.itemsize)


def _told_apart(sizes: Sequence[int], path: str) -> tuple[tuple[int, ...], int]:
    """Voxels along the spatial axes, and channels: what reading makes of axes of these sizes.

    Raises:
        ImageError: ``IMAGE_NOT_3D``.
    """
    unread = np.broadcast_to(np.uint8(0), tuple(sizes))  # All its voxels share one place in memory.
    array, has_channels = channels_first(unread, path)
    return (array.shape[1:], array.shape[0]) if has_channels else (array.shape, 1)


def _dicom_extent(folder: Path, series: str | None) -> Extent:
    contents = look_into(folder)
    examined = examine(choose_series(contents, folder, series), folder, split_stack(series)[1])
    for error in list_errors((*contents.found, *examined.found)):
        raise error
    affine = np.diag([*examined.spacing_mm, 1.0, 1.0]) if examined.affine is None else examined.affine
    header = examined.files[0].header
    return Extent(examined.shape, affine, int(header.get("SamplesPerPixel", 1)), find_stored_dtype(header).itemsize)
