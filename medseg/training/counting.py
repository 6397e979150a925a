"""Scores of training batches, from counts of voxels instead of one-hot copies of every batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

import torch
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced, sync_all_reduce
from torch import Tensor

from medseg.errors import check_known
from medseg.training.handlers import VoxelAccuracy

COUNTS = "counts"

OVERLAPS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "dice": lambda shared, true, predicted: 2 * shared / (true + predicted),
    "iou": lambda shared, true, predicted: shared / (true + predicted - shared),
}
"""Measures of overlap, from the voxels that two masks share and those of each."""


class CountVoxels:
    """Counts the voxels of a batch by true and predicted class; stands where a trainer has its postprocessing.

    The trainer must not decollate. ``counts`` (B, C, C) is added, true classes down and predicted ones across, on the
    CPU, and the logits under ``pred`` give way to classes (B, 1, …).

    Args:
        num_classes: C, the background included.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """The trainer's data with counts; ``pred`` (B, C or 1, …) are logits, ``label`` (B, 1, …) classes."""
        # Without graphs, as where a trainer decollates: what is left of this step would else last to the next.
        kept = {key: value.detach() if isinstance(value, Tensor) else value for key, value in data.items()}
        predicted = classes_of(kept["pred"].as_subclass(Tensor))
        counts = count_voxels(kept["label"].as_subclass(Tensor), predicted, self.num_classes)
        return {**kept, "pred": predicted, COUNTS: counts.cpu()}


def classes_of(logits: Tensor) -> Tensor:
    """The likeliest class of each voxel, the first of equals; of one channel, whether its probability is 0.5 or more.

    Args:
        logits: (B, C, …).

    Returns:
        (B, 1, …).
    """
    if logits.shape[1] == 1:
        return (logits >= 0).to(torch.uint8)
    # As argmax, but on a CPU six times as fast where the channels are not the last axis.
    return logits.max(dim=1, keepdim=True).indices


def count_voxels(true: Tensor, predicted: Tensor, num_classes: int) -> Tensor:
    """Voxels of each image by true and predicted class: (B, C, C).

    Args:
        true: (B, 1, …), whole numbers below ``num_classes``.
        predicted: The same.
        num_classes: C.
    """
    both = true.flatten(1).to(torch.int32, copy=True).mul_(num_classes).add_(predicted.flatten(1))
    counts = [torch.bincount(image, minlength=num_classes**2) for image in both]
    return torch.stack(counts).view(-1, num_classes, num_classes)


class MeanOverlap(Metric):
    """Mean over images of the mean over the foreground classes that an image's label holds.

    As MONAI's `MeanDice` and `MeanIoUHandler` without background: a class that the label lacks is left out, also
    where it is predicted, and so is an image without foreground; without any image it is 0.

    Args:
        measure: A name in OVERLAPS.
        output_transform: Function from the engine's output to counts (B, C, C), as ``CountVoxels`` makes them.

    Raises:
        UsageError: SETTING_INVALID.
    """

    def __init__(self, measure: str, output_transform: Callable[[Any], Any] = itemgetter(COUNTS)) -> None:
        check_known("SETTING_INVALID", [measure], OVERLAPS)
        self.measure = OVERLAPS[measure]
        super().__init__(output_transform=output_transform)

    @reinit__is_reduced
    def reset(self) -> None:
        """Forget what was counted."""
        self._sum = torch.zeros((), dtype=torch.float64)
        self._images = torch.zeros((), dtype=torch.float64)

    @reinit__is_reduced
    def update(self, counts: Tensor) -> None:
        """Take a batch into account."""
        counts = counts.double()
        shared, true, predicted = (
            each[:, 1:] for each in (counts.diagonal(dim1=1, dim2=2), counts.sum(dim=2), counts.sum(dim=1))
        )
        overlaps = torch.where(true > 0, self.measure(shared, true, predicted), torch.nan)
        means = overlaps.nanmean(dim=1)
        self._sum += means.nansum()
        self._images += (~means.isnan()).sum()

    @sync_all_reduce("_sum", "_images")
    def compute(self) -> float:
        """The mean over all images of all ranks."""
        return float(self._sum / self._images) if self._images else 0.0


class CountedAccuracy(VoxelAccuracy):
    """Share of voxels whose class is right, over all voxels of all images and ranks; nan without a voxel.

    Args:
        output_transform: Function from the engine's output to counts (B, C, C), as ``CountVoxels`` makes them.
    """

    def __init__(self, output_transform: Callable[[Any], Any] = itemgetter(COUNTS)) -> None:
        super().__init__(output_transform=output_transform)

    @reinit__is_reduced
    def update(self, counts: Tensor) -> None:
        """Take a batch into account."""
        self._right += counts.diagonal(dim1=1, dim2=2).sum()
        self._voxels += counts.sum()
