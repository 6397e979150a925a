"""Whether a file is DICOM, told from its first bytes alone.

It stands apart so that both the table of formats, which reads DICOM only where it meets it, and the readers of DICOM
can ask.
"""

from __future__ import annotations

from pathlib import Path

PREAMBLE_BYTES = 128
MAGIC = b"DICM"
META_START = PREAMBLE_BYTES + len(MAGIC)
"""Where a DICOM file's meta information begins, after the preamble and the mark."""

DIRECTORY_NAME = "DICOMDIR"
"""The table of contents of a disc, which bears DICOM's mark and holds no image."""


def is_dicom_file(path: Path) -> bool:
    """Whether the file has DICOM's mark after its preamble (PS3.10, 7.1).

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        return file.read(META_START)[PREAMBLE_BYTES:] == MAGIC


def looks_like_dicom(path: Path) -> bool:
    """Whether the file can be read and bears DICOM's mark."""
    try:
        return is_dicom_file(path)
    except OSError:
        return False
