"""A network in OpenVINO, on the CPU."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medseg.inference.runtimes.model_cache import CachedModel, fingerprint
from medseg.inference.runtimes.torch_runtime import Built, Run
from medseg.inference.windows import Windowing


def build_openvino(network: nn.Module, windowing: Windowing, cache: Path | None, keeps: bool) -> Built:
    """The network compiled for batches of windows, from the cache where it is kept there.

    Args:
        network: In evaluation mode, on the CPU.
        windowing: The batches that will come.
        cache: Folder for converted and compiled networks, or None.
        keeps: Whether what is made is kept there.
    """
    import openvino

    core = openvino.Core()
    name = fingerprint(network, windowing, openvino.__version__) if cache else None
    artefact = CachedModel.of(name, windowing, cache) if cache and name else None
    known = artefact.read() if artefact else None
    if known and (imported := _import(core, known[0])):
        return Built(_make_run(imported, windowing.batch), known[1])
    model = _convert(core, network, windowing, cache / f"{name}.xml" if cache and name else None, keeps)
    compiled = core.compile_model(model, "CPU", _settings())

    def keep(difference: float) -> None:
        if artefact and keeps:
            with contextlib.suppress(RuntimeError):  # A device that cannot give out what it compiled.
                artefact.write(compiled.export_model().getvalue(), difference)

    return Built(_make_run(compiled, windowing.batch), keep=keep)


def convert_to_openvino(network: nn.Module, windowing: Windowing) -> Any:
    """The network as OpenVINO holds it; `openvino.convert_model`, which sends usage statistics, is not called."""
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    frontend = FrontEndManager().load_by_framework("pytorch")
    with torch.no_grad():
        decoder = TorchScriptPythonDecoder(network, example_input=torch.zeros(windowing.shape))
        model = frontend.convert(frontend.load(decoder))
    model.reshape(list(windowing.shape))
    return model


def save_openvino_model(network: nn.Module, windowing: Windowing, path: Path) -> None:
    """Write the network for any number of windows at once: the description at ``path``, the weights beside it."""
    import openvino

    model = convert_to_openvino(network, windowing)
    model.reshape([-1, *windowing.shape[1:]])
    openvino.save_model(model, path, compress_to_fp16=False)


def _settings() -> dict[str, str]:
    """How a network is compiled.

    OpenVINO's own ``CACHE_DIR`` is not set: it takes a damaged file without a word, and gives other logits.
    """
    return {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": str(torch.get_num_threads()),
    }


def _import(core: Any, content: bytes) -> Any | None:
    """What was compiled earlier; None where OpenVINO will not have it."""
    try:
        return core.import_model(content, "CPU", _settings())
    except RuntimeError:
        return None


def _convert(core: Any, network: nn.Module, windowing: Windowing, kept: Path | None, keeps: bool) -> Any:
    """The conversion that was kept, whatever its batch, or a new one."""
    if kept and kept.is_file():
        with contextlib.suppress(RuntimeError):  # A damaged file, or a network that holds to the batch it was made for.
            model = core.read_model(kept)
            model.reshape(list(windowing.shape))
            return model
    model = convert_to_openvino(network, windowing)
    if kept and keeps:
        _keep(model, kept)
    return model


def _keep(model: Any, path: Path) -> None:
    """Save a converted network so that another run never sees half of it: the weights first, then the description.

    A folder that cannot be written is passed over.
    """
    import openvino

    waiting = path.with_name(f"{path.stem}.{os.getpid()}.xml")
    with contextlib.suppress(OSError, RuntimeError):  # OpenVINO tells of a full disk with a RuntimeError.
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            openvino.save_model(model, waiting, compress_to_fp16=False)
            waiting.with_suffix(".bin").replace(path.with_suffix(".bin"))
            waiting.replace(path)
        finally:
            for left in (waiting, waiting.with_suffix(".bin")):
                left.unlink(missing_ok=True)


def _make_run(compiled: Any, batch: int) -> Run:
    """What runs a compiled network over batches; one that is not full is filled up with zeros."""
    import openvino

    request, shape = compiled.create_infer_request(), tuple(compiled.output(0).shape)

    def run(windows: Tensor) -> Tensor:
        logits = torch.empty(shape)  # Written by OpenVINO itself, and not used again by the next pass.
        request.set_output_tensor(0, openvino.Tensor(logits.numpy(), shared_memory=True))
        request.infer([_fill(windows, batch).numpy()], share_inputs=True, share_outputs=True)
        return logits[: len(windows)]

    return run


def _fill(windows: Tensor, batch: int) -> Tensor:
    count = len(windows)
    if count == batch:
        return windows.contiguous()
    full = windows.new_empty((batch, *windows.shape[1:]))
    full[:count] = windows
    full[count:] = 0
    return full
