"""What runs the network over a batch of windows: PyTorch as it is, compiled, or another runtime.

Every runtime is compared with PyTorch on windows of noise before it is trusted; one that is missing,
cannot take the network or disagrees is left, with a message, for PyTorch.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medseg.data.volume import Note
from medseg.errors import first_line
from medseg.inference.options import check_backend
from medseg.inference.windows import Windowing

WORTH_CONVERTING = 5e13
"""Parameters × voxels of all windows of a case from which ``auto`` converts a network: some seconds of PyTorch.

Counted, not timed, so that a case is run by the same runtime every time.
"""

TOLERANCE = 1e-3
"""Largest difference from PyTorch's logits, as a share of their largest, at which a runtime counts as equal."""

Run = Callable[[Tensor], Tensor]

_MODULES = {"openvino": "openvino", "onnx": "onnxruntime", "tensorrt": "torch_tensorrt"}
FAILURES = (RuntimeError, ValueError, TypeError, OSError, LookupError, AttributeError, ImportError, ArithmeticError)
"""What converting or running a network is known to raise."""


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
    return "openvino" if is_worth_it and is_on_cpu and _is_installed("openvino") else "torch"


def build_backend(network: nn.Module, name: str, windowing: Windowing, cache: Path | None = None) -> Backend:
    """The network in the runtime asked for, or in PyTorch with a note why.

    Args:
        network: In evaluation mode, on its device.
        name: One of BACKENDS but ``auto``; see ``chosen_backend``.
        windowing: The batches that will come; a smaller last one is filled up.
        cache: Folder for converted networks, kept by a hash of weights and shape; None keeps nothing.

    Raises:
        UsageError: BACKEND_UNKNOWN.
    """
    check_backend(name)
    if name in ("auto", "torch"):
        return Backend("torch", network)
    if not _is_installed(name):
        return Backend("torch", network, Note("BACKEND_MISSING", f"{_MODULES[name]} is not installed; PyTorch is used"))
    try:
        run = _BUILDERS[name](network, windowing, cache)
        apart = largest_difference(network, run, windowing)
    except FAILURES as error:
        return Backend("torch", network, Note("BACKEND_FAILED", f"{name}: {first_line(error)}; PyTorch is used"))
    if not apart <= TOLERANCE:
        text = f"{name}: logits differ by {apart:.2g} of the largest; PyTorch is used"
        return Backend("torch", network, Note("BACKEND_DISAGREES", text))
    return Backend(name, run)


def default_cache() -> Path:
    """Where converted networks are kept between runs: the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "medseg", "backends")


def fingerprint(network: nn.Module, windowing: Windowing, version: str) -> str:
    """A name for a converted network: changes with its structure, weights, window and the runtime's version."""
    digest = hashlib.sha256(f"{network}{windowing}{version}{torch.__version__}".encode())
    for name, tensor in network.state_dict().items():
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def _is_installed(name: str) -> bool:
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


def _compiled(network: nn.Module, windowing: Windowing, cache: Path | None) -> Run:
    return torch.compile(network, dynamic=False, options={"freezing": True})


def _openvino(network: nn.Module, windowing: Windowing, cache: Path | None) -> Run:
    import openvino

    core = openvino.Core()
    name = fingerprint(network, windowing, openvino.__version__)
    kept = cache / f"{name}.xml" if cache else None
    if kept and kept.is_file():
        model = core.read_model(kept)
    else:
        model = openvino_model(network, windowing)
        if kept:
            _keep(openvino, model, kept)
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": str(torch.get_num_threads()),
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()

    def run(windows: np.ndarray) -> np.ndarray:
        return request.infer([windows], share_inputs=True, share_outputs=False)[0]

    return _in_full_batches(run, windowing.batch)


def openvino_model(network: nn.Module, windowing: Windowing) -> Any:
    """The network as OpenVINO holds it; `openvino.convert_model`, which sends usage statistics, is not called."""
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    frontend = FrontEndManager().load_by_framework("pytorch")
    with torch.no_grad():
        decoder = TorchScriptPythonDecoder(network, example_input=torch.zeros(windowing.shape))
        model = frontend.convert(frontend.load(decoder))
    model.reshape(list(windowing.shape))
    return model


def _keep(openvino: Any, model: Any, path: Path) -> None:
    """Save a converted network so that another run never sees half of it: the weights first, then the description."""
    path.parent.mkdir(parents=True, exist_ok=True)
    waiting = path.with_name(f"{path.stem}.{os.getpid()}.xml")
    openvino.save_model(model, waiting, compress_to_fp16=False)
    waiting.with_suffix(".bin").replace(path.with_suffix(".bin"))
    waiting.replace(path)


def _onnx(network: nn.Module, windowing: Windowing, cache: Path | None) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(onnx_model(network, windowing), options, providers=["CPUExecutionProvider"])
    return _in_full_batches(lambda windows: session.run(None, {"image": windows})[0], windowing.batch)


def onnx_model(network: nn.Module, windowing: Windowing) -> bytes:
    """The network as ONNX, for any number of windows at once."""
    buffer, axes = io.BytesIO(), {"image": {0: "windows"}, "logits": {0: "windows"}}
    names: dict[str, Any] = {"input_names": ["image"], "output_names": ["logits"], "dynamic_axes": axes}
    with torch.no_grad():
        torch.onnx.export(network, (torch.zeros(windowing.shape),), buffer, dynamo=False, **names)  # type: ignore[arg-type]
    return buffer.getvalue()


def _tensorrt(network: nn.Module, windowing: Windowing, cache: Path | None) -> Run:
    import torch_tensorrt

    example = torch.zeros(windowing.shape, device=next(network.parameters()).device)
    return torch_tensorrt.compile(network, inputs=[example])


def _in_full_batches(run: Callable[[np.ndarray], np.ndarray], batch: int) -> Run:
    """A runtime made for one shape, given smaller batches filled up with zeros."""

    def run_filled(windows: Tensor) -> Tensor:
        count = len(windows)
        if count < batch:
            windows = torch.cat([windows, windows.new_zeros((batch - count, *windows.shape[1:]))])
        return torch.from_numpy(run(windows.contiguous().numpy())[:count])

    return run_filled


_BUILDERS: dict[str, Callable[[nn.Module, Windowing, Path | None], Any]] = {
    "compile": _compiled,
    "openvino": _openvino,
    "onnx": _onnx,
    "tensorrt": _tensorrt,
}
