"""From logits on the network's grid to labels on the image's own, slab by slab.

Turning, cropping, padding and resampling along the axes are each a small matrix per axis, and so is their
product. The way back is then one matrix product per axis, class and slab, and the array of all
classes on the image's grid never exists.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.transforms import Activationsd, AsDiscreted, Compose, Invertd, Transform
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from medseg.errors import ImageError
from medseg.inference.sliding_window import Slab
from medseg.inference.way_back import AxisChange

BLOCK_ROWS = 64
"""Rows of a banded matrix multiplied at once: large enough for BLAS, small enough to skip most zeros."""


@dataclass(frozen=True)
class Discretisation:
    """How class scores become labels.

    Args:
        activation: ``softmax`` or ``sigmoid``, applied before resampling.
        threshold: Of the single channel of a sigmoid; None: the likeliest class.
        later: Transforms of the labels afterwards.
    """

    activation: str
    threshold: float | None
    later: tuple[Transform, ...]


def discretisation(postprocessing: Compose) -> Discretisation | None:
    """What a bundle's postprocessing does, where it is activation, ``Invertd``, ``AsDiscreted`` and steps on labels.

    Returns:
        None where it is anything else, which MONAI then has to run.
    """
    match postprocessing.transforms:
        case [Activationsd() as activate, Invertd() as invert, AsDiscreted() as choose, *later]:
            is_plain = all(each.keys == ("pred",) for each in (activate, invert, choose)) and not (
                invert.nearest_interp[0]
                or invert.post_func[0]
                or choose.to_onehot[0]
                or choose.rounding[0]
                or activate.other[0]
            )
            threshold = choose.threshold[0]
            if is_plain and activate.softmax[0] and choose.argmax[0] and threshold is None:
                return Discretisation("softmax", None, tuple(later))
            if is_plain and activate.sigmoid[0] and not choose.argmax[0] and threshold is not None:
                return Discretisation("sigmoid", float(threshold), tuple(later))
    return None


class LabelRestorer:
    """Labels on an image's own grid, made from slabs of logits as they come.

    Args:
        changes: Of ``axis_changes``.
        how: Of ``discretisation``.
        classes: Number of labels; decides the type of the voxels.
    """

    def __init__(self, changes: Sequence[AxisChange], how: Discretisation, classes: int) -> None:
        self.how = how
        self._classes = classes
        self._order = [change.source for change in changes]
        self._matrices = [_Banded(change.weights) for change in sorted(changes, key=lambda each: each.source)]
        kind = torch.uint8 if classes <= 256 else torch.int32
        self._labels = torch.zeros([matrix.rows for matrix in self._matrices], dtype=kind)
        self._kept: list[Tensor] = []
        self._next = 0

    @property
    def labels(self) -> NDArray[np.integer]:
        """(X, Y[, Z]) on the image's own grid; complete after the last slab."""
        array = self._labels.permute(self._order).contiguous().numpy()
        return array if array.dtype == np.uint8 else array.astype(np.uint16)

    def add(self, slab: Slab) -> None:
        """Take the next slab; the labels that need no later one are made.

        Raises:
            ValueError: Slabs that do not follow each other.
            ImageError: ``OUTPUT_NOT_LABELS``: the channels are not one per label.
        """
        if slab.start != self._next:
            raise ValueError(f"a slab from row {self._next} was expected, got {slab.start}")
        self._check_channels(slab.logits.shape[0])
        axis, matrix = slab.axis, self._matrices[slab.axis]
        rows, first_kept = matrix.rows_between(slab.start, slab.stop), matrix.first_needed_after(slab.stop)
        begin = self._next - (self._kept[0].shape[axis] if self._kept else 0)
        best: Tensor | None = None
        target = self._labels.narrow(axis, rows.start, len(rows))
        for label, scores in enumerate(_probabilities(slab.logits, self.how)):
            known = self._with_kept(label, self._in_plane(scores, axis), axis)
            self._keep(label, known.narrow(axis, first_kept - begin, slab.stop - first_kept))
            if len(rows):
                score = matrix.apply(known, axis, rows, begin)
                best = self._choose(target, label, score, best)
        self._next = slab.stop

    def _check_channels(self, channels: int) -> None:
        expected = 1 if self.how.activation == "sigmoid" else self._classes
        if channels != expected:
            problem = f"{channels} channels, {self.how.activation} over {self._classes} classes takes {expected}"
            remedy = "make the metadata's labels and the network's channels agree; classes that overlap give no mask"
            raise ImageError("OUTPUT_NOT_LABELS", "network", problem, remedy)

    def _choose(self, target: Tensor, label: int, score: Tensor, best: Tensor | None) -> Tensor:
        """Write ``label`` where its score is the highest so far; of equal scores the first label wins."""
        if self.how.threshold is not None:
            target.copy_(score >= self.how.threshold)
            return score
        if best is None:
            return score
        target.masked_fill_(score > best, label)
        return torch.maximum(best, score, out=best)

    def _in_plane(self, scores: Tensor, slab_axis: int) -> Tensor:
        for axis, matrix in enumerate(self._matrices):
            if axis != slab_axis:
                scores = matrix.apply(scores, axis, range(matrix.rows), 0)
        return scores

    def _with_kept(self, label: int, scores: Tensor, axis: int) -> Tensor:
        kept = self._kept[label] if label < len(self._kept) else scores.narrow(axis, 0, 0)
        return torch.cat([kept, scores], axis) if kept.shape[axis] else scores

    def _keep(self, label: int, rows: Tensor) -> None:
        if label == len(self._kept):
            self._kept.append(rows.clone())
        else:
            self._kept[label] = rows.clone()


class _Banded:
    """A matrix whose rows have few neighbouring entries, applied along one axis of a tensor."""

    def __init__(self, weights: sparse.csr_array) -> None:
        self.rows, self.columns = weights.shape
        self._weights = weights
        self._is_identity = self.rows == self.columns and abs(weights - sparse.eye_array(self.rows)).max() == 0
        filled = np.diff(weights.indptr) > 0
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

    def apply(self, tensor: Tensor, axis: int, rows: range, first_column: int) -> Tensor:
        """``rows`` of the product along ``axis`` of ``tensor``, whose first entry there is column ``first_column``."""
        if self._is_identity:
            return tensor.narrow(axis, rows.start - first_column, len(rows))
        shape = [*tensor.shape]
        shape[axis] = len(rows)
        result = tensor.new_empty(shape)
        for start in range(rows.start, rows.stop, BLOCK_ROWS):
            block = range(start, min(start + BLOCK_ROWS, rows.stop))
            self._multiply(tensor, axis, block, first_column, result.narrow(axis, start - rows.start, len(block)))
        return result

    def _multiply(self, tensor: Tensor, axis: int, block: range, first_column: int, into: Tensor) -> None:
        low, high = self._low[block.start : block.stop], self._high[block.start : block.stop]
        if (high < 0).all():
            into.zero_()
            return
        begin, end = int(low[high >= 0].min()), int(high.max()) + 1
        dense = torch.as_tensor(
            self._weights[block.start : block.stop, begin:end].toarray(), dtype=tensor.dtype, device=tensor.device
        )
        needed = tensor.narrow(axis, begin - first_column, end - begin)
        into.copy_(_along(dense, needed, axis))


def _along(matrix: Tensor, tensor: Tensor, axis: int) -> Tensor:
    """The product of a matrix with a tensor along one of its axes."""
    if axis == tensor.ndim - 1:
        return tensor @ matrix.T
    if axis == tensor.ndim - 2:
        return matrix @ tensor
    return (matrix @ tensor.reshape(tensor.shape[0], -1)).reshape(len(matrix), *tensor.shape[1:])


def _probabilities(logits: Tensor, how: Discretisation) -> Iterator[Tensor]:
    """Each class's probabilities in turn, without a second array of all classes."""
    if how.activation == "sigmoid":
        yield torch.sigmoid(logits[0])
        return
    largest = logits[0].clone()
    for scores in logits[1:]:
        torch.maximum(largest, scores, out=largest)
    total = torch.zeros_like(largest)
    for scores in logits:
        total += torch.exp(scores - largest)
    for scores in logits:
        yield torch.exp(scores - largest).div_(total)
