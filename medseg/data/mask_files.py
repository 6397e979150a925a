"""Which files of a folder can be masks."""

from __future__ import annotations

from pathlib import Path

from medseg.data.dicom.sniff import find_dicom_masks
from medseg.data.images import find_images


def find_masks(folder: str | Path) -> list[Path]:
    """Every image below ``folder`` and every DICOM SEG and RTSTRUCT, sorted; see ``find_images``.

    Where there is a SEG or RTSTRUCT, folders of DICOM slices are what they were drawn on, and left out.

    Raises:
        ImageError: ``IMAGE_NOT_FOUND``: ``folder`` is no folder.
    """
    images = find_images(folder)
    drawn = find_dicom_masks(Path(folder))
    return sorted([*drawn, *(path for path in images if not path.is_dir())]) if drawn else images
