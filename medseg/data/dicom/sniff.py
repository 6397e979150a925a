"""Whether a file is DICOM, by its first bytes; nothing that reads DICOM is loaded for that."""

from __future__ import annotations

from pathlib import Path

PREAMBLE_BYTES = 128
MAGIC = b"DICM"
META_START = PREAMBLE_BYTES + len(MAGIC)
DIRECTORY_NAME = "DICOMDIR"


def is_dicom_file(path: Path) -> bool:
    """Whether the file has DICOM's mark after its preamble (PS3.10, 7.1)."""
    with path.open("rb") as file:
        return file.read(META_START)[PREAMBLE_BYTES:] == MAGIC
