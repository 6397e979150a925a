"""The planes of a series in their order, and where the volume that they make lies.

World coordinates are DICOM's LPS until ``placed_frames`` ends with RAS+.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.data.dicom.frames import TRAITS, Frame
from medseg.data.volume import Note, check_affine
from medseg.errors import ImageError

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

STEP_TOLERANCE = 0.01
STEP_TOLERANCE_MM = 0.01
"""Steps between slices may differ by 1 % or 0.01 mm, the rounding of positions as text."""

STATED_STEP_TOLERANCE = 0.05
TILT_TOLERANCE = 1e-3

TRAITS_OF_A_SERIES = (
    "StackID",
    "TemporalPositionIndex",
    "TemporalPositionIdentifier",
    "EchoTime",
    "EffectiveEchoTime",
    "InversionTime",
    "FlipAngle",
    "DiffusionBValue",
    "ComplexImageComponent",
    "ConvolutionKernel",
)
"""What one volume has throughout; the other traits may change from slice to slice, but not back and forth."""


def ordered_frames(frames: Sequence[Frame], case: Path) -> list[Frame]:
    """Frames by position along the normal, their steps regular.

    Raises:
        ImageError: ``DICOM_SEVERAL_PHASES``, ``DICOM_DUPLICATE_SLICE``, ``DICOM_MISSING_SLICE`` or
            ``DICOM_IRREGULAR_SLICES``.
    """
    normal = frames[0].normal
    ordered = sorted(frames, key=lambda frame: float(_position(frame) @ normal))
    steps = np.diff([float(_position(frame) @ normal) for frame in ordered])
    if not steps.size:
        return ordered
    doubled = np.flatnonzero(steps <= STEP_TOLERANCE_MM)
    if doubled.size:
        raise _doubled(ordered, [int(index) for index in doubled], case)
    usual = float(np.sort(steps)[(steps.size - 1) // 2])
    for frame, after, step in zip(ordered, ordered[1:], steps, strict=False):
        if abs(step - usual) > max(STEP_TOLERANCE * usual, STEP_TOLERANCE_MM):
            problem = f"{step:.4g} mm from {frame.name} to {after.name}, {usual:.4g} mm elsewhere"
            raise _uneven(case, problem, float(step / usual))
    return ordered


def placed_frames(frames: Sequence[Frame], case: Path) -> tuple[NDArray[np.float64], list[Note]]:
    """Voxel index (column, row, slice) to RAS+ millimetres (PS3.3, C.7.6.2.1.1), of frames in order.

    Raises:
        ImageError: ``DICOM_IRREGULAR_SLICES`` or ``IMAGE_GRID``.
    """
    first, last, notes = frames[0], frames[-1], []
    if len(frames) > 1:
        step = (_position(last) - _position(first)) / (len(frames) - 1)
        notes = [*_tilt_notes(frames, step), *_step_notes(frames, step)]
    else:
        step = first.normal * (first.thickness_mm or 1.0)
        if first.thickness_mm is None:
            notes.append(Note("DICOM_NO_THICKNESS", "a single slice of unknown thickness; 1 mm is assumed"))
    lps = np.eye(4)
    lps[:3, 0] = first.along_row * first.spacing_mm[0]
    lps[:3, 1] = first.along_column * first.spacing_mm[1]
    lps[:3, 2] = step
    lps[:3, 3] = _position(first)
    affine = LPS_TO_RAS @ lps
    return affine, [*notes, *check_affine(affine, (*first.size, len(frames)), case)]


def _position(frame: Frame) -> NDArray[np.float64]:
    if frame.position_mm is None:
        raise ImageError("DICOM_GEOMETRY", frame.path, "ImagePositionPatient is missing", "export the series again")
    return frame.position_mm


def _doubled(ordered: Sequence[Frame], doubled: Sequence[int], case: Path) -> ImageError:
    """Several images at one place: which attribute tells them apart, and its values."""
    first = doubled[0]
    count = 2
    while first + count - 1 in doubled:
        count += 1
    same = list(ordered[first : first + count])
    listed = " and ".join(frame.name for frame in same[:2])
    trait = differing_trait(same)
    if trait:
        problem = f"{listed} lie at the same position{trait}; {len(doubled)} slices in all are doubled"
        remedy = "keep one phase, echo or stack per folder"
        return ImageError("DICOM_SEVERAL_PHASES", case, problem, remedy)
    problem = f"{listed} lie at the same position"
    return ImageError("DICOM_DUPLICATE_SLICE", case, problem, "keep one phase, echo or reconstruction per folder")


def differing_trait(frames: Sequence[Frame]) -> str:
    """What tells the frames apart, with its values, as the end of a sentence; empty where nothing does."""
    for name in TRAITS:
        values = list(dict.fromkeys(frame.trait(name) for frame in frames))
        if len(values) > 1:
            more = f" and {len(values) - 6} more" if len(values) > 6 else ""
            return f", told apart by {name} ({'; '.join(value or 'none' for value in values[:6])}{more})"
    return ""


def _uneven(case: Path, problem: str, ratio: float) -> ImageError:
    if ratio >= 1.5 and abs(ratio - round(ratio)) < 0.05:
        text = f"slices are missing ({round(ratio) - 1}): {problem}"
        return ImageError("DICOM_MISSING_SLICE", case, text, "export the whole series again")
    remedy = "resample the series to even slices, or export another reconstruction"
    return ImageError("DICOM_IRREGULAR_SLICES", case, f"slices are uneven: {problem}", remedy)


def _tilt_notes(frames: Sequence[Frame], step: NDArray[np.float64]) -> Iterator[Note]:
    first = frames[0]
    for index, frame in enumerate(frames):
        astray_mm = float(np.linalg.norm(_position(frame) - _position(first) - index * step))
        if astray_mm > max(STEP_TOLERANCE_MM, 5 * STEP_TOLERANCE * float(np.linalg.norm(step))):
            problem = f"the slice lies {astray_mm:.4g} mm off the line through the series"
            raise ImageError("DICOM_IRREGULAR_SLICES", frame.path, problem, "export another reconstruction")
    cosine = float(step @ first.normal / np.linalg.norm(step))
    if 1 - cosine > TILT_TOLERANCE**2 / 2:
        degrees = float(np.degrees(np.arccos(min(cosine, 1.0))))
        yield Note("GANTRY_TILT", f"slices are shifted as by a gantry tilted {degrees:.3g}°; kept as shear")


def _step_notes(frames: Sequence[Frame], step: NDArray[np.float64]) -> Iterator[Note]:
    """Signs that the frames are some of a series, or two series between each other."""
    length_mm, stated_mm = float(np.linalg.norm(step)), frames[0].stated_step_mm
    if stated_mm and abs(stated_mm - length_mm) > STATED_STEP_TOLERANCE * length_mm:
        text = f"slices lie {length_mm:.4g} mm apart, SpacingBetweenSlices says {stated_mm:.4g} mm; positions were used"
        yield Note("DICOM_STEP_DIFFERS", text)
    yield from _number_notes(frames)
    for name in TRAITS:
        values = [frame.trait(name) for frame in frames]
        kinds = sorted(set(values))
        changes = sum(value != after for value, after in pairwise(values))
        goes_back_and_forth = len(kinds) <= len(values) / 2 <= changes
        if len(kinds) > 1 and (name in TRAITS_OF_A_SERIES or goes_back_and_forth):
            listed = "; ".join(kind or "none" for kind in kinds[:6])
            yield Note("DICOM_MIXED_SERIES", f"slices of one series differ in {name} ({listed})")
            return


def _number_notes(frames: Sequence[Frame]) -> Iterator[Note]:
    numbers = [int(frame.groups[-1].get("InstanceNumber") or 0) for frame in frames]
    strides = {abs(after - number) for number, after in pairwise(numbers)}
    if len(strides) == 1 and max(strides) > 1:
        text = f"InstanceNumber counts in steps of {max(strides)}; slices in between may have been left out"
        yield Note("DICOM_NUMBERS_SKIP", text)
