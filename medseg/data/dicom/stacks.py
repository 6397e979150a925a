"""The planes of a series in their order, and where the volume that they make lies; several volumes in one series.

A stack (a phase, an echo, an orientation) has one size and orientation, and one image at each place as far as the
files tell images apart; it is picked by its number. World coordinates are DICOM's LPS until ``place_frames`` ends
with RAS+.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.data.dicom.file import Found, name_series
from medseg.data.dicom.frames import TRAITS, Frame
from medseg.data.volume import check_affine
from medseg.errors import ImageError
from medseg.findings import Finding, make_note
from medseg.geometry import LPS_TO_RAS

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

MOST_STACKS = 200
"""More orientations than this are no stacks that anyone would pick from."""

MOST_LISTED_STACKS = 12
DIRECTION_TOLERANCE = 1e-3
SPACING_TOLERANCE = 1e-4

PLANES = ("sagittal", "coronal", "axial")
"""Across which axis of the patient each lies: left, posterior, superior."""

PICKABLE = ("DICOM_SEVERAL_PHASES", "DICOM_MIXED_GEOMETRY", "DICOM_LOCALIZER")
"""Errors of a series as a whole that its stacks alone may not have."""


def order_frames(frames: Sequence[Frame], case: Path) -> list[Frame]:
    """Frames by position along the normal, their steps regular.

    Raises:
        ImageError: ``DICOM_SEVERAL_PHASES``, ``DICOM_DUPLICATE_SLICE``, ``DICOM_MISSING_SLICE`` or
            ``DICOM_IRREGULAR_SLICES``.
    """
    normal = frames[0].normal
    ordered = sorted(frames, key=lambda frame: float(_get_position(frame) @ normal))
    steps = np.diff([float(_get_position(frame) @ normal) for frame in ordered])
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


def place_frames(frames: Sequence[Frame], case: Path) -> tuple[NDArray[np.float64], list[Finding]]:
    """Voxel index (column, row, slice) to RAS+ millimetres (PS3.3, C.7.6.2.1.1), of frames in order.

    Raises:
        ImageError: ``DICOM_IRREGULAR_SLICES`` or ``IMAGE_GRID``.
    """
    first, last, notes = frames[0], frames[-1], []
    if len(frames) > 1:
        step = (_get_position(last) - _get_position(first)) / (len(frames) - 1)
        notes = [*_note_tilt(frames, step), *_note_steps(frames, step)]
    else:
        step = first.normal * (first.thickness_mm or 1.0)
        if first.thickness_mm is None:
            notes.append(make_note("DICOM_NO_THICKNESS", "a single slice of unknown thickness; 1 mm is assumed"))
    affine = build_affine(first, step, _get_position(first))
    return affine, [*notes, *check_affine(affine, (*first.size, len(frames)), case)]


def build_affine(frame: Frame, step: NDArray[np.float64], origin: NDArray[np.float64]) -> NDArray[np.float64]:
    """Voxel index (column, row, plane) to RAS+ mm, of planes like ``frame``.

    Args:
        frame: Gives direction and spacing of columns and rows.
        step: The way from one plane's first voxel to the next one's, LPS, mm.
        origin: Centre of the first plane's first voxel, LPS, mm.
    """
    lps = np.eye(4)
    lps[:3, 0] = frame.along_row * frame.spacing_mm[0]
    lps[:3, 1] = frame.along_column * frame.spacing_mm[1]
    lps[:3, 2], lps[:3, 3] = step, origin
    return LPS_TO_RAS @ lps


def describe_difference(frames: Sequence[Frame]) -> str:
    """What tells the frames apart, with its values, as the end of a sentence; empty where nothing does."""
    for name in TRAITS:
        values = list(dict.fromkeys(frame.trait(name) for frame in frames))
        if len(values) > 1:
            more = f" and {len(values) - 6} more" if len(values) > 6 else ""
            return f", told apart by {name} ({'; '.join(value or 'none' for value in values[:6])}{more})"
    return ""


@dataclass(frozen=True)
class Stack:
    """One volume of several in a series.

    Args:
        what: What tells it apart from the others; empty of the only one.
        frames: The planes, in no order.
    """

    what: str
    frames: tuple[Frame, ...]


def find_stacks(frames: Sequence[Frame]) -> list[Stack]:
    """The stacks of a series, in an order that does not depend on the names of files.

    The largest shape first (size, spacing and orientation), and the images of one place by what tells them
    apart, numbers by their value. Pictures without positions are one stack, and so is everything where
    there are more than ``MOST_STACKS`` shapes.
    """
    if not frames:
        return []
    shapes = [] if any(frame.position_mm is None for frame in frames) else _group_shapes(frames)
    if not 1 <= len(shapes) <= MOST_STACKS:
        return [Stack("", tuple(frames))]
    stacks = []
    for shape in sorted(shapes, key=_order_shape):
        name = f"{_name_plane(shape[0])} {shape[0].size[0]}×{shape[0].size[1]}" if len(shapes) > 1 else ""
        stacks += [Stack(", ".join(part for part in (name, what) if part), same) for what, same in _tell_apart(shape)]
    return stacks


def pick_stack(frames: Sequence[Frame], number: int, case: Path) -> tuple[Frame, ...]:
    """The planes of the stack of this number, counted from 1.

    Raises:
        ImageError: ``DICOM_SERIES_NOT_FOUND``: there is none of this number.
    """
    stacks = find_stacks(frames)
    if 1 <= number <= len(stacks):
        return stacks[number - 1].frames
    problem = (
        f"the series has no stack {number}: {list_stacks(stacks)}" if len(stacks) > 1 else "the series is one stack"
    )
    raise ImageError("DICOM_SERIES_NOT_FOUND", case, problem, f"give a number from 1 to {len(stacks)} after the colon")


def add_stacks(found: Sequence[Found], frames: Sequence[Frame]) -> tuple[Found, ...]:
    """What was found, errors that one of several stacks alone may not have with these, and the flag that picks one."""
    may_pick = any(isinstance(each, ImageError) and each.code in PICKABLE for each in found)
    stacks = find_stacks(frames) if may_pick else []
    if len(stacks) < 2:
        return tuple(found)
    name = name_series(stacks[0].frames[0].groups[-1])
    flag = f"--series {name}:N, or FOLDER#series={name}:N"

    def extend(each: Found) -> Found:
        if not isinstance(each, ImageError) or each.code not in PICKABLE:
            return each
        problem = f"{each.problem}; it holds {len(stacks)} stacks: {list_stacks(stacks)}"
        return ImageError(each.code, each.case, problem, f"pick stack N with {flag}; or {each.remedy}")

    return tuple(map(extend, found))


def list_stacks(stacks: Sequence[Stack]) -> str:
    """The stacks with their numbers.

    >>> list_stacks([Stack("EchoTime 4.6", ()), Stack("EchoTime 9.2", ())])
    '1: EchoTime 4.6 (0 slices); 2: EchoTime 9.2 (0 slices)'
    """
    texts = [f"{number}: {stack.what} ({len(stack.frames)} slices)" for number, stack in enumerate(stacks, 1)]
    more = f"; and {len(texts) - MOST_LISTED_STACKS} more" if len(texts) > MOST_LISTED_STACKS else ""
    return "; ".join(texts[:MOST_LISTED_STACKS]) + more


def _get_position(frame: Frame) -> NDArray[np.float64]:
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
    pair = " and ".join(frame.name for frame in same[:2])
    trait = describe_difference(same)
    if trait:
        problem = f"{pair} lie at the same position{trait}; {len(doubled)} slices in all are doubled"
        remedy = "keep one phase, echo or stack per folder"
        return ImageError("DICOM_SEVERAL_PHASES", case, problem, remedy)
    problem = f"{pair} lie at the same position"
    return ImageError("DICOM_DUPLICATE_SLICE", case, problem)


def _uneven(case: Path, problem: str, ratio: float) -> ImageError:
    if ratio >= 1.5 and abs(ratio - round(ratio)) < 0.05:
        text = f"slices are missing ({round(ratio) - 1}): {problem}"
        return ImageError("DICOM_MISSING_SLICE", case, text)
    remedy = "resample the series to even slices, or export another reconstruction"
    return ImageError("DICOM_IRREGULAR_SLICES", case, f"slices are uneven: {problem}", remedy)


def _note_tilt(frames: Sequence[Frame], step: NDArray[np.float64]) -> Iterator[Finding]:
    first = frames[0]
    for index, frame in enumerate(frames):
        astray_mm = float(np.linalg.norm(_get_position(frame) - _get_position(first) - index * step))
        if astray_mm > max(STEP_TOLERANCE_MM, 5 * STEP_TOLERANCE * float(np.linalg.norm(step))):
            problem = f"the slice lies {astray_mm:.4g} mm off the line through the series"
            raise ImageError("DICOM_IRREGULAR_SLICES", frame.path, problem, "export another reconstruction")
    cosine = float(step @ first.normal / np.linalg.norm(step))
    if 1 - cosine > TILT_TOLERANCE**2 / 2:
        degrees = float(np.degrees(np.arccos(min(cosine, 1.0))))
        yield make_note("GANTRY_TILT", f"slices are shifted as by a gantry tilted {degrees:.3g}°; kept as shear")


def _note_steps(frames: Sequence[Frame], step: NDArray[np.float64]) -> Iterator[Finding]:
    """Signs that the frames are some of a series, or two series between each other."""
    length_mm, stated_mm = float(np.linalg.norm(step)), frames[0].stated_step_mm
    if stated_mm and abs(stated_mm - length_mm) > STATED_STEP_TOLERANCE * length_mm:
        text = f"slices lie {length_mm:.4g} mm apart, SpacingBetweenSlices says {stated_mm:.4g} mm; positions were used"
        yield make_note("DICOM_STEP_DIFFERS", text)
    yield from _note_numbers(frames)
    for name in TRAITS:
        values = [frame.trait(name) for frame in frames]
        kinds = sorted(set(values))
        changes = sum(value != after for value, after in pairwise(values))
        goes_back_and_forth = len(kinds) <= len(values) / 2 <= changes
        if len(kinds) > 1 and (name in TRAITS_OF_A_SERIES or goes_back_and_forth):
            shown = "; ".join(kind or "none" for kind in kinds[:6])
            yield make_note("DICOM_MIXED_SERIES", f"slices of one series differ in {name} ({shown})")
            return


def _note_numbers(frames: Sequence[Frame]) -> Iterator[Finding]:
    numbers = [int(frame.groups[-1].get("InstanceNumber") or 0) for frame in frames]
    strides = {abs(after - number) for number, after in pairwise(numbers)}
    if len(strides) == 1 and max(strides) > 1:
        text = f"InstanceNumber counts in steps of {max(strides)}; slices in between may have been left out"
        yield make_note("DICOM_NUMBERS_SKIP", text)


def _group_shapes(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Frames of one size, spacing and orientation; the search ends at too many kinds of them."""
    shapes: list[list[Frame]] = []
    for frame in frames:
        like = next((shape for shape in shapes if _is_alike(shape[0], frame)), None)
        if like is not None:
            like.append(frame)
        elif len(shapes) > MOST_STACKS:
            return shapes
        else:
            shapes.append([frame])
    return shapes


def _is_alike(one: Frame, other: Frame) -> bool:
    return (
        one.size == other.size
        and np.allclose(one.spacing_mm, other.spacing_mm, rtol=SPACING_TOLERANCE)
        and np.allclose(one.along_row, other.along_row, atol=DIRECTION_TOLERANCE)
        and np.allclose(one.along_column, other.along_column, atol=DIRECTION_TOLERANCE)
    )


def _order_shape(shape: Sequence[Frame]) -> tuple[object, ...]:
    """Many before few; else by values that every order of the files gives alike."""
    first = min(shape, key=lambda frame: (*np.round(frame.along_row, 6), *np.round(frame.along_column, 6)))
    return -len(shape), first.size, first.spacing_mm, tuple(first.along_row), tuple(first.along_column)


def _name_plane(frame: Frame) -> str:
    return PLANES[int(np.abs(frame.normal).argmax())]


def _tell_apart(shape: Sequence[Frame]) -> list[tuple[str, tuple[Frame, ...]]]:
    """Frames of one shape by the traits that tell those of one place apart, with these traits' values."""
    names, keys = _find_keys(shape, _number_places(shape))
    found: dict[tuple[str, ...], list[Frame]] = {}
    for frame, key in zip(shape, keys, strict=True):
        found.setdefault(key, []).append(frame)
    return [
        (", ".join(f"{name} {value or 'none'}" for name, value in zip(names, key, strict=True)), tuple(found[key]))
        for key in sorted(found, key=lambda key: [_order_value(value) for value in key])
    ]


def _find_keys(shape: Sequence[Frame], places: Sequence[int]) -> tuple[list[str], list[tuple[str, ...]]]:
    """The traits that tell images of one place apart, and their values of each frame.

    A trait that takes values of its own from slice to slice, such as a trigger time, makes no stacks.
    """
    most = max(Counter(places).values())
    names: list[str] = []
    keys: list[tuple[str, ...]] = [() for _ in shape]
    for name in TRAITS:
        before = set(zip(places, keys, strict=True))
        if len(before) == len(shape):
            break
        finer = [(*key, frame.trait(name)) for key, frame in zip(keys, shape, strict=True)]
        is_finer_at_a_place = len(set(zip(places, finer, strict=True))) > len(before)
        if is_finer_at_a_place and len(set(finer)) <= 2 * most:
            names, keys = [*names, name], finer
    return names, keys


def _number_places(shape: Sequence[Frame]) -> list[int]:
    """Of each frame, the number of its place along the normal."""
    heights = np.array([frame.position_mm for frame in shape], dtype=float) @ shape[0].normal
    order = np.argsort(heights, kind="stable")
    places = np.empty(len(shape), dtype=int)
    places[order] = np.cumsum(np.diff(heights[order], prepend=heights[order[0]]) > STEP_TOLERANCE_MM)
    return [int(place) for place in places]


def _order_value(value: str) -> tuple[int, float, str]:
    """Nothing before numbers, numbers by value before texts."""
    try:
        return (1, float(value), value) if value else (0, 0.0, "")
    except ValueError:
        return 2, 0.0, value
