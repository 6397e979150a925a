"""DICOM objects that hold masks: which files of a folder they are, and how they are read."""

from __future__ import annotations

import os
from pathlib import Path

import pydicom
from pydicom.filereader import read_partial
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medseg.data.dicom.contours import STRUCTURE_SET_CLASS, read_structure_set
from medseg.data.dicom.files import DICOM_ERRORS, HEADER_ERRORS, read_file
from medseg.data.dicom.kinds import NOT_IMAGES, kind_of
from medseg.data.dicom.references import series_of_contours, series_of_segmentation
from medseg.data.dicom.segmentation import (
    LABELMAP_CLASS,
    SEGMENTATION_CLASS,
    read_segmentation,
)
from medseg.data.dicom.segments import Names
from medseg.data.dicom.sniff import is_dicom_file
from medseg.data.volume import Volume
from medseg.errors import ImageError

SERIES_INSTANCE_UID = 0x0020000E
READERS = {
    SEGMENTATION_CLASS: read_segmentation,
    LABELMAP_CLASS: read_segmentation,
    STRUCTURE_SET_CLASS: read_structure_set,
}
"""How each storage class that holds a mask is read."""


def mask_file(path: Path) -> Path | None:
    """The DICOM SEG or RTSTRUCT that a path names: itself, or the only one in a folder; None where it names none.

    Raises:
        ImageError: ``SEG_SEVERAL``: the folder holds several.
    """
    if not path.is_dir():
        return path if holds_mask(path) else None
    found = [each for each in sorted(path.iterdir()) if not each.name.startswith(".") and holds_mask(each)]
    if len(found) > 1:
        named = ", ".join(each.name for each in found[:5])
        problem = f"it holds {len(found)} segmentations or structure sets, such as {named}"
        raise ImageError("SEG_SEVERAL", path, problem, "give the file that is meant")
    return found[0] if found else None


def read_dicom_mask(path: Path, names: Names | None = None) -> Volume:
    """Read a DICOM SEG or RTSTRUCT, as ``mask_file`` gives it.

    Args:
        path: The file.
        names: See :func:`medseg.data.dicom.segments.labels_of`.

    Raises:
        ImageError: As the reader of its kind.
    """
    return READERS[_storage_class(path)](path, names)


def find_dicom_masks(folder: Path) -> list[Path]:
    """Every DICOM SEG and RTSTRUCT below ``folder``, sorted; hidden files and folders are passed over."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in names if not name.startswith(".") and holds_mask(Path(parent, name))]
    return sorted(found)


def holds_mask(path: Path) -> bool:
    """Whether a file is a DICOM SEG or RTSTRUCT."""
    return _storage_class(path) in READERS


def referenced_series(path: Path) -> tuple[str, ...]:
    """SeriesInstanceUIDs of the series that a DICOM SEG or RTSTRUCT was drawn on.

    Raises:
        ImageError: ``DICOM_UNREADABLE``.
    """
    header = read_file(path).header
    is_contours = _storage_class(path) == STRUCTURE_SET_CLASS
    try:
        return series_of_contours(header) if is_contours else series_of_segmentation(header)
    except DICOM_ERRORS as error:
        problem = f"a header value cannot be read ({type(error).__name__}: {error})"
        raise ImageError("DICOM_UNREADABLE", path, problem, "export it again") from error


def image_series(folder: Path) -> set[str]:
    """SeriesInstanceUIDs of the DICOM images that lie in ``folder`` itself; unreadable files are passed over."""
    found = {_series_uid(path) for path in folder.iterdir() if not path.name.startswith(".")}
    return found - {""}


def _series_uid(path: Path) -> str:
    """The series of a DICOM file that may be an image, by the beginning of its header; empty of any other."""
    storage_class = _storage_class(path)
    if not storage_class or storage_class in NOT_IMAGES or kind_of(storage_class) != "other":
        return ""
    try:
        with path.open("rb") as file:
            meta = pydicom.filereader.read_file_meta_info(path)
            if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
                return str(read_file(path).header.get("SeriesInstanceUID", ""))
            start = read_partial(file, stop_when=lambda tag, vr, length: tag > SERIES_INSTANCE_UID)
            return str(start.get("SeriesInstanceUID", ""))
    except HEADER_ERRORS:
        return ""


def _storage_class(path: Path) -> str:
    """The kind of a DICOM file, from its meta information; empty where it has none."""
    try:
        if not path.is_file() or not is_dicom_file(path):
            return ""
        return str(pydicom.filereader.read_file_meta_info(path).get("MediaStorageSOPClassUID", ""))
    except HEADER_ERRORS:
        return ""
