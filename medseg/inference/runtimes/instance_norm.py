"""Instance normalisation without a change of layout.

PyTorch normalises images whose channels lie together (channels-last, as convolutions like them) by copying them to the
other layout first, which takes longer than the convolutions between; the same sums can be taken where the voxels lie.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TypeGuard

import torch
from torch import Tensor, library, nn
from torch.nn import functional

MOST_SUMMED = 4096
"""Voxels whose moments are taken in 32 bits; those of such pieces are added up in 64."""

LEAST_SUMMED = 64
"""Where the voxels cannot be divided into pieces of this many or more, PyTorch's own way is as good."""

MOST_OFF = 5.0
"""Where a mean is more standard deviations than this away from 0, the squares would cost digits."""

_PIECE_EPS = 1e-12


class QuickInstanceNorm(nn.Module):
    """What ``nn.InstanceNorm2d`` and ``3d`` give, to rounding, from the image's own statistics; for inference alone.

    Args:
        norm: Whose weights are used; it keeps no running statistics.
    """

    def __init__(self, norm: nn.InstanceNorm2d | nn.InstanceNorm3d) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, image: Tensor) -> Tensor:
        """(N, C, …) normalised along the axes behind C, in the same layout."""
        normalised: Tensor = torch.ops.medseg.instance_norm(image, self.weight, self.bias, self.eps)
        return normalised


def _slowly(image: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    return functional.instance_norm(image, weight=weight, bias=bias, eps=eps)


def _normalised(image: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    voxels_each = math.prod(image.shape[2:])
    size = _piece(voxels_each)
    if image.is_contiguous() and voxels_each > 1:
        count, channels = image.shape[:2]
        normalised, mean, inverse = torch.native_group_norm(
            image, weight, bias, count, channels, voxels_each, channels, eps
        )
        return normalised if not bool((mean.abs() * inverse > MOST_OFF).any()) else _slowly(image, weight, bias, eps)
    layout = torch.channels_last_3d if image.ndim == 5 else torch.channels_last
    if size < LEAST_SUMMED or image.dtype != torch.float32 or not image.is_contiguous(memory_format=layout):
        return _slowly(image, weight, bias, eps)
    voxels = image.movedim(1, -1).reshape(len(image), -1, image.shape[1])
    mean, variance = _moments(voxels, size)
    if bool((mean.abs() > MOST_OFF * (variance + eps).sqrt()).any()):
        return _slowly(image, weight, bias, eps)
    scale = (variance + eps).rsqrt()
    scale = scale if weight is None else scale * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    normalised = torch.addcmul(shift.float(), voxels, scale.float())
    return normalised.reshape(image.movedim(1, -1).shape).movedim(-1, 1)


def _moments(voxels: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Mean and variance (N, 1, C), in 64 bits, of voxels (N, V, C), from those of pieces of ``size`` voxels."""
    count, _, channels = voxels.shape
    pieces = voxels.reshape(-1, size, 1, channels).permute(0, 3, 1, 2)
    _, means, inverses = torch.native_group_norm(pieces, None, None, len(pieces), channels, size, channels, _PIECE_EPS)
    means = means.double().reshape(count, -1, channels)
    mean = means.mean(1, keepdim=True)
    within = inverses.double().reshape(count, -1, channels) ** -2 - _PIECE_EPS
    return mean, (within + (means - mean) ** 2).mean(1, keepdim=True)


@lru_cache
def _piece(voxels: int) -> int:
    """The largest number of voxels up to MOST_SUMMED that divides them all."""
    return max(size for size in range(1, min(voxels, MOST_SUMMED) + 1) if voxels % size == 0)


def quicken_norms(network: nn.Module) -> None:
    """Put quick instance norms in the place of a network's own, where they give the same."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if _is_plain(child):
                setattr(module, name, QuickInstanceNorm(child))


def _is_plain(module: nn.Module) -> TypeGuard[nn.InstanceNorm2d | nn.InstanceNorm3d]:
    is_norm = type(module) in (nn.InstanceNorm2d, nn.InstanceNorm3d) and not module._forward_hooks
    return is_norm and not module.track_running_stats and not module._forward_pre_hooks


# One operation, so that what follows a pass operation by operation need not look into it.
_LIBRARY = library.Library("medseg", "FRAGMENT")
_LIBRARY.define("instance_norm(Tensor image, Tensor? weight, Tensor? bias, float eps) -> Tensor")
_LIBRARY.impl("instance_norm", _normalised, "CPU")
_LIBRARY.impl("instance_norm", _slowly, "CUDA")
_LIBRARY.impl("instance_norm", lambda image, weight, bias, eps: torch.empty_like(image), "Meta")
