"""Networks: one U-Net in four named forms, and MONAI's own networks by their names."""

from __future__ import annotations

from medseg.networks.network_table import (
    MONAI_NETWORKS,
    NETWORKS,
    PUBLISHED,
    UNET_OPTIONS,
    build_network,
    count_parameters,
)
from medseg.networks.unet import UNet, UNetSettings

__all__ = [
    "MONAI_NETWORKS",
    "NETWORKS",
    "PUBLISHED",
    "UNET_OPTIONS",
    "UNet",
    "UNetSettings",
    "build_network",
    "count_parameters",
]
