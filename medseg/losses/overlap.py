"""Losses that compare regions as wholes: Dice, Tversky and the unified focal loss."""

from __future__ import annotations

import torch
from monai.losses import DiceLoss, TverskyLoss
from torch import Tensor

from medseg.losses.base import SegmentationLoss, all_classes, check_range, log_probabilities, probabilities
from medseg.losses.entropy import focal_term


class Dice(SegmentationLoss):
    """1 − (2·Σ p·y + s) / (Σ p + Σ y + s), averaged over channels and images (Milletari et al. 2016).

    The sums run over the voxels of one image; a channel that is absent and not predicted
    gives 0. The work is MONAI's `DiceLoss`.

    Args:
        include_background: Whether channel 0 of several counts; one channel always counts.
        batch: Whether the sums run over all images of the batch at once.
        smooth: s > 0, which defines the empty case.
    """

    def __init__(self, include_background: bool = True, batch: bool = False, smooth: float = 1e-5) -> None:
        super().__init__()
        check_range("smooth", smooth, 1e-12)
        self.include_background = include_background
        self.overlap = DiceLoss(batch=batch, smooth_nr=smooth, smooth_dr=smooth)

    def measure(self, logits: Tensor, truth: Tensor) -> Tensor:
        """The soft Dice loss."""
        first = _first_channel(logits, self.include_background)
        return self.overlap(probabilities(logits)[:, first:], truth[:, first:])


class Tversky(SegmentationLoss):
    """1 − (TP + s) / (TP + α·FP + β·FN + s), averaged over channels and images (Salehi et al. 2017).

    α = β = 0.5 is Dice; β > α prefers too large a mask to a missed one. The work is MONAI's
    `TverskyLoss`.

    Args:
        alpha: Weight of false positives.
        beta: Weight of false negatives.
        include_background: Whether channel 0 of several counts; one channel always counts.
        batch: Whether the sums run over all images of the batch at once.
        smooth: s > 0, which defines the empty case.
    """

    def __init__(
        self,
        alpha: float = 0.3,
        beta: float = 0.7,
        include_background: bool = True,
        batch: bool = False,
        smooth: float = 1e-5,
    ) -> None:
        super().__init__()
        check_range("alpha", alpha, 0)
        check_range("beta", beta, 0)
        check_range("smooth", smooth, 1e-12)
        self.include_background = include_background
        self.overlap = TverskyLoss(alpha=alpha, beta=beta, batch=batch, smooth_nr=smooth, smooth_dr=smooth)

    def measure(self, logits: Tensor, truth: Tensor) -> Tensor:
        """The Tversky loss."""
        first = _first_channel(logits, self.include_background)
        return self.overlap(probabilities(logits)[:, first:], truth[:, first:])


class UnifiedFocal(SegmentationLoss):
    """λ·modified focal + (1−λ)·modified focal Tversky (Yeung et al. 2022), for any number of classes.

    Class 0 is the common class, all others are rare; one channel counts as two classes.

    - Focal: −Σ_c δ_c·(1−p_c)^γ·y_c·log p_c per voxel, δ_c = δ for a rare class and 1−δ for
      the common one.
    - Focal Tversky: (1−TI_c)^(1−γ) averaged over classes and images, with
      TI = TP / (TP + δ·FN + (1−δ)·FP).
    - Asymmetric: the focal factor (1−p)^γ applies to the common class only, the exponent
      1−γ to the rare ones only.

    The exponents are those of the authors' program; their text swaps γ and 1−γ in the
    symmetric form, which is the same at the γ = 0.5 that they recommend.

    Args:
        weight: λ, from 0 to 1.
        delta: δ, from 0 to 1.
        gamma: γ, from 0 up to, but not, 1.
        is_asymmetric: Which of the two forms.
    """

    def __init__(self, weight: float = 0.5, delta: float = 0.6, gamma: float = 0.5, is_asymmetric: bool = True) -> None:
        super().__init__()
        check_range("weight", weight, 0, 1)
        check_range("delta", delta, 0, 1)
        check_range("gamma", gamma, 0, 0.99)
        self.weight, self.delta, self.gamma, self.is_asymmetric = weight, delta, gamma, is_asymmetric

    def measure(self, logits: Tensor, truth: Tensor) -> Tensor:
        """The unified focal loss."""
        log_p, truth = log_probabilities(logits), all_classes(truth)
        return self.weight * self._focal(log_p, truth) + (1 - self.weight) * self._focal_tversky(log_p.exp(), truth)

    def _focal(self, log_p: Tensor, truth: Tensor) -> Tensor:
        gamma_rare = 0.0 if self.is_asymmetric else self.gamma
        common = (1 - self.delta) * truth[:, :1] * focal_term(log_p[:, :1], self.gamma)
        rare = self.delta * truth[:, 1:] * focal_term(log_p[:, 1:], gamma_rare)
        return torch.cat([common, rare], dim=1).sum(dim=1).mean()

    def _focal_tversky(self, p: Tensor, truth: Tensor) -> Tensor:
        tiny = torch.finfo(p.dtype).eps
        voxels = list(range(2, p.ndim))
        hits = (p * truth).sum(voxels)
        missed = ((1 - p) * truth).sum(voxels)
        extra = (p * (1 - truth)).sum(voxels)
        index = (hits + tiny) / (hits + self.delta * missed + (1 - self.delta) * extra + tiny)
        # The slope of x^(1-γ) has no bound at 0: a perfect overlap would give nan.
        loss = (1 - index).clamp_min(tiny)
        exponents = torch.full_like(loss, 1 - self.gamma)
        if self.is_asymmetric:
            exponents[:, 0] = 1.0
        return (loss**exponents).mean()


def _first_channel(logits: Tensor, include_background: bool) -> int:
    return 0 if include_background or logits.shape[1] == 1 else 1
