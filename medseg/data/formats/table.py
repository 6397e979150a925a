"""The formats that are known, in the order in which they are tried: a new one is a line here."""

from __future__ import annotations

from pathlib import Path

from medseg.data.dicom.sniff import looks_like_dicom
from medseg.data.formats import Format
from medseg.data.formats.dicom import DICOM
from medseg.data.formats.itk import METAIMAGE, NRRD
from medseg.data.formats.nifti import NIFTI, NIFTI_PAIR
from medseg.data.formats.npz import NPZ
from medseg.data.formats.pictures import PICTURE
from medseg.errors import ImageError

FORMATS: tuple[Format, ...] = (NIFTI, NIFTI_PAIR, NRRD, METAIMAGE, PICTURE, NPZ, DICOM)
"""The formats that are read; the first with a suffix that fits is used, DICOM whatever the suffix."""

WRITTEN: dict[str, Format] = {
    suffix: known for known in sorted(FORMATS, key=lambda known: known.is_picture) for suffix in known.written
}
"""The formats that are written, by suffix; those that keep a grid first."""


def format_of(path: Path) -> Format:
    """The format of a file by its suffix, or by its content where that is DICOM; a folder's is DICOM.

    Raises:
        ImageError: ``FORMAT_UNKNOWN``.
    """
    suffix = "" if path.is_dir() else image_suffix(path.name)
    for known in FORMATS:
        if suffix in known.suffixes:
            return known
    if path.is_dir() or looks_like_dicom(path):
        return DICOM
    suffixes = ", ".join(suffix for known in FORMATS for suffix in known.suffixes)
    raise ImageError("FORMAT_UNKNOWN", path, "its suffix names no image format", f"use one of {suffixes}")


def image_suffix(name: str) -> str:
    """The ending of a file's name that a format knows, in lower case; empty where none does.

    >>> image_suffix("scan.NII.gz"), image_suffix("notes.txt")
    ('.nii.gz', '')
    """
    lower = name.lower()
    return next((suffix for known in FORMATS for suffix in known.suffixes if lower.endswith(suffix)), "")
