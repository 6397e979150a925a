"""The image planes of a DICOM file: position, orientation, spacing and rescaling of each.

A classic file holds one plane; an enhanced multi-frame file holds many, described in
its functional groups (PS3.3, C.7.6.16). World coordinates are DICOM's LPS here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from medseg.data.dicom.file import refuse_unreadable, show_value
from medseg.errors import ImageError

PICTURE_MODALITIES = frozenset({"CR", "DX", "MG", "PX", "IO", "RG", "XA", "RF", "US", "XC", "ES", "GM", "OP", "OT"})
"""Modalities whose single images have no position in the patient."""

UNIT_TOLERANCE = 1e-3
FARTHEST_MM = 1e5
"""A position farther from the origin than 100 m is none."""

TRAITS = {
    "StackID": ("FrameContentSequence", "StackID"),
    "TemporalPositionIndex": ("FrameContentSequence", "TemporalPositionIndex"),
    "TemporalPositionIdentifier": ("", "TemporalPositionIdentifier"),
    "EchoTime": ("", "EchoTime"),
    "EffectiveEchoTime": ("MREchoSequence", "EffectiveEchoTime"),
    "EchoNumbers": ("", "EchoNumbers"),
    "InversionTime": ("", "InversionTime"),
    "FlipAngle": ("", "FlipAngle"),
    "DiffusionBValue": ("MRDiffusionSequence", "DiffusionBValue"),
    "TriggerTime": ("", "TriggerTime"),
    "NominalPercentageOfCardiacPhase": ("CardiacSynchronizationSequence", "NominalPercentageOfCardiacPhase"),
    "NominalCardiacTriggerDelayTime": ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
    "FrameReferenceTime": ("", "FrameReferenceTime"),
    "ComplexImageComponent": ("MRImageFrameTypeSequence", "ComplexImageComponent"),
    "ImageType": ("", "ImageType"),
    "ConvolutionKernel": ("", "ConvolutionKernel"),
    "KVP": ("", "KVP"),
    "AcquisitionNumber": ("", "AcquisitionNumber"),
    "FrameAcquisitionNumber": ("FrameContentSequence", "FrameAcquisitionNumber"),
}
"""What tells phases, echoes and other images of one place apart: sequence (if any) and keyword (PS3.3, C.7.6.16)."""


@dataclass(frozen=True)
class Frame:
    """One image plane.

    Args:
        path: The file that holds it.
        index: The plane's number within the file, from 0.
        size: Columns and rows.
        position_mm: Centre of the first voxel, LPS; None for a picture without one.
        along_row: Unit vector of growing column index, LPS.
        along_column: Unit vector of growing row index, LPS.
        spacing_mm: Between columns, between rows.
        thickness_mm: Slice thickness or spacing, where the file says.
        slope: Rescale slope.
        intercept: Rescale intercept.
        is_rescaled: Whether the file states a rescaling.
        groups: The data sets that describe it, its own before the shared ones.
    """

    path: Path
    index: int
    size: tuple[int, int]
    position_mm: NDArray[np.float64] | None
    along_row: NDArray[np.float64]
    along_column: NDArray[np.float64]
    spacing_mm: tuple[float, float]
    thickness_mm: float | None
    slope: float = 1.0
    intercept: float = 0.0
    is_rescaled: bool = False
    groups: tuple[Dataset, ...] = field(default=(), repr=False)

    @property
    def name(self) -> str:
        """Its file's name, and its number there where the file holds several."""
        return self.path.name if self.index == 0 else f"{self.path.name} frame {self.index}"

    def trait(self, name: str) -> str:
        """One of ``TRAITS`` as text that can be shown; empty where the frame does not have it."""
        value = _find_value(list(self.groups), *TRAITS[name])
        return "" if value is None else show_value(value)

    @property
    def stated_step_mm(self) -> float | None:
        """Distance between the slices' centres, where the file says so."""
        numbers = _read_numbers(
            self.path, _find_value(list(self.groups), "PixelMeasuresSequence", "SpacingBetweenSlices"), 1, ""
        )
        return None if numbers is None else abs(float(numbers[0]))

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector across the plane, LPS."""
        return np.cross(self.along_row, self.along_column)


def list_frames(path: Path, header: Dataset) -> list[Frame]:
    """Every image plane of a file.

    Raises:
        ImageError: Geometry or rescaling is missing or no number.
    """
    with refuse_unreadable(path):
        count = int(header.get("NumberOfFrames") or 1)
        groups = list(header.get("PerFrameFunctionalGroupsSequence") or [])
        if not groups and count == 1:
            return [_read_frame(path, 0, header, [header])]
        if len(groups) != count:
            problem = f"NumberOfFrames is {count}, {len(groups)} frames are described"
            raise ImageError("DICOM_GEOMETRY", path, problem, "export the series as one file per slice")
        shared = list(header.get("SharedFunctionalGroupsSequence") or [])
        return [_read_frame(path, index, header, [group, *shared]) for index, group in enumerate(groups)]


def _read_frame(path: Path, index: int, header: Dataset, groups: list[Dataset]) -> Frame:
    if "ModalityLUTSequence" in header:
        remedy = "export the images with rescale slope and intercept"
        raise ImageError("DICOM_RESCALE", path, "values are mapped by a look-up table", remedy)
    size = (int(header.Columns), int(header.Rows))
    if min(size) < 1:
        raise ImageError("DICOM_GEOMETRY", path, f"{size[0]} columns, {size[1]} rows", "export the series again")
    position, cosines = _read_place(path, header, groups)
    is_picture = cosines is None
    # A multi-frame secondary capture is rescaled as a whole, outside of its frames' groups (PS3.3, C.8.6.3).
    slope, intercept, is_rescaled = _read_rescaling(path, [*groups, header])
    return Frame(
        path,
        index,
        size,
        position,
        *_split_cosines(path, np.array([1.0, 0, 0, 0, 1, 0]) if cosines is None else cosines),
        _read_spacing(path, header, groups, is_picture),
        _read_thickness(path, groups),
        slope,
        intercept,
        is_rescaled,
        tuple(groups) if groups[0] is header else (*groups, header),
    )


def _read_place(
    path: Path, header: Dataset, groups: list[Dataset]
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """Position and direction cosines; both None for a picture, which has neither."""
    position = _read_numbers(path, _find_value(groups, "PlanePositionSequence", "ImagePositionPatient"), 3, "position")
    cosines = _read_numbers(
        path, _find_value(groups, "PlaneOrientationSequence", "ImageOrientationPatient"), 6, "orientation"
    )
    if position is None and cosines is None and header.get("Modality") in PICTURE_MODALITIES:
        return None, None
    if position is None or cosines is None:
        missing = "ImagePositionPatient" if position is None else "ImageOrientationPatient"
        remedy = "export the series again with its geometry"
        raise ImageError("DICOM_GEOMETRY", path, f"{missing} is missing", remedy)
    if np.abs(position).max() > FARTHEST_MM:
        raise ImageError("DICOM_GEOMETRY", path, f"the position is {position.tolist()} mm", "export the series again")
    return position, cosines


def _find_value(groups: list[Dataset], sequence: str, keyword: str) -> object:
    """``keyword`` in the first of ``groups`` that has it, directly or inside ``sequence``."""
    for group in groups:
        for item in (group, *((sequence and group.get(sequence)) or [])):
            if item.get(keyword) not in (None, ""):
                return item.get(keyword)
    return None


def _read_numbers(path: Path, value: object, count: int, what: str) -> NDArray[np.float64] | None:
    if value is None:
        return None
    numbers = np.atleast_1d(np.asarray(value, dtype=float))
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise ImageError("DICOM_GEOMETRY", path, f"the {what} is {value}", "export the series again")
    return numbers


def _split_cosines(path: Path, cosines: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    row, column = cosines[:3], cosines[3:]
    faults = np.array([np.linalg.norm(row) - 1, np.linalg.norm(column) - 1, row @ column])
    if np.abs(faults).max() > UNIT_TOLERANCE:
        problem = f"ImageOrientationPatient {cosines.tolist()} is no pair of perpendicular unit vectors"
        raise ImageError("DICOM_GEOMETRY", path, problem, "export the series again")
    return row, column


def _read_spacing(path: Path, header: Dataset, groups: list[Dataset], is_picture: bool) -> tuple[float, float]:
    value = _find_value(groups, "PixelMeasuresSequence", "PixelSpacing")
    if value is None and is_picture:
        value = header.get("ImagerPixelSpacing") or [1.0, 1.0]
    numbers = _read_numbers(path, value, 2, "PixelSpacing")
    if numbers is None or (numbers <= 0).any():
        raise ImageError("DICOM_GEOMETRY", path, f"PixelSpacing is {value}", "export the series with its spacing")
    # PixelSpacing is between rows first, then between columns (PS3.3, 10.7.1.3).
    return float(numbers[1]), float(numbers[0])


def _read_thickness(path: Path, groups: list[Dataset]) -> float | None:
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        numbers = _read_numbers(path, _find_value(groups, "PixelMeasuresSequence", keyword), 1, keyword)
        if numbers is not None and numbers[0] > 0:
            return float(numbers[0])
    return None


def _read_rescaling(path: Path, groups: list[Dataset]) -> tuple[float, float, bool]:
    slope = _find_value(groups, "PixelValueTransformationSequence", "RescaleSlope")
    intercept = _find_value(groups, "PixelValueTransformationSequence", "RescaleIntercept")
    pair = (1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept))  # type: ignore[arg-type]
    if not np.isfinite(pair).all() or pair[0] == 0:
        problem = f"rescale slope {pair[0]:g}, intercept {pair[1]:g}"
        raise ImageError("DICOM_RESCALE", path, problem, "export the series again")
    return *pair, slope is not None or intercept is not None
