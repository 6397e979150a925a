"""Read images, masks and headers: one ``read``, one ``read_mask``, one ``read_extent``, whatever the format.

Every reader is strict: a file that could be read as something it is not is refused with a code, and what is merely
odd comes back as a note. The formats stand in ``formats.table``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medseg.data.align import unite
from medseg.data.formats import Format
from medseg.data.formats.table import format_of
from medseg.data.image_files import SERIES_PART, locate
from medseg.data.labels import convert_labels, match_labels
from medseg.data.volume import Extent, Volume
from medseg.errors import ImageError, LabelError
from medseg.findings import Finding

if TYPE_CHECKING:
    from medseg.data.terminology import Names


def read(path: str | Path) -> Volume:
    """Read an image: a file, a folder with a DICOM series, or a part of it, such as ``FILE#N``, its slice N.

    A fourth axis, colours and vectors become channels, first. Stored types are kept
    unless the header scales them. ``FILE#N`` is slice N (from 0) along the third axis,
    or page N of a TIFF, as a 2D image; ``FILE#tN`` is frame N (from 0) along the fourth
    axis of a NIfTI file, as a 3D image. ``FOLDER#series=SUFFIX`` is one of the folder's
    DICOM series: that of this SeriesNumber, or whose SeriesInstanceUID ends so.

    Args:
        path: The file or folder.

    Returns:
        Voxels, grid, and notes on what is odd about the file.

    Raises:
        ImageError: The file is missing, damaged, contradictory or of an unknown format.
    """
    file, part = locate(path)
    known = format_of(file)
    return _read(file, part, known, known.read)


def read_mask(
    path: str | Path | Sequence[str | Path], values: Collection[int] | None = None, names: Names | None = None
) -> Volume:
    """Read a mask: one whole, non-negative label per voxel, no channels.

    Floats that hold whole numbers are converted; a colour picture whose channels agree
    is reduced to one; a palette picture gives its palette indices. A DICOM SEG or RTSTRUCT, or a
    folder with one, gives labels on the grid of the series that it was drawn on.

    Args:
        path: As for ``read``; of several paths, the union of their masks.
        values: The labels that may occur. Where these are 0 and 1, a mask of 0 and 255
            is mapped, and an 8-bit picture with grey edges cut at half of 255; both
            are noted.
        names: Names and codes of each label, by which the segments of a DICOM SEG and the structures
            of an RTSTRUCT are recognised; without, or where none is, their numbers are labels.

    Raises:
        ImageError: As ``read``.
        LabelError: Not whole, negative, unexpected, several channels, or parts that contradict each other.
        GridError: ``GRID_MISMATCH``: the parts lie on different grids.
    """
    if not isinstance(path, str | Path):
        return unite([_read_mask(each, values, names) for each in path], path)
    return _read_mask(path, values, names)


def read_stored_mask(path: str | Path, names: Names | None = None) -> tuple[Volume, bool]:
    """A mask's voxels as they are stored, which may be no labels yet, and whether its file is a picture.

    A palette picture gives its palette indices.

    Args:
        path: As for ``read``.
        names: As for ``read_mask``.

    Raises:
        ImageError: As ``read``.
    """
    file, part = locate(path)
    known = format_of(file)
    if known.read_segments is not None and not part:
        drawn = known.read_segments(file, names)
        if drawn is not None:
            return drawn, False
    return _read(file, part, known, known.read_indices or known.read), known.is_picture


def interpret_labels(volume: Volume, values: Collection[int] | None, path: str | Path, *, is_picture: bool) -> Volume:
    """What a mask's stored voxels mean; see ``read_mask``.

    Raises:
        LabelError: As ``read_mask``.
    """
    array = volume.array
    if volume.has_channels:
        if not is_picture or not (array == array[:1]).all():
            problem = f"{array.shape[0]} channels per voxel, one label was expected"
            raise LabelError("LABEL_CHANNELS", path, problem)
        array = array[0]
    is_8bit_picture = is_picture and array.dtype == np.uint8
    array = convert_labels(array, path)
    notes: tuple[Finding, ...] = ()
    if values is not None:
        array, notes = match_labels(array, values, path, is_8bit_picture=is_8bit_picture)
    return replace(volume, array=array, has_channels=False, notes=volume.notes + notes)


def read_extent(paths: Sequence[str]) -> Extent:
    """The extent of a case's images, one per channel or one for all.

    Headers alone are read of NIfTI, NRRD, MetaImage and DICOM; pictures, arrays and parts such as ``FILE#3`` are read
    whole. That a header can be read does not say that the voxels can.

    Args:
        paths: As for ``read``.

    Raises:
        ImageError: As ``read``, for what the header shows.
    """
    extents = [_read_extent(path) for path in paths]
    return replace(extents[0], channels=sum(extent.channels for extent in extents))


def take_slice(volume: Volume, index: int, path: Path) -> Volume:
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


def take_frame(volume: Volume, index: int, path: Path, has_time: bool) -> Volume:
    """Frame ``index`` along the fourth axis, where that is known to be time and not channels.

    Raises:
        ImageError: ``FRAME_NOT_FOUND``.
    """
    count = volume.array.shape[0] if volume.has_channels and volume.array.ndim == 4 else 1
    if not has_time or index >= count:
        problem = f"frame {index} of {count} (counted from 0) in {path.name}"
        raise ImageError("FRAME_NOT_FOUND", path, problem)
    if volume.array.ndim < 4:
        return volume
    # A copy lets the other frames go.
    return replace(volume, array=volume.array[index].copy(), has_channels=False)


def _read(path: Path, part: str, known: Format, reader: Callable[..., Volume]) -> Volume:
    """The file, or the part of it that ``#N`` (a slice or page), ``#tN`` (a time frame) or ``#series=…`` names."""
    own = _own_part(known, part)
    if part.startswith(SERIES_PART) and not own:
        remedy = "name a series of a folder of DICOM files only"
        raise ImageError("DICOM_SERIES_NOT_FOUND", path, f"{path.name} holds no DICOM series", remedy)
    try:
        volume = reader(path, *own)
    except (OSError, MemoryError) as error:
        problem = f"it cannot be read ({type(error).__name__}: {error})"
        raise ImageError("IMAGE_UNREADABLE", path, problem) from error
    if own or not part:
        return volume
    if part.startswith("#t"):
        return take_frame(volume, int(part[2:]), path, has_time=known.has_frames)
    return take_slice(volume, int(part[1:]), path)


def _own_part(known: Format, part: str) -> tuple[int | str, ...]:
    """What the format's own reader takes besides the file: a picture's page, the name of a series, or nothing."""
    if known.has_series and part.startswith(SERIES_PART):
        return (part.removeprefix(SERIES_PART),)
    return (int(part[1:]),) if known.is_picture and part[1:].isdecimal() else ()


def _read_mask(path: str | Path, values: Collection[int] | None, names: Names | None) -> Volume:
    volume, is_picture = read_stored_mask(path, names)
    return interpret_labels(volume, values, path, is_picture=is_picture)


def _read_extent(path: str) -> Extent:
    file, part = locate(path)
    known = format_of(file)
    own = _own_part(known, part)
    if known.extent is None or (part and not own):
        return Extent.of(_read(file, part, known, known.read))
    return known.extent(file, *own)
