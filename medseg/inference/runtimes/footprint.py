"""What one pass of the network takes in memory, found by running one window and watching PyTorch's allocator."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from medseg.inference.runtimes.graph_optimiser import OptimisedNetwork
from medseg.inference.runtimes.torch_runtime import check_one_tensor, make_noise

KEPT_APART = 1.6
"""What the process takes for each byte in use: the C library keeps freed blocks of other sizes for later windows."""

_MEMORY_EVENT = "[memory]"
_LOG_LEVEL, _ERRORS_ALONE = "KINETO_LOG_LEVEL", "9"


@dataclass(frozen=True)
class Footprint:
    """What a pass of one window takes.

    Args:
        channels: Number of channels that it gives.
        live_bytes: The most that its intermediate results take at once in the machine's memory, the result included.
        weight_bytes: Size of the parameters and buffers.
    """

    channels: int
    live_bytes: int
    weight_bytes: int

    def window_bytes(self, batch: int) -> int:
        """By how much the process grows while a batch of windows is run, over and over."""
        return int(KEPT_APART * batch * self.live_bytes)


def measure_footprint(network: nn.Module, window: Sequence[int]) -> Footprint:
    """Run one window of noise.

    Args:
        network: In evaluation mode, on its device.
        window: Shape of one window, (channels, …).

    Raises:
        ImageError: ``OUTPUT_NOT_ONE_TENSOR``.
    """
    tensors = [*network.parameters(), *network.buffers()]
    device = tensors[0].device if tensors else torch.device("cpu")
    noise = make_noise((1, *window)).to(device)
    if isinstance(network, OptimisedNetwork):
        with torch.inference_mode():
            network.prepare(noise.shape)  # Its check is no part of a pass.
    output, live = measure_allocation(lambda: network(noise))
    return Footprint(int(check_one_tensor(output).shape[1]), live, sum(each.nbytes for each in tensors))


def measure_allocation(call: Callable[[], object]) -> tuple[object, int]:
    """What ``call`` returns, and the most bytes of the machine's memory that PyTorch held for it at once."""
    with _quiet(), torch.inference_mode(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watch:
        result = call()
    events = [each for each in watch.profiler.kineto_results.events() if each.name() == _MEMORY_EVENT]  # type: ignore[union-attr]
    held = most = 0
    for event in sorted(events, key=lambda each: each.start_ns()):
        held += event.nbytes() if event.device_type() == torch.autograd.DeviceType.CPU else 0
        most = max(most, held)
    return result, most


@contextmanager
def _quiet() -> Iterator[None]:
    """Within this block the profiler does not tell of its start and end on the error stream, unless asked to."""
    stated = os.environ.get(_LOG_LEVEL)
    os.environ[_LOG_LEVEL] = _ERRORS_ALONE if stated is None else stated
    try:
        yield
    finally:
        if stated is None:
            del os.environ[_LOG_LEVEL]
