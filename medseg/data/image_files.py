"""Image files: found in a folder, named without suffix, and the part of one that a path names, as ``FILE#N`` does."""

from __future__ import annotations

import os
import re
from pathlib import Path

from medseg.data.dicom.sniff import find_dicom_masks
from medseg.data.formats.dicom import DICOM, holds_images
from medseg.data.formats.table import image_suffix
from medseg.errors import ImageError
from medseg.options import SERIES_NAME

SERIES_PART = "#series="
"""Between a folder and the name of one of its DICOM series."""

PART_ENDING = re.compile(rf"(.+)(#(?:t?\d+|series=(?:{SERIES_NAME.pattern})))", re.DOTALL)
"""A path that names a part: ``FILE#N`` a slice or page, ``FILE#tN`` a time frame, from 0; ``FOLDER#series=SUFFIX``."""


def find_images(folder: str | Path) -> list[Path]:
    """Every image below ``folder``, sorted; a folder that holds DICOM files is one entry.

    Files are recognised by suffix, DICOM by its content. Hidden files
    and folders are passed over; links to folders are not followed.

    Raises:
        ImageError: ``IMAGE_NOT_FOUND``: ``folder`` is no folder.
    """
    if not Path(folder).is_dir():
        raise ImageError("IMAGE_NOT_FOUND", folder, "there is no such folder")
    found: list[Path] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        visible = (Path(parent, name) for name in sorted(names) if not name.startswith("."))
        files = [path for path in visible if path.is_file()]
        images = [path for path in files if image_suffix(path.name) not in ("", *DICOM.suffixes)]
        found += images
        found += [Path(parent)] if holds_images(path for path in files if path not in set(images)) else []
    return sorted(found)


def find_masks(folder: str | Path) -> list[Path]:
    """Every image below ``folder`` and every DICOM SEG and RTSTRUCT, sorted; see ``find_images``.

    Where there is a SEG or RTSTRUCT, folders of DICOM slices are what they were drawn on, and left out.

    Raises:
        ImageError: ``IMAGE_NOT_FOUND``: ``folder`` is no folder.
    """
    images = find_images(folder)
    drawn = find_dicom_masks(Path(folder))
    return sorted([*drawn, *(path for path in images if not path.is_dir())]) if drawn else images


def image_stem(path: str | Path) -> str:
    """The name without folders and image suffix; ``#N`` and ``#tN`` stay, for they name another image.

    >>> image_stem("scans/a.b.nii.gz"), image_stem("pages.tif#3")
    ('a.b', 'pages#3')
    """
    name, part = split_part(Path(path).name)
    suffix = image_suffix(name)
    return (name[: -len(suffix)] if suffix and len(suffix) < len(name) else name) + part


def is_image_name(name: str) -> bool:
    """Whether a file's name ends as one of the formats expects (``#N`` and ``#tN`` left out)."""
    return image_suffix(split_part(name)[0]) != ""


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
            raise ImageError("IMAGE_NOT_FOUND", path, problem)
    except (OSError, ValueError) as error:
        raise ImageError("IMAGE_NOT_FOUND", repr(path), f"it is no usable path ({error})", "check it") from error
    return file, part
