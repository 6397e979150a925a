"""Overlapping windows over an image, blended slab by slab, in NumPy.

The same windows and weights as in ``medseg.inference.sliding_window``, whose module explains the slabs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ImageError
from medseg.inference.exported.sums import OpenSlab, box_of, empty_sums
from medseg.inference.steps.description import WindowPlan
from medseg.inference.windows import Slab, Windows

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""A network: windows (N, channels, …) in, logits (N, C, …) out."""

LEAST_WEIGHT = 1e-3
"""MONAI's, where the Gaussian falls below it."""

PADDING = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
"""NumPy's names of PyTorch's ways of padding."""


def blended(
    image: NDArray[np.float32], run: Run, plan: WindowPlan, overlap: float | None = None, spill: Path | None = None
) -> Iterator[Slab]:
    """Logits of one image (channels, …), slab after slab along the axis that needs the least memory.

    Args:
        image: (channels, X, Y[, Z]).
        run: The network.
        plan: The windows.
        overlap: In place of the plan's, along all axes.
        spill: Folder of a file that holds the sums in place of memory; None: memory.

    Raises:
        ImageError: ``IMAGE_EMPTY``; ``OUTPUT_RESIZED``; ``SPILL_FAILED``.
    """
    windows = windows_of(image.shape[1:], plan, overlap)
    image = _padded(image, windows, plan)
    weights = importance(plan)
    corners = windows.in_slab_order()
    sums: OpenSlab | None = None
    while batch := list(itertools.islice(corners, plan.batch)):
        outputs = _run(np.stack([image[(slice(None), *box_of(corner, plan.roi))] for corner in batch]), run, plan)
        sums = sums or OpenSlab(windows, weights, empty_sums(windows, outputs.shape[1], spill))
        for corner, output in zip(batch, outputs, strict=True):
            yield from sums.closed_before(corner[windows.slab_axis])
            sums.add(corner, output)
        del outputs, output  # Else they take room beside those of the next batch.
    if sums:
        yield from sums.closed_before(windows.padded[windows.slab_axis])


def windows_of(size: Sequence[int], plan: WindowPlan, overlap: float | None = None) -> Windows:
    """The windows of an image with these voxels along each spatial axis.

    Raises:
        ImageError: ``IMAGE_EMPTY``: an axis without voxels.
    """
    voxels = tuple(int(each) for each in size)
    if not all(voxels):
        raise ImageError("IMAGE_EMPTY", voxels, "an axis has no voxels", "see how the image was cropped")
    return Windows(voxels, plan.roi, plan.overlap if overlap is None else (overlap,) * len(voxels))


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


def _padded(image: NDArray[np.float32], windows: Windows, plan: WindowPlan) -> NDArray[np.float32]:
    if windows.padded == windows.image:
        return image
    options = {"constant_values": plan.cval} if plan.padding_mode == "constant" else {}
    return np.pad(image, [(0, 0), *windows.padding], mode=PADDING[plan.padding_mode], **options)  # type: ignore[call-overload]


def _run(batch: NDArray[np.float32], run: Run, plan: WindowPlan) -> NDArray[np.float32]:
    axis = None if plan.slice_axis is None else plan.slice_axis + 2
    outputs = run(batch if axis is None else batch.squeeze(axis))
    outputs = outputs if axis is None else np.expand_dims(outputs, axis)
    if outputs.shape[0] != batch.shape[0] or outputs.shape[2:] != batch.shape[2:]:
        problem = f"windows of {batch.shape[2:]} voxels give {outputs.shape[2:]}"
        raise ImageError("OUTPUT_RESIZED", "network", problem, "export the bundle again")
    return outputs
