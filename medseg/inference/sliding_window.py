"""Overlapping windows over an image, blended slab by slab: MONAI's windows and weights in bounded memory.

The windows are run in the order of one axis. Once the last window that reaches a row of voxels is done,
the row is final: it is handed on and its memory is used again. What is held is one window's
thickness across the image, not the whole image for every class.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.data import MetaTensor
from monai.data.utils import compute_importance_map
from monai.inferers import Inferer, SliceInferer, SlidingWindowInferer
from monai.utils import BlendMode, convert_to_dst_type
from torch import Tensor

from medseg.errors import ImageError
from medseg.inference.windows import Windows

Network = Callable[..., Tensor]


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
    logits: Tensor

    @property
    def stop(self) -> int:
        """One more than the last row's index."""
        return self.start + self.logits.shape[self.axis + 1]


class SlidingWindow(Inferer):
    """A drop-in for MONAI's ``SlidingWindowInferer``; its arguments and results, in bounded memory.

    Windows and weights are MONAI's own, so that the logits agree to rounding.

    Args:
        roi_size: Voxels of a window; 0 or less takes the image's size.
        sw_batch_size: Windows per forward pass.
        overlap: Share of a window that its neighbour covers again, for all axes or for each.
        mode: ``constant`` or ``gaussian`` weights.
        sigma_scale: Of the Gaussian, as a share of the window.
        padding_mode: Of images smaller than a window, as in ``torch.nn.functional.pad``.
        cval: Value of constant padding.
        slice_axis: The axis across which a 2D network takes slices of a volume; None: windows have the image's axes.
        storage: Type in which sums are kept; bfloat16 halves the memory and costs about 1 % of a logit.
    """

    def __init__(
        self,
        roi_size: Sequence[int] | int,
        sw_batch_size: int = 1,
        overlap: Sequence[float] | float = 0.25,
        mode: BlendMode | str = BlendMode.CONSTANT,
        sigma_scale: Sequence[float] | float = 0.125,
        padding_mode: str = "constant",
        cval: float = 0.0,
        slice_axis: int | None = None,
        storage: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.roi_size = roi_size
        self.sw_batch_size = sw_batch_size
        self.overlap = overlap
        self.mode = BlendMode(mode)
        self.sigma_scale = sigma_scale
        self.padding_mode = str(getattr(padding_mode, "value", padding_mode))
        self.cval = cval
        self.slice_axis = slice_axis
        self.storage = storage

    @classmethod
    def of(cls, inferer: SlidingWindowInferer) -> SlidingWindow:
        """The same windows as those of one of MONAI's inferers."""
        roi_size, slice_axis = inferer.roi_size, None
        if isinstance(inferer, SliceInferer):
            roi_size, slice_axis = inferer.orig_roi_size, inferer.spatial_dim
        blending = (inferer.overlap, inferer.mode, inferer.sigma_scale, inferer.padding_mode, inferer.cval)
        return cls(roi_size, inferer.sw_batch_size, *blending, slice_axis=slice_axis)

    def windows(self, image: Sequence[int]) -> Windows:
        """The windows of an image with these voxels along each spatial axis.

        Raises:
            ImageError: ``IMAGE_EMPTY``: an axis without voxels.
        """
        size = tuple(int(each) for each in image)
        if not all(size):
            raise ImageError("IMAGE_EMPTY", size, "an axis has no voxels", "see how the image was cropped")
        roi, overlap = _per_axis(self.roi_size, len(size), self.slice_axis, 1), self.overlap
        shares = _per_axis(overlap, len(size), None if isinstance(overlap, float | int) else self.slice_axis, 0.0)
        return Windows(size, tuple(int(r) if r and r > 0 else s for r, s in zip(roi, size, strict=True)), shares)

    def __call__(self, inputs: Tensor, network: Network, *args: Any, **kwargs: Any) -> Tensor:
        """All logits, (N, C, …), for images (N, channels, …).

        Raises:
            ImageError: As for ``slabs``.
        """
        results = [self._whole(image, network, *args, **kwargs) for image in inputs]
        stacked = torch.stack(results) if len(results) > 1 else results[0][None]
        return convert_to_dst_type(stacked, inputs)[0] if isinstance(inputs, MetaTensor) else stacked

    @torch.no_grad()
    def slabs(self, image: Tensor, network: Network, *args: Any, **kwargs: Any) -> Iterator[Slab]:
        """Logits of one image (channels, …), slab after slab along the axis that needs the least memory.

        Raises:
            ImageError: ``IMAGE_EMPTY``; ``OUTPUT_NOT_ONE_TENSOR`` or ``OUTPUT_RESIZED``: the network does not
                give one tensor of its input's size.
        """
        image = image.as_tensor() if isinstance(image, MetaTensor) else image
        windows = self.windows(image.shape[1:])
        image = self._padded(image, windows)
        weights = compute_importance_map(
            windows.roi, mode=self.mode, sigma_scale=self.sigma_scale, device=image.device, dtype=torch.float32
        )
        sums: _Sums | None = None
        for corners in _batches(windows.in_slab_order(), max(1, self.sw_batch_size)):
            batch = torch.stack([image[(slice(None), *_box(corner, windows.roi))] for corner in corners])
            outputs = self._run(batch, network, *args, **kwargs)
            sums = sums or _Sums(windows, outputs, weights, self.storage)
            for corner, output in zip(corners, outputs, strict=True):
                yield from sums.closed_before(corner[windows.slab_axis])
                sums.add(corner, output)
        if sums:
            yield from sums.closed_before(windows.padded[windows.slab_axis])

    def _whole(self, image: Tensor, network: Network, *args: Any, **kwargs: Any) -> Tensor:
        slabs = self.slabs(image, network, *args, **kwargs)
        first = next(slabs)
        whole = first.logits.new_empty((first.logits.shape[0], *image.shape[1:]))
        for slab in itertools.chain([first], slabs):
            whole.narrow(slab.axis + 1, slab.start, slab.stop - slab.start).copy_(slab.logits)
        return whole

    def _run(self, batch: Tensor, network: Network, *args: Any, **kwargs: Any) -> Tensor:
        axis = None if self.slice_axis is None else self.slice_axis + 2
        outputs = network(batch if axis is None else batch.squeeze(axis), *args, **kwargs)
        if not isinstance(outputs, Tensor):
            problem = f"the network gives a {type(outputs).__name__}"
            raise ImageError("OUTPUT_NOT_ONE_TENSOR", "network", problem, "export one output")
        outputs = outputs if axis is None else outputs.unsqueeze(axis)
        if outputs.shape[0] != batch.shape[0] or outputs.shape[2:] != batch.shape[2:]:
            problem = f"windows of {tuple(batch.shape[2:])} voxels give {tuple(outputs.shape[2:])}"
            raise ImageError("OUTPUT_RESIZED", "network", problem, "use a network that keeps its input's size")
        return outputs

    def _padded(self, image: Tensor, windows: Windows) -> Tensor:
        amounts = [amount for before_after in reversed(windows.padding) for amount in before_after]
        if not any(amounts):
            return image
        options = {"value": self.cval} if self.padding_mode == "constant" else {}
        return torch.nn.functional.pad(image[None], amounts, mode=self.padding_mode, **options)[0]


class _Sums:
    """Weighted sums of the open slab, and of the weights; rows leave at the front as they close."""

    def __init__(self, windows: Windows, outputs: Tensor, weights: Tensor, storage: torch.dtype | None) -> None:
        self.windows, self.weights = windows, weights
        self.axis = windows.slab_axis
        shape = [*windows.padded]
        shape[self.axis] = windows.roi[self.axis]
        kind = storage or torch.float32
        self.sums = torch.zeros((outputs.shape[1], *shape), dtype=kind, device=outputs.device)
        self.totals = torch.zeros((1, *shape), dtype=torch.float32, device=outputs.device)
        self.first = 0

    def add(self, corner: tuple[int, ...], output: Tensor) -> None:
        """Add a window's logits (C, …); ``corner`` lies in the open slab."""
        place = [*corner]
        place[self.axis] -= self.first
        box = (slice(None), *_box(place, self.windows.roi))
        if self.sums.dtype == torch.float32:
            self.sums[box].addcmul_(output.float(), self.weights)
        else:
            self.sums[box] += output.float() * self.weights
        self.totals[box] += self.weights

    def closed_before(self, row: int) -> Iterator[Slab]:
        """The rows before ``row`` of the padded image, clipped to the image; then room is made behind them."""
        count = row - self.first
        if count <= 0:
            return
        dim = self.axis + 1
        logits = self.sums.narrow(dim, 0, count)
        totals = self.totals.narrow(dim, 0, count)
        logits = logits.div_(totals) if logits.dtype == torch.float32 else logits.float().div_(totals)
        slab = self._clipped(logits)
        if slab:
            yield slab
        for rows in (self.sums, self.totals):
            _shift(rows, dim, count)
        self.first = row

    def _clipped(self, logits: Tensor) -> Slab | None:
        """Without the padding."""
        start = self.first
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


def _per_axis(values: Any, axes: int, slice_axis: int | None, across: Any) -> tuple[Any, ...]:
    """A value for every axis; of those given per axis of a slice, ``across`` is put in for the slice's own axis."""
    given = [values] * (axes - (slice_axis is not None)) if isinstance(values, float | int) else list(values)
    if slice_axis is not None and len(given) == axes - 1:
        given.insert(slice_axis, across)
    if len(given) != axes:
        raise ImageError(
            "IMAGE_DIMENSIONS", tuple(given), f"the image has {axes} axes", "give images with as many axes as windows"
        )
    return tuple(given)


def _box(corner: Sequence[int], roi: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(start, start + size) for start, size in zip(corner, roi, strict=True))


def _batches(corners: Iterator[tuple[int, ...]], size: int) -> Iterator[list[tuple[int, ...]]]:
    while batch := list(itertools.islice(corners, size)):
        yield batch
