"""A network converted for OpenVINO or ONNX Runtime, on the CPU, and kept with the comparison that it passed.

What was kept is trusted without a new comparison only where its bytes are those that were compared with PyTorch on
this kind of processor, with the same versions of both runtimes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medseg.errors import OutputError
from medseg.files import write_json, write_whole
from medseg.inference.runtimes.graph import FAILURES, trace
from medseg.inference.runtimes.machine import identify_cpu
from medseg.inference.runtimes.torch_runtime import Built, Run
from medseg.inference.windows import Windowing

NAME_CHARACTERS = 32


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


def build_onnx(network: nn.Module, windowing: Windowing, cache: Path | None, keeps: bool) -> Built:
    """The network for any number of windows at once; nothing is kept."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    content = convert_to_onnx(network, windowing)
    with _raising_runtime_errors():
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(windows: Tensor) -> Tensor:
        with _raising_runtime_errors():
            return torch.from_numpy(session.run(None, {"image": windows.contiguous().numpy()})[0])

    return Built(run)


def convert_to_onnx(network: nn.Module, windowing: Windowing) -> bytes:
    """The network as ONNX, for any number of windows at once."""
    buffer, axes = io.BytesIO(), {"image": {0: "windows"}, "logits": {0: "windows"}}
    names: dict[str, Any] = {"input_names": ["image"], "output_names": ["logits"], "dynamic_axes": axes}
    with torch.no_grad():
        torch.onnx.export(network, (torch.zeros(windowing.shape),), buffer, dynamo=False, **names)  # type: ignore[arg-type]
    return buffer.getvalue()


@contextmanager
def _raising_runtime_errors() -> Iterator[None]:
    """ONNX Runtime's own errors have no base class but Exception; they become what other runtimes raise."""
    from onnxruntime.capi import onnxruntime_pybind11_state

    of_module = vars(onnxruntime_pybind11_state).values()
    kinds = tuple(each for each in of_module if isinstance(each, type) and issubclass(each, Exception))
    try:
        yield
    except kinds as error:
        raise RuntimeError(str(error)) from error


@dataclass(frozen=True)
class CachedModel:
    """A file with the compiled form of a network.

    Args:
        path: The file; beside it lies what the comparison with PyTorch gave.
    """

    path: Path

    @classmethod
    def of(cls, name: str, windowing: Windowing, cache: Path) -> CachedModel:
        """The file of a network for batches of windows on this kind of processor.

        Args:
            name: The network's ``fingerprint``.
            windowing: The batches.
            cache: The folder that it lies in.
        """
        here = hashlib.sha256(identify_cpu().encode()).hexdigest()[:8]
        return cls(cache / f"{name}-{windowing.batch}-{here}.blob")

    def read(self) -> tuple[bytes, float] | None:
        """The bytes, and how far their logits were from PyTorch's; None where there are none that can be trusted."""
        try:
            content, record = self.path.read_bytes(), json.loads(self._record.read_text(encoding="utf8"))
            is_same = record["sha256"] == hashlib.sha256(content).hexdigest()
            return (content, float(record["largest_difference"])) if is_same else None
        except (OSError, ValueError, LookupError, TypeError):
            return None

    def write(self, content: bytes, difference: float) -> None:
        """Keep the bytes and what the comparison gave; a folder that cannot be written is passed over."""
        record = {"sha256": hashlib.sha256(content).hexdigest(), "largest_difference": difference}
        with contextlib.suppress(OutputError):
            write_whole(self.path, lambda file: file.write(content))
            write_json(record, self._record)

    @property
    def _record(self) -> Path:
        return self.path.with_suffix(".json")


def find_cache_folder() -> Path:
    """The folder in the user's cache where converted networks and choices are kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "medseg", "backends")


def fingerprint(network: nn.Module, windowing: Windowing, version: str) -> str | None:
    """A name for a converted network: changes with its operations, weights, window and the runtime's version.

    Batches of any size share it.

    Returns:
        None where the operations depend on what the windows hold, so that nothing tells it from other networks.
    """
    shape = (1, *windowing.shape[1:])
    try:
        operations = trace(network, shape).text
    except FAILURES:
        return None
    digest = hashlib.sha256(f"{network}{operations}{shape}{version}{torch.__version__}".encode())
    for name, tensor in network.state_dict().items():
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:NAME_CHARACTERS]
