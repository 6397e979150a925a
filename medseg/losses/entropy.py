"""Losses that compare voxel by voxel: cross entropies and their focal forms."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from medseg.errors import UsageError
from medseg.losses.base import SegmentationLoss, all_classes, check_range, log_probabilities
from medseg.losses.distance import border_weight_map


class BinaryCrossEntropy(SegmentationLoss):
    """−y·log p − (1−y)·log(1−p), averaged over voxels and channels.

    On several channels, each is a yes-or-no question of its own: p is the sigmoid of that
    channel, not the softmax over all.

    Args:
        positive_weight: β from 0 to 1 weighs the first term by 2β and the second by
            2(1−β); 0.5 weighs both by 1.
    """

    def __init__(self, positive_weight: float = 0.5) -> None:
        super().__init__()
        check_range("positive_weight", positive_weight, 0, 1)
        self.positive_weight = positive_weight

    def measure(self, logits: Tensor, truth: Tensor) -> Tensor:
        """The binary cross entropy."""
        positive = truth * functional.logsigmoid(logits)
        negative = (1 - truth) * functional.logsigmoid(-logits)
        return -2 * (self.positive_weight * positive + (1 - self.positive_weight) * negative).mean()


class CrossEntropy(SegmentationLoss):
    """−Σ y_i·log p_i over the classes, averaged over voxels.

    On one channel the classes are background and foreground, so that it equals the binary
    cross entropy.
    """

    def measure(self, logits: Tensor, truth: Tensor) -> Tensor:
        """The categorical cross entropy."""
        return _cross_entropy_map(logits, truth).mean()


class BinaryFocal(SegmentationLoss):
    """−(1−p_t)^γ·log p_t, averaged over voxels and channels (Lin et al. 2017, equation 4).

    p_t is the probability of what is true: p where y = 1, else 1−p. On several channels
    each is a question of its own, as in `BinaryCrossEntropy`, to which γ = 0 leads.

    Args:
        gamma: γ ≥ 0, how much less the easy voxels count.
    """

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        check_range("gamma", gamma, 0)
        self.gamma = gamma

    def measure(self, logits: Tensor, truth: Tensor) -> Tensor:
        """The binary focal loss."""
        positive = truth * focal_term(functional.logsigmoid(logits), self.gamma)
        negative = (1 - truth) * focal_term(functional.logsigmoid(-logits), self.gamma)
        return (positive + negative).mean()


class Focal(SegmentationLoss):
    """−Σ α_i·(1−p_i)^γ·y_i·log p_i over the classes, averaged over voxels (Lin et al. 2017).

    One channel counts as background and foreground. γ = 0 and α = 1 lead to `CrossEntropy`;
    α = 0.25 and γ = 2 are Keras's `CategoricalFocalCrossentropy`.

    Args:
        gamma: γ ≥ 0, how much less the easy voxels count.
        alpha: α of every class, or one number per class (two for one channel).
    """

    def __init__(self, gamma: float = 2.0, alpha: float | Sequence[float] = 1.0) -> None:
        super().__init__()
        check_range("gamma", gamma, 0)
        self.alphas = tuple(alpha) if isinstance(alpha, Sequence) else (alpha,)
        for value in self.alphas:
            check_range("alpha", value, 0)
        self.gamma = gamma

    def measure(self, logits: Tensor, truth: Tensor) -> Tensor:
        """The categorical focal loss."""
        focal = all_classes(truth) * focal_term(log_probabilities(logits), self.gamma)
        classes = focal.shape[1]
        if len(self.alphas) not in (1, classes):
            given = f"has {len(self.alphas)} numbers for {classes} classes"
            raise UsageError("SETTING_INVALID", "alpha", given, "give one number, or one per class")
        alphas = focal.new_tensor(self.alphas).view(1, -1, *(1,) * (focal.ndim - 2))
        return (alphas * focal).sum(dim=1).mean()


class BorderWeightedCrossEntropy(SegmentationLoss):
    """Σ w(x)·cross entropy(x) over the voxels, divided by their number (Ronneberger et al. 2015).

    w is `border_weight_map` of each image's labels, made anew for each batch; it balances
    the classes and weighs the gaps between near objects.

    Args:
        w0: Height of the border term.
        sigma: Width of the border term in voxels.
    """

    def __init__(self, w0: float = 10.0, sigma: float = 5.0) -> None:
        super().__init__()
        check_range("w0", w0, 0)
        check_range("sigma", sigma, 1e-3)
        self.w0 = w0
        self.sigma = sigma

    def measure(self, logits: Tensor, truth: Tensor) -> Tensor:
        """The weighted cross entropy."""
        labels = all_classes(truth).argmax(dim=1).cpu().numpy()
        maps = [torch.from_numpy(border_weight_map(label, self.w0, self.sigma)) for label in labels]
        weights = torch.stack(maps).to(logits)
        return (weights * _cross_entropy_map(logits, truth)).mean()


def focal_term(log_p: Tensor, gamma: float) -> Tensor:
    """−(1−p)^γ·log p, from log p; its gradient is finite for any γ ≥ 0 and any p."""
    tiny = torch.finfo(log_p.dtype).eps
    return -((-torch.expm1(log_p)).clamp_min(tiny) ** gamma) * log_p


def _cross_entropy_map(logits: Tensor, truth: Tensor) -> Tensor:
    return -(all_classes(truth) * log_probabilities(logits)).sum(dim=1)
