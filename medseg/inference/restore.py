"""From logits on the network's grid to labels on the image's own, slab by slab.

Turning, cropping, padding and resampling along the axes are each a small matrix per axis, and so is their
product. The way back is then one matrix product per axis, class and slab, and the array of all
classes on the image's grid never exists. Slabs of NumPy arrays and of PyTorch tensors are taken alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from numpy.typing import NDArray
from scipy import sparse

from medseg.errors import ImageError
from medseg.geometry import orientation
from medseg.inference.arrays import Array, Arrays, arrays_of, narrow
from medseg.inference.input_checks import check_output
from medseg.inference.slabs import Slab

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Discretisation:
    """How class scores become labels.

    Args:
        activation: ``softmax`` or ``sigmoid``, applied before resampling.
        threshold: Least score of a sigmoid's single channel; None: the likeliest class is taken.
        later: Steps on the labels afterwards; a bundle's are MONAI transforms.
    """

    activation: str
    threshold: float | None
    later: tuple[Any, ...]


class LabelRestorer:
    """Labels on an image's own grid, made from slabs of logits as they come.

    Args:
        changes: The way back, from ``axis_changes``.
        how: How scores become labels.
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


OFF_AXIS = 1e-5
"""Entries off the diagonal above this mean that a resampling mixes axes."""


@dataclass(frozen=True)
class AxisChange:
    """One axis of an image's own grid, as weights on an axis of the network's grid.

    Args:
        source: The axis of the network's grid.
        weights: (voxels of the image, voxels of the network's grid), sparse.
    """

    source: int
    weights: sparse.csr_array


class Prepared(Protocol):
    """An image with what was done to it: MONAI's ``MetaTensor`` is one."""

    @property
    def shape(self) -> Sequence[int]:
        """(channels, …)."""

    @property
    def affine(self) -> Any:
        """4 by 4, voxel index to RAS+ mm."""

    @property
    def applied_operations(self) -> list[Any]:
        """Records of the operations, as MONAI writes them, in their order."""


def axis_changes(image: Prepared) -> tuple[AxisChange, ...] | None:
    """The way back from a preprocessed image's grid to its own, axis by axis.

    Args:
        image: (channels, …) with the operations that preprocessing applied.

    Returns:
        One change per axis of the image's own grid; None where an operation mixes axes or is not known.
    """
    changes: list[AxisChange] | None = [
        AxisChange(axis, sparse.eye_array(size, format="csr")) for axis, size in enumerate(image.shape[1:])
    ]
    affine = np.asarray(image.affine, dtype=float)
    for operation in reversed(_flat(image.applied_operations)):
        undo = _UNDO.get(str(operation["class"]))
        if undo is None or changes is None:
            return None
        changes, affine = undo(changes, operation, affine)
    return None if changes is None else tuple(changes)


Undone = tuple[list[AxisChange] | None, NDArray[np.float64]]


def _flat(operations: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Operations in the order in which they were applied, those made of two taken apart."""
    flat: list[Mapping[str, Any]] = []
    for operation in operations:
        extra = operation.get("extra_info") or {}
        inner = [extra[key] for key in ("crop_info", "pad_info") if key in extra]
        flat += [operation] if "cropped" in extra or not inner else []
        flat += inner
    return flat


def _undo_crop(changes: list[AxisChange], operation: Mapping[str, Any], affine: NDArray[np.float64]) -> Undone:
    cropped = np.asarray(operation["extra_info"]["cropped"]).reshape(-1, 2)
    undone = []
    for change, (before, after) in zip(changes, cropped, strict=True):
        size = change.weights.shape[1]
        empty = [sparse.csr_array((int(count), size)) for count in (before, after)]
        undone.append(AxisChange(change.source, sparse.vstack([empty[0], change.weights, empty[1]], format="csr")))
    return undone, shift_affine(affine, -cropped[:, 0])


def _undo_pad(changes: list[AxisChange], operation: Mapping[str, Any], affine: NDArray[np.float64]) -> Undone:
    padded = np.asarray(operation["extra_info"]["padded"])
    if padded[0].any():
        return None, affine
    undone = [
        AxisChange(change.source, change.weights[int(before) : change.weights.shape[0] - int(after)])
        for change, (before, after) in zip(changes, padded[1:], strict=True)
    ]
    return undone, shift_affine(affine, padded[1:, 0])


def _undo_turn(changes: list[AxisChange], operation: Mapping[str, Any], affine: NDArray[np.float64]) -> Undone:
    original = np.asarray(operation["extra_info"]["original_affine"], dtype=float)
    if len(changes) != 3:
        return None, original
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(orientation(original)))
    undone: list[AxisChange | None] = [None] * len(changes)
    for change, (axis, sign) in zip(changes, turn, strict=True):
        weights = change.weights if sign > 0 else change.weights[::-1]
        undone[int(axis)] = AxisChange(change.source, sparse.csr_array(weights))
    return [each for each in undone if each is not None], original


def _undo_resampling(changes: list[AxisChange], operation: Mapping[str, Any], affine: NDArray[np.float64]) -> Undone:
    extra, sizes = operation["extra_info"], operation["orig_size"]
    before, axes = np.asarray(extra["src_affine"], dtype=float), len(changes)
    step = np.linalg.solve(narrow_to_axes(affine, axes), narrow_to_axes(before, axes))
    linear = step[:axes, :axes]
    is_plain = extra["mode"] == "bilinear" and extra["padding_mode"] == "border"
    if not is_plain or np.abs(linear - np.diag(np.diag(linear))).max() > OFF_AXIS:
        return None, before
    undone = []
    for axis, (change, size) in enumerate(zip(changes, sizes, strict=True)):
        places = linear[axis, axis] * np.arange(int(size)) + step[axis, -1]
        undone.append(_resampled(change, places))
    return undone, before


def _undo_resize(changes: list[AxisChange], operation: Mapping[str, Any], affine: NDArray[np.float64]) -> Undone:
    extra = operation["extra_info"]
    if extra["mode"] not in ("bilinear", "trilinear") or extra["align_corners"] is True or extra["new_dim"]:
        return None, affine
    undone, step = [], np.eye(len(affine))
    for axis, (change, size) in enumerate(zip(changes, operation["orig_size"], strict=True)):
        scale = change.weights.shape[0] / int(size)
        step[axis, axis], step[axis, -1] = scale, (scale - 1) / 2
        undone.append(_resampled(change, scale * np.arange(int(size)) + step[axis, -1]))
    return undone, affine @ step


def _resampled(change: AxisChange, places: NDArray[np.float64]) -> AxisChange:
    """Linear interpolation at ``places``, in voxels of the grid that has been reached."""
    return AxisChange(change.source, sparse.csr_array(linear_weights(places, change.weights.shape[0]) @ change.weights))


def linear_weights(places: NDArray[np.floating], size: int) -> sparse.csr_array:
    """Linear interpolation as a matrix, (places, size); beyond the ends the last voxel counts.

    Args:
        places: Places in voxels, from 0 at the first one's centre.
        size: Voxels of the axis.
    """
    rows, last = len(places), size - 1
    places = np.clip(places, 0, last)
    low = np.minimum(places.astype(int), max(last - 1, 0))
    share = places - low
    high = np.minimum(low + 1, last)
    number = np.arange(rows)
    weights = sparse.csr_array(
        (np.concatenate([1 - share, share]), (np.tile(number, 2), np.concatenate([low, high]))), shape=(rows, size)
    )
    weights.eliminate_zeros()
    return weights


def narrow_to_axes(affine: NDArray[np.float64], axes: int) -> NDArray[np.float64]:
    """The part of a matrix from voxels to the world that concerns the first axes, with where they begin."""
    part = np.eye(axes + 1)
    part[:axes, :axes], part[:axes, -1] = affine[:axes, :axes], affine[:axes, -1]
    return part


def shift_affine(affine: NDArray[np.float64], voxels: NDArray[np.integer]) -> NDArray[np.float64]:
    """The affine whose first voxel is ``voxels`` further along the axes."""
    shifted = affine.copy()
    axes = len(voxels)
    shifted[:-1, -1] += affine[:-1, :axes] @ voxels
    return shifted


_UNDO: dict[str, Callable[[list[AxisChange], Mapping[str, Any], NDArray[np.float64]], Undone]] = {
    "BorderPad": _undo_pad,
    "CenterSpatialCrop": _undo_crop,
    "CropForeground": _undo_crop,
    "DivisiblePad": _undo_pad,
    "Orientation": _undo_turn,
    "Pad": _undo_pad,
    "Resize": _undo_resize,
    "SpatialCrop": _undo_crop,
    "SpatialPad": _undo_pad,
    "SpatialResample": _undo_resampling,
}
