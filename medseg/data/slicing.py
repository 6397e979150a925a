"""What a path names within a file: ``FILE#N`` a slice, ``FILE#tN`` a time frame, ``FOLDER#series=SUFFIX`` a series."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from medseg.data.volume import Volume
from medseg.errors import ImageError

SERIES_PART = "#series="
"""Between a folder and the name of one of its DICOM series."""

SERIES_NAME = re.compile(r"[\d.]+(?::\d+)?|:\d+", re.ASCII)
"""What names a DICOM series of a folder: its number or the end of its UID, and perhaps ``:N``, stack N in it."""

PART_ENDING = re.compile(rf"(.+)(#(?:t?\d+|series=(?:{SERIES_NAME.pattern})))", re.DOTALL)
"""A path that names a part: ``FILE#N`` a slice or page, ``FILE#tN`` a time frame, from 0; ``FOLDER#series=SUFFIX``."""


def split_part(path: str) -> tuple[str, str]:
    """A path and its ending ``#N`` (a slice), ``#tN`` (a time frame) or ``#series=SUFFIX``, or an empty string.

    >>> split_part("train-volume.tif#3"), split_part("cine.nii.gz#t11"), split_part("scan.nii.gz")
    (('train-volume.tif', '#3'), ('cine.nii.gz', '#t11'), ('scan.nii.gz', ''))
    """
    match = PART_ENDING.fullmatch(path)
    return (match[1], match[2]) if match else (path, "")


def is_present(path: str) -> bool:
    """Whether the file (or DICOM folder) of a case's path exists, with or without ``#N`` or ``#tN``."""
    return os.path.lexists(path) or Path(split_part(path)[0]).exists()


def locate(path: str | Path) -> tuple[Path, str]:
    """The file or folder, and the ending that names a part of it; a file whose own name ends so comes first.

    Raises:
        ImageError: ``IMAGE_NOT_FOUND``.
    """
    try:
        whole = Path(path)
        name, part = (str(path), "") if whole.exists() else split_part(str(path))
        file = Path(name) if part else whole
        if not (file.is_file() or file.is_dir()):
            problem = "it is neither a file nor a folder" if file.exists() else "there is no such file or folder"
            raise ImageError("IMAGE_NOT_FOUND", path, problem, "check the path")
    except (OSError, ValueError) as error:
        raise ImageError("IMAGE_NOT_FOUND", repr(path), f"it is no usable path ({error})", "check it") from error
    return file, part


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
        raise ImageError("FRAME_NOT_FOUND", path, problem, "name a frame that a 4D NIfTI file holds")
    if volume.array.ndim < 4:
        return volume
    # A copy lets the other frames go.
    return replace(volume, array=volume.array[index].copy(), has_channels=False)
