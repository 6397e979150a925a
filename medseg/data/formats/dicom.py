"""DICOM as a format: what a file begins with is asked here; all that reads one is imported where one is met.

pydicom and the readers of series, SEG and RTSTRUCT take their time to import, and most images are none of theirs.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medseg.data.dicom.sniff import DIRECTORY_NAME, find_mask_file, is_dicom_file
from medseg.data.formats import Format
from medseg.data.volume import Extent, Volume

if TYPE_CHECKING:
    from medseg.data.terminology import Names


def holds_images(files: Iterable[Path]) -> bool:
    """Whether any of ``files`` is a DICOM image, or a DICOM file too damaged to tell."""
    marked = (path for path in files if path.name != DIRECTORY_NAME and _may_be_dicom(path))
    first = next(marked, None)
    if first is None:
        return False
    from medseg.data.dicom import file as dicom_files

    return dicom_files.holds_images(chain([first], marked))


def _may_be_dicom(path: Path) -> bool:
    try:
        return is_dicom_file(path)
    except OSError:
        return True


def read_series(path: Path, series: str | None = None) -> Volume:
    """Read a series; see :func:`medseg.data.dicom.series.read_dicom`.

    Raises:
        ImageError: As there.
    """
    from medseg.data.dicom.series import read_dicom

    return read_dicom(path, series)


def read_segments(path: Path, names: Names | None = None) -> Volume | None:
    """Read a SEG or RTSTRUCT, or the only one in a folder; None where there is none.

    Raises:
        ImageError: As :func:`medseg.data.dicom.read_seg.read_dicom_mask`.
    """
    drawn = find_mask_file(path)
    if drawn is None:
        return None
    from medseg.data.dicom.read_seg import read_dicom_mask

    return read_dicom_mask(drawn, names)


def read_series_extent(path: Path, series: str | None = None) -> Extent:
    """The extent of a folder's series by its headers; a single file is read whole.

    Raises:
        ImageError: As reading the series, for what the headers show.
    """
    if not path.is_dir():
        return Extent.of(read_series(path, series))
    from medseg.data.dicom.pixels import find_stored_dtype
    from medseg.data.dicom.rules import examine, list_errors
    from medseg.data.dicom.series import choose_series, look_into, split_stack

    contents = look_into(path)
    examined = examine(choose_series(contents, path, series), path, split_stack(series)[1])
    for error in list_errors((*contents.found, *examined.found)):
        raise error
    affine = np.diag([*examined.spacing_mm, 1.0, 1.0]) if examined.affine is None else examined.affine
    header = examined.files[0].header
    return Extent(examined.shape, affine, int(header.get("SamplesPerPixel", 1)), find_stored_dtype(header).itemsize)


DICOM = Format(
    "DICOM",
    (".dcm", ".ima"),
    read_series,
    read_series_extent,
    has_series=True,
    read_segments=read_segments,
)
