"""Whether a file is DICOM and what it holds, by its first bytes; pydicom is loaded for files with DICOM's mark only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from medseg.data.volume import PARSER_ERRORS
from medseg.errors import ImageError

PREAMBLE_BYTES = 128
MAGIC = b"DICM"
META_START = PREAMBLE_BYTES + len(MAGIC)
DIRECTORY_NAME = "DICOMDIR"
SEGMENTATION_CLASS = "1.2.840.10008.5.1.4.1.1.66.4"
LABELMAP_CLASS = "1.2.840.10008.5.1.4.1.1.66.7"
STRUCTURE_SET_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
DOSE_CLASS = "1.2.840.10008.5.1.4.1.1.481.2"
PARAMETRIC_MAP_CLASS = "1.2.840.10008.5.1.4.1.1.30"

MASK_CLASSES = (SEGMENTATION_CLASS, LABELMAP_CLASS, STRUCTURE_SET_CLASS)
"""Storage classes that hold masks."""

NOT_IMAGES = (SEGMENTATION_CLASS, LABELMAP_CLASS, DOSE_CLASS, PARAMETRIC_MAP_CLASS)
"""Storage classes that have rows and columns but are no acquired image."""

CLASS_KINDS = (
    (SEGMENTATION_CLASS, "SEG"),
    (LABELMAP_CLASS, "SEG"),
    ("1.2.840.10008.5.1.4.1.1.66.", "registration or surface"),
    (DOSE_CLASS, "RTDOSE"),
    (STRUCTURE_SET_CLASS, "RTSTRUCT"),
    ("1.2.840.10008.5.1.4.1.1.481.5", "RTPLAN"),
    ("1.2.840.10008.5.1.4.1.1.481.", "radiotherapy"),
    (PARAMETRIC_MAP_CLASS, "parametric map"),
    ("1.2.840.10008.5.1.4.1.1.88.59", "key objects"),
    ("1.2.840.10008.5.1.4.1.1.88.", "SR"),
    ("1.2.840.10008.5.1.4.1.1.104.1", "PDF"),
    ("1.2.840.10008.5.1.4.1.1.104.", "document"),
    ("1.2.840.10008.5.1.4.1.1.11.", "presentation state"),
    ("1.2.840.10008.5.1.4.1.1.9.", "waveform"),
    ("1.2.840.10008.1.3.10", "DICOMDIR"),
)
"""What the storage classes that begin so hold (PS3.4, B.5); the first that fits counts."""


def name_kind(storage_class: str) -> str:
    """What files of a storage class hold, in a word; ``other`` where it is not in ``CLASS_KINDS``.

    >>> name_kind("1.2.840.10008.5.1.4.1.1.481.3"), name_kind("1.2.3")
    ('RTSTRUCT', 'other')
    """
    return next((kind for start, kind in CLASS_KINDS if storage_class.startswith(start)), "other")


def is_dicom_file(path: Path) -> bool:
    """Whether the file has DICOM's mark after its preamble (PS3.10, 7.1)."""
    with path.open("rb") as file:
        return file.read(META_START)[PREAMBLE_BYTES:] == MAGIC


def looks_like_dicom(path: Path) -> bool:
    """Whether the file can be read and has DICOM's mark."""
    try:
        return is_dicom_file(path)
    except OSError:
        return False


def find_dicom_masks(folder: Path) -> list[Path]:
    """Every DICOM SEG and RTSTRUCT below ``folder``, sorted; hidden files and folders are passed over."""
    return sorted(path for path in walk_visible(folder) if holds_mask(path))


def walk_visible(folder: Path) -> Iterator[Path]:
    """Every entry below ``folder`` that is no folder, by name within each; hidden files and folders are passed over."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith("."))


def holds_mask(path: Path) -> bool:
    """Whether a file is a DICOM SEG or RTSTRUCT."""
    return read_storage_class(path) in MASK_CLASSES


def find_mask_file(path: Path) -> Path | None:
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
        raise ImageError("SEG_SEVERAL", path, problem)
    return found[0] if found else None


def read_storage_class(path: Path) -> str:
    """The kind of a DICOM file, from its meta information; empty where it has none."""
    try:
        if not path.is_file() or not is_dicom_file(path):
            return ""
        return _read_marked(path)
    except PARSER_ERRORS:
        return ""


def _read_marked(path: Path) -> str:
    # Loaded here, for most folders hold no DICOM at all, and pydicom takes its time.
    from pydicom.errors import BytesLengthException, InvalidDicomError
    from pydicom.filereader import read_file_meta_info

    try:
        return str(read_file_meta_info(path).get("MediaStorageSOPClassUID", ""))
    except (BytesLengthException, InvalidDicomError):
        return ""
