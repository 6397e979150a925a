"""One pass of a network as the list of tensor operations that it comes to, each value kept no longer than needed.

A module's ``forward`` holds its arguments and variables until it returns, and so do those that called it; at
the last, largest level of a U-Net that is twice what the operations themselves need.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from medseg.inference.runtimes.instance_norm import quicken_norms

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
