"""MONAI's sliding windows as a bundle's inferer, in bounded memory: a drop-in over ``medseg.inference.windows``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, SliceInferer, SlidingWindowInferer
from monai.utils import BlendMode, convert_to_dst_type
from torch import Tensor

import medseg.inference.torch_arrays  # noqa: F401 - tensors are known to the loop from here on
from medseg.errors import ImageError
from medseg.inference.slabs import Slab
from medseg.inference.windows import Windowing, WindowPlan, Windows, blend, join, lay_windows

Network = Callable[..., Tensor]


class SlidingWindow(Inferer):
    """A drop-in for MONAI's ``SlidingWindowInferer``; its arguments and results, in bounded memory.

    Windows and weights are MONAI's own, so that the logits agree to rounding.

    Args:
        roi_size: Voxels of a window; 0 or less takes the image's size.
        sw_batch_size: Windows per forward pass.
        overlap: Share of a window that its neighbour covers again, for all axes or for each.
        mode: ``constant`` or ``gaussian`` weights.
        sigma_scale: The Gaussian's standard deviation, as a share of the window.
        padding_mode: How images smaller than a window are padded, as in ``torch.nn.functional.pad``.
        cval: Value of constant padding.
        slice_axis: The axis across which a 2D network takes slices of a volume; None: windows have the image's axes.
        storage: Type in which sums are kept; bfloat16 halves the memory and costs about 1 % of a logit; None: float32.
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

    def plan(self, image: Sequence[int]) -> WindowPlan:
        """The windows for an image with these voxels along each spatial axis."""
        size = tuple(int(each) for each in image)
        roi, overlap = _per_axis(self.roi_size, len(size), self.slice_axis, 1), self.overlap
        # A share for all axes holds across slices as well; those given for each axis of a slice do not.
        across = None if isinstance(overlap, float | int) else self.slice_axis
        return WindowPlan(
            roi=tuple(int(r) if r and r > 0 else s for r, s in zip(roi, size, strict=True)),
            overlap=_per_axis(overlap, len(size), across, 0.0),
            batch=max(1, self.sw_batch_size),
            mode=str(self.mode.value),
            sigma_scale=_per_axis(self.sigma_scale, len(size), self.slice_axis, 1.0),
            padding_mode=self.padding_mode,
            cval=self.cval,
            slice_axis=self.slice_axis,
        )

    def windows(self, image: Sequence[int]) -> Windows:
        """The windows of an image with these voxels along each spatial axis.

        Raises:
            ImageError: ``IMAGE_EMPTY``: an axis without voxels.
        """
        return lay_windows(image, self.plan(image))

    def windowing(self, image: Sequence[int]) -> Windowing:
        """The batches that a network gets for images (channels, …) of that shape."""
        plan = self.plan(image[1:])
        return Windowing(plan.batch, int(image[0]), plan.network_roi)

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
            ImageError: As ``medseg.inference.windows.blend``.
        """
        image = image.as_tensor() if isinstance(image, MetaTensor) else image
        run = (lambda batch: network(batch, *args, **kwargs)) if args or kwargs else network
        storage = "bfloat16" if self.storage == torch.bfloat16 else "float32"
        yield from blend(image, run, self.plan(image.shape[1:]), storage, self.spill)

    def _whole(self, image: Tensor, network: Network, *args: Any, **kwargs: Any) -> Tensor:
        return join(self.slabs(image, network, *args, **kwargs), image.shape[1:])


def _per_axis(values: Any, axes: int, slice_axis: int | None, across: Any) -> tuple[Any, ...]:
    """A value for every axis; of those given per axis of a slice, ``across`` is put in for the slice's own axis."""
    given = [values] * (axes - (slice_axis is not None)) if isinstance(values, float | int) else list(values)
    if slice_axis is not None and len(given) == axes - 1:
        given.insert(slice_axis, across)
    if len(given) != axes:
        raise ImageError("IMAGE_DIMENSIONS", tuple(given), f"the image has {axes} axes")
    return tuple(given)
