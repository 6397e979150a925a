"""PyTorch as a runtime: its device, its threads and its compilers; and what every other runtime makes of a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medseg.errors import ImageError, UsageError
from medseg.inference.windows import Windowing

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Built:
    """A network in another runtime.

    Args:
        run: Windows (N, channels, …) in, logits (N, C, …) out.
        difference: How far its logits were from PyTorch's earlier on this machine; None: not compared yet.
        keep: Called with the difference once it is found to be small enough.
    """

    run: Run
    difference: float | None = None
    keep: Callable[[float], None] | None = None


def pick_device(name: str) -> torch.device:
    """The device that a name stands for on this machine.

    Args:
        name: ``cpu``, ``cuda``, or ``auto``, which takes CUDA where there is one.

    Raises:
        UsageError: ``DEVICE_MISSING``.
    """
    has_cuda = torch.cuda.is_available()
    if name == "cuda" and not has_cuda:
        raise UsageError("DEVICE_MISSING", "cuda", "PyTorch finds no CUDA device", "use --device cpu")
    return torch.device("cuda" if has_cuda and name != "cpu" else "cpu")


def make_noise(shape: Sequence[int]) -> Tensor:
    """The same noise each time, on the CPU, by which runtimes are compared and timed."""
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(0))


def check_one_tensor(output: object) -> Tensor:
    """What a network gave, if it is one tensor.

    Raises:
        ImageError: ``OUTPUT_NOT_ONE_TENSOR``.
    """
    if not isinstance(output, Tensor):
        problem = f"the network gives a {type(output).__name__}"
        raise ImageError("OUTPUT_NOT_ONE_TENSOR", "network", problem, "export one output")
    return output


@contextmanager
def use_threads(count: int | None) -> Iterator[None]:
    """Let PyTorch use this many threads while it is open; None leaves them as they are."""
    before = torch.get_num_threads()
    if count is None or count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def build_compiled(network: nn.Module, windowing: Windowing, cache: Path | None, keeps: bool) -> Built:
    """The network as ``torch.compile`` makes it; nothing is kept by medseg."""
    return Built(torch.compile(network, dynamic=False, options={"freezing": True}))


def build_tensorrt(network: nn.Module, windowing: Windowing, cache: Path | None, keeps: bool) -> Built:
    """The network in TensorRT, on its GPU; nothing is kept."""
    import torch_tensorrt

    example = torch.zeros(windowing.shape, device=next(network.parameters()).device)
    return Built(torch_tensorrt.compile(network, inputs=[example]))


def open_torchscript(folder: Path, threads: int | None) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """The network of a folder, frozen, with so many of PyTorch's threads; None leaves them as they are."""
    loaded = torch.jit.load(str(folder / "network.pt"), map_location="cpu").eval()
    network = torch.jit.optimize_for_inference(torch.jit.freeze(loaded))

    def run(windows: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode(), use_threads(threads):
            return network(torch.from_numpy(windows)).numpy()

    return run
