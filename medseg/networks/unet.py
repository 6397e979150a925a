"""The U-Net: residual or not, with attention or not, in 2D or 3D."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from medseg.errors import UsageError
from medseg.networks.blocks import (
    BATCH_NORMS,
    NONLINEARITIES,
    NORMS,
    UPSAMPLING_MODES,
    AttentionGate,
    ConvolutionBlock,
    DecoderLevel,
    Layers,
)

UPSAMPLINGS = ("transposed", *UPSAMPLING_MODES)
CONVOLUTION_PADDINGS = ("same", "valid")


@dataclass(frozen=True)
class UNetSettings:
    """What may be chosen about a U-Net; validated once, here.

    Args:
        filters: Channels of the first level; each deeper level has twice as many.
        depth: Number of poolings; the bottleneck lies at level `depth`.
        norm: "batch", "instance", "group" (up to 8 groups) or "none".
        activation: "relu", "prelu", "elu" or "leakyrelu".
        dropout: Share of values set to zero at the end of a block, from 0 up to 1.
        dropout_levels: Levels that drop out (0 is full resolution, `depth` the bottleneck),
            in the encoder and the decoder; None for all.
        upsampling: "transposed" (convolution 2×2, stride 2, to the skip's channels), or
            "nearest" or "linear" (no weights).
        residual: Whether each block has a shortcut.
        attention: Whether each skip passes an attention gate.
        dilation: Dilation of the two convolutions in the bottleneck.
        padding: "same" (output as large as the input) or "valid" (no padding: smaller, as
            in Ronneberger et al. 2015, 572 to 388).
        head_norm: Whether batch norm follows the last 1×1 convolution.
        max_filters: Cap on the channels of a level; None for no cap.

    Raises:
        UsageError: SETTING_INVALID, a value that none of these allows.
    """

    filters: int = 32
    depth: int = 4
    norm: str = "batch"
    activation: str = "relu"
    dropout: float = 0.0
    dropout_levels: Sequence[int] | None = None
    upsampling: str = "transposed"
    residual: bool = False
    attention: bool = False
    dilation: int = 1
    padding: str = "same"
    head_norm: bool = False
    max_filters: int | None = None

    def __post_init__(self) -> None:
        _check_choice("norm", self.norm, NORMS)
        _check_choice("activation", self.activation, NONLINEARITIES)
        _check_choice("upsampling", self.upsampling, UPSAMPLINGS)
        _check_choice("padding", self.padding, CONVOLUTION_PADDINGS)
        for name in ("residual", "attention", "head_norm"):
            _check_choice(name, getattr(self, name), (True, False))
        for name in ("filters", "depth", "dilation"):
            _check_positive(name, getattr(self, name))
        if self.max_filters is not None:
            _check_positive("max_filters", self.max_filters)
        if not (isinstance(self.dropout, int | float) and 0 <= self.dropout < 1):
            raise option_error("dropout", self.dropout, "give a share from 0 up to, but not, 1")
        self._check_dropout_levels()

    def _check_dropout_levels(self) -> None:
        levels = self.dropout_levels
        if levels is None:
            return
        if isinstance(levels, str) or not isinstance(levels, Sequence):
            raise option_error("dropout_levels", levels, "give a list of levels, such as [3, 4]")
        if any(level not in range(self.depth + 1) for level in levels):
            raise option_error("dropout_levels", levels, f"give levels from 0 to {self.depth}")

    def channels(self, level: int) -> int:
        """Channels at a level: `filters` · 2^level, up to `max_filters`."""
        doubled = self.filters * 2**level
        return doubled if self.max_filters is None else min(doubled, self.max_filters)

    def dropout_at(self, level: int) -> float:
        """The share that a level's blocks drop."""
        return self.dropout if self.dropout_levels is None or level in self.dropout_levels else 0.0


def option_error(name: str, value: object, remedy: str) -> UsageError:
    """The error for an option of a network that has a value it cannot have."""
    return UsageError("SETTING_INVALID", name, f"is {value!r}", remedy)


def check_shape(spatial_dims: int, in_channels: int, out_channels: int) -> None:
    """Refuse anything but 2 or 3 dimensions and at least one channel on either side."""
    _check_choice("spatial_dims", spatial_dims, (2, 3))
    _check_positive("in_channels", in_channels)
    _check_positive("out_channels", out_channels)


def _check_positive(name: str, value: object) -> None:
    """Refuse anything but a whole number of 1 or more."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise option_error(name, value, "give a whole number of 1 or more")


def _check_choice(name: str, value: object, choices: Collection[object]) -> None:
    if value not in choices:
        raise option_error(name, value, f"use one of {', '.join(map(str, choices))}")


class UNet(nn.Module):
    """A U-Net (Ronneberger et al. 2015) that gives logits, one channel per class.

    Encoder and decoder have `depth` levels about a bottleneck. With padding "same" the
    output has the input's size, and any size works: pooling rounds an odd axis up and the
    decoder cuts the up-sampled tensor back to the skip, so nothing is invented or
    interpolated. Weights start from He's Gaussian (He et al. 2015), biases from 0; the
    draw follows torch's global seed.

    In training, batch norm needs more than one voxel per channel in a batch at the
    bottleneck, and instance norm always needs more than one per image: torch raises there.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Channels of the image.
        out_channels: Classes; 1 for a single foreground.
        settings: Everything else; None for the defaults.

    Raises:
        UsageError: SETTING_INVALID.
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, out_channels: int, settings: UNetSettings | None = None
    ) -> None:
        super().__init__()
        check_shape(spatial_dims, in_channels, out_channels)
        settings = settings or UNetSettings()
        layers = Layers(spatial_dims, settings.norm, settings.activation, settings.padding == "same")
        channels = [in_channels, *(settings.channels(level) for level in range(settings.depth))]
        self.encoder = nn.ModuleList(
            _block(layers, settings, level, channels[level]) for level in range(settings.depth)
        )
        self.pooling = layers.pooling()
        self.bottleneck = _block(layers, settings, settings.depth, channels[-1], settings.dilation)
        self.decoder = nn.ModuleList(
            _decoder_level(layers, settings, level) for level in reversed(range(settings.depth))
        )
        head = [layers.convolution(settings.channels(0), out_channels, kernel=1)]
        norm = [BATCH_NORMS[spatial_dims](out_channels)] if settings.head_norm else []
        self.head = nn.Sequential(*head, *norm)
        self.apply(_start_from_he)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, out_channels, …) of images (B, in_channels, …)."""
        skips: list[Tensor] = []
        for block in self.encoder:
            x = block(x)
            skips.append(x)
            x = self.pooling(x)
        x = self.bottleneck(x)
        for level in self.decoder:
            x = level(x, skips.pop())
        return self.head(x)


def _block(layers: Layers, settings: UNetSettings, level: int, in_channels: int, dilation: int = 1) -> ConvolutionBlock:
    dropout = settings.dropout_at(level)
    return ConvolutionBlock(layers, in_channels, settings.channels(level), settings.residual, dropout, dilation)


def _decoder_level(layers: Layers, settings: UNetSettings, level: int) -> DecoderLevel:
    channels, deeper = settings.channels(level), settings.channels(level + 1)
    upsampled = channels if settings.upsampling == "transposed" else deeper
    return DecoderLevel(
        upsampling=layers.upsampling(settings.upsampling, deeper, channels),
        gate=AttentionGate(layers, channels, deeper) if settings.attention else None,
        block=_block(layers, settings, level, channels + upsampled),
        is_padded=layers.is_padded,
    )


def _start_from_he(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
