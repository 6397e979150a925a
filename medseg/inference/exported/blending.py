"""Overlapping windows over an image, blended slab by slab, in NumPy.

The same windows and weights as in ``medseg.inference.sliding_window``, whose module explains the slabs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from medseg.data.payload import check_memory
from medseg.errors import ImageError
from medseg.inference.exported.description import WindowPlan
from medseg.inference.restoring.banded import narrowed
from medseg.inference.windows import Slab, Windows

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""A network: windows (N, channels, …) in, logits (N, C, …) out."""

LEAST_WEIGHT = 1e-3
"""MONAI's, where the Gaussian falls below it."""

PADDING = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
"""NumPy's names of PyTorch's ways of padding."""


def blended(image: NDArray[np.float32], run: Run, plan: WindowPlan, overlap: float | None = None) -> Iterator[Slab]:
    """Logits of one image (channels, …), slab after slab along the axis that needs the least memory.

    Args:
        image: (channels, X, Y[, Z]).
        run: The network.
        plan: The windows.
        overlap: In place of the plan's, along all axes.

    Raises:
        ImageError: ``IMAGE_EMPTY``; ``OUTPUT_RESIZED``; ``MEMORY_BUDGET``.
    """
    size = image.shape[1:]
    if not all(size):
        raise ImageError("IMAGE_EMPTY", size, "an axis has no voxels", "see how the image was cropped")
    windows = Windows(size, plan.roi, plan.overlap if overlap is None else (overlap,) * len(size))
    image = _padded(image, windows, plan)
    weights = importance(plan)
    corners = windows.in_slab_order()
    sums: _Sums | None = None
    while batch := list(itertools.islice(corners, plan.batch)):
        outputs = _run(np.stack([image[(slice(None), *_box(corner, plan.roi))] for corner in batch]), run, plan)
        sums = sums or _Sums(windows, outputs.shape[1], weights)
        for corner, output in zip(batch, outputs, strict=True):
            yield from sums.closed_before(corner[windows.slab_axis])
            sums.add(corner, output)
    if sums:
        yield from sums.closed_before(windows.padded[windows.slab_axis])


def importance(plan: WindowPlan) -> NDArray[np.float32]:
    """The weight of each voxel of a window, as MONAI's ``compute_importance_map``."""
    if plan.mode == "constant":
        return np.ones(plan.roi, np.float32)
    along = []
    for size, share in zip(plan.roi, plan.sigma_scale, strict=True):
        places = np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)
        along.append(np.exp(places**2 / np.float32(-2 * (size * share) ** 2)))
    weights = reduce(np.multiply.outer, along)
    return np.maximum(weights, max(float(weights.min()), LEAST_WEIGHT)).astype(np.float32)


def _padded(image: NDArray[np.float32], windows: Windows, plan: WindowPlan) -> NDArray[np.float32]:
    if windows.padded == windows.image:
        return image
    options = {"constant_values": plan.cval} if plan.padding_mode == "constant" else {}
    return np.pad(image, [(0, 0), *windows.padding], mode=PADDING[plan.padding_mode], **options)  # type: ignore[call-overload]


def _run(batch: NDArray[np.float32], run: Run, plan: WindowPlan) -> NDArray[np.float32]:
    axis = None if plan.slice_axis is None else plan.slice_axis + 2
    outputs = run(batch if axis is None else batch.squeeze(axis))
    outputs = outputs if axis is None else np.expand_dims(outputs, axis)
    if outputs.shape[0] != batch.shape[0] or outputs.shape[2:] != batch.shape[2:]:
        problem = f"windows of {batch.shape[2:]} voxels give {outputs.shape[2:]}"
        raise ImageError("OUTPUT_RESIZED", "network", problem, "export the bundle again")
    return outputs


class _Sums:
    """Weighted sums of the open slab, and of the weights; rows leave at the front as they close."""

    def __init__(self, windows: Windows, classes: int, weights: NDArray[np.float32]) -> None:
        self.windows, self.weights, self.axis = windows, weights, windows.slab_axis
        shape = [*windows.padded]
        shape[self.axis] = windows.roi[self.axis]
        needed = (classes + 1) * windows.slab_voxels() * np.dtype(np.float32).itemsize
        check_memory(needed, "network", f"the sums of {classes} classes")
        self.sums = np.zeros((classes, *shape), np.float32)
        self.totals = np.zeros((1, *shape), np.float32)
        self.first = 0

    def add(self, corner: tuple[int, ...], output: NDArray[np.float32]) -> None:
        """Add a window's logits (C, …); ``corner`` lies in the open slab."""
        place = [start - (self.first if axis == self.axis else 0) for axis, start in enumerate(corner)]
        box = (slice(None), *_box(place, self.windows.roi))
        self.sums[box] += output * self.weights
        self.totals[box] += self.weights

    def closed_before(self, row: int) -> Iterator[Slab]:
        """The rows before ``row`` of the padded image, clipped to the image; then room is made behind them."""
        count, axis = row - self.first, self.axis + 1
        if count <= 0:
            return
        slab = self._clipped(narrowed(self.sums, axis, 0, count) / narrowed(self.totals, axis, 0, count))
        if slab:
            yield slab
        for rows in (self.sums, self.totals):
            kept = narrowed(rows, axis, count, rows.shape[axis]).copy()
            narrowed(rows, axis, 0, kept.shape[axis])[...] = kept
            narrowed(rows, axis, kept.shape[axis], rows.shape[axis])[...] = 0
        self.first = row

    def _clipped(self, logits: NDArray[np.float32]) -> Slab | None:
        """Without the padding."""
        start = self.first
        for axis, ((before, _), size) in enumerate(zip(self.windows.padding, self.windows.image, strict=True)):
            shift = self.first if axis == self.axis else 0
            low, high = max(before, shift), min(before + size, shift + logits.shape[axis + 1])
            if low >= high:
                return None
            logits = narrowed(logits, axis + 1, low - shift, high - shift)
            start = low - before if axis == self.axis else start
        return Slab(self.axis, start, logits)


def _box(corner: tuple[int, ...] | list[int], roi: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(start, start + size) for start, size in zip(corner, roi, strict=True))
