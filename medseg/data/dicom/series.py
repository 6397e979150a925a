"""A DICOM image series as one volume in RAS+ millimetres; irregular series are refused.

The steps: inventory of the folder (``files``), planes of each file
(``frames``), order along the normal, regular steps, pixels (``pixels``).
DICOM's LPS world ends here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset

from medseg.data.dicom.files import (
    DICOM_ERRORS,
    Inventory,
    holds_images,
    is_dicom_file,
    one_series,
    read_header,
    take_inventory,
)
from medseg.data.dicom.frames import Frame, frames_of
from medseg.data.dicom.pixels import stored_frames
from medseg.data.dicom.synthetic_ct import write_ct_series
from medseg.data.volume import Note, Volume, check_affine, rescaled, value_notes
from medseg.errors import ImageError

__all__ = ["holds_images", "is_dicom_file", "read_dicom", "write_ct_series"]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

STEP_TOLERANCE = 0.01
STEP_TOLERANCE_MM = 0.01
"""Steps between slices may differ by 1 % or 0.01 mm, the rounding of positions as text."""

DIRECTION_TOLERANCE = 1e-3
TILT_TOLERANCE = 1e-3


def read_dicom(path: Path) -> Volume:
    """Read a folder that holds one image series, or a single file as a one-slice volume.

    Slices are ordered along the normal, towards growing position. Values are rescaled
    slice by slice: integers where every slope is 1 and every intercept whole, else
    float32. A single picture without a position (an X-ray) is 2D. Colour becomes
    channels, first.

    Args:
        path: File, or folder; its folders are searched only where it holds no DICOM file itself.

    Raises:
        ImageError: Several series, missing or doubled slices, mixed or missing
            geometry, damaged files.
    """
    try:
        return _read_series(path)
    except DICOM_ERRORS as error:
        problem = f"a header value cannot be read ({type(error).__name__}: {error})"
        raise ImageError("DICOM_UNREADABLE", path, problem, "export the series again") from error


def _read_series(path: Path) -> Volume:
    inventory, headers = _series(path)
    frames = [frame for file, header in headers.items() for frame in frames_of(file, header)]
    _check_alike(frames)
    notes = [*inventory.notes, *_value_kind_notes(headers, frames)]
    if frames[0].position_mm is None:
        return _picture(frames, notes, path)
    frames = _ordered(frames, path)
    affine, shape_notes = _affine(frames)
    array = _stacked(frames)
    has_channels = array.ndim == 4
    shape = array.shape[1:] if has_channels else array.shape
    notes += [*shape_notes, *check_affine(affine, shape, path), *value_notes(array)]
    return Volume(array, affine, has_channels, tuple(notes))


def _series(path: Path) -> tuple[Inventory, dict[Path, FileDataset]]:
    if path.is_dir():
        inventory = take_inventory(path)
        return inventory, one_series(inventory, path)
    if not is_dicom_file(path):
        raise ImageError("DICOM_UNREADABLE", path, "it is no DICOM file", "check what the file is")
    header = read_header(path)
    if "Rows" not in header:
        raise ImageError("DICOM_NO_IMAGE", path, "it holds no image", "give an image file")
    inventory = Inventory(headers={path: header})
    return inventory, inventory.headers


def _check_alike(frames: list[Frame]) -> None:
    """Every plane has the first one's size, spacing and orientation."""
    first = frames[0]
    for frame in frames[1:]:
        if frame.size != first.size:
            problem = f"{frame.size[0]}×{frame.size[1]} voxels, {first.path.name} has {first.size[0]}×{first.size[1]}"
        elif not np.allclose(frame.spacing_mm, first.spacing_mm, rtol=1e-4):
            problem = f"spacing {frame.spacing_mm} mm, {first.path.name} has {first.spacing_mm} mm"
        elif not np.allclose(_axes(frame), _axes(first), atol=DIRECTION_TOLERANCE):
            problem = f"orientation differs from that of {first.path.name}"
        elif (frame.position_mm is None) != (first.position_mm is None):
            problem = f"of this and {first.path.name} only one has a position"
        else:
            continue
        remedy = "move localizers and other series out of the folder"
        raise ImageError("DICOM_MIXED_GEOMETRY", frame.path, problem, remedy)


def _axes(frame: Frame) -> NDArray[np.float64]:
    return np.concatenate([frame.along_row, frame.along_column])


def _ordered(frames: list[Frame], path: Path) -> list[Frame]:
    """Frames by position along the normal, their steps regular.

    Raises:
        ImageError: ``DICOM_DUPLICATE_SLICE``, ``DICOM_MISSING_SLICE`` or
            ``DICOM_IRREGULAR_SLICES``.
    """
    normal = frames[0].normal
    frames = sorted(frames, key=lambda frame: float(_position(frame) @ normal))
    steps = np.diff([float(_position(frame) @ normal) for frame in frames])
    if not steps.size:
        return frames
    shortest = int(steps.argmin())
    if steps[shortest] <= STEP_TOLERANCE_MM:
        problem = f"{_named(frames[shortest])} and {_named(frames[shortest + 1])} lie at the same position"
        remedy = "keep one phase, echo or reconstruction per folder"
        raise ImageError("DICOM_DUPLICATE_SLICE", path, problem, remedy)
    usual = float(np.sort(steps)[(steps.size - 1) // 2])
    for frame, after, step in zip(frames, frames[1:], steps, strict=False):
        if abs(step - usual) > max(STEP_TOLERANCE * usual, STEP_TOLERANCE_MM):
            problem = f"{step:.4g} mm from {_named(frame)} to {_named(after)}, {usual:.4g} mm elsewhere"
            _refuse_step(path, problem, float(step / usual))
    return frames


def _refuse_step(path: Path, problem: str, ratio: float) -> None:
    if ratio >= 1.5 and abs(ratio - round(ratio)) < 0.05:
        text = f"slices are missing ({round(ratio) - 1}): {problem}"
        raise ImageError("DICOM_MISSING_SLICE", path, text, "export the whole series again")
    remedy = "resample the series to even slices, or export another reconstruction"
    raise ImageError("DICOM_IRREGULAR_SLICES", path, f"slices are uneven: {problem}", remedy)


def _named(frame: Frame) -> str:
    return frame.path.name if frame.index == 0 else f"{frame.path.name} frame {frame.index}"


def _position(frame: Frame) -> NDArray[np.float64]:
    if frame.position_mm is None:
        raise ImageError("DICOM_GEOMETRY", frame.path, "ImagePositionPatient is missing", "export the series again")
    return frame.position_mm


def _affine(frames: list[Frame]) -> tuple[NDArray[np.float64], list[Note]]:
    """Voxel index (column, row, slice) to RAS+ millimetres (PS3.3, C.7.6.2.1.1)."""
    first, last, notes = frames[0], frames[-1], []
    if len(frames) > 1:
        step = (_position(last) - _position(first)) / (len(frames) - 1)
        notes = _tilt_notes(frames, step)
    else:
        step = first.normal * (first.thickness_mm or 1.0)
        if first.thickness_mm is None:
            notes.append(Note("DICOM_NO_THICKNESS", "a single slice of unknown thickness; 1 mm is assumed"))
    lps = np.eye(4)
    lps[:3, 0] = first.along_row * first.spacing_mm[0]
    lps[:3, 1] = first.along_column * first.spacing_mm[1]
    lps[:3, 2] = step
    lps[:3, 3] = _position(first)
    return LPS_TO_RAS @ lps, notes


def _tilt_notes(frames: list[Frame], step: NDArray[np.float64]) -> list[Note]:
    first = frames[0]
    for index, frame in enumerate(frames):
        astray_mm = float(np.linalg.norm(_position(frame) - _position(first) - index * step))
        if astray_mm > max(STEP_TOLERANCE_MM, 5 * STEP_TOLERANCE * float(np.linalg.norm(step))):
            problem = f"the slice lies {astray_mm:.4g} mm off the line through the series"
            raise ImageError("DICOM_IRREGULAR_SLICES", frame.path, problem, "export another reconstruction")
    cosine = float(step @ first.normal / np.linalg.norm(step))
    if 1 - cosine <= TILT_TOLERANCE**2 / 2:
        return []
    degrees = float(np.degrees(np.arccos(min(cosine, 1.0))))
    return [Note("GANTRY_TILT", f"slices are shifted as by a gantry tilted {degrees:.3g}°; kept as shear")]


def _stacked(frames: list[Frame]) -> NDArray:
    """Rescaled voxels, (X, Y, Z) or (C, X, Y, Z)."""
    planes = _planes(frames)
    array = np.moveaxis(np.stack(planes, axis=0), 0, -1) if planes[0].ndim == 3 else np.stack(planes).T
    return array.transpose(2, 1, 0, 3) if array.ndim == 4 else array


def _planes(frames: list[Frame]) -> list[NDArray]:
    """The rescaled planes, (row, column[, colour]), all of one type."""
    by_file: dict[Path, NDArray] = {}
    planes = []
    are_whole = all(frame.slope == 1 and frame.intercept.is_integer() for frame in frames)
    for frame in frames:
        if frame.path not in by_file:
            by_file = {frame.path: stored_frames(frame.path)}
        plane = by_file[frame.path][frame.index]
        scaled = rescaled(plane, frame.slope, frame.intercept)
        planes.append(scaled if are_whole else scaled.astype(np.float32, copy=False))
    return planes


def _picture(frames: list[Frame], notes: list[Note], path: Path) -> Volume:
    """A single image without a position: (X, Y) or (C, X, Y)."""
    if len(frames) > 1:
        remedy = "give one file at a time"
        raise ImageError("DICOM_GEOMETRY", path, f"{len(frames)} pictures without positions", remedy)
    plane = _planes(frames)[0]
    affine = np.diag([*frames[0].spacing_mm, 1.0, 1.0])
    notes.append(Note("DICOM_NO_POSITION", "the image has no position in the patient; read as a 2D picture"))
    array = plane.transpose(2, 1, 0) if plane.ndim == 3 else plane.T
    return Volume(array, affine, plane.ndim == 3, (*notes, *value_notes(array)))


def _value_kind_notes(headers: dict[Path, FileDataset], frames: list[Frame]) -> list[Note]:
    notes = []
    header = next(iter(headers.values()))
    if any(each.get("PhotometricInterpretation") == "MONOCHROME1" for each in headers.values()):
        notes.append(Note("DICOM_MONOCHROME1", "high values are dark (MONOCHROME1); values are left as they are"))
    if header.get("Modality") == "CT" and not all(frame.is_rescaled for frame in frames):
        notes.append(
            Note("DICOM_NO_RESCALE", "CT without rescale slope and intercept; values may not be Hounsfield units")
        )
    return notes
