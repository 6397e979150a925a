"""One pass of a network as the list of tensor operations that it comes to, each value kept no longer than needed.

A module's ``forward`` holds its arguments and variables until it returns, and so do those that called it; at
the last, largest level of a U-Net that is twice what the operations themselves need.

Instance normalisation is one operation of ours: PyTorch normalises images whose channels lie together (channels-last,
as convolutions like them) by copying them to the other layout first, which takes longer than the convolutions between;
the same sums can be taken where the voxels lie.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, TypeGuard

import torch
from torch import Tensor, library, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

MOST_SUMMED = 4096
"""Voxels whose moments are taken in 32 bits; those of such pieces are added up in 64."""

LEAST_SUMMED = 64
"""Where the voxels cannot be divided into pieces of this many or more, PyTorch's own way is as good."""

MOST_OFF = 5.0
"""Where a mean is more standard deviations than this away from 0, the squares would cost digits."""

_PIECE_EPS = 1e-12

FAILURES = (
    *(RuntimeError, ValueError, TypeError, OSError, LookupError, AttributeError, ImportError, ArithmeticError),
    *(AssertionError, copy.Error),
)
"""What following, converting or running a network is known to raise."""


@dataclass(frozen=True)
class Value:
    """Stands for the tensor of that number among an operation's arguments."""

    number: int


@dataclass(frozen=True)
class Operation:
    """One call of a tensor operation.

    Args:
        call: One of ``torch.ops``.
        arguments: What it is called with; a ``Value`` stands for each tensor that the pass made, the rest is constant.
        keywords: Its other arguments, by name.
        results: The numbers of the tensors that it gives; None in place of one that is no tensor.
        is_one: Whether it gives one tensor and not several.
    """

    call: Any
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    results: tuple[int | None, ...]
    is_one: bool = True

    @property
    def taken(self) -> set[int]:
        """The numbers of the tensors that it takes."""
        return {
            each.number for each in _flatten((self.arguments, tuple(self.keywords.values()))) if isinstance(each, Value)
        }

    @property
    def shared(self) -> list[Any]:
        """The tensors (a ``Value`` for each that the pass made) that it writes to or gives views of."""
        places = enumerate(self.call._schema.arguments)
        marked = [(place, argument.name) for place, argument in places if argument.alias_info is not None]
        given = (self.arguments[at] if at < len(self.arguments) else self.keywords.get(name) for at, name in marked)
        return [each for each in _flatten(list(given)) if isinstance(each, Tensor | Value)]

    @property
    def changes_its_input(self) -> bool:
        """Whether it works in place."""
        return bool(self.call._schema.is_mutable)


@dataclass(frozen=True)
class Program:
    """Operations in their order.

    Args:
        operations: The first takes the windows, which are value 0.
        result: The number of the result.
        layouts: By each value's number, its shape and type.
    """

    operations: tuple[Operation, ...]
    result: int
    layouts: dict[int, tuple[tuple[int, ...], torch.dtype]]
    _freed: tuple[tuple[int, ...], ...] = field(init=False, repr=False, default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "_freed", tuple(_find_freed(self.operations, self.result)))

    def __call__(self, windows: Tensor) -> Tensor:
        """What the network gives for windows of the shape that was traced."""
        values: dict[int, Any] = {0: windows}

        def put(argument: Any) -> Any:
            return values[argument.number] if isinstance(argument, Value) else argument

        for operation, freed in zip(self.operations, self._freed, strict=True):
            keywords = {name: _map(each, put) for name, each in operation.keywords.items()}
            given = operation.call(*_map(operation.arguments, put), **keywords)
            values.update(_number_results(operation, given))
            del given
            for number in freed:
                values.pop(number, None)
        return values[self.result]

    @property
    def text(self) -> str:
        """What is computed, for comparing networks: each operation with all its settings, tensors by their shapes."""

        def told(argument: Any) -> Any:
            return tuple(argument.shape) if isinstance(argument, Tensor) else argument

        rows = ((each.call, _map(each.arguments, told), sorted(each.keywords.items())) for each in self.operations)
        return "\n".join(f"{call} {arguments} {keywords}" for call, arguments, keywords in rows)

    def drop_unused(self) -> Program:
        """The program without operations whose results nothing takes."""
        needed, kept = {self.result}, list[Operation]()
        for operation in reversed(self.operations):
            if operation.changes_its_input or needed & {*operation.results}:
                kept.append(operation)
                needed |= operation.taken
        return replace(self, operations=tuple(reversed(kept)))


def trace(network: nn.Module, shape: Sequence[int]) -> Program:
    """The operations of a pass over windows of a shape; nothing is computed, so it takes neither time nor memory.

    Args:
        network: In evaluation mode, on its device.
        shape: Shape of the windows, (N, channels, …).

    Raises:
        RuntimeError, TypeError, ValueError: The pass depends on the windows' values, or gives more than one tensor.
    """
    with torch.inference_mode(False), torch.no_grad():
        skeleton, weights = _make_skeleton(network)
        windows = torch.empty(tuple(shape), device="meta")
        with _Recorder(windows, weights) as recorder:
            result = skeleton(windows)
    if not isinstance(result, Tensor) or id(result) not in recorder.numbers:
        raise TypeError(f"a {type(result).__name__} is not one tensor that the pass made")
    layouts = {number: (tuple(each.shape), each.dtype) for number, each in enumerate(recorder.seen)}
    return Program(tuple(recorder.operations), recorder.numbers[id(result)], layouts).drop_unused()


def copy_around(network: nn.Module, tensor_of: Callable[[Tensor], Tensor]) -> nn.Module:
    """A copy of a network in which other tensors stand for its parameters and buffers.

    Args:
        network: It stays as it is.
        tensor_of: Gives what stands for each of its tensors.
    """
    tensors: Iterable[Tensor] = (*network.parameters(), *network.buffers())
    return copy.deepcopy(network, {id(each): tensor_of(each) for each in tensors})


def strip_values(tensor: Tensor) -> Tensor:
    """A tensor of the same shape and type without values, which takes no memory."""
    empty = tensor.detach().to("meta")
    return nn.Parameter(empty, requires_grad=False) if isinstance(tensor, nn.Parameter) else empty


def _make_skeleton(network: nn.Module) -> tuple[nn.Module, dict[int, Tensor]]:
    """A copy of a network: shapes alone, with quick norms; and by id the tensor that each of its own stands for."""
    weights: dict[int, Tensor] = {}

    def strip(tensor: Tensor) -> Tensor:
        empty = strip_values(tensor)
        weights[id(empty)] = tensor.detach()
        return empty

    skeleton = copy_around(network, strip)
    quicken_norms(skeleton)
    return skeleton, weights


_NORMS = ("native_batch_norm", "native_group_norm", "native_layer_norm")
_VOXELWISE = (
    *("add", "sub", "mul", "div", "relu", "leaky_relu", "_prelu_kernel", "elu", "gelu", "mish", "silu"),
    *("sigmoid", "tanh", "hardtanh", "hardswish"),
)


def _infer(call: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What an operation gives for shapes; common ones are stated here.

    PyTorch works these out in Python, for which it imports its compiler: a second and 30 MiB.
    """
    name, first = call._schema.name.removeprefix("aten::"), args[0] if args else None
    tensors = [each for each in _flatten(args) if isinstance(each, Tensor)]
    if not tensors or any(each.dtype != torch.float32 for each in tensors) or kwargs.get("out") is not None:
        return call(*args, **kwargs)
    if name in _NORMS and isinstance(first, Tensor):
        return torch.empty_like(first), torch.empty(0, device="meta"), torch.empty(0, device="meta")
    if name.removesuffix("_") in _VOXELWISE and name.endswith("_") and isinstance(first, Tensor):
        return first
    if name in _VOXELWISE:
        return torch.empty(torch.broadcast_shapes(*(each.shape for each in tensors)), device="meta")
    if name == "cat" and {each.ndim for each in tensors} == {tensors[0].ndim}:
        axis = args[1] if len(args) > 1 else kwargs.get("dim", 0)
        size = [*tensors[0].shape]
        size[axis] = sum(each.shape[axis] for each in tensors)
        return torch.empty(size, device="meta")
    return call(*args, **kwargs)


class _Recorder(TorchDispatchMode):
    """Keeps every operation that is called.

    Args:
        windows: What the pass is given, as a shape without values.
        weights: The network's tensors, by the id of what stands for each.
    """

    def __init__(self, windows: Tensor, weights: Mapping[int, Tensor]) -> None:
        super().__init__()
        self.weights = weights
        self.operations: list[Operation] = []
        self.seen: list[Tensor] = [windows]  # Kept, so that no other tensor gets the same id.
        self.numbers: dict[int, int] = {id(windows): 0}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here, and importing the compiler would take a second and 30 MiB."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = _infer(func, args, kwargs or {})
        if not isinstance(given, Tensor | list | tuple):
            return given  # What it asked of a tensor, such as its device, holds for every pass.
        # What is laid out otherwise than shapes tell is copied then.
        call = torch.ops.aten.reshape.default if func is torch.ops.aten.view.default else func
        arguments = _map(tuple(args), self._value)
        keywords = {name: _map(each, self._value) for name, each in (kwargs or {}).items()}
        is_one = isinstance(given, Tensor)
        results = tuple(self._number(each) for each in ([given] if is_one else given))
        self.operations.append(Operation(call, arguments, keywords, results, is_one))
        return given

    def _value(self, argument: Any) -> Any:
        if isinstance(argument, torch.device) and argument.type == "meta":
            return torch.device("cpu")
        if not isinstance(argument, Tensor):
            return argument
        if id(argument) in self.numbers:
            return Value(self.numbers[id(argument)])
        if argument.is_meta and id(argument) not in self.weights:
            raise ValueError("the pass takes a tensor of unknown origin")
        return self.weights.get(id(argument), argument)

    def _number(self, given: Any) -> int | None:
        if not isinstance(given, Tensor):
            return None
        if id(given) not in self.numbers:
            self.numbers[id(given)] = len(self.seen)
            self.seen.append(given)
        return self.numbers[id(given)]


def _find_freed(operations: Sequence[Operation], result: int) -> Iterator[tuple[int, ...]]:
    """For each operation, the values that no later one takes."""
    last: dict[int, int] = {}
    for place, operation in enumerate(operations):
        last |= dict.fromkeys(operation.taken | {each for each in operation.results if each is not None}, place)
    for place in range(len(operations)):
        yield tuple(number for number, end in last.items() if end == place and number != result)


def _number_results(operation: Operation, given: Any) -> dict[int, Any]:
    results = [given] if operation.is_one else given
    return {number: each for number, each in zip(operation.results, results, strict=True) if number is not None}


def _map(argument: Any, change: Callable[[Any], Any]) -> Any:
    """An argument, or each one of a list of them, changed."""
    if isinstance(argument, list | tuple) and not isinstance(argument, torch.Size):
        return type(argument)(_map(each, change) for each in argument)
    return change(argument)


def _flatten(arguments: Any) -> Iterator[Any]:
    if isinstance(arguments, list | tuple):
        for each in arguments:
            yield from _flatten(each)
    else:
        yield arguments


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
