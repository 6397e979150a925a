"""Several volumes in one series (phases, echoes, orientations): which they are, and one of them picked by its number.

A stack has one size and orientation, and one image at each place as far as the files tell images apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medseg.data.dicom.frames import TRAITS, Frame
from medseg.data.dicom.naming import short_name
from medseg.data.dicom.stacking import STEP_TOLERANCE_MM
from medseg.errors import ImageError

MOST_STACKS = 200
"""More orientations than this are no stacks that anyone would pick from."""

MOST_LISTED_STACKS = 12
DIRECTION_TOLERANCE = 1e-3
SPACING_TOLERANCE = 1e-4
PLANES = ("sagittal", "coronal", "axial")
"""Across which axis of the patient each lies: left, posterior, superior."""

PICKABLE = ("DICOM_SEVERAL_PHASES", "DICOM_MIXED_GEOMETRY", "DICOM_LOCALIZER")
"""Errors of a series as a whole that its stacks alone may not have."""


@dataclass(frozen=True)
class Stack:
    """One volume of several in a series.

    Args:
        what: What tells it apart from the others; empty of the only one.
        frames: Its planes, in no order.
    """

    what: str
    frames: tuple[Frame, ...]


def stacks_of(frames: Sequence[Frame]) -> list[Stack]:
    """The stacks of a series, in an order that does not depend on the names of files.

    The largest shape first (size, spacing and orientation), and the images of one place by what tells them
    apart, numbers by their value. Pictures without positions are one stack, and so is everything where
    there are more than ``MOST_STACKS`` shapes.
    """
    if not frames:
        return []
    shapes = [] if any(frame.position_mm is None for frame in frames) else _shapes(frames)
    if not 1 <= len(shapes) <= MOST_STACKS:
        return [Stack("", tuple(frames))]
    stacks = []
    for shape in sorted(shapes, key=_shape_order):
        name = f"{_plane(shape[0])} {shape[0].size[0]}×{shape[0].size[1]}" if len(shapes) > 1 else ""
        stacks += [Stack(", ".join(part for part in (name, what) if part), same) for what, same in _told_apart(shape)]
    return stacks


def picked(frames: Sequence[Frame], number: int, case: Path) -> tuple[Frame, ...]:
    """The planes of the stack of this number, counted from 1.

    Raises:
        ImageError: ``DICOM_SERIES_NOT_FOUND``: there is none of this number.
    """
    stacks = stacks_of(frames)
    if 1 <= number <= len(stacks):
        return stacks[number - 1].frames
    problem = f"the series has no stack {number}: {listed(stacks)}" if len(stacks) > 1 else "the series is one stack"
    raise ImageError("DICOM_SERIES_NOT_FOUND", case, problem, f"give a number from 1 to {len(stacks)} after the colon")


def with_stacks(error: ImageError, stacks: Sequence[Stack]) -> ImageError:
    """The error of a series that holds several stacks, with their numbers and the flag that picks one."""
    if error.code not in PICKABLE or len(stacks) < 2:
        return error
    name = short_name(stacks[0].frames[0].groups[-1])
    flag = f"--series {name}:N, or FOLDER#series={name}:N"
    problem = f"{error.problem}; it holds {len(stacks)} stacks: {listed(stacks)}"
    return ImageError(error.code, error.case, problem, f"pick stack N with {flag}; or {error.remedy}")


def listed(stacks: Sequence[Stack]) -> str:
    """The stacks with their numbers.

    >>> listed([Stack("EchoTime 4.6", ()), Stack("EchoTime 9.2", ())])
    '1: EchoTime 4.6 (0 slices); 2: EchoTime 9.2 (0 slices)'
    """
    texts = [f"{number}: {stack.what} ({len(stack.frames)} slices)" for number, stack in enumerate(stacks, 1)]
    more = f"; and {len(texts) - MOST_LISTED_STACKS} more" if len(texts) > MOST_LISTED_STACKS else ""
    return "; ".join(texts[:MOST_LISTED_STACKS]) + more


def _shapes(frames: Sequence[Frame]) -> list[list[Frame]]:
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


def _shape_order(shape: Sequence[Frame]) -> tuple[object, ...]:
    """Many before few; else by values that every order of the files gives alike."""
    first = min(shape, key=lambda frame: (*np.round(frame.along_row, 6), *np.round(frame.along_column, 6)))
    return -len(shape), first.size, first.spacing_mm, tuple(first.along_row), tuple(first.along_column)


def _plane(frame: Frame) -> str:
    return PLANES[int(np.abs(frame.normal).argmax())]


def _told_apart(shape: Sequence[Frame]) -> list[tuple[str, tuple[Frame, ...]]]:
    """Frames of one shape by the traits that tell those of one place apart, with these traits' values."""
    names, keys = _keys(shape, _places(shape))
    found: dict[tuple[str, ...], list[Frame]] = {}
    for frame, key in zip(shape, keys, strict=True):
        found.setdefault(key, []).append(frame)
    return [
        (", ".join(f"{name} {value or 'none'}" for name, value in zip(names, key, strict=True)), tuple(found[key]))
        for key in sorted(found, key=lambda key: [_value_order(value) for value in key])
    ]


def _keys(shape: Sequence[Frame], places: Sequence[int]) -> tuple[list[str], list[tuple[str, ...]]]:
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


def _places(shape: Sequence[Frame]) -> list[int]:
    """Of each frame, the number of its place along the normal."""
    heights = np.array([frame.position_mm for frame in shape], dtype=float) @ shape[0].normal
    order = np.argsort(heights, kind="stable")
    places = np.empty(len(shape), dtype=int)
    places[order] = np.cumsum(np.diff(heights[order], prepend=heights[order[0]]) > STEP_TOLERANCE_MM)
    return [int(place) for place in places]


def _value_order(value: str) -> tuple[int, float, str]:
    """Nothing before numbers, numbers by value before texts."""
    try:
        return (1, float(value), value) if value else (0, 0.0, "")
    except ValueError:
        return 2, 0.0, value
