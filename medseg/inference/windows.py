"""Where the windows of an image lie."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


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
        channels: Of the images.
        roi: Voxels of a window.
    """

    batch: int
    channels: int
    roi: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, channels, …) of a full batch."""
        return (self.batch, self.channels, *self.roi)


@dataclass(frozen=True)
class Slab:
    """Rows of an image that no later window changes.

    Args:
        axis: The spatial axis of the rows, from 0.
        start: The first row's index in the image.
        logits: (C, …) with the rows along ``axis``; valid until the next slab is asked for.
    """

    axis: int
    start: int
    logits: Any

    @property
    def stop(self) -> int:
        """One more than the last row's index."""
        return self.start + int(self.logits.shape[self.axis + 1])


def _starts(size: int, window: int, overlap: float) -> tuple[int, ...]:
    """MONAI's: every ``window * (1 - overlap)`` voxels, the last one moved back to end with the image."""
    if size <= window:
        return (0,)
    step = _step(window, overlap)
    count = math.ceil((size - window) / step) + 1
    return tuple(min(number * step, size - window) for number in range(count))


def _step(window: int, overlap: float) -> int:
    return max(1, int(window * (1 - overlap)))
