"""From logits on the network's grid to labels on the image's own, slab by slab.

Turning, cropping, padding and resampling along the axes are each a small matrix per axis, and so is their
product. The way back is then one matrix product per axis, class and slab, and the array of all
classes on the image's grid never exists. Slabs of NumPy arrays and of PyTorch tensors are taken alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from medseg.errors import ImageError
from medseg.inference.arrays import Array, Arrays, arrays_of, narrow
from medseg.inference.input_checks import check_output
from medseg.inference.inverse_transform import AxisChange
from medseg.inference.slabs import Slab

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Discretisation:
    """How class scores become labels.

    Args:
        activation: ``softmax`` or ``sigmoid``, applied before resampling.
        threshold: Of the single channel of a sigmoid; None: the likeliest class.
        later: Steps on the labels afterwards; a bundle's are MONAI transforms.
    """

    activation: str
    threshold: float | None
    later: tuple[Any, ...]


class LabelRestorer:
    """Labels on an image's own grid, made from slabs of logits as they come.

    Args:
        changes: Of ``axis_changes``.
        how: Of ``discretisation``.
        classes: Number of labels; decides the type of the voxels.
        keeps_probabilities: Keep the scores of every class as well, on the image's grid.
    """

    def __init__(
        self, changes: Sequence[AxisChange], how: Discretisation, classes: int, keeps_probabilities: bool = False
    ) -> None:
        self.how = how
        self._classes = classes
        self._order = [change.source for change in changes]
        self._matrices = [Banded(change.weights) for change in sorted(changes, key=lambda each: each.source)]
        # Where nothing is interpolated, the likeliest class is that of the highest logit.
        self._keeps_order = not keeps_probabilities and all(matrix.is_selection for matrix in self._matrices)
        shape = [matrix.rows for matrix in self._matrices]
        self._labels = np.zeros(shape, np.uint8 if classes <= 256 else np.int32)
        channels = self._channels if keeps_probabilities else 0
        self._probabilities = np.zeros((channels, *shape), np.float32)
        self._kept: list[Array] = []
        self._next = 0

    @property
    def labels(self) -> NDArray[np.integer]:
        """(X, Y[, Z]) on the image's own grid; complete after the last slab."""
        array = np.ascontiguousarray(self._labels.transpose(self._order))
        return array if array.dtype == np.uint8 else array.astype(np.uint16)

    @property
    def probabilities(self) -> NDArray[np.float32] | None:
        """(C, X, Y[, Z]) on the image's own grid, where they are kept; complete after the last slab."""
        order = (0, *(axis + 1 for axis in self._order))
        return np.ascontiguousarray(self._probabilities.transpose(order)) if len(self._probabilities) else None

    def add(self, slab: Slab) -> None:
        """Take the next slab; the labels that need no later one are made.

        Raises:
            ValueError: Slabs that do not follow each other.
            ImageError: ``OUTPUT_NOT_LABELS``: the channels are not one per label.
        """
        if slab.start != self._next:
            raise ValueError(f"a slab from row {self._next} was expected, got {slab.start}")
        self._check_channels(slab.logits.shape[0])
        arrays, axis, matrix = arrays_of(slab.logits), slab.axis, self._matrices[slab.axis]
        rows, first_kept = matrix.rows_between(slab.start, slab.stop), matrix.first_needed_after(slab.stop)
        begin = self._next - (self._kept[0].shape[axis] if self._kept else 0)
        best: Array | None = None
        for label, scores in enumerate(self._activated(arrays, slab.logits)):
            known = self._with_kept(arrays, label, self._in_plane(arrays, scores, axis), axis)
            self._keep(label, arrays.copy(narrow(known, axis, first_kept - begin, slab.stop - begin)))
            if len(rows):
                score = matrix.apply(arrays, known, axis, rows, begin)
                self._note(arrays, label, score, axis, rows)
                best = self._choose(arrays, narrow(self._labels, axis, rows.start, rows.stop), label, score, best)
        self._next = slab.stop

    @property
    def _channels(self) -> int:
        return 1 if self.how.activation == "sigmoid" else self._classes

    def _check_channels(self, channels: int) -> None:
        if channels != self._channels:
            how = self.how.activation
            problem = f"{channels} channels, {how} over {self._classes} classes takes {self._channels}"
            remedy = "make the metadata's labels and the network's channels agree; classes that overlap give no mask"
            raise ImageError("OUTPUT_NOT_LABELS", "network", problem, remedy)

    def _activated(self, arrays: Arrays, logits: Array) -> Iterator[Array]:
        if self.how.activation == "softmax":
            return iter(logits) if self._keeps_order else arrays.softmax(logits)
        return iter([arrays.sigmoid(logits[0])])

    def _note(self, arrays: Arrays, label: int, score: Array, axis: int, rows: range) -> None:
        if len(self._probabilities):
            arrays.share(narrow(self._probabilities[label], axis, rows.start, rows.stop))[...] = score

    def _choose(self, arrays: Arrays, target: NDArray, label: int, score: Array, best: Array | None) -> Array:
        """Write ``label`` where its score is the highest so far; of equal scores the first label wins."""
        if self.how.threshold is not None:
            arrays.share(target)[...] = score >= self.how.threshold
            return score
        if best is None:
            return arrays.copy(score) if self._keeps_order else score
        return arrays.mark_higher(arrays.share(target), label, score, best)

    def _in_plane(self, arrays: Arrays, scores: Array, slab_axis: int) -> Array:
        for axis, matrix in enumerate(self._matrices):
            if axis != slab_axis:
                scores = matrix.apply(arrays, scores, axis, range(matrix.rows), 0)
        return scores

    def _with_kept(self, arrays: Arrays, label: int, scores: Array, axis: int) -> Array:
        kept = self._kept[label] if label < len(self._kept) else narrow(scores, axis, 0, 0)
        return arrays.join([kept, scores], axis) if kept.shape[axis] else scores

    def _keep(self, label: int, rows: Array) -> None:
        if label == len(self._kept):
            self._kept.append(rows)
        else:
            self._kept[label] = rows


BLOCK_ROWS = 64
"""Rows multiplied at once: large enough for BLAS, small enough to skip most zeros."""


def fill(
    restorer: LabelRestorer, slabs: Iterable[Slab], finish: Callable[[Slab], Iterable[Slab]], case_id: str
) -> None:
    """Run a network over an image, slab by slab; the restorer holds the labels afterwards.

    Args:
        restorer: Takes the slabs.
        slabs: Slabs of what the passes give, run as they are asked for.
        finish: Makes logits of such a slab, a few rows at a time.
        case_id: Named in errors.

    Raises:
        ImageError: ``OUTPUT_NONFINITE`` and others of what the network gives.
    """
    for closed in slabs:
        for slab in finish(closed):
            arrays = arrays_of(slab.logits)
            check_output(arrays.is_finite(slab.logits), case_id)
            restorer.add(replace(slab, logits=arrays.to_ram(slab.logits)))


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
            return narrow(array, axis, rows.start - first_column, rows.stop - first_column)
        shape = [*array.shape]
        shape[axis] = len(rows)
        result = arrays.empty_like(array, shape)
        for start in range(rows.start, rows.stop, BLOCK_ROWS):
            stop = min(start + BLOCK_ROWS, rows.stop)
            into = narrow(result, axis, start - rows.start, stop - rows.start)
            self._multiply(arrays, array, axis, range(start, stop), first_column, into)
        return result

    def _multiply(self, arrays: Arrays, array: Array, axis: int, block: range, first_column: int, into: Array) -> None:
        low, high = self._low[block.start : block.stop], self._high[block.start : block.stop]
        if (high < 0).all():
            into[...] = 0
            return
        begin, end = int(low[high >= 0].min()), int(high.max()) + 1
        dense = arrays.convert(self._weights[block.start : block.stop, begin:end].toarray(), array)
        into[...] = _along(dense, narrow(array, axis, begin - first_column, end - first_column), axis)


def _along(matrix: Array, array: Array, axis: int) -> Array:
    """The product of a matrix with an array along one of its axes."""
    if axis == array.ndim - 1:
        return array @ matrix.T
    if axis == array.ndim - 2:
        return matrix @ array
    return (matrix @ array.reshape(array.shape[0], -1)).reshape(len(matrix), *array.shape[1:])
