"""A network's last layer, taken off where it works on each voxel alone.

The weighted mean of overlapping windows and a convolution of a single voxel are both linear, so they may change
places: what the windows give before the last layer is averaged, and the last layer is run once on the mean. Where a
network tells more classes apart than its last layer takes features, that saves memory and time, and
changes the logits by rounding alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from medseg.inference.running.operations import FAILURES
from medseg.inference.slabs import Slab

HEAD_BYTES = 1 << 26
"""So much of the logits exists at once."""


@dataclass(frozen=True)
class Split:
    """A network in two.

    Args:
        body: All but the last layer: windows (N, channels, …) to features (N, F, …).
        head: The last layer: features to logits (N, C, …), voxel by voxel.
        features: F.
        classes: C, more than F.
    """

    body: nn.Module
    head: nn.Module
    features: int
    classes: int

    def finish(self, slab: Slab) -> Iterator[Slab]:
        """Averaged features of a slab as logits, a few rows at a time."""
        features, dim = slab.logits, slab.axis + 1
        row_bytes = self.classes * features[0].numel() // features.shape[dim] * features.element_size()
        step = max(1, HEAD_BYTES // row_bytes)
        for start in range(0, features.shape[dim], step):
            rows = features.narrow(dim, start, min(step, features.shape[dim] - start))
            yield replace(slab, start=slab.start + start, logits=self._logits(rows))

    def _logits(self, features: Tensor) -> Tensor:
        """(F, …) to (C, …), whatever the number of axes: a 2D network's slices make a volume."""
        axes = next(each.weight.ndim - 2 for each in self.head.modules() if isinstance(each, nn.Conv2d | nn.Conv3d))
        line = features.reshape(1, features.shape[0], *[1] * (axes - 1), -1)
        return self.head(line).reshape(self.classes, *features.shape[1:])


def split(network: nn.Module, shape: Sequence[int], classes: int) -> Split | None:
    """The network in two, where its last layer works on each voxel alone and has fewer features than classes.

    Args:
        network: In evaluation mode.
        shape: Of windows (1, channels, …) that it takes.
        classes: Channels of its logits.

    Returns:
        None where it cannot be split so, or need not be.
    """
    names = [name for name, module in network.named_modules() if name and _widens(module, classes)]
    for name, features in _giving_the_result(network, names, shape):
        body = _twin(network, lambda tensor: tensor)
        body.set_submodule(name, nn.Identity())
        return Split(body, network.get_submodule(name), features, classes)
    return None


def _twin(network: nn.Module, tensor_of: Callable[[Tensor], Tensor]) -> nn.Module:
    """A copy of a network around other tensors."""
    tensors: Iterable[Tensor] = (*network.parameters(), *network.buffers())
    return copy.deepcopy(network, {id(each): tensor_of(each) for each in tensors})


def _shape_alone(tensor: Tensor) -> Tensor:
    empty = tensor.detach().to("meta")
    return nn.Parameter(empty, requires_grad=False) if isinstance(tensor, nn.Parameter) else empty


def _giving_the_result(network: nn.Module, names: Sequence[str], shape: Sequence[int]) -> list[tuple[str, int]]:
    """Which of its modules, run once, gives what the network gives, and how many features it takes; outermost first.

    The network is run on shapes alone, which takes neither time nor memory.
    """
    seen: dict[str, list[tuple[Tensor, int, int]]] = {name: [] for name in names}

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda module, inputs, output: seen[name].append((output, output._version, inputs[0].shape[1]))

    if not names:
        return []
    try:
        with torch.inference_mode(False), torch.no_grad():  # Versions are counted outside inference mode alone.
            skeleton = _twin(network, _shape_alone)
            for name in names:
                skeleton.get_submodule(name).register_forward_hook(keep(name))
            result = skeleton(torch.empty(shape, device="meta"))
    except FAILURES:
        return []  # It computes with values, which shapes alone do not have.
    # A result that was changed in place afterwards has another version.
    unchanged = [(name, runs[0]) for name, runs in seen.items() if len(runs) == 1 and runs[0][0] is result]
    return [(name, features) for name, (_, version, features) in unchanged if version == result._version]


def _widens(module: nn.Module, classes: int) -> bool:
    """Whether it works on each voxel alone and makes ``classes`` of fewer features."""
    convolutions = [each for each in module.modules() if isinstance(each, nn.Conv2d | nn.Conv3d)]
    return (
        bool(convolutions)
        and convolutions[0].in_channels < convolutions[-1].out_channels == classes
        and _is_pointwise(module)
    )


def _is_pointwise(module: nn.Module) -> bool:
    """Whether it is affine in the features of each voxel alone."""
    if isinstance(module, nn.Conv2d | nn.Conv3d):
        sizes = {*module.kernel_size, *module.stride}
        return sizes == {1} and module.groups == 1 and module.padding in ((0,) * module.weight[0, 0].ndim, "valid")
    if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
        return not module.training and module.track_running_stats
    return type(module).forward is nn.Sequential.forward and all(map(_is_pointwise, module.children()))
