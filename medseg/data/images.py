"""Images in and out: one ``read``, one ``write``, whatever the format.

``READERS`` lists the formats. Every reader is strict: a file that could be read as
something it is not is refused with a code, and what is merely odd comes back as a note.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.data.archives import read_npz
from medseg.data.case import PART_ENDING, split_slice
from medseg.data.dicom.file import holds_images
from medseg.data.dicom.read_seg import read_dicom_mask
from medseg.data.dicom.series import read_dicom
from medseg.data.dicom.sniff import find_mask_file, is_dicom_file
from medseg.data.itk_formats import read_metaimage, read_nrrd
from medseg.data.joining import united
from medseg.data.labels import expected_labels, whole_labels
from medseg.data.nifti import read_nifti, refuse_pair
from medseg.data.parts import frame_of, slice_of
from medseg.data.pictures import read_picture, read_picture_labels
from medseg.data.terminology import Names
from medseg.data.volume import Note, Volume
from medseg.data.writing import write
from medseg.errors import ImageError, LabelError

if TYPE_CHECKING:
    from medseg.data.monai_io import MaskReader, VolumeReader, VolumeWriter

__all__ = [
    "READERS",
    "MaskReader",
    "Note",
    "Reader",
    "Volume",
    "VolumeReader",
    "VolumeWriter",
    "find_images",
    "image_stem",
    "is_image_name",
    "read",
    "read_mask",
    "write",
]


@dataclass(frozen=True)
class Reader:
    """One format.

    Args:
        name: What users call it.
        suffixes: Lower-case endings of its files, the longest first.
        read: From a file to a volume.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[Path], Volume]


READERS: list[Reader] = [
    Reader("NIfTI", (".nii.gz", ".nii"), read_nifti),
    Reader("NIfTI pair", (".hdr.gz", ".hdr"), refuse_pair),
    Reader("NRRD", (".nrrd", ".nhdr"), read_nrrd),
    Reader("MetaImage", (".mha", ".mhd"), read_metaimage),
    Reader("picture", (".png", ".jpeg", ".jpg", ".tiff", ".tif", ".bmp"), read_picture),
    Reader("NPZ", (".npz",), read_npz),
    Reader("DICOM", (".dcm", ".ima"), read_dicom),
]
"""The formats that are read; the first whose suffix fits is used."""

SERIES_PART = "series="


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
    file, part = _split(path)
    return _read(file, part, _reader(file).read)


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
        return united([_read_mask(each, values, names) for each in path], path)
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
    file, part = _split(path)
    reader = _reader(file)
    drawn = find_mask_file(file) if reader is READERS[-1] and not part else None
    if drawn is not None:
        return _read(drawn, "", partial(read_dicom_mask, names=names)), False
    is_picture = reader.name == "picture"
    return _read(file, part, read_picture_labels if is_picture else reader.read), is_picture


def as_labels(volume: Volume, values: Collection[int] | None, path: str | Path, *, is_picture: bool) -> Volume:
    """What a mask's stored voxels mean; see ``read_mask``.

    Raises:
        LabelError: As ``read_mask``.
    """
    array = volume.array
    if volume.has_channels:
        if not is_picture or not (array == array[:1]).all():
            problem = f"{array.shape[0]} channels per voxel, one label was expected"
            raise LabelError("LABEL_CHANNELS", path, problem, "store one label per voxel, not one channel per label")
        array = array[0]
    is_8bit_picture = is_picture and array.dtype == np.uint8
    array = whole_labels(array, path)
    notes: tuple[Note, ...] = ()
    if values is not None:
        array, notes = expected_labels(array, values, path, is_8bit_picture=is_8bit_picture)
    return replace(volume, array=array, has_channels=False, notes=volume.notes + notes)


def _read_mask(path: str | Path, values: Collection[int] | None, names: Names | None) -> Volume:
    volume, is_picture = read_stored_mask(path, names)
    return as_labels(volume, values, path, is_picture=is_picture)


def find_images(folder: str | Path) -> list[Path]:
    """Every image below ``folder``, sorted; a folder that holds DICOM files is one entry.

    Files are recognised by suffix, DICOM by its content. Hidden files
    and folders are passed over; links to folders are not followed.

    Raises:
        ImageError: ``IMAGE_NOT_FOUND``: ``folder`` is no folder.
    """
    if not Path(folder).is_dir():
        raise ImageError("IMAGE_NOT_FOUND", folder, "there is no such folder", "check the path")
    found: list[Path] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        visible = (Path(parent, name) for name in sorted(names) if not name.startswith("."))
        files = [path for path in visible if path.is_file()]
        images = [path for path in files if is_image_name(path.name) and not _has_dicom_suffix(path.name)]
        found += images
        found += [Path(parent)] if holds_images(path for path in files if path not in set(images)) else []
    return sorted(found)


def image_stem(path: str | Path) -> str:
    """The name without folders and image suffix; ``#N`` and ``#tN`` stay, for they name another image.

    >>> image_stem("scans/a.b.nii.gz"), image_stem("pages.tif#3")
    ('a.b', 'pages#3')
    """
    name, part = split_slice(Path(path).name)
    suffix = _suffix(name)
    return (name[: -len(suffix)] if suffix and len(suffix) < len(name) else name) + part


def is_image_name(name: str) -> bool:
    """Whether a file's name ends as one of ``READERS`` expects (``#N`` and ``#tN`` left out)."""
    return _suffix(split_slice(name)[0]) != ""


def _read(path: Path, part: str, reader: Callable[..., Volume]) -> Volume:
    """The file, or the part of it that ``N`` (a slice or page), ``tN`` (a time frame) or ``series=SUFFIX`` names."""
    if part.startswith(SERIES_PART):
        return _series(path, part.removeprefix(SERIES_PART), reader)
    try:
        if part.isdecimal() and reader in (read_picture, read_picture_labels):
            return reader(path, int(part))
        volume = reader(path)
    except (OSError, MemoryError) as error:
        problem = f"it cannot be read ({type(error).__name__}: {error})"
        raise ImageError("IMAGE_UNREADABLE", path, problem, "check its permissions and the memory") from error
    if not part:
        return volume
    if part.isdecimal():
        return slice_of(volume, int(part), path)
    return frame_of(volume, int(part[1:]), path, has_time=_reader(path) is READERS[0])


def _series(path: Path, series: str, reader: Callable[..., Volume]) -> Volume:
    if reader is not read_dicom:
        remedy = "name a series of a folder of DICOM files only"
        raise ImageError("DICOM_SERIES_NOT_FOUND", path, f"{path.name} holds no DICOM series", remedy)
    return read_dicom(path, series)


def _split(path: str | Path) -> tuple[Path, str]:
    """The file, and the part that ``#N``, ``#tN`` or ``#series=…`` names; a file whose name ends so comes first."""
    try:
        whole = Path(path)
        match = None if whole.exists() else PART_ENDING.fullmatch(str(path))
        file = Path(match[1]) if match else whole
        if not (file.is_file() or file.is_dir()):
            problem = "it is neither a file nor a folder" if file.exists() else "there is no such file or folder"
            raise ImageError("IMAGE_NOT_FOUND", path, problem, "check the path")
    except (OSError, ValueError) as error:
        raise ImageError("IMAGE_NOT_FOUND", repr(path), f"it is no usable path ({error})", "check it") from error
    return file, match[2] if match else ""


def _reader(path: Path) -> Reader:
    suffix = "" if path.is_dir() else _suffix(path.name)
    for reader in READERS:
        if suffix in reader.suffixes:
            return reader
    if path.is_dir() or _looks_like_dicom(path):
        return READERS[-1]
    known = ", ".join(suffix for reader in READERS for suffix in reader.suffixes)
    raise ImageError("FORMAT_UNKNOWN", path, "its suffix names no image format", f"use one of {known}")


def _suffix(name: str) -> str:
    lower = name.lower()
    return next((suffix for reader in READERS for suffix in reader.suffixes if lower.endswith(suffix)), "")


def _has_dicom_suffix(name: str) -> bool:
    return _suffix(name) in READERS[-1].suffixes


def _looks_like_dicom(path: Path) -> bool:
    try:
        return is_dicom_file(path)
    except OSError:
        return False


def __getattr__(name: str) -> Any:
    # MONAI, and torch with it, is imported only where its adapters are asked for.
    if name in ("MaskReader", "VolumeReader", "VolumeWriter"):
        from medseg.data import monai_io

        return getattr(monai_io, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
