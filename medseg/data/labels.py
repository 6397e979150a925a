"""The values of a mask: whole, not negative, the ones expected, and as what a configuration's steps read them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.errors import LabelError
from medseg.findings import Finding, make_note
from medseg.text import list_some

BACKGROUND = 0

WHITE = 255
"""What picture editors write for the one foreground class."""

COUNTED_UP_TO = 1 << 20
HALF_OF_255 = 127.5
EDGE_VALUES = (64, 191)
"""Grey values of soft edges, left by lossy compression or resizing, lie anywhere; those of areas near 0 or 255."""

MOST_EDGE = 0.05
"""A mask with a larger share of its pixels between EDGE_VALUES is a picture of something else."""


def is_white_only(values: Collection[int]) -> bool:
    """Whether a mask that holds these values holds 255, and nothing else but 0."""
    return WHITE in values and set(values) <= {0, WHITE}


def label_values(array: NDArray) -> list[int]:
    """The different values of a mask of whole, non-negative numbers, ascending.

    Empty for an empty mask.
    """
    if array.size == 0:
        return []
    if int(array.max()) >= COUNTED_UP_TO:
        return [int(value) for value in np.unique(array)]
    present = np.zeros(int(array.max()) + 1, dtype=bool)
    for plane in array if array.flags.c_contiguous else array.T:
        present[plane.astype(np.intp)] = True
    return [int(value) for value in np.flatnonzero(present)]


def convert_labels(array: NDArray, case: object) -> NDArray:
    """``array`` as non-negative integers; floats that hold whole numbers are converted.

    Raises:
        LabelError: ``LABEL_NOT_INTEGER`` or ``LABEL_NEGATIVE``.
    """
    if array.dtype == bool:
        return array.astype(np.uint8)
    if not np.issubdtype(array.dtype, np.integer):
        off = array != np.rint(array)
        off |= ~np.isfinite(array)
        if off.any():
            problem = f"{int(off.sum())} voxels are not whole numbers, such as {float(array[off][0]):.6g}"
            raise LabelError("LABEL_NOT_INTEGER", case, problem, "store the mask's labels as integers")
    if array.size and array.min() < 0:
        problem = f"lowest label {int(array.min())}"
        raise LabelError("LABEL_NEGATIVE", case, problem)
    return array if np.issubdtype(array.dtype, np.integer) else shrink_integers(array, case)


def shrink_integers(array: NDArray, case: object) -> NDArray:
    """Whole numbers in the smallest of uint8, int16, uint16, int32, uint32 and int64 that holds them.

    Raises:
        LabelError: ``LABEL_NOT_INTEGER``: beyond 64 bits.
    """
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    for dtype in (np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return array.astype(dtype)
    raise LabelError("LABEL_NOT_INTEGER", case, f"label {high:g} does not fit 64 bits", "renumber the labels")


def match_labels(
    array: NDArray, values: Collection[int], case: object, *, is_8bit_picture: bool
) -> tuple[NDArray, tuple[Finding, ...]]:
    """``array`` if it holds only ``values``; where these are 0 and 1, white (255) counts as 1.

    Args:
        array: Whole, non-negative numbers.
        values: The labels that may occur.
        case: Named in the error.
        is_8bit_picture: Whether grey values between 0 and 255 may be soft edges, left
            by lossy compression or resizing: where they are no more than MOST_EDGE of the
            picture, they are cut at half of 255.

    Returns:
        The mask, and a note where its values were changed.

    Raises:
        LabelError: ``LABEL_UNEXPECTED``.
    """
    found = label_values(array)
    unexpected = sorted(set(found) - {int(value) for value in values})
    if not unexpected:
        return array, ()
    if set(values) == {0, 1} and set(found) <= {0, WHITE}:
        return (array == WHITE).astype(np.uint8), (make_note("LABEL_MAPPED", "value 255 is taken as label 1"),)
    if set(values) == {0, 1} and is_8bit_picture and found[-1] == WHITE and has_soft_edges_only(array):
        text = f"{len(found)} grey values; those above {HALF_OF_255} are taken as label 1, the others as 0"
        return (array > HALF_OF_255).astype(np.uint8), (make_note("LABEL_THRESHOLDED", text),)
    problem = f"labels {_list_values(unexpected)} are not among {_list_values(sorted(values))}"
    raise LabelError("LABEL_UNEXPECTED", case, problem)


def has_soft_edges_only(array: NDArray) -> bool:
    """Whether few of an 8-bit picture's voxels lie between black and white, as blurred edges do."""
    between = (array >= EDGE_VALUES[0]) & (array <= EDGE_VALUES[1])
    return bool(between.mean() <= MOST_EDGE)


@dataclass(frozen=True)
class MaskReading:
    """How a chain of transforms reads masks.

    Args:
        values: Those that the reader accepts; None where it does not say.
        renamed: Values that are read as others.
        names: Names and codes by which segments of DICOM objects are recognised, by value.
    """

    values: tuple[int, ...] | None = None
    renamed: Mapping[int, int] = field(default_factory=dict)
    names: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    @property
    def reaching(self) -> set[int] | None:
        """The values that reach the network; None where the reader does not say which it accepts."""
        return None if self.values is None else {self.renamed.get(value, value) for value in self.values}


def mask_reading(steps: Any) -> MaskReading:
    """How a list of transforms, as a configuration writes them, reads masks; anything else reads them as they are.

    >>> reader = {"_target_": "LoadImaged", "keys": "label", "values": [0, 1, 4]}
    >>> mapping = {"_target_": "MapLabelValued", "keys": "label", "orig_labels": [4], "target_labels": [3]}
    >>> mask_reading([reader, mapping]).renamed, mask_reading([reader, mapping]).reaching
    ({4: 3}, {0, 1, 3})
    """
    values: tuple[int, ...] | None = None
    renamed: dict[int, int] = {}
    names: dict[int, tuple[str, ...]] = {}
    for step in steps if isinstance(steps, list) else ():
        if not isinstance(step, Mapping) or "label" not in _as_list(step.get("keys")):
            continue
        if isinstance(step.get("values"), list):
            values = _numbers(step["values"])
        if isinstance(step.get("names"), Mapping):
            given = {str(value): texts for value, texts in step["names"].items()}
            names = {int(value): tuple(map(str, _as_list(each))) for value, each in given.items() if value.isdecimal()}
        if str(step.get("_target_", "")).rpartition(".")[2].startswith("MapLabelValue"):
            mapped = dict(zip(_numbers(step.get("orig_labels")), _numbers(step.get("target_labels")), strict=False))
            # What an earlier step made of a value is what this one meets.
            renamed = {old: mapped.get(new, new) for old, new in {**{old: old for old in mapped}, **renamed}.items()}
    return MaskReading(values, renamed, names)


def _list_values(values: list[int]) -> str:
    return list_some(list(map(str, values)), 12)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _numbers(value: Any) -> tuple[int, ...]:
    """The numbers of a list; none where a reference or an expression stands in its place."""
    listed = value if isinstance(value, list) else []
    return tuple(int(each) for each in listed if isinstance(each, int | float) and each == each // 1)
