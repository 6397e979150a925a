"""Sparse matrices whose rows have few neighbouring entries, applied along one axis of an array, row by row."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from medseg.inference.restoring.arrays import Array, Arrays

BLOCK_ROWS = 64
"""Rows multiplied at once: large enough for BLAS, small enough to skip most zeros."""


class Banded:
    """Such a matrix.

    Args:
        weights: (rows, columns), sparse.

    Attributes:
        is_selection: Whether each row is one of the columns, or none.
    """

    def __init__(self, weights: sparse.csr_array) -> None:
        self.rows, self.columns = weights.shape
        self._weights = weights
        self._is_identity = self.rows == self.columns and abs(weights - sparse.eye_array(self.rows)).max() == 0
        filled = np.diff(weights.indptr) > 0
        self.is_selection = bool((np.diff(weights.indptr) <= 1).all() and (weights.data == 1).all())
        self._low = np.full(self.rows, self.columns)
        self._high = np.full(self.rows, -1)
        if weights.nnz:
            starts = weights.indptr[:-1][filled]
            self._low[filled] = np.minimum.reduceat(weights.indices, starts)
            self._high[filled] = np.maximum.reduceat(weights.indices, starts)

    def rows_between(self, start: int, stop: int) -> range:
        """The rows whose last entry lies in columns ``start`` to before ``stop``; empty rows are none of them."""
        rows = np.flatnonzero((self._high >= start) & (self._high < stop))
        return range(int(rows[0]), int(rows[-1]) + 1) if rows.size else range(0)

    def first_needed_after(self, stop: int) -> int:
        """The first column before ``stop`` that a row whose last entry lies at ``stop`` or later needs, or ``stop``."""
        waiting = self._low[self._high >= stop]
        return min(int(waiting.min()), stop) if waiting.size else stop

    def apply(self, arrays: Arrays, array: Array, axis: int, rows: range, first_column: int) -> Array:
        """``rows`` of the product along ``axis`` of ``array``, whose first entry there is column ``first_column``."""
        if self._is_identity:
            return narrowed(array, axis, rows.start - first_column, rows.stop - first_column)
        shape = [*array.shape]
        shape[axis] = len(rows)
        result = arrays.empty_like(array, shape)
        for start in range(rows.start, rows.stop, BLOCK_ROWS):
            stop = min(start + BLOCK_ROWS, rows.stop)
            into = narrowed(result, axis, start - rows.start, stop - rows.start)
            self._multiply(arrays, array, axis, range(start, stop), first_column, into)
        return result

    def _multiply(self, arrays: Arrays, array: Array, axis: int, block: range, first_column: int, into: Array) -> None:
        low, high = self._low[block.start : block.stop], self._high[block.start : block.stop]
        if (high < 0).all():
            into[...] = 0
            return
        begin, end = int(low[high >= 0].min()), int(high.max()) + 1
        dense = arrays.matrix_like(self._weights[block.start : block.stop, begin:end].toarray(), array)
        into[...] = _along(dense, narrowed(array, axis, begin - first_column, end - first_column), axis)


def narrowed(array: Array, axis: int, start: int, stop: int) -> Array:
    """The part from ``start`` to before ``stop`` along an axis."""
    return array[(*[slice(None)] * axis, slice(start, stop))]


def _along(matrix: Array, array: Array, axis: int) -> Array:
    """The product of a matrix with an array along one of its axes."""
    if axis == array.ndim - 1:
        return array @ matrix.T
    if axis == array.ndim - 2:
        return matrix @ array
    return (matrix @ array.reshape(array.shape[0], -1)).reshape(len(matrix), *array.shape[1:])
