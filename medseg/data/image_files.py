"""Image files: which of a folder's are images or masks, and what their names are without suffix."""

from __future__ import annotations

import os
from pathlib import Path

from medseg.data.formats.dicom import DICOM, find_segments, holds_images
from medseg.data.formats.table import image_suffix
from medseg.data.slicing import split_part
from medseg.errors import ImageError


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
    drawn = find_segments(Path(folder))
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
