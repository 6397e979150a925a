"""MONAI's spatial resampling, quicker and in less memory where the axes of both grids are parallel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import monai.transforms
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Spacingd
from monai.transforms.inverse import TraceableTransform
from numpy.typing import NDArray
from torch import Tensor

from medseg.inference.inverse_transform import OFF_AXIS, linear_weights, of_axes
from medseg.inference.restore import Banded
from medseg.inference.torch_arrays import TorchArrays

SAME_GRID = 1e-3
"""MONAI's: entries of an affine closer than this are the same."""


class SpatialResample(monai.transforms.SpatialResample):
    """A drop-in for MONAI's transform of the same name, which bears it so that MONAI finds the way back.

    A linear interpolation along axes is a small matrix per axis. MONAI places every voxel by itself, which
    takes 56 bytes of memory for each; anything but linear interpolation along axes is left to it.
    """

    def __call__(
        self,
        img: Tensor,
        dst_affine: Any = None,
        spatial_size: Any = None,
        mode: str | int | None = None,
        padding_mode: str | None = None,
        align_corners: bool | None = None,
        dtype: Any = None,
        lazy: bool | None = None,
    ) -> Tensor:
        """As MONAI's; see there."""
        how = (self.mode if mode is None else mode, self.padding_mode if padding_mode is None else padding_mode)
        step = None
        if [str(getattr(each, "value", each)) for each in how] == ["bilinear", "border"] and not (lazy or self.lazy):
            step = _step_along_axes(img, dst_affine, spatial_size)
        if step is None:
            return super().__call__(img, dst_affine, spatial_size, mode, padding_mode, align_corners, dtype, lazy)
        align = self.align_corners if align_corners is None else align_corners
        noted = self._noted(img, step, spatial_size, align)
        stored = np.asarray(img.cpu())
        result = torch.empty((len(stored), *map(int, spatial_size)))
        for channel, into in zip(stored, result, strict=True):
            into.copy_(_resampled(torch.as_tensor(channel, dtype=torch.float32), step, into.shape))
        return MetaTensor(result.to(img.device)).copy_meta_from(noted)

    def _noted(self, img: Any, step: NDArray[np.float64], size: Sequence[int], align_corners: bool) -> Any:
        """The image's metadata on the new grid, with the step recorded as MONAI records it."""
        extra = {
            "dtype": "float64",
            "mode": "bilinear",
            "padding_mode": "border",
            "align_corners": align_corners,
            "src_affine": torch.as_tensor(of_axes(np.asarray(img.affine, dtype=float), img.ndim - 1)),
        }
        return TraceableTransform.track_transform_meta(
            img,
            sp_size=torch.tensor([int(n) for n in size]),
            affine=torch.as_tensor(step),
            extra_info=extra,
            orig_size=tuple(img.shape[1:]),
            transform_info=self.get_transform_info(),
            lazy=False,
        )


def quicken(preprocessing: Compose) -> None:
    """Let ``Spacingd`` of a bundle resample along axes where it can."""
    for step in preprocessing.transforms:
        if isinstance(step, Spacingd):
            slow = step.spacing_transform.sp_resample
            quick = SpatialResample(slow.mode, slow.padding_mode, slow.align_corners, slow.dtype, slow.lazy)
            step.spacing_transform.sp_resample = quick


def _resampled(channel: Tensor, step: NDArray[np.float64], size: Sequence[int]) -> Tensor:
    """One channel on the new grid, the axis that shrinks most first."""
    shares = [new / old for new, old in zip(size, channel.shape, strict=True)]
    for axis in np.argsort(shares, kind="stable").tolist():
        places = step[axis, axis] * np.arange(size[axis]) + step[axis, -1]
        matrix = Banded(linear_weights(places, channel.shape[axis]))
        channel = matrix.apply(TorchArrays(), channel, axis, range(size[axis]), 0)
    return channel


def _step_along_axes(img: Tensor, affine: Any, size: Any) -> NDArray[np.float64] | None:
    """From a voxel of the new grid to one of the image, where their axes are parallel.

    Returns:
        None where they are not, where nothing changes, or where either grid is not stated.
    """
    axes = img.ndim - 1
    if not isinstance(img, MetaTensor) or affine is None or axes not in (2, 3) or np.size(size) != axes:
        return None
    step = np.linalg.solve(
        of_axes(np.asarray(img.affine, dtype=float), axes), of_axes(np.asarray(affine, dtype=float), axes)
    ).astype(np.float64)
    linear = step[:-1, :-1]
    is_same = [int(n) for n in size] == list(img.shape[1:]) and np.allclose(step, np.eye(axes + 1), atol=SAME_GRID)
    return None if is_same or np.abs(linear - np.diag(np.diag(linear))).max() > OFF_AXIS else step
