"""What runs the network over a batch of windows: PyTorch as it is, compiled, or another runtime.

Every runtime is compared with PyTorch on windows of noise before it is trusted; one that is missing,
cannot take the network or disagrees is left, with a message, for PyTorch.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from medseg.data.volume import Note
from medseg.errors import first_line
from medseg.inference.running.artefacts import Built, Run
from medseg.inference.running.onnx_runtime import onnx_built
from medseg.inference.running.openvino_runtime import openvino_built
from medseg.inference.running.operations import FAILURES
from medseg.inference.windows import Windowing
from medseg.options import check_backend

WORTH_CONVERTING = 5e13
"""Parameters × voxels of all windows of a case from which ``auto`` converts a network: some seconds of PyTorch.

Counted, not timed, so that a case is run by the same runtime every time.
"""

TOLERANCE = 1e-3
"""Largest difference from PyTorch's logits, as a share of their largest, at which a runtime counts as equal."""

_MODULES = {"openvino": "openvino", "onnx": "onnxruntime", "tensorrt": "torch_tensorrt"}


@dataclass(frozen=True)
class Backend:
    """A network, ready to run.

    Args:
        name: One of BACKENDS, ``auto`` excepted.
        run: Windows (N, channels, …) in, logits (N, C, …) out.
        note: Why it is not the one that was asked for, or None.
    """

    name: str
    run: Run
    note: Note | None = None


def chosen_backend(name: str, network: nn.Module, voxels: int) -> str:
    """What ``auto`` stands for: OpenVINO on a CPU where it is installed and worth it, PyTorch elsewhere.

    Args:
        name: One of BACKENDS.
        network: On its device.
        voxels: Of all windows of a case together.
    """
    if name != "auto":
        return name
    parameters = list(network.parameters())
    is_worth_it = sum(each.numel() for each in parameters) * voxels >= WORTH_CONVERTING
    is_on_cpu = all(each.device.type == "cpu" for each in parameters)
    return "openvino" if is_worth_it and is_on_cpu and is_installed("openvino") else "torch"


def build_backend(
    network: nn.Module, name: str, windowing: Windowing, cache: Path | None = None, *, keeps: bool = True
) -> Backend:
    """The network in the runtime asked for, or in PyTorch with a note why.

    A runtime's artefact is compared with PyTorch before it is trusted; one that is kept with the comparison that it
    passed, on this kind of processor and with these versions, is not compared again.

    Args:
        network: In evaluation mode, on its device.
        name: One of BACKENDS but ``auto``; see ``chosen_backend``.
        windowing: The batches that will come; a smaller last one is filled up.
        cache: Folder for converted networks, kept by a hash of weights and shape; None: there is none.
        keeps: Whether what is made is kept there.

    Raises:
        UsageError: BACKEND_UNKNOWN.
    """
    check_backend(name)
    if name in ("auto", "torch"):
        return Backend("torch", network)
    if not is_installed(name):
        return Backend("torch", network, Note("BACKEND_MISSING", f"{_MODULES[name]} is not installed; PyTorch is used"))
    try:
        built = _BUILDERS[name](network, windowing, cache, keeps)
        apart = largest_difference(network, built.run, windowing) if built.difference is None else built.difference
    except FAILURES as error:
        return Backend("torch", network, Note("BACKEND_FAILED", f"{name}: {first_line(error)}; PyTorch is used"))
    if not apart <= TOLERANCE:
        text = f"{name}: logits differ by {apart:.2g} of the largest; PyTorch is used"
        return Backend("torch", network, Note("BACKEND_DISAGREES", text))
    if built.difference is None and built.keep:
        built.keep(apart)
    return Backend(name, built.run)


def is_installed(name: str) -> bool:
    """Whether the package that a runtime needs is there."""
    return name not in _MODULES or importlib.util.find_spec(_MODULES[name]) is not None


def largest_difference(network: nn.Module, run: Run, windowing: Windowing) -> float:
    """How far a runtime's logits of a window of noise are from PyTorch's, as a share of their largest."""
    device = next(network.parameters()).device
    generator = torch.Generator().manual_seed(0)
    windows = torch.randn(1, *windowing.shape[1:], generator=generator).to(device)
    with torch.inference_mode():
        expected, found = network(windows).float(), run(windows).float()
        run(torch.zeros_like(windows))  # A runtime that gives out its own memory would now change what was found.
    if expected.shape != found.shape:
        return float("inf")
    return float((expected - found).abs().max() / expected.abs().max().clamp_min(1e-6))


def _compiled(network: nn.Module, windowing: Windowing, cache: Path | None, keeps: bool) -> Built:
    return Built(torch.compile(network, dynamic=False, options={"freezing": True}))


def _tensorrt(network: nn.Module, windowing: Windowing, cache: Path | None, keeps: bool) -> Built:
    import torch_tensorrt

    example = torch.zeros(windowing.shape, device=next(network.parameters()).device)
    return Built(torch_tensorrt.compile(network, inputs=[example]))


_BUILDERS: dict[str, Callable[[nn.Module, Windowing, Path | None, bool], Built]] = {
    "compile": _compiled,
    "openvino": openvino_built,
    "onnx": onnx_built,
    "tensorrt": _tensorrt,
}
