"""Overlapping windows over an image, blended slab by slab: MONAI's windows and weights in bounded memory.

The windows are run in the order of one axis. Once the last window that reaches a row of voxels is done,
the row is final: it is handed on and its memory is used again. What is held is one window's
thickness across the image, not the whole image for every class.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from monai.data.utils import compute_importance_map
from monai.inferers import Inferer, SliceInferer, SlidingWindowInferer
from monai.utils import BlendMode, convert_to_dst_type
from torch import Tensor

from medseg.errors import ImageError
from medseg.inference.slabs import OpenSlab, box_of, empty_sums
from medseg.inference.windows import Slab, Windowing, Windows

Network = Callable[..., Tensor]


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
        spill: Folder of a file that holds the sums in place of memory, gone when the image is done; None: memory.
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
        spill: Path | None = None,
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
        self.spill = spill

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

    def windowing(self, image: Sequence[int]) -> Windowing:
        """The batches that a network gets for images (channels, …) of that shape."""
        roi = self.windows(image[1:]).roi
        taken = tuple(n for axis, n in enumerate(roi) if axis != self.slice_axis)
        return Windowing(max(1, self.sw_batch_size), int(image[0]), taken)

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
        sums: OpenSlab | None = None
        for corner, output in self._outputs(image, windows, lambda batch: self._run(batch, network, *args, **kwargs)):
            sums = sums or OpenSlab(windows, weights, empty_sums(windows, output, self.storage, self.spill))
            yield from sums.closed_before(corner[windows.slab_axis])
            sums.add(corner, output)
            del output  # Before the next pass, which could take its memory.
        if sums:
            yield from sums.closed_before(windows.padded[windows.slab_axis])

    def _whole(self, image: Tensor, network: Network, *args: Any, **kwargs: Any) -> Tensor:
        slabs = self.slabs(image, network, *args, **kwargs)
        first = next(slabs)
        whole = first.logits.new_empty((first.logits.shape[0], *image.shape[1:]))
        for slab in itertools.chain([first], slabs):
            whole.narrow(slab.axis + 1, slab.start, slab.stop - slab.start).copy_(slab.logits)
        return whole

    def _outputs(self, image: Tensor, windows: Windows, run: Network) -> Iterator[tuple[tuple[int, ...], Tensor]]:
        """Each window's first voxel and logits (C, …), in slab order; those that all hold one value are run once."""
        alike = _alike(image, windows)
        of_alike: Tensor | None = None

        def taken(corners: Sequence[tuple[int, ...]]) -> Tensor:
            return run(torch.stack([image[(slice(None), *box_of(corner, windows.roi))] for corner in corners]))

        for corners in _batches(windows.in_slab_order(), max(1, self.sw_batch_size), alike):
            fresh = [corner for corner in corners if corner not in alike]
            if of_alike is None and len(fresh) < len(corners):
                # First, and copied, for what is run next may use the same memory.
                of_alike = taken([corner for corner in corners if corner in alike][:1])[0].clone()
            outputs = list(taken(fresh).unbind())[::-1] if fresh else []
            for corner in corners:
                yield corner, outputs.pop() if of_alike is None or corner not in alike else of_alike

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


def _alike(image: Tensor, windows: Windows) -> Collection[tuple[int, ...]]:
    """The windows (by their first voxels) that hold nothing but the image's first voxel, such as padding."""
    differs = (image != image[(slice(None), *[slice(1)] * (image.ndim - 1))]).any(0).cpu().numpy()
    alike = {corner for corner in windows.in_slab_order() if not differs[box_of(corner, windows.roi)].any()}
    return alike if len(alike) > 1 else ()


def _batches(
    corners: Iterator[tuple[int, ...]], size: int, alike: Collection[tuple[int, ...]]
) -> Iterator[list[tuple[int, ...]]]:
    """Windows in their order, each time as many as hold ``size`` that are not ``alike``."""
    batch: list[tuple[int, ...]] = []
    fresh = 0
    for corner in corners:
        batch.append(corner)
        fresh += corner not in alike
        if fresh == size:
            yield batch
            batch, fresh = [], 0
    if batch:
        yield batch
