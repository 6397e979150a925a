"""The U-Net, residual or not, with attention or not, in 2D or 3D; first the blocks that it is made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medseg.errors import UsageError

CONVOLUTIONS: dict[int, type[nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED_CONVOLUTIONS: dict[int, type[nn.Module]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
POOLINGS: dict[int, type[nn.Module]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
PADDINGS: dict[int, type[nn.Module]] = {2: nn.ConstantPad2d, 3: nn.ConstantPad3d}
BATCH_NORMS: dict[int, type[nn.Module]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE_NORMS: dict[int, type[nn.Module]] = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}

NORMS: dict[str, Callable[[int, int], list[nn.Module]]] = {
    "batch": lambda dims, channels: [BATCH_NORMS[dims](channels)],
    "instance": lambda dims, channels: [INSTANCE_NORMS[dims](channels, affine=True)],
    "group": lambda dims, channels: [nn.GroupNorm(math.gcd(8, channels), channels)],
    "none": lambda dims, channels: [],
}
NONLINEARITIES: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "prelu": nn.PReLU,
    "elu": lambda: nn.ELU(inplace=True),
    "leakyrelu": lambda: nn.LeakyReLU(0.01, inplace=True),
}
UPSAMPLING_MODES: dict[str, dict[int, str]] = {
    "nearest": {2: "nearest", 3: "nearest"},
    "linear": {2: "bilinear", 3: "trilinear"},
}


@dataclass(frozen=True)
class Layers:
    """The layers that all blocks of one network share.

    Args:
        spatial_dims: 2 or 3.
        norm: A name in `NORMS`.
        activation: A name in `NONLINEARITIES`.
        is_padded: Whether a convolution keeps the size of its input.
    """

    spatial_dims: int
    norm: str = "batch"
    activation: str = "relu"
    is_padded: bool = True

    def convolution(self, in_channels: int, out_channels: int, kernel: int = 3, dilation: int = 1) -> nn.Module:
        """A convolution with bias and stride 1, zero-padded to its input's size where the network is padded."""
        padding = dilation * (kernel // 2) if self.is_padded else 0
        return CONVOLUTIONS[self.spatial_dims](in_channels, out_channels, kernel, padding=padding, dilation=dilation)

    def normalised(self, convolution: nn.Module, channels: int) -> list[nn.Module]:
        """The convolution, then the norm of its `channels` outputs, if the network has one."""
        return [convolution, *NORMS[self.norm](self.spatial_dims, channels)]

    def nonlinearity(self) -> nn.Module:
        """A new activation layer."""
        return NONLINEARITIES[self.activation]()

    def pooling(self) -> nn.Module:
        """Maximum over 2×2(×2); an odd axis keeps its last element, so that n becomes ⌈n/2⌉."""
        return POOLINGS[self.spatial_dims](2, ceil_mode=True)

    def upsampling(self, mode: str, in_channels: int, out_channels: int) -> nn.Module:
        """Doubles each axis: a transposed convolution, or an interpolation that has no weights."""
        if mode == "transposed":
            return TRANSPOSED_CONVOLUTIONS[self.spatial_dims](in_channels, out_channels, 2, stride=2)
        # Torch wants no align_corners for nearest neighbours, and warns of its absence for the others.
        align_corners = False if mode == "linear" else None
        return nn.Upsample(scale_factor=2, mode=UPSAMPLING_MODES[mode][self.spatial_dims], align_corners=align_corners)


def crop(x: Tensor, like: Tensor, is_centred: bool) -> Tensor:
    """Cut the spatial axes of `x` to the sizes of `like`: about the centre, or at their ends."""
    for axis in range(2, x.dim()):
        size = like.size(axis)
        # A cut that takes nothing off still costs a copy of all on the way back; a traced one stays, for other sizes.
        if not torch.jit.is_tracing() and x.size(axis) == size:
            continue
        start = (x.size(axis) - size) // 2 if is_centred else 0
        x = x.narrow(axis, start, size)
    return x


class ConvolutionBlock(nn.Module):
    """(Convolution 3×3 → norm → activation) twice, with a shortcut where `is_residual`, then dropout.

    The shortcut is a 1×1 convolution and a norm, added before the second activation
    (He et al. 2016); without padding it is cropped about its centre.
    """

    def __init__(
        self, layers: Layers, in_channels: int, out_channels: int, is_residual: bool, dropout: float, dilation: int = 1
    ) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            *layers.normalised(layers.convolution(in_channels, out_channels, 3, dilation), out_channels),
            layers.nonlinearity(),
            *layers.normalised(layers.convolution(out_channels, out_channels, 3, dilation), out_channels),
        )
        self.shortcut: nn.Sequential | None = None
        if is_residual:
            shortcut = layers.convolution(in_channels, out_channels, kernel=1)
            self.shortcut = nn.Sequential(*layers.normalised(shortcut, out_channels))
        self.activation = layers.nonlinearity()
        self.dropout = nn.Dropout(dropout) if dropout > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, …) to (B, out, …)."""
        y = self.convolutions(x)
        if self.shortcut is not None:
            y = y + crop(self.shortcut(x), y, is_centred=True)
        return self.dropout(self.activation(y))


class AttentionGate(nn.Module):
    """Weighs each voxel of a skip connection by what the deeper level has seen (Oktay et al. 2018).

    The deeper level is reduced to a gating signal (convolution 1×1 → norm → activation).
    Skip (θ, stride 2) and gating signal (φ, then a transposed convolution 3×3) are added,
    activated and projected to one weight from 0 to 1 (ψ), which is up-sampled and
    multiplied with the skip; a convolution 1×1 and a norm follow. The gate keeps the skip's
    size, so its transposed convolution is padded even where the network is not.
    """

    def __init__(self, layers: Layers, channels: int, deeper_channels: int) -> None:
        super().__init__()
        dims = layers.spatial_dims
        gating = layers.convolution(deeper_channels, channels, kernel=1)
        self.gating = nn.Sequential(*layers.normalised(gating, channels), layers.nonlinearity())
        # One zero past the end makes an odd axis n give ⌈n/2⌉, as pooling does; an even one never reads it.
        self.theta = nn.Sequential(
            PADDINGS[dims]((0, 1) * dims, 0.0), CONVOLUTIONS[dims](channels, channels, 2, stride=2)
        )
        self.phi = nn.Sequential(
            layers.convolution(channels, channels, kernel=1),
            TRANSPOSED_CONVOLUTIONS[dims](channels, channels, 3, padding=1),
        )
        self.activation = layers.nonlinearity()
        self.psi = nn.Sequential(layers.convolution(channels, 1, kernel=1), nn.Sigmoid(), nn.Upsample(scale_factor=2))
        self.result = nn.Sequential(*layers.normalised(layers.convolution(channels, channels, kernel=1), channels))

    def forward(self, skip: Tensor, deeper: Tensor) -> Tensor:
        """The weighed skip (B, C, …), from the skip and the deeper level's output at half its size."""
        weight = self.psi(self.activation(self.theta(skip) + self.phi(self.gating(deeper))))
        return self.result(skip * crop(weight, skip, is_centred=False))


class DecoderLevel(nn.Module):
    """Up-samples the deeper level, concatenates the (gated) skip, and convolves both.

    Padded, the up-sampled tensor is cut to the size of the skip (one element at the end
    of an odd axis); unpadded, the skip is cropped about its centre to the up-sampled tensor.
    """

    def __init__(
        self, upsampling: nn.Module, gate: AttentionGate | None, block: ConvolutionBlock, is_padded: bool
    ) -> None:
        super().__init__()
        self.upsampling = upsampling
        self.gate = gate
        self.block = block
        self.is_padded = is_padded

    def forward(self, deeper: Tensor, skip: Tensor) -> Tensor:
        """(B, deeper, …) at half size and (B, C, …) to (B, C, …)."""
        up = self.upsampling(deeper)
        if self.is_padded:
            up = crop(up, skip, is_centred=False)
        else:
            skip = crop(skip, up, is_centred=True)
        if self.gate is not None:
            skip = self.gate(skip, deeper)
        return self.block(torch.cat([skip, up], dim=1))


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
