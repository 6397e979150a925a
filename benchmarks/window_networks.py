"""The networks that windows are run through, with weights drawn from one seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

SEED = 5
SIZE = (192, 192, 144)
BATCH = 2


@dataclass(frozen=True)
class Measured:
    """A network, how many classes it tells apart, and what it is run over.

    Args:
        classes: Of its logits.
        build: Makes it, untrained.
        size: Voxels of the volume.
        batch: Windows per forward pass of medseg and of the passes alone.
    """

    classes: int
    build: Callable[[int], nn.Module]
    size: tuple[int, int, int] = SIZE
    batch: int = BATCH


def build(name: str) -> nn.Module:
    """The network of that name in NETWORKS, for one channel, in evaluation mode."""
    import torch

    torch.manual_seed(SEED)
    measured = NETWORKS[name]
    network = measured.build(measured.classes).eval()
    return network.requires_grad_(False)


def _unet(classes: int) -> nn.Module:
    from monai.networks.nets import UNet

    return UNet(3, 1, classes, channels=(16, 32, 64, 128, 256), strides=(2, 2, 2, 2), num_res_units=2)


def _dynunet(classes: int) -> nn.Module:
    """As nnU-Net plans it for windows of 64 to 127 voxels: instance norm, leaky ReLU, 32 to 320 filters."""
    from monai.networks.nets import DynUNet

    filters = (32, 64, 128, 256, 320)
    return DynUNet(3, 1, classes, [3] * 5, [1, 2, 2, 2, 2], [2, 2, 2, 2], filters=filters)


def _res_unet(classes: int) -> nn.Module:
    from medseg.networks import build_network

    return build_network("res-unet", 3, 1, classes, unet_options={"filters": 16, "depth": 4})


def _bundle(classes: int) -> nn.Module:
    """The phantom bundle's own, trained."""
    from medseg.bundle.load import open_bundle

    return open_bundle("phantom_ct_segmentation").network


NETWORKS = {
    "unet": Measured(4, _unet),
    "dynunet": Measured(4, _dynunet),
    "res-unet-118": Measured(118, _res_unet, size=(192, 192, 256), batch=1),
    "bundle": Measured(7, _bundle),
}
