"""Losses by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from medseg.errors import check_known
from medseg.losses.base import SegmentationLoss, WeightedSum, check_range
from medseg.losses.distance import Boundary, border_weight_map, signed_distance_map
from medseg.losses.entropy import BinaryCrossEntropy, BinaryFocal, BorderWeightedCrossEntropy, CrossEntropy, Focal
from medseg.losses.overlap import Dice, Tversky, UnifiedFocal


def bce_dice(alpha: float = 0.5, include_background: bool = True, batch: bool = False) -> SegmentationLoss:
    """α·binary cross entropy + (1−α)·Dice; α from 0 to 1."""
    check_range("alpha", alpha, 0, 1)
    return WeightedSum((alpha, 1 - alpha), (BinaryCrossEntropy(), Dice(include_background, batch)))


def dice_ce(
    dice_weight: float = 1.0, ce_weight: float = 1.0, include_background: bool = True, batch: bool = False
) -> SegmentationLoss:
    """Dice + cross entropy, each with its weight; `include_background` concerns Dice only."""
    return WeightedSum((dice_weight, ce_weight), (Dice(include_background, batch), CrossEntropy()))


def dice_focal(
    dice_weight: float = 1.0,
    focal_weight: float = 1.0,
    gamma: float = 2.0,
    include_background: bool = True,
    batch: bool = False,
) -> SegmentationLoss:
    """Dice + categorical focal, each with its weight; `include_background` concerns Dice only."""
    return WeightedSum((dice_weight, focal_weight), (Dice(include_background, batch), Focal(gamma)))


def combo(alpha: float = 0.5, beta: float = 0.5, include_background: bool = True) -> SegmentationLoss:
    """α·weighted binary cross entropy + (1−α)·(1 − Dice) (Taghanaki et al. 2019).

    The cross entropy is −β·y·log p − (1−β)·(1−y)·log(1−p), so β > 0.5 punishes false
    negatives more. The article has −(1−α)·Dice, which differs by the constant 1−α.
    """
    check_range("alpha", alpha, 0, 1)
    # BinaryCrossEntropy weighs by 2β and 2(1−β), so that its even form is the plain one.
    return WeightedSum((alpha / 2, 1 - alpha), (BinaryCrossEntropy(beta), Dice(include_background)))


def dice_boundary(alpha: float = 0.01, include_background: bool = True) -> SegmentationLoss:
    """(1−α)·Dice + α·boundary; α from 0 to 1 (Kervadec et al. 2019 start at 0.01)."""
    check_range("alpha", alpha, 0, 1)
    return WeightedSum((1 - alpha, alpha), (Dice(include_background), Boundary()))


LOSSES: dict[str, Callable[..., SegmentationLoss]] = {
    "bce": BinaryCrossEntropy,
    "ce": CrossEntropy,
    "weighted-ce": BorderWeightedCrossEntropy,
    "binary-focal": BinaryFocal,
    "focal": Focal,
    "dice": Dice,
    "tversky": Tversky,
    "unified-focal": UnifiedFocal,
    "boundary": Boundary,
    "bce-dice": bce_dice,
    "dice-ce": dice_ce,
    "dice-focal": dice_focal,
    "dice-boundary": dice_boundary,
    "combo": combo,
}
"""Every loss by name; its options are the parameters of what stands beside the name."""


def build_loss(
    name: str, options_by_name: Mapping[str, Mapping[str, Any]] | None = None, **options: Any
) -> SegmentationLoss:
    """A loss by its name; call it with logits (B, C, …) and labels (B, 1, …).

    Args:
        name: A name in `LOSSES`.
        options_by_name: Options of several losses, of which those of ``name`` are taken, so
            that a bundle can offer another loss by name alone.
        **options: That loss's own parameters; they win.

    Raises:
        UsageError: NAME_UNKNOWN, SETTING_UNKNOWN or SETTING_INVALID.
    """
    check_known("NAME_UNKNOWN", [name, *(options_by_name or {})], LOSSES)
    options = {**(options_by_name or {}).get(name, {}), **options}
    check_known("SETTING_UNKNOWN", options, inspect.signature(LOSSES[name]).parameters)
    return LOSSES[name](**options)


__all__ = ["LOSSES", "SegmentationLoss", "border_weight_map", "build_loss", "signed_distance_map"]
