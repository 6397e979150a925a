"""The weighted sums of overlapping windows, as far as a later window may still change them.

Windows are run in the order of one axis. Once the last window that reaches a row of voxels is done, the row is final:
it is handed on and its memory is used again. What is held is one window's thickness across the image, not the whole
image for every class.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.errors import ImageError, first_line
from medseg.inference.arrays import Array, arrays_of, narrow

if TYPE_CHECKING:
    from medseg.inference.windows import Windows

CLOSED_BYTES = 1 << 23
"""So much of the rows that closed is handed on at once."""

SUM_BYTES = 4
"""Bytes of a sum as it is handed on."""


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
    logits: Array

    @property
    def stop(self) -> int:
        """One more than the last row's index."""
        return self.start + int(self.logits.shape[self.axis + 1])


class OpenSlab:
    """Weighted sums of the open slab, and of the weights; rows leave at the front as they close.

    Args:
        windows: Windows of the image.
        weights: Weights of a window's voxels.
        sums: Zeros, from ``empty_sums``.
    """

    def __init__(self, windows: Windows, weights: Array, sums: Array) -> None:
        self.windows, self.weights, self.sums = windows, weights, sums
        self.axis = windows.slab_axis
        self.first = 0
        self._arrays = arrays_of(weights)
        self._totals = self._arrays.zeros((1, *sums.shape[1:]), self._arrays.single, weights)

    def add(self, corner: tuple[int, ...], output: Array) -> None:
        """Add a window's logits (C, …); ``corner`` lies in the open slab."""
        place = [*corner]
        place[self.axis] -= self.first
        box = (slice(None), *box_of(place, self.windows.roi))
        self._arrays.add_weighted(self.sums[box], output, self.weights)
        self._totals[box] += self.weights

    def close_before(self, row: int) -> Iterator[Slab]:
        """The rows before ``row`` of the padded image, clipped to the image; then room is made behind them."""
        count, dim = row - self.first, self.axis + 1
        if count <= 0:
            return
        step = rows_at_once(self.sums.shape, dim)
        for start in range(0, count, step):
            stop = min(start + step, count)
            rows = (narrow(each, dim, start, stop) for each in (self.sums, self._totals))
            slab = self._clip(self._arrays.divide(*rows), self.first + start)
            if slab:
                yield slab
        for sums in (self.sums, self._totals):
            _shift(sums, dim, count)
        self.first = row

    def _clip(self, logits: Array, start: int) -> Slab | None:
        """Without the padding; ``start`` is the first row's index in the padded image."""
        for axis, ((before, _), size) in enumerate(zip(self.windows.padding, self.windows.image, strict=True)):
            if axis != self.axis:
                logits = narrow(logits, axis + 1, before, before + size)
                continue
            low, high = max(before, start), min(before + size, start + logits.shape[axis + 1])
            if low >= high:
                return None
            logits = narrow(logits, axis + 1, low - start, high - start)
            start = low - before
        return Slab(self.axis, start, logits)


def empty_sums(windows: Windows, output: Array, storage: str = "float32", spill: Path | None = None) -> Array:
    """Zeros for the open slab, (C, …), for outputs like this one.

    Args:
        windows: Windows of the image.
        output: A window's logits, (C, …).
        storage: ``bfloat16`` keeps the sums of tensors in 16 bits; anything else in 32.
        spill: Folder of a file that holds them in place of the machine's memory; None: memory.

    Raises:
        ImageError: ``SPILL_FAILED``: the disk has no room.
    """
    arrays = arrays_of(output)
    shape = [output.shape[0], *windows.padded]
    shape[windows.slab_axis + 1] = windows.roi[windows.slab_axis]
    kind = arrays.half if storage == "bfloat16" else arrays.single
    if spill is None or not arrays.is_in_ram(output):
        return arrays.zeros(shape, kind, output)
    return arrays.view(_map_file(spill, math.prod(shape) * kind.itemsize), shape, kind)


def rows_at_once(shape: Sequence[int], dim: int) -> int:
    """How many rows along an axis of sums are handed on at once."""
    return max(1, CLOSED_BYTES * shape[dim] // (SUM_BYTES * math.prod(shape)))


def box_of(corner: Sequence[int], roi: Sequence[int]) -> tuple[slice, ...]:
    """The voxels of a window whose first one this is."""
    return tuple(slice(start, start + size) for start, size in zip(corner, roi, strict=True))


def _shift(rows: Array, dim: int, count: int) -> None:
    """Move the rows behind the first ``count`` to the front and clear those that become free."""
    kept = rows.shape[dim] - count
    step = min(count, kept) or 1
    for start in range(0, kept, step):
        stop = min(start + step, kept)
        narrow(rows, dim, start, stop)[...] = narrow(rows, dim, start + count, stop + count)
    narrow(rows, dim, kept, rows.shape[dim])[...] = 0


def _map_file(folder: Path, size: int) -> mmap.mmap:
    """The bytes of a file without a name, all 0, which is gone when they are."""
    try:
        with tempfile.TemporaryFile(dir=folder, prefix="medseg-sums-") as file:
            if hasattr(os, "posix_fallocate"):  # Else a disk that fills up later ends the process.
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            return mmap.mmap(file.fileno(), size)
    except OSError as error:
        remedy = "make room there, name another folder in TMPDIR, or give a larger --max-ram"
        raise ImageError("SPILL_FAILED", folder, first_line(error), remedy) from error
