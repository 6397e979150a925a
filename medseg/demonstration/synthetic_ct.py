"""Write a volume as a synthetic CT series, for demonstrations and tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from medseg.errors import OutputError, UsageError
from medseg.geometry import LPS_TO_RAS, shear_cosine, spacing_mm

STORED_ZERO_HU = 1024
LOWEST_HU, HIGHEST_HU = -(2**15) - STORED_ZERO_HU, 2**15 - 1 - STORED_ZERO_HU
MOST_SHEAR = 1e-4
"""Two voxel axes with a larger cosine are not perpendicular, as a series' axes are."""


def write_ct_series(array_hu: NDArray, affine: NDArray, folder: Path, *, seed_uid: str) -> list[Path]:
    """Write ``array_hu`` as CT Image Storage, one file per slice along the third axis.

    The patient is named as synthetic. The same call gives the same bytes.

    Args:
        array_hu: (X, Y, Z), whole Hounsfield units.
        affine: 4 by 4, voxel index to RAS+ mm, axes perpendicular; oblique is fine.
        folder: Made if missing.
        seed_uid: Any text; the identifiers are derived from it.

    Returns:
        The files, in the order of the third axis.

    Raises:
        UsageError: ``CT_SERIES``: not 3D, not whole numbers, out of range or sheared.
        OutputError: ``OUTPUT_UNWRITABLE``.
    """
    _check(array_hu, affine, folder)
    lps = LPS_TO_RAS @ np.asarray(affine, dtype=float)
    stored = (np.asarray(array_hu).astype(np.int32) + STORED_ZERO_HU).astype("<i2")
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(stored.shape[2]):
            path = folder / f"slice{index + 1:04d}.dcm"
            _make_slice(stored[:, :, index], lps, index, seed_uid).save_as(path, enforce_file_format=True)
            paths.append(path)
    except OSError as error:
        raise OutputError("OUTPUT_UNWRITABLE", folder, f"{error.strerror}", "choose another folder") from error
    return paths


def _check(array_hu: NDArray, affine: NDArray, folder: Path) -> None:
    problem = ""
    if array_hu.ndim != 3 or array_hu.size == 0:
        problem = f"an array of shape {array_hu.shape} is no volume"
    elif not np.issubdtype(array_hu.dtype, np.integer):
        problem = f"values of type {array_hu.dtype} are not whole Hounsfield units"
    elif array_hu.min() < LOWEST_HU or array_hu.max() > HIGHEST_HU:
        problem = f"values {array_hu.min()} to {array_hu.max()} do not fit {LOWEST_HU} to {HIGHEST_HU}"
    elif not shear_cosine(affine) <= MOST_SHEAR:  # An affine with NaN is none either.
        problem = "the voxel axes are not perpendicular"
    if problem:
        raise UsageError("CT_SERIES", folder, problem)


def _make_slice(stored: NDArray, lps: NDArray, index: int, seed_uid: str) -> Dataset:
    data_set = _make_study(seed_uid)
    column_mm, row_mm, step_mm = spacing_mm(lps)
    data_set.SOPClassUID = CTImageStorage
    data_set.SOPInstanceUID = _make_uid(seed_uid, f"instance {index}")
    data_set.InstanceNumber = index + 1
    data_set.ImagePositionPatient = [_write_decimal(x) for x in (lps @ [0, 0, index, 1])[:3]]
    data_set.ImageOrientationPatient = [_write_decimal(x) for x in [*(lps[:3, 0] / column_mm), *(lps[:3, 1] / row_mm)]]
    data_set.PixelSpacing = [_write_decimal(row_mm), _write_decimal(column_mm)]
    data_set.SliceThickness = _write_decimal(step_mm)
    data_set.Columns, data_set.Rows = stored.shape
    data_set.SamplesPerPixel, data_set.PhotometricInterpretation = 1, "MONOCHROME2"
    data_set.BitsAllocated, data_set.BitsStored, data_set.HighBit, data_set.PixelRepresentation = 16, 16, 15, 1
    data_set.RescaleIntercept, data_set.RescaleSlope, data_set.RescaleType = str(-STORED_ZERO_HU), "1", "HU"
    pixels = stored.T.tobytes()
    data_set.add_new("PixelData", "OW", pixels)
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return data_set


def _make_study(seed_uid: str) -> Dataset:
    """What every slice shares; empty where the standard wants the attribute but not a value."""
    data_set = Dataset()
    data_set.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    data_set.Modality, data_set.Manufacturer = "CT", "medseg"
    data_set.PatientName, data_set.PatientID = "SYNTHETIC^PHANTOM", "SYNTHETIC"
    data_set.PatientBirthDate = data_set.PatientSex = ""
    data_set.StudyDate = data_set.StudyTime = data_set.AccessionNumber = ""
    data_set.ReferringPhysicianName = data_set.PositionReferenceIndicator = ""
    data_set.StudyID, data_set.SeriesNumber, data_set.AcquisitionNumber = "", 1, 1
    data_set.SeriesDescription = "synthetic phantom, not a patient"
    data_set.PatientPosition = "HFS"
    data_set.KVP = ""
    data_set.StudyInstanceUID = _make_uid(seed_uid, "study")
    data_set.SeriesInstanceUID = _make_uid(seed_uid, "series")
    data_set.FrameOfReferenceUID = _make_uid(seed_uid, "frame of reference")
    return data_set


def _make_uid(seed_uid: str, what: str) -> str:
    return generate_uid(entropy_srcs=[seed_uid, what])


def _write_decimal(value: float) -> str:
    """A decimal string of at most 16 characters (PS3.5, 6.2)."""
    text = f"{value:.9g}"
    return text if len(text) <= 16 else f"{value:.8f}"[:16]
