"""Label values of a mask: whole, not negative, and the ones that are expected."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from medseg.data.volume import Note
from medseg.errors import LabelError

COUNTED_UP_TO = 1 << 20
HALF_OF_255 = 127.5
EDGE_VALUES = (64, 191)
"""Grey values of soft edges, left by lossy compression or resizing, lie anywhere; those of areas near 0 or 255."""
MOST_EDGE = 0.05
"""A mask with a larger share of its pixels between EDGE_VALUES is a picture of something else."""


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


def whole_labels(array: NDArray, case: object) -> NDArray:
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
        raise LabelError("LABEL_NEGATIVE", case, problem, "give background 0 and every structure a positive label")
    return array if np.issubdtype(array.dtype, np.integer) else smallest_integers(array, case)


def smallest_integers(array: NDArray, case: object) -> NDArray:
    """Whole numbers in the smallest of uint8, int16, uint16, int32, uint32 and int64 that holds them.

    Raises:
        LabelError: ``LABEL_NOT_INTEGER``: beyond 64 bits.
    """
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    for dtype in (np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return array.astype(dtype)
    raise LabelError("LABEL_NOT_INTEGER", case, f"label {high:g} does not fit 64 bits", "renumber the labels")


def expected_labels(
    array: NDArray, values: Collection[int], case: object, *, is_8bit_picture: bool
) -> tuple[NDArray, tuple[Note, ...]]:
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
    if set(values) == {0, 1} and set(found) <= {0, 255}:
        return (array == 255).astype(np.uint8), (Note("LABEL_MAPPED", "value 255 is taken as label 1"),)
    if set(values) == {0, 1} and is_8bit_picture and found[-1] == 255 and has_soft_edges_only(array):
        text = f"{len(found)} grey values; those above {HALF_OF_255} are taken as label 1, the others as 0"
        return (array > HALF_OF_255).astype(np.uint8), (Note("LABEL_THRESHOLDED", text),)
    problem = f"labels {_listed(unexpected)} are not among {_listed(sorted(values))}"
    raise LabelError("LABEL_UNEXPECTED", case, problem, "correct the mask, or name these labels in the data set")


def has_soft_edges_only(array: NDArray) -> bool:
    """Whether few of an 8-bit picture's voxels lie between black and white, as blurred edges do."""
    between = (array >= EDGE_VALUES[0]) & (array <= EDGE_VALUES[1])
    return bool(between.mean() <= MOST_EDGE)


def _listed(values: list[int]) -> str:
    return ", ".join(str(value) for value in values[:12]) + (f" and {len(values) - 12} more" if values[12:] else "")
