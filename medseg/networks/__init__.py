"""Networks by name: the four forms of the U-Net, and MONAI's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch import nn

from medseg.errors import UsageError, check_known
from medseg.networks.unet import UNet, UNetSettings, check_shape, option_error

NETWORKS: dict[str, dict[str, bool]] = {
    "unet": {"residual": False, "attention": False},
    "res-unet": {"residual": True, "attention": False},
    "attention-unet": {"residual": False, "attention": True},
    "attention-res-unet": {"residual": True, "attention": True},
}
"""The forms of our U-Net (`UNetSettings`) by name."""

UNET_OPTIONS = tuple(field.name for field in fields(UNetSettings) if field.name not in ("residual", "attention"))
"""What may be chosen about a network in `NETWORKS`; its name decides the rest."""

_CHANNELS = (32, 64, 128, 256, 512)

MONAI_NETWORKS: dict[str, Callable[[int], dict[str, Any]]] = {
    "AttentionUnet": lambda dims: {"channels": _CHANNELS, "strides": (2, 2, 2, 2)},
    "BasicUNet": lambda dims: {},
    "DynUNet": lambda dims: {
        "kernel_size": (3,) * 5,
        "strides": (1, 2, 2, 2, 2),
        "upsample_kernel_size": (2,) * 4,
        "deep_supervision": False,
    },
    "FlexibleUNet": lambda dims: {"backbone": "efficientnet-b0", "pretrained": False},
    "HighResNet": lambda dims: {},
    "MedNeXt": lambda dims: {},
    "SegResNet": lambda dims: {"init_filters": 32},
    "SegResNetDS": lambda dims: {},
    "SwinUNETR": lambda dims: {"feature_size": 24},
    "UNet": lambda dims: {"channels": _CHANNELS, "strides": (2, 2, 2, 2), "num_res_units": 2, "norm": "BATCH"},
    "UNETR": lambda dims: {"img_size": (96,) * dims},
    "VNet": lambda dims: {"dropout_dim": dims},
}
"""MONAI's networks by their own names: what each gets beyond dimensions and channels."""

_ONE_OUTPUT = {"deep_supervision": False, "dsdepth": 1}


@dataclass(frozen=True)
class PublishedNetwork:
    """A network exactly as a study built it.

    Args:
        name: A name in `NETWORKS`.
        channels: Channels of the image and of the output.
        options: Those of `UNET_OPTIONS` that differ from medseg's defaults.
        parameters: Published total, as `count_parameters` counts.
    """

    name: str
    channels: tuple[int, int]
    options: Mapping[str, Any]
    parameters: int

    def build(self, spatial_dims: int = 2) -> nn.Module:
        """The network, with fresh weights."""
        return build_network(self.name, spatial_dims, *self.channels, **self.options)


_VARIANTS = {"filters": 64, "upsampling": "nearest", "head_norm": True}

PUBLISHED: dict[str, PublishedNetwork] = {
    "unet_variants/unet/rgb": PublishedNetwork("unet", (3, 1), _VARIANTS, 31_402_501),
    "unet_variants/unet/heart": PublishedNetwork("unet", (1, 4), _VARIANTS, 31_401_556),
    "unet_variants/res-unet/heart": PublishedNetwork("res-unet", (1, 4), _VARIANTS, 33_157_140),
    "unet_variants/attention-res-unet/heart": PublishedNetwork("attention-res-unet", (1, 4), _VARIANTS, 39_089_304),
    "isbi_and_lung/unet/64": PublishedNetwork("unet", (1, 1), {"filters": 64}, 31_054_145),
    "isbi_and_lung/unet/16": PublishedNetwork("unet", (1, 1), {"filters": 16, "norm": "none"}, 1_940_817),
}
"""The studies' networks, with the sizes that they state."""


def build_network(
    name: str,
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    unet_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> nn.Module:
    """A network by its name, with fresh weights; it gives one tensor of logits.

    Options come in two ways, so that a bundle can offer another network by name alone:
    `unet_options` belong to the four forms of our U-Net, and a MONAI network leaves them
    aside for its row in `MONAI_NETWORKS`; `options` belong to whichever network is named,
    win over all else, and must be known to it. MONAI's networks have conditions of their
    own on the size of an image (most: a multiple of 16 or 32).

    Args:
        name: One of `NETWORKS` or `MONAI_NETWORKS`.
        spatial_dims: 2 or 3.
        in_channels: Channels of the image.
        out_channels: Classes; 1 for a single foreground.
        unet_options: Some of `UNET_OPTIONS` (see `UNetSettings`), for `NETWORKS` only.
        **options: The same, or arguments of the MONAI class.

    Raises:
        UsageError: NAME_UNKNOWN, SETTING_UNKNOWN, SETTING_INVALID, or
            PACKAGE_MISSING, the MONAI network needs a package that is not installed.
    """
    check_shape(spatial_dims, in_channels, out_channels)
    check_known("NAME_UNKNOWN", [name], [*NETWORKS, *MONAI_NETWORKS])
    check_known("SETTING_UNKNOWN", unet_options or {}, UNET_OPTIONS)
    if name in MONAI_NETWORKS:
        shape = {"spatial_dims": spatial_dims, "in_channels": in_channels, "out_channels": out_channels}
        return _build_monai(name, shape, options)
    check_known("SETTING_UNKNOWN", options, UNET_OPTIONS)
    settings = UNetSettings(**{**NETWORKS[name], **(unet_options or {}), **options})
    return UNet(spatial_dims, in_channels, out_channels, settings)


def count_parameters(network: nn.Module) -> int:
    """Parameters and batch norm's running means and variances, as Keras counts them."""
    running = [buffer for name, buffer in network.named_buffers() if "running_" in name]
    return sum(tensor.numel() for tensor in [*network.parameters(), *running])


def _build_monai(name: str, shape: dict[str, int], options: dict[str, Any]) -> nn.Module:
    from monai.networks import nets

    network_class = getattr(nets, name)
    check_known("SETTING_UNKNOWN", options, inspect.signature(network_class).parameters)
    for option, value in _ONE_OUTPUT.items():
        if options.get(option, value) != value:
            raise option_error(option, options[option], f"leave it at {value}: a network gives one tensor")
    arguments = {**shape, **MONAI_NETWORKS[name](shape["spatial_dims"]), **options}
    try:
        return network_class(**arguments)
    except ImportError as error:
        missing = str(error).partition("\n")[0]
        raise UsageError("PACKAGE_MISSING", name, missing, "install that package") from error
    except (TypeError, ValueError, KeyError, AssertionError, NotImplementedError) as error:
        raise UsageError(
            "SETTING_INVALID", name, f"MONAI refuses {arguments}: {error}", "change that option"
        ) from error


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
