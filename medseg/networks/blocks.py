"""What the U-Net is made of: double convolutions, attention gates and decoder levels, in 2D or 3D."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

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
        activation: A name in `ACTIVATIONS`.
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
