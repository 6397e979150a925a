"""The weighted sums of overlapping windows, as far as a later window may still change them."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from medseg.errors import ImageError, first_line
from medseg.inference.windows import Slab, Windows

CLOSED_BYTES = 1 << 23
"""So much of the rows that closed is handed on at once."""


class OpenSlab:
    """Weighted sums of the open slab, and of the weights; rows leave at the front as they close."""

    def __init__(self, windows: Windows, weights: Tensor, sums: Tensor) -> None:
        self.windows, self.weights, self.sums = windows, weights, sums
        self.axis = windows.slab_axis
        self.totals = torch.zeros((1, *sums.shape[1:]), dtype=torch.float32, device=sums.device)
        self.first = 0

    def add(self, corner: tuple[int, ...], output: Tensor) -> None:
        """Add a window's logits (C, …); ``corner`` lies in the open slab."""
        place = [*corner]
        place[self.axis] -= self.first
        box = (slice(None), *box_of(place, self.windows.roi))
        if self.sums.dtype == torch.float32:
            self.sums[box].addcmul_(output.float(), self.weights)
        else:
            self.sums[box] += output.float() * self.weights
        self.totals[box] += self.weights

    def closed_before(self, row: int) -> Iterator[Slab]:
        """The rows before ``row`` of the padded image, clipped to the image; then room is made behind them."""
        count, dim = row - self.first, self.axis + 1
        if count <= 0:
            return
        step = max(1, CLOSED_BYTES * self.sums.shape[dim] // (4 * self.sums.numel()))
        for start in range(0, count, step):
            size = min(step, count - start)
            logits, totals = self.sums.narrow(dim, start, size), self.totals.narrow(dim, start, size)
            logits = logits.div_(totals) if logits.dtype == torch.float32 else logits.float().div_(totals)
            slab = self._clipped(logits, self.first + start)
            if slab:
                yield slab
        for rows in (self.sums, self.totals):
            _shift(rows, dim, count)
        self.first = row

    def _clipped(self, logits: Tensor, start: int) -> Slab | None:
        """Without the padding; ``start`` is the first row's index in the padded image."""
        for axis, ((before, _), size) in enumerate(zip(self.windows.padding, self.windows.image, strict=True)):
            if axis != self.axis:
                logits = logits.narrow(axis + 1, before, size)
                continue
            low, high = max(before, start), min(before + size, start + logits.shape[axis + 1])
            if low >= high:
                return None
            logits = logits.narrow(axis + 1, low - start, high - low)
            start = low - before
        return Slab(self.axis, start, logits)


def _shift(rows: Tensor, dim: int, count: int) -> None:
    """Move the rows behind the first ``count`` to the front and clear those that become free."""
    kept = rows.shape[dim] - count
    step = min(count, kept) or 1
    for start in range(0, kept, step):
        size = min(step, kept - start)
        rows.narrow(dim, start, size).copy_(rows.narrow(dim, start + count, size))
    rows.narrow(dim, kept, count).zero_()


def empty_sums(windows: Windows, output: Tensor, storage: torch.dtype | None, spill: Path | None) -> Tensor:
    """Zeros for the open slab, (C, …), for outputs like this one."""
    shape = [output.shape[0], *windows.padded]
    shape[windows.slab_axis + 1] = windows.roi[windows.slab_axis]
    kind = storage or torch.float32
    if spill is None or output.device.type != "cpu":
        return torch.zeros(shape, dtype=kind, device=output.device)
    return _in_file(spill, shape, kind)


def _in_file(folder: Path, shape: Sequence[int], kind: torch.dtype) -> Tensor:
    """Zeros in a file that ends with them.

    Raises:
        ImageError: ``SPILL_FAILED``: the disk has no room.
    """
    size = math.prod(shape)
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix="medseg-sums-") as file:
            if hasattr(os, "posix_fallocate"):  # Else a disk that fills up later ends the process.
                os.posix_fallocate(file.fileno(), 0, size * kind.itemsize)
            # The mapping outlives the file's name.
            return torch.from_file(file.name, shared=True, size=size, dtype=kind).reshape(tuple(shape))
    except OSError as error:
        remedy = "make room there, name another folder in TMPDIR, or give a larger --max-ram"
        raise ImageError("SPILL_FAILED", folder, first_line(error), remedy) from error


def box_of(corner: Sequence[int], roi: Sequence[int]) -> tuple[slice, ...]:
    """The voxels of a window whose first one this is."""
    return tuple(slice(start, start + size) for start, size in zip(corner, roi, strict=True))
