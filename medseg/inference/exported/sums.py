"""The weighted sums of overlapping windows, as far as a later window may still change them, in NumPy.

As ``medseg.inference.slabs``. There are no sums in 16 bits: NumPy has no bfloat16, and float16 ends at 65504, which
sums of logits may pass. Sums in a file change no digit.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ImageError, first_line
from medseg.inference.restore import narrowed
from medseg.inference.windows import Slab, Windows

CLOSED_BYTES = 1 << 26
"""So much of the rows that closed is handed on at once."""

SUM_BYTES = 4


class OpenSlab:
    """Weighted sums of the open slab, and of the weights; rows leave at the front as they close.

    Args:
        windows: Of the image.
        weights: Of the voxels of a window.
        sums: Of ``empty_sums``.
    """

    def __init__(self, windows: Windows, weights: NDArray[np.float32], sums: NDArray[np.float32]) -> None:
        self.windows, self.weights, self.sums = windows, weights, sums
        self.axis = windows.slab_axis
        self.totals = np.zeros((1, *sums.shape[1:]), np.float32)
        self.first = 0

    def add(self, corner: tuple[int, ...], output: NDArray[np.float32]) -> None:
        """Add a window's logits (C, …); ``corner`` lies in the open slab."""
        place = [*corner]
        place[self.axis] -= self.first
        box = box_of(place, self.windows.roi)
        for sums, scores in zip(self.sums, output, strict=True):
            sums[box] += scores * self.weights
        self.totals[0][box] += self.weights

    def closed_before(self, row: int) -> Iterator[Slab]:
        """The rows before ``row`` of the padded image, clipped to the image; then room is made behind them."""
        count, dim = row - self.first, self.axis + 1
        if count <= 0:
            return
        step = rows_at_once(self.sums.shape, dim)
        for start in range(0, count, step):
            stop = min(start + step, count)
            logits = narrowed(self.sums, dim, start, stop)
            np.divide(logits, narrowed(self.totals, dim, start, stop), out=logits)
            slab = self._clipped(logits, self.first + start)
            if slab:
                yield slab
        for rows in (self.sums, self.totals):
            _shift(rows, dim, count)
        self.first = row

    def _clipped(self, logits: NDArray[np.float32], start: int) -> Slab | None:
        """Without the padding; ``start`` is the first row's index in the padded image."""
        for axis, ((before, _), size) in enumerate(zip(self.windows.padding, self.windows.image, strict=True)):
            if axis != self.axis:
                logits = narrowed(logits, axis + 1, before, before + size)
                continue
            low, high = max(before, start), min(before + size, start + logits.shape[axis + 1])
            if low >= high:
                return None
            logits = narrowed(logits, axis + 1, low - start, high - start)
            start = low - before
        return Slab(self.axis, start, logits)


def rows_at_once(shape: Sequence[int], dim: int) -> int:
    """How many rows along an axis of sums are handed on at once."""
    return max(1, CLOSED_BYTES * shape[dim] // (SUM_BYTES * math.prod(shape)))


def empty_sums(windows: Windows, channels: int, spill: Path | None) -> NDArray[np.float32]:
    """Zeros for the open slab, (C, …).

    Args:
        windows: Of the image.
        channels: C.
        spill: Folder of a file that holds them in place of memory; None: memory.

    Raises:
        ImageError: ``SPILL_FAILED``: the disk has no room.
    """
    shape = [channels, *windows.padded]
    shape[windows.slab_axis + 1] = windows.roi[windows.slab_axis]
    return np.zeros(shape, np.float32) if spill is None else _in_file(spill, shape)


def box_of(corner: Sequence[int], roi: Sequence[int]) -> tuple[slice, ...]:
    """The voxels of a window whose first one this is."""
    return tuple(slice(start, start + size) for start, size in zip(corner, roi, strict=True))


def _shift(rows: NDArray[np.float32], dim: int, count: int) -> None:
    """Move the rows behind the first ``count`` to the front and clear those that become free."""
    kept = rows.shape[dim] - count
    step = min(count, kept) or 1
    for start in range(0, kept, step):
        stop = min(start + step, kept)
        narrowed(rows, dim, start, stop)[...] = narrowed(rows, dim, start + count, stop + count)
    narrowed(rows, dim, kept, rows.shape[dim])[...] = 0


def _in_file(folder: Path, shape: Sequence[int]) -> NDArray[np.float32]:
    """Zeros in a file without a name, which is gone when they are."""
    size = math.prod(shape) * SUM_BYTES
    try:
        with tempfile.TemporaryFile(dir=folder, prefix="medseg-sums-") as file:
            if hasattr(os, "posix_fallocate"):  # Else a disk that fills up later ends the process.
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            mapped = mmap.mmap(file.fileno(), size)
    except OSError as error:
        remedy = "make room there, name another folder in TMPDIR, or give a larger --max-ram"
        raise ImageError("SPILL_FAILED", folder, first_line(error), remedy) from error
    return np.frombuffer(mapped, np.float32).reshape(tuple(shape))
