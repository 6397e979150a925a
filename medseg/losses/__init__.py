"""Losses by name: logits and labels in, one number out."""

from __future__ import annotations

from medseg.losses.base import SegmentationLoss
from medseg.losses.distance import border_weight_map, signed_distance_map
from medseg.losses.loss_table import LOSSES, build_loss

__all__ = ["LOSSES", "SegmentationLoss", "border_weight_map", "build_loss", "signed_distance_map"]
