"""DICOM objects that hold masks: how each kind is read, and the series that each was drawn on."""

from __future__ import annotations

from pathlib import Path

from pydicom.filereader import read_file_meta_info, read_partial
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medseg.data.dicom.file import HEADER_ERRORS, read_file, refuse_unreadable
from medseg.data.dicom.read_seg import read_segmentation
from medseg.data.dicom.rtstruct import read_structure_set
from medseg.data.dicom.sniff import (
    LABELMAP_CLASS,
    NOT_IMAGES,
    SEGMENTATION_CLASS,
    STRUCTURE_SET_CLASS,
    name_kind,
    read_storage_class,
)
from medseg.data.dicom.source import read_contour_series, read_segmentation_series
from medseg.data.terminology import Names
from medseg.data.volume import Volume

SERIES_INSTANCE_UID = 0x0020000E
MASK_READERS = {
    SEGMENTATION_CLASS: read_segmentation,
    LABELMAP_CLASS: read_segmentation,
    STRUCTURE_SET_CLASS: read_structure_set,
}
"""How each storage class that holds a mask is read."""


def read_dicom_mask(path: Path, names: Names | None = None) -> Volume:
    """Read a DICOM SEG or RTSTRUCT, as ``sniff.find_mask_file`` gives it.

    Args:
        path: The file.
        names: See :func:`medseg.data.dicom.segments.match_labels`.

    Raises:
        ImageError: As the reader of its kind.
    """
    return MASK_READERS[read_storage_class(path)](path, names)


def read_referenced_series(path: Path) -> tuple[str, ...]:
    """SeriesInstanceUIDs of the series that a DICOM SEG or RTSTRUCT was drawn on.

    Raises:
        ImageError: ``DICOM_UNREADABLE``.
    """
    header = read_file(path).header
    is_contours = read_storage_class(path) == STRUCTURE_SET_CLASS
    with refuse_unreadable(path, remedy="export it again"):
        return read_contour_series(header) if is_contours else read_segmentation_series(header)


def list_image_series(folder: Path) -> set[str]:
    """SeriesInstanceUIDs of the DICOM images that lie in ``folder`` itself; unreadable files are passed over."""
    found = {_sniff_series_uid(path) for path in folder.iterdir() if not path.name.startswith(".")}
    return found - {""}


def _sniff_series_uid(path: Path) -> str:
    """The series of a DICOM file that may be an image, by the beginning of its header; empty of any other."""
    stored = read_storage_class(path)
    if not stored or stored in NOT_IMAGES or name_kind(stored) != "other":
        return ""
    try:
        with path.open("rb") as file:
            meta = read_file_meta_info(path)
            if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
                return str(read_file(path).header.get("SeriesInstanceUID", ""))
            start = read_partial(file, stop_when=lambda tag, vr, length: tag > SERIES_INSTANCE_UID)
            return str(start.get("SeriesInstanceUID", ""))
    except HEADER_ERRORS:
        return ""
