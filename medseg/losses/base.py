"""What every loss does with its logits and labels before it measures anything."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.errors import UsageError


class SegmentationLoss(nn.Module):
    """A loss that takes logits and labels, checks them, and gives one mean value.

    One channel of logits is a foreground (sigmoid); several are classes that exclude each
    other, the background first (softmax). The sums run in float32 at least, under autocast too.
    """

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            logits: (B, C, …), before any activation.
            target: Labels (B, 1, …) of 0 … C-1 (0 and 1 where C = 1), or one-hot (B, C, …).

        Returns:
            A scalar.

        Raises:
            UsageError: LOSS_SHAPE, the shapes do not belong together; LOSS_LABEL, the
                target holds something else than the classes.
        """
        logits = logits.as_subclass(Tensor)  # MONAI's metadata would slow down every operation.
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        truth = one_hot_truth(logits, target.as_subclass(Tensor))
        with torch.autocast(logits.device.type, enabled=False):
            return self.measure(logits, truth)

    def measure(self, logits: Tensor, truth: Tensor) -> Tensor:
        """The loss of logits against a truth of the same shape and type."""
        raise NotImplementedError


class WeightedSum(SegmentationLoss):
    """Σ weight · loss, over losses of the same logits and labels."""

    def __init__(self, weights: Sequence[float], losses: Sequence[SegmentationLoss]) -> None:
        super().__init__()
        for weight in weights:
            check_range("weight", weight, 0)
        self.weights = tuple(weights)
        self.losses = tuple(losses)  # None of them has weights to register.

    def measure(self, logits: Tensor, truth: Tensor) -> Tensor:
        """The weighted sum."""
        terms = [weight * loss.measure(logits, truth) for weight, loss in zip(self.weights, self.losses, strict=True)]
        return torch.stack(terms).sum()


def one_hot_truth(logits: Tensor, target: Tensor) -> Tensor:
    """The target as one channel per class, in the logits' shape and type.

    Raises:
        UsageError: LOSS_SHAPE or LOSS_LABEL.
    """
    classes = logits.shape[1] if logits.ndim > 2 else 0
    is_label = logits.ndim == target.ndim > 2 and target.shape == (logits.shape[0], 1, *logits.shape[2:])
    if not (classes and logits.numel() and (is_label or target.shape == logits.shape)):
        found = f"logits {tuple(logits.shape)}, target {tuple(target.shape)}"
        raise UsageError("LOSS_SHAPE", "target", found)
    if not is_label:
        return _checked_one_hot(target.to(logits.dtype))
    labels = target.long()
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > max(classes - 1, 1) or bool((labels != target).any()):
        expected = f"whole numbers from 0 to {max(classes - 1, 1)}"
        raise UsageError("LOSS_LABEL", "target", f"holds labels from {low} to {high}", f"give {expected}")
    if classes == 1:
        return target.to(logits.dtype)
    return torch.zeros_like(logits).scatter_(1, labels, 1.0)


def _checked_one_hot(truth: Tensor) -> Tensor:
    if bool((truth < 0).any() | ((truth.sum(dim=1) - 1).abs() > 1e-3).any()):
        raise UsageError(
            "LOSS_LABEL", "target", "the channels do not add up to 1 at each voxel", "give exactly one class per voxel"
        )
    return truth


def probabilities(logits: Tensor) -> Tensor:
    """Sigmoid of one channel, softmax over several."""
    return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)


def log_probabilities(logits: Tensor) -> Tensor:
    """Logarithms of the probabilities of all classes, (B, max(C, 2), …): one channel becomes two."""
    if logits.shape[1] > 1:
        return logits.log_softmax(dim=1)
    return torch.cat([functional.logsigmoid(-logits), functional.logsigmoid(logits)], dim=1)


def all_classes(truth: Tensor) -> Tensor:
    """The truth with a channel for the background, (B, max(C, 2), …)."""
    return truth if truth.shape[1] > 1 else torch.cat([1 - truth, truth], dim=1)


def check_range(name: str, value: float, low: float, high: float = float("inf")) -> None:
    """Refuse an option that is not a number from `low` to `high`.

    Raises:
        UsageError: SETTING_INVALID.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        remedy = f"give a number of {low} or more" if high == float("inf") else f"give a number from {low} to {high}"
        raise UsageError("SETTING_INVALID", name, f"is {value!r}", remedy)
