"""How many voxels of each reference value were given each predicted value: two masks in, one table out.

Everything that an evaluation says of a case follows from this table; what the values mean is not asked yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.errors import GridError, LabelError

Mask = NDArray[np.integer]

MAX_LABELS = 1024
"""A mask with more different values than this is an image given by mistake."""

VOXELS_AT_ONCE = 2**21
"""Voxels counted in one step: the indices fit in a processor's cache, and memory stays small."""


@dataclass(frozen=True)
class Tabulation:
    """How many voxels of each reference value were given each predicted value.

    Args:
        reference_values: The values in the reference, rising; one per row.
        prediction_values: The values in the prediction, rising; one per column.
        voxels: Numbers of voxels, (rows, columns).
    """

    reference_values: tuple[int, ...]
    prediction_values: tuple[int, ...]
    voxels: NDArray[np.int64]

    def without_reference(self, value: int | None) -> Tabulation:
        """The table without the voxels where the reference is ``value``; unchanged for None."""
        kept = [index for index, found in enumerate(self.reference_values) if found != value]
        voxels = self.voxels[kept]
        used = np.flatnonzero(voxels.any(axis=0))
        return Tabulation(
            tuple(self.reference_values[index] for index in kept),
            tuple(self.prediction_values[index] for index in used),
            voxels[:, used],
        )

    def to_confusion(self, values: Sequence[int], case: object = "mask") -> NDArray[np.int64]:
        """The table with one row and one column for each of ``values``, zero where absent.

        Raises:
            LabelError: A mask holds a value that is not in ``values``.
        """
        _check_known(self.reference_values, values, f"{case} (reference)")
        _check_known(self.prediction_values, values, f"{case} (prediction)")
        return self.widened(values, values).voxels

    def widened(self, reference_values: Sequence[int], prediction_values: Sequence[int]) -> Tabulation:
        """The table with rows and columns for these values, in this order, all of its own among them."""
        rows = [reference_values.index(value) for value in self.reference_values]
        columns = [prediction_values.index(value) for value in self.prediction_values]
        voxels = np.zeros((len(reference_values), len(prediction_values)), dtype=np.int64)
        voxels[np.ix_(rows, columns)] = self.voxels
        return Tabulation(tuple(reference_values), tuple(prediction_values), voxels)


def tabulate(prediction: Mask, reference: Mask) -> Tabulation:
    """Count the voxels of each pair of values, whatever the values are.

    Empty masks (all zero) give a table with the single value 0; arrays without voxels
    give an empty table.

    Args:
        prediction: Whole numbers (or booleans), any shape.
        reference: Whole numbers (or booleans), of the same shape.

    Raises:
        GridError: The shapes differ.
        LabelError: A mask holds fractions, or more than 1024 different values.
    """
    if prediction.shape != reference.shape:
        raise GridError(
            "SHAPE_MISMATCH",
            "mask",
            f"prediction has {prediction.shape} voxels, reference {reference.shape}",
            "compare masks of the same image",
        )
    if not reference.size:
        return Tabulation((), (), np.zeros((0, 0), dtype=np.int64))
    rows, reference_codes = _coded(reference, "reference")
    columns, prediction_codes = _coded(prediction, "prediction")
    table = _count_codes(reference_codes, prediction_codes, (rows.size, columns.size))
    row, column = table.any(axis=1), table.any(axis=0)
    return Tabulation(tuple(rows[row].tolist()), tuple(columns[column].tolist()), table[np.ix_(row, column)])


def _coded(mask: Mask, role: str) -> tuple[NDArray[np.int64], Mask]:
    """Candidate values, and ``mask`` as positions among them (the mask itself where its values start at 0)."""
    if mask.dtype == bool:
        mask = mask.view(np.uint8)
    if mask.dtype.kind not in "iu":
        raise LabelError("LABEL_NOT_INTEGER", role, f"values are of type {mask.dtype}", "save whole numbers")
    low, high = int(mask.min()), int(mask.max())
    if low >= 0 and high < MAX_LABELS:
        return np.arange(high + 1), mask
    values, codes = np.unique(mask, return_inverse=True)
    if values.size > MAX_LABELS:
        raise LabelError(
            "LABEL_TOO_MANY",
            role,
            f"the mask holds {values.size} different values, from {low} to {high}",
            "give the mask, not the image",
        )
    return values.astype(np.int64), codes.reshape(mask.shape)


def _count_codes(reference: Mask, prediction: Mask, shape: tuple[int, int]) -> NDArray[np.int64]:
    bins = shape[0] * shape[1]
    total = np.zeros(bins, dtype=np.int64)
    for rows, columns in _slabs(reference, prediction):
        index = rows.astype(np.int64)
        index *= shape[1]
        index += columns.astype(np.int64)
        total += np.bincount(index, minlength=bins)
    return total.reshape(shape)


def _slabs(first: Mask, second: Mask) -> Iterator[tuple[Mask, Mask]]:
    """Both arrays flat and in step, some voxels at a time, in the order in which the first lies in memory."""
    first, second = np.atleast_1d(first), np.atleast_1d(second)
    order = np.argsort([-abs(stride) for stride in first.strides], kind="stable")
    first, second = first.transpose(order), second.transpose(order)
    step = max(1, VOXELS_AT_ONCE * first.shape[0] // first.size)
    for start in range(0, first.shape[0], step):
        yield first[start : start + step].ravel(), second[start : start + step].ravel()


def _check_known(found: Sequence[int], values: Sequence[int], case: str) -> None:
    unknown = sorted(set(found) - set(values))
    if unknown:
        raise LabelError(
            "LABEL_UNKNOWN",
            case,
            f"the mask holds {unknown[:10]}, the labels are {sorted(values)}",
            "correct the mask, or name the value in the labels",
        )
