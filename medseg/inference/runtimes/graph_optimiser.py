"""A network's pass with less to do: norms folded, results written over, the last layer run once at the end.

The weighted mean of overlapping windows and a convolution of a single voxel are both linear, so they may change
places: what the windows give before the last layer is averaged, and the last layer is run once on the mean. Where a
network tells more classes apart than its last layer takes features, that saves memory and time, and
changes the logits by rounding alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from medseg.inference.runtimes.graph import FAILURES, Operation, Program, Value, copy_around, strip_values, trace
from medseg.inference.runtimes.torch_runtime import make_noise
from medseg.inference.slabs import Slab

AGREES = 1e-5
"""Largest difference from the network's logits, as a share of their largest, at which an optimised one is trusted."""

PROBE_VOXELS = 32
"""Length along each axis of the window of noise on which it is compared, where the network takes so small ones."""

HEAD_BYTES = 1 << 26
"""So much of the logits exists at once."""

_aten = torch.ops.aten
_IN_PLACE: dict[Any, Any] = {
    _aten.relu.default: _aten.relu_.default,
    _aten.leaky_relu.default: _aten.leaky_relu_.default,
    _aten.elu.default: _aten.elu_.default,
    _aten.silu.default: _aten.silu_.default,
    _aten.sigmoid.default: _aten.sigmoid_.default,
    _aten.tanh.default: _aten.tanh_.default,
    _aten.hardtanh.default: _aten.hardtanh_.default,
    _aten.add.Tensor: _aten.add_.Tensor,
    _aten.mul.Tensor: _aten.mul_.Tensor,
}
_EITHER_WAY = (_aten.add.Tensor, _aten.mul.Tensor)
_WEIGHT, _BIAS, _IS_TRANSPOSED, _GROUPS = 1, 2, 6, 8
"""Places among the arguments of a convolution."""


Known = dict[tuple[int, ...], tuple[Tensor, Tensor]]


class OptimisedNetwork(nn.Module):
    """A network whose passes take less memory and time; the network itself stays as it is.

    Each shape of windows is traced once, when it first comes. On anything but a CPU, in mixed precision, with
    gradients, or where the optimised pass differs from the network's on noise, the network itself is run; so
    it is where the network is being traced for another runtime.

    Args:
        network: In evaluation mode.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._programs: dict[tuple[int, ...], Program | None] = {}
        self._weights: Known = {}
        self._is_trusted: bool | None = None
        self._state: list[tuple[Tensor, int]] = []
        self.train(network.training)

    def forward(self, windows: Tensor) -> Tensor:
        """Logits of windows (N, channels, …)."""
        program = None if self._must_run_itself(windows) else self.prepare(windows.shape)
        if program is None:
            return self.network(windows)
        try:
            return program(windows)
        except FAILURES:  # What is done for this shape alone, shapes without values did not show.
            self._programs[tuple(windows.shape)] = None
            return self.network(windows)

    def _must_run_itself(self, windows: Tensor) -> bool:
        return (
            torch.is_grad_enabled()
            or torch.jit.is_tracing()
            or torch.compiler.is_compiling()
            or windows.device.type != "cpu"
            or windows.dtype != torch.float32
            or torch.is_autocast_enabled("cpu")
            or any(map(_is_watched, self.network.modules()))
        )

    def prepare(self, shape: Sequence[int]) -> Program | None:
        """The pass for windows of a shape, traced and checked once; None where the network itself is run."""
        self._forget_if_changed()
        if self._is_trusted is None:
            # Two windows: PyTorch convolves a single small one in a way that takes more memory than the whole pass.
            small = (2, shape[1], *(min(PROBE_VOXELS, size) for size in shape[2:]))
            agreement = self._agrees(small)
            self._is_trusted = bool(self._agrees((1, *shape[1:])) if agreement is None else agreement)
        key = tuple(shape)
        if key not in self._programs:
            self._programs[key] = self._optimise_for(key) if self._is_trusted else None
        return self._programs[key]

    def _forget_if_changed(self) -> None:
        """Begin anew where a weight was replaced or written to since."""
        tensors = chain(self.network.parameters(), self.network.buffers())
        state = [(each, 0 if each.is_inference() else each._version) for each in tensors]
        pairs = zip(state, self._state, strict=False)
        if len(state) != len(self._state) or any(new[0] is not old[0] or new[1] != old[1] for new, old in pairs):
            self._state, self._is_trusted = state, None
            self._programs.clear()
            self._weights.clear()

    def _optimise_for(self, shape: Sequence[int]) -> Program | None:
        try:
            program = trace(self.network, shape)
        except FAILURES:
            return None
        return None if _changes_what_it_is_given(program) else write_in_place(fold_norms(program, self._weights))

    def _agrees(self, shape: Sequence[int]) -> bool | None:
        """Whether it gives what the network gives, each time; None where the network cannot take that shape."""
        noise = make_noise(shape)
        try:
            expected = self.network(noise.clone())
        except FAILURES:
            return None
        program = self._optimise_for(shape)
        if program is None or not isinstance(expected, Tensor):
            return False
        try:
            return all(_is_near(program(noise), expected) for _ in range(2))
        except FAILURES:
            return False


def _is_watched(module: nn.Module) -> bool:
    """Whether more happens when it is called than its operations, or others in training."""
    return module.training or bool(module._forward_hooks) or bool(module._forward_pre_hooks)


def _is_near(found: Tensor, expected: Tensor) -> bool:
    if found.shape != expected.shape:
        return False
    most = [max(map(abs, map(float, torch.aminmax(each)))) for each in (expected, found - expected)]
    return most[1] <= AGREES * most[0]


def optimise(network: Any) -> Any:
    """The network as ``OptimisedNetwork`` runs it; what is no module of PyTorch is left as it is."""
    return (
        OptimisedNetwork(network)
        if isinstance(network, nn.Module) and not isinstance(network, OptimisedNetwork)
        else network
    )


def fold_norms(program: Program, known: Known | None = None) -> Program:
    """Batch norms with fixed statistics as part of the convolution whose result they alone take.

    Args:
        program: From ``trace``.
        known: Weights folded before, by where what they were made of lies, to be shared; added to.
    """
    known = {} if known is None else known
    makers = {number: operation for operation in program.operations for number in operation.results}
    uses = _count_uses(program)
    optimise: dict[int, Operation] = {}
    gone: set[int] = set()
    for norm in program.operations:
        maker = _folds_into(norm, makers, uses)
        if maker is not None and norm.results[0] is not None:
            arguments = list(maker.arguments)
            arguments[_WEIGHT], arguments[_BIAS] = _fold_weights(maker, norm, known)
            optimise[id(maker)] = replace(maker, arguments=tuple(arguments), results=(norm.results[0],))
            gone.add(id(norm))
    kept = (optimise.get(id(each), each) for each in program.operations if id(each) not in gone)
    return replace(program, operations=tuple(kept))


def _folds_into(norm: Operation, makers: Mapping[Any, Operation], uses: Mapping[int, int]) -> Operation | None:
    """The convolution that makes what a batch norm takes, where nothing else takes it and its weights are fixed."""
    if norm.call is not _aten.native_batch_norm.default or not isinstance(norm.arguments[0], Value):
        return None
    number, constants, is_training = norm.arguments[0].number, norm.arguments[1:5], norm.arguments[5]
    maker = makers.get(number)
    if maker is None or maker.call is not _aten.convolution.default or uses[number] != 1 or is_training:
        return None
    weights = maker.arguments[_WEIGHT : _BIAS + 1]
    is_fixed = not any(isinstance(each, Value) for each in (*constants, *weights))
    has_statistics = isinstance(constants[2], Tensor) and isinstance(constants[3], Tensor)
    is_plain = not maker.arguments[_IS_TRANSPOSED] or maker.arguments[_GROUPS] == 1
    return maker if is_fixed and has_statistics and is_plain else None


def _fold_weights(convolution: Operation, norm: Operation, known: Known) -> tuple[Tensor, Tensor]:
    """Weight and bias of both together, computed in 64 bits."""
    weight, bias = convolution.arguments[_WEIGHT : _BIAS + 1]
    scale, shift, mean, variance = norm.arguments[1:5]
    is_transposed = bool(convolution.arguments[_IS_TRANSPOSED])
    key = tuple(0 if each is None else each.data_ptr() for each in (weight, bias, scale, shift, mean, variance))
    if key not in known:
        wide = _widen(weight, bias, mean, variance)
        fuse: Callable[..., tuple[Tensor, Tensor]] = fuse_conv_bn_weights
        fused = fuse(*wide, norm.arguments[7], *_widen(scale, shift), is_transposed)
        made = torch.empty_like(weight).copy_(fused[0].detach())
        known[key] = (made, fused[1].detach().to(weight.dtype))
    return known[key]


def _widen(*tensors: Tensor | None) -> list[Any]:
    return [None if each is None else each.double() for each in tensors]


def write_in_place(program: Program) -> Program:
    """Activations, sums and products written over what they take, where that is not needed again."""
    owners, ends = _find_owners(program.operations), dict[int, int]()
    for place, operation in enumerate(program.operations):
        ends |= {owners[number]: place for number in operation.taken}
    ends[owners[program.result]] = len(program.operations)
    made: list[Operation] = []
    for place, operation in enumerate(program.operations):
        target = next(
            (each for each in _find_targets(operation) if _is_free(each, place, operation, program, owners, ends)), None
        )
        if target is None:
            made.append(operation)
            continue
        others = [each for each in operation.arguments if each != Value(target)]
        arguments = (Value(target), *(others or operation.arguments[1:]))
        made.append(replace(operation, call=_IN_PLACE[operation.call], arguments=arguments))
        _merge(owners, ends, operation.results[0], target)
    return replace(program, operations=tuple(made))


def _find_targets(operation: Operation) -> Iterator[int]:
    """What an operation could be written over."""
    if operation.call not in _IN_PLACE or not operation.is_one:
        return
    may_swap = operation.call in _EITHER_WAY and not operation.keywords and len(operation.arguments) == 2
    for argument in operation.arguments[: 2 if may_swap else 1]:
        if isinstance(argument, Value):
            yield argument.number


def _is_free(
    number: int,
    place: int,
    operation: Operation,
    program: Program,
    owners: Mapping[int, int],
    ends: Mapping[int, int],
) -> bool:
    """Whether a value is whole, taken here for the last time, by nothing but this, and of the result's size."""
    owner, result = owners[number], operation.results[0]
    shares = [each.number for each in operation.arguments if isinstance(each, Value) and owners[each.number] == owner]
    return (
        result is not None
        and owner == number != 0
        and ends[owner] == place
        and shares == [number]
        and program.layouts[number] == program.layouts[result]
    )


def _find_owners(operations: Sequence[Operation]) -> dict[int, int]:
    """For each value, the one whose memory it shares, or itself; 0, whose memory is not the pass's own, for weights."""
    owners = {0: 0}
    for operation in operations:
        sharing = {owners[each.number] if isinstance(each, Value) else 0 for each in operation.shared}
        for number in (each for each in operation.results if each is not None):
            owners.setdefault(number, number)
            sharing |= {owners[number]} if sharing else set()
        owners |= {number: min(sharing) for number, owner in owners.items() if owner in sharing}
    return owners


def _changes_what_it_is_given(program: Program) -> bool:
    """Whether the pass writes to its windows, or to weights: such a network keeps a state."""
    owners = _find_owners(program.operations)
    written = [each for operation in program.operations if operation.changes_its_input for each in operation.shared]
    return any(not isinstance(each, Value) or owners[each.number] == 0 for each in written)


def _merge(owners: dict[int, int], ends: dict[int, int], result: int | None, target: int) -> None:
    """From now on what shared memory with the result shares it with what it was written over."""
    if result is None:
        return
    end = ends.get(result, ends[target])
    for number, owner in list(owners.items()):
        if owner == result:
            owners[number] = target
    owners[result] = target
    ends[target] = end


def _count_uses(program: Program) -> dict[int, int]:
    """How often each value is taken; the result once more."""
    uses = {program.result: 1}
    for operation in program.operations:
        for number in operation.taken:
            uses[number] = uses.get(number, 0) + 1
    return uses


@dataclass(frozen=True)
class SplitNetwork:
    """A network in two.

    Args:
        body: All but the last layer: windows (N, channels, …) to features (N, F, …).
        head: The last layer: features to logits (N, C, …), voxel by voxel.
        features: Number of features between the two, F.
        classes: Number of classes, C, more than F.
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
            yield replace(slab, start=slab.start + start, logits=self._run_head(rows))

    def _run_head(self, features: Tensor) -> Tensor:
        """(F, …) to (C, …), whatever the number of axes: a 2D network's slices make a volume."""
        axes = next(each.weight.ndim - 2 for each in self.head.modules() if isinstance(each, nn.Conv2d | nn.Conv3d))
        line = features.reshape(1, features.shape[0], *[1] * (axes - 1), -1)
        return self.head(line).reshape(self.classes, *features.shape[1:])


def split_head(network: nn.Module, shape: Sequence[int], classes: int) -> SplitNetwork | None:
    """The network in two, where its last layer works on each voxel alone and has fewer features than classes.

    Args:
        network: In evaluation mode.
        shape: Shape of the windows that it takes, (1, channels, …).
        classes: Number of channels of its logits.

    Returns:
        None where it cannot be split so, or need not be.
    """
    names = [name for name, module in network.named_modules() if name and _widens(module, classes)]
    for name, features in _find_heads(network, names, shape):
        body = copy_around(network, lambda tensor: tensor)
        body.set_submodule(name, nn.Identity())
        return SplitNetwork(body, network.get_submodule(name), features, classes)
    return None


def _find_heads(network: nn.Module, names: Sequence[str], shape: Sequence[int]) -> list[tuple[str, int]]:
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
            skeleton = copy_around(network, strip_values)
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
