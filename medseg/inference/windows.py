"""Overlapping windows over an image, blended slab by slab: MONAI's windows and weights in bounded memory.

Where the windows lie, how they are weighted, and the one loop that runs a network over them, whatever the library of
the arrays and whatever runs the network. ``medseg.inference.slabs`` holds what is summed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ImageError
from medseg.inference.arrays import Array, arrays_of, narrow
from medseg.inference.slabs import OpenSlab, Slab, box_of, empty_sums

LEAST_WEIGHT = 1e-3
"""MONAI's, where the Gaussian falls below it."""

Corner = tuple[int, ...]
Run = Callable[[Any], Any]
"""A network: windows (N, channels, …) in, logits (N, C, …) out, both arrays of one library."""


@dataclass(frozen=True)
class WindowPlan:
    """The windows in which an image goes through the network.

    Args:
        roi: Voxels of a window along each axis of the image.
        overlap: Share of a window that its neighbour covers again, along each axis of the image.
        batch: Windows per forward pass.
        mode: How windows are weighted, ``constant`` or ``gaussian``.
        sigma_scale: The Gaussian's standard deviation, as a share of the window, along each axis of the image.
        padding_mode: How smaller images are padded: ``constant``, ``reflect``, ``replicate`` or ``circular``.
        cval: Value of constant padding.
        slice_axis: The axis across which a 2D network takes slices; None: windows have the image's axes.
    """

    roi: tuple[int, ...]
    overlap: tuple[float, ...]
    batch: int
    mode: str
    sigma_scale: tuple[float, ...]
    padding_mode: str
    cval: float
    slice_axis: int | None

    @property
    def network_roi(self) -> tuple[int, ...]:
        """Voxels of a window along the network's axes."""
        return tuple(size for axis, size in enumerate(self.roi) if axis != self.slice_axis)


@dataclass(frozen=True)
class Windows:
    """Where the windows of an image lie: the same places as in MONAI's ``sliding_window_inference``.

    Args:
        image: Voxels along each spatial axis.
        roi: Voxels of a window; at least one along each axis.
        overlap: Share of a window that its neighbour covers again, per axis, from 0 to below 1.
    """

    image: tuple[int, ...]
    roi: tuple[int, ...]
    overlap: tuple[float, ...]

    @property
    def padded(self) -> tuple[int, ...]:
        """The image's size after padding where it is smaller than a window."""
        return tuple(max(size, window) for size, window in zip(self.image, self.roi, strict=True))

    @property
    def padding(self) -> tuple[tuple[int, int], ...]:
        """Voxels added before and after, per axis."""
        missing = [padded - size for padded, size in zip(self.padded, self.image, strict=True)]
        return tuple((each // 2, each - each // 2) for each in missing)

    @property
    def starts(self) -> tuple[tuple[int, ...], ...]:
        """The first voxel of each window along each axis of the padded image."""
        return tuple(
            _starts(size, window, share)
            for size, window, share in zip(self.padded, self.roi, self.overlap, strict=True)
        )

    @property
    def reach(self) -> tuple[int, ...]:
        """Voxels along each axis that as many windows would cover without overlapping less than they are meant to."""
        return tuple(
            window + (len(starts) - 1) * _step(window, share)
            for window, starts, share in zip(self.roi, self.starts, self.overlap, strict=True)
        )

    @property
    def slab_axis(self) -> int:
        """The axis along which a slab of one window's thickness is the smallest share of the image."""
        return min(range(len(self.roi)), key=lambda axis: (self.roi[axis] / self.padded[axis], axis))

    def __len__(self) -> int:
        return math.prod(len(each) for each in self.starts)

    def in_slab_order(self) -> Iterator[tuple[int, ...]]:
        """The first voxel of each window, those of one slab after the other."""
        axis = self.slab_axis
        others = [each for number, each in enumerate(self.starts) if number != axis]
        for start in self.starts[axis]:
            for corner in itertools.product(*others):
                yield (*corner[:axis], start, *corner[axis:])

    def slab_voxels(self) -> int:
        """Voxels of a slab: one window's thickness across the padded image."""
        return math.prod(self.padded) // self.padded[self.slab_axis] * self.roi[self.slab_axis]


@dataclass(frozen=True)
class Windowing:
    """The batches of windows that a network gets.

    Args:
        batch: Windows per forward pass.
        channels: Number of channels of the images.
        roi: Voxels of a window.
    """

    batch: int
    channels: int
    roi: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, channels, …) of a full batch."""
        return (self.batch, self.channels, *self.roi)


def blend(
    image: Array, run: Run, plan: WindowPlan, storage: str = "float32", spill: Path | None = None
) -> Iterator[Slab]:
    """Logits of one image (channels, …), slab after slab along the axis that needs the least memory.

    Windows that all hold one value, such as padding, are run once.

    Args:
        image: (channels, X, Y[, Z]), a NumPy array or a plain tensor.
        run: The network.
        plan: The windows.
        storage: ``bfloat16`` keeps the sums of tensors in 16 bits; anything else in 32.
        spill: Folder of a file that holds the sums in place of memory, gone when the image is done; None: memory.

    Raises:
        ImageError: ``IMAGE_EMPTY``; ``OUTPUT_NOT_ONE_TENSOR`` or ``OUTPUT_RESIZED``: the network does not give one
            array of its input's size; ``SPILL_FAILED``.
    """
    windows, arrays = lay_windows(image.shape[1:], plan), arrays_of(image)
    if windows.padded != windows.image:
        image = arrays.pad(image, windows.padding, plan.padding_mode, plan.cval)
    alike, sums = _find_alike(image, windows), None
    # Copied, for what is run next may use the same memory.
    of_alike = arrays.copy(_run_windows([min(alike)], image, run, plan)[0]) if alike else None
    for corners in _batches(windows.in_slab_order(), max(1, plan.batch), alike):
        fresh = [corner for corner in corners if corner not in alike]
        outputs = list(_run_windows(fresh, image, run, plan))[::-1] if fresh else []
        for corner in corners:
            output = of_alike if corner in alike else outputs.pop()
            if sums is None:
                weights = arrays.place(importance(plan), image)
                sums = OpenSlab(windows, weights, empty_sums(windows, output, storage, spill))
            yield from sums.close_before(corner[windows.slab_axis])
            sums.add(corner, output)
            del output  # Before the next pass, which could take its memory.
    if sums:
        yield from sums.close_before(windows.padded[windows.slab_axis])


def join(slabs: Iterator[Slab], size: Sequence[int]) -> Array:
    """All logits (C, …) of an image with these voxels along its axes, from its slabs."""
    first = next(slabs)
    whole = arrays_of(first.logits).empty_like(first.logits, (first.logits.shape[0], *size))
    for slab in itertools.chain([first], slabs):
        narrow(whole, slab.axis + 1, slab.start, slab.stop)[...] = slab.logits
    return whole


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


def lay_windows(size: Sequence[int], plan: WindowPlan) -> Windows:
    """The windows of an image with these voxels along each spatial axis.

    Raises:
        ImageError: ``IMAGE_EMPTY``: an axis without voxels.
    """
    voxels = tuple(int(each) for each in size)
    if not all(voxels):
        raise ImageError("IMAGE_EMPTY", voxels, "an axis has no voxels")
    return Windows(voxels, plan.roi, plan.overlap)


def _run_windows(corners: Sequence[Corner], image: Array, run: Run, plan: WindowPlan) -> Array:
    """The network's logits (N, C, …) of the windows that begin there; a 2D network gets slices."""
    batch = arrays_of(image).stack([image[(slice(None), *box_of(corner, plan.roi))] for corner in corners])
    axis = None if plan.slice_axis is None else plan.slice_axis + 2
    outputs = run(batch if axis is None else batch.squeeze(axis))
    if not isinstance(outputs, type(batch)):
        problem = f"the network gives a {type(outputs).__name__}"
        raise ImageError("OUTPUT_NOT_ONE_TENSOR", "network", problem, "export one output")
    outputs = outputs if axis is None else outputs[(*[slice(None)] * axis, None)]
    if outputs.shape[0] != batch.shape[0] or outputs.shape[2:] != batch.shape[2:]:
        problem = f"windows of {tuple(batch.shape[2:])} voxels give {tuple(outputs.shape[2:])}"
        raise ImageError("OUTPUT_RESIZED", "network", problem)
    return outputs


def _find_alike(image: Array, windows: Windows) -> Collection[Corner]:
    """The windows (by their first voxels) that hold nothing but the image's first voxel, such as padding."""
    first = image[(slice(None), *[slice(1)] * (image.ndim - 1))]
    differs = arrays_of(image).to_numpy((image != first).any(0))
    alike = {corner for corner in windows.in_slab_order() if not differs[box_of(corner, windows.roi)].any()}
    return alike if len(alike) > 1 else ()


def _batches(corners: Iterator[Corner], size: int, alike: Collection[Corner]) -> Iterator[list[Corner]]:
    """Windows in their order, each time as many as hold ``size`` that are not ``alike``."""
    batch: list[Corner] = []
    fresh = 0
    for corner in corners:
        batch.append(corner)
        fresh += corner not in alike
        if fresh == size:
            yield batch
            batch, fresh = [], 0
    if batch:
        yield batch


def _starts(size: int, window: int, overlap: float) -> tuple[int, ...]:
    """MONAI's: every ``window * (1 - overlap)`` voxels, the last one moved back to end with the image."""
    if size <= window:
        return (0,)
    step = _step(window, overlap)
    count = math.ceil((size - window) / step) + 1
    return tuple(min(number * step, size - window) for number in range(count))


def _step(window: int, overlap: float) -> int:
    return max(1, int(window * (1 - overlap)))
