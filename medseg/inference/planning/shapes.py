"""The sizes of a case: on its own grid, and on the network's, known before its voxels are read."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import CropForegroundd, LazyTransform, Spacingd

from medseg.bundle.load import Bundle
from medseg.data.deshear import is_sheared
from medseg.data.volume import Extent
from medseg.geometry import spacing_mm
from medseg.inference.planning.budget import FLOAT_BYTES


@dataclass(frozen=True)
class Shapes:
    """The sizes of a case.

    Args:
        channels: That the network takes.
        image: Voxels along the axes of the scan's own grid.
        network: Voxels along the axes of the network's grid.
        spacing_mm: Of the scan.
        stored_bytes: Of one voxel in its file.
        is_resampled: Whether preprocessing interpolates.
        is_along_axes: Whether it does so along the axes, and not for every voxel by itself.
    """

    channels: int
    image: tuple[int, ...]
    network: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    stored_bytes: int = FLOAT_BYTES
    is_resampled: bool = False
    is_along_axes: bool = True

    @property
    def network_voxels(self) -> int:
        """Of the image as the network takes it, one channel."""
        return math.prod(self.network)


def shapes_of(image: MetaTensor) -> Shapes:
    """Of an image as preprocessing left it, (channels, …)."""
    shape = tuple(int(n) for n in image.meta["spatial_shape"])
    steps = {str(operation["class"]) for operation in image.applied_operations}
    return Shapes(
        channels=int(image.shape[0]),
        image=shape,
        network=tuple(int(n) for n in image.shape[1:]),
        spacing_mm=spacing_mm(np.asarray(image.meta["original_affine"], dtype=float))[: len(shape)],
        is_resampled="SpatialResample" in steps,
    )


def expected_shapes(extent: Extent, bundle: Bundle) -> Shapes:
    """Of an image that was not read, as far as its header and the bundle's preprocessing tell.

    Steps that go by the voxels, such as cropping to what is not empty, are passed over: the network's grid is then at
    most as large as said here.
    """
    steps = bundle.preprocessing.transforms
    return Shapes(
        channels=len(bundle.channels),
        image=extent.shape,
        network=_after(extent, steps),
        spacing_mm=extent.spacing_mm,
        stored_bytes=extent.stored_bytes,
        is_resampled=any(isinstance(step, Spacingd) for step in steps),
        is_along_axes=not is_sheared(extent.affine) and not any(map(_turns, steps)),
    )


def _turns(step: object) -> bool:
    """Whether a step resamples onto the axes of the world."""
    return isinstance(step, Spacingd) and bool(step.spacing_transform.diagonal)


def _after(extent: Extent, steps: Iterable[object]) -> tuple[int, ...]:
    """MONAI's own sizes: each step is asked lazily, with an image whose voxels all share one place in memory."""
    axes = len(extent.shape)
    affine = extent.affine if axes == 3 else extent.affine[np.ix_([0, 1, 3], [0, 1, 3])]
    image = MetaTensor(torch.zeros([1] * (axes + 1)).expand(1, *extent.shape), affine=torch.as_tensor(affine))
    data = {"image": image}
    for step in steps:
        if isinstance(step, LazyTransform) and not isinstance(step, CropForegroundd):
            lazily: Any = step
            data = lazily(data, lazy=True)
    return tuple(int(n) for n in data["image"].peek_pending_shape())
