"""The table of runtimes behind ``--backend``, and the one that runs the network over batches of windows.

Every runtime is compared with PyTorch on windows of noise before it is trusted; one that is missing,
cannot take the network or disagrees is left, with a message, for PyTorch.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from medseg.errors import first_line
from medseg.findings import Finding, make_note
from medseg.inference.runtimes.graph import FAILURES
from medseg.inference.runtimes.torch_runtime import Built, Run, make_noise
from medseg.inference.windows import Windowing
from medseg.options import check_backend

WORTH_CONVERTING = 5e13
"""Parameters × voxels of all windows of a case from which ``auto`` converts a network: some seconds of PyTorch.

Counted, not timed, so that a case is run by the same runtime every time.
"""

TOLERANCE = 1e-3
"""Largest difference from PyTorch's logits, as a share of their largest, at which a runtime counts as equal."""

Builder = Callable[[nn.Module, Windowing, Path | None, bool], Built]
"""Takes a network in evaluation mode, its batches, the cache folder or None, and whether what is made is kept there."""


@dataclass(frozen=True)
class Runtime:
    """What may run a network in place of PyTorch as it is.

    Args:
        builder: Module and function, a ``Builder``; imported only when the runtime is used.
        package: What has to be installed for it; None: nothing but PyTorch.
    """

    builder: str
    package: str | None = None

    def load_builder(self) -> Builder:
        """The function that gives a network to this runtime."""
        module, _, function = self.builder.rpartition(".")
        builder: Builder = getattr(importlib.import_module(module), function)
        return builder


RUNTIMES = {
    "compile": Runtime("medseg.inference.runtimes.torch_runtime.build_compiled"),
    "openvino": Runtime("medseg.inference.runtimes.conversion.build_openvino", "openvino"),
    "onnx": Runtime("medseg.inference.runtimes.conversion.build_onnx", "onnxruntime"),
    "tensorrt": Runtime("medseg.inference.runtimes.torch_runtime.build_tensorrt", "torch_tensorrt"),
}
"""By the name that ``--backend`` knows; a further runtime is one more row here."""


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
    note: Finding | None = None


@dataclass(frozen=True)
class Choice:
    """How batches of windows are run.

    Args:
        backend: One of ``medseg.options.BACKENDS`` but ``auto``.
        batch: Windows per pass.
        threads: How many a pass takes.
    """

    backend: str
    batch: int
    threads: int


def choose_backend(name: str, network: nn.Module, voxels: int) -> str:
    """What ``auto`` stands for: OpenVINO on a CPU where it is installed and worth it, PyTorch elsewhere.

    Args:
        name: One of BACKENDS.
        network: On its device.
        voxels: How many the windows of a case have together.
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

    What a runtime makes of it is compared with PyTorch before it is trusted; what was kept with the comparison that
    it passed, on this kind of processor and with these versions, is not compared again.

    Args:
        network: In evaluation mode, on its device.
        name: One of BACKENDS but ``auto``; see ``choose_backend``.
        windowing: The batches that will come; a smaller last one is filled up.
        cache: Folder for converted networks, kept by a hash of weights and shape; None: there is none.
        keeps: Whether what is made is kept there.

    Raises:
        UsageError: NAME_UNKNOWN.
    """
    check_backend(name)
    if name in ("auto", "torch"):
        return Backend("torch", network)
    runtime = RUNTIMES[name]
    if not is_installed(name):
        return Backend(
            "torch", network, make_note("BACKEND_MISSING", f"{runtime.package} is not installed; PyTorch is used")
        )
    try:
        built = runtime.load_builder()(network, windowing, cache, keeps)
        apart = measure_difference(network, built.run, windowing) if built.difference is None else built.difference
    except FAILURES as error:
        return Backend("torch", network, make_note("BACKEND_FAILED", f"{name}: {first_line(error)}; PyTorch is used"))
    if not apart <= TOLERANCE:
        text = f"{name}: logits differ by {apart:.2g} of the largest; PyTorch is used"
        return Backend("torch", network, make_note("BACKEND_DISAGREES", text))
    if built.difference is None and built.keep:
        built.keep(apart)
    return Backend(name, built.run)


def is_installed(name: str) -> bool:
    """Whether the package that a runtime needs is there."""
    package = RUNTIMES[name].package if name in RUNTIMES else None
    return package is None or importlib.util.find_spec(package) is not None


def measure_difference(network: nn.Module, run: Run, windowing: Windowing) -> float:
    """How far a runtime's logits of a window of noise are from PyTorch's, as a share of their largest."""
    device = next(network.parameters()).device
    windows = make_noise((1, *windowing.shape[1:])).to(device)
    with torch.inference_mode():
        expected, found = network(windows).float(), run(windows).float()
        run(torch.zeros_like(windows))  # A runtime that gives out its own memory would now change what was found.
    if expected.shape != found.shape:
        return float("inf")
    return float((expected - found).abs().max() / expected.abs().max().clamp_min(1e-6))
