"""Images in and out: one ``read``, one ``write``, whatever the format.

``READERS`` lists the formats. Every reader is strict: a file that could be read as
something it is not is refused with a code, and what is merely odd comes back as a note.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.data.archives import read_npz
from medseg.data.case import PART_ENDING, split_slice
from medseg.data.dicom.series import holds_images, is_dicom_file, read_dicom
from medseg.data.itk_formats import read_metaimage, read_nrrd
from medseg.data.joining import united
from medseg.data.labels import expected_labels, whole_labels
from medseg.data.nifti import read_nifti, refuse_pair
from medseg.data.pictures import read_picture, read_picture_labels
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


def read(path: str | Path) -> Volume:
    """Read an image: a file, a folder with one DICOM series, or ``FILE#N``, its slice N.

    A fourth axis, colours and vectors become channels, first. Stored types are kept
    unless the header scales them. ``FILE#N`` is slice N (from 0) along the third axis,
    or page N of a TIFF, as a 2D image; ``FILE#tN`` is frame N (from 0) along the fourth
    axis of a NIfTI file, as a 3D image.

    Args:
        path: The file or folder.

    Returns:
        Voxels, grid, and notes on what is odd about the file.

    Raises:
        ImageError: The file is missing, damaged, contradictory or of an unknown format.
    """
    file, part = _split(path)
    return _read(file, part, _reader(file).read)


def read_mask(path: str | Path | Sequence[str | Path], values: Collection[int] | None = None) -> Volume:
    """Read a mask: one whole, non-negative label per voxel, no channels.

    Floats that hold whole numbers are converted; a colour picture whose channels agree
    is reduced to one; a palette picture gives its palette indices.

    Args:
        path: As for ``read``; of several paths, the union of their masks.
        values: The labels that may occur. Where these are 0 and 1, a mask of 0 and 255
            is mapped, and an 8-bit picture with grey edges cut at half of 255; both
            are noted.

    Raises:
        ImageError: As ``read``.
        LabelError: Not whole, negative, unexpected, several channels, or parts that contradict each other.
        GridError: ``GRID_MISMATCH``: the parts lie on different grids.
    """
    if not isinstance(path, str | Path):
        return united([_read_mask(each, values) for each in path], path)
    return _read_mask(path, values)


def _read_mask(path: str | Path, values: Collection[int] | None) -> Volume:
    file, part = _split(path)
    reader = _reader(file)
    is_picture = reader.name == "picture"
    volume = _read(file, part, read_picture_labels if is_picture else reader.read)
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
    """The file, or the part of it that ``N`` (a slice or page) or ``tN`` (a time frame) names."""
    try:
        if part.isdecimal() and reader in (read_picture, read_picture_labels):
            return reader(path, int(part))
        volume = reader(path)
    except (OSError, MemoryError) as error:
        problem = f"it cannot be read ({type(error).__name__}: {error})"
        raise ImageError("IMAGE_UNREADABLE", path, problem, "check its permissions and the memory") from error
    if not part:
        return volume
    return _slice(volume, int(part), path) if part.isdecimal() else _frame(volume, int(part[1:]), path)


def _split(path: str | Path) -> tuple[Path, str]:
    """The file, and the part that ``#N`` or ``#tN`` names; a file whose real name ends so comes first."""
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


def _slice(volume: Volume, index: int, path: Path) -> Volume:
    """Slice ``index`` along the third axis, its grid starting at that slice."""
    axis = 3 if volume.has_channels else 2
    count = volume.array.shape[axis] if volume.array.ndim > axis else 1
    if index >= count:
        raise ImageError("SLICE_NOT_FOUND", path, f"slice {index} of {count} (counted from 0)", "name one it holds")
    if volume.array.ndim <= axis:
        return volume
    affine = volume.affine.copy()
    affine[:, 3] += index * affine[:, 2]
    return replace(volume, array=volume.array[..., index], affine=affine)


def _frame(volume: Volume, index: int, path: Path) -> Volume:
    """Frame ``index`` along the fourth axis of a NIfTI file; only there is it known to be time or channels."""
    count = volume.array.shape[0] if volume.has_channels and volume.array.ndim == 4 else 1
    if _reader(path) is not READERS[0] or index >= count:
        problem = f"frame {index} of {count} (counted from 0) in {path.name}"
        raise ImageError("FRAME_NOT_FOUND", path, problem, "name a frame that a 4D NIfTI file holds")
    if volume.array.ndim < 4:
        return volume
    # A copy lets the other frames go.
    return replace(volume, array=volume.array[index].copy(), has_channels=False)


def __getattr__(name: str) -> Any:
    # MONAI, and torch with it, is imported only where its adapters are asked for.
    if name in ("MaskReader", "VolumeReader", "VolumeWriter"):
        from medseg.data import monai_io

        return getattr(monai_io, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
