"""What runs an exported network: ONNX Runtime, OpenVINO, or PyTorch for TorchScript."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.errors import BundleError, UsageError, first_line
from medseg.inference.running.machine import usable_cores
from medseg.inference.steps.description import Description
from medseg.inference.windows import Run

MODULES = {"torchscript": "torch", "onnx": "onnxruntime", "openvino": "openvino"}
"""The package that each kind of export needs."""

_FAILURES = (RuntimeError, ValueError, TypeError, OSError, LookupError, AttributeError, ImportError)


def check_runtime(to: str) -> None:
    """Refuse a kind of export whose runtime is not installed.

    Raises:
        UsageError: ``RUNTIME_MISSING``.
    """
    if importlib.util.find_spec(MODULES[to]) is None:
        remedy = f"install it: pip install 'medseg[{to}]'" if to != "torchscript" else "install PyTorch"
        raise UsageError("RUNTIME_MISSING", to, f"{MODULES[to]} is not installed", remedy)


def open_network(folder: Path, description: Description, threads: int | None = None) -> Run:
    """The network of an exported bundle, ready to run; ``threads`` of them where that is given.

    A batch smaller than the description's is run window by window, so that no window is computed in vain.

    Raises:
        UsageError: ``RUNTIME_MISSING``.
        BundleError: EXPORT_UNREADABLE: the runtime cannot load it.
    """
    check_runtime(description.to)
    try:
        run = _OPENERS[description.to](folder, threads)
    except _FAILURES as error:
        remedy = f"export the bundle again, or update {MODULES[description.to]}"
        raise BundleError("EXPORT_UNREADABLE", folder, first_line(error), remedy) from error

    def run_in_batches(windows: NDArray[np.float32]) -> NDArray[np.float32]:
        windows = np.ascontiguousarray(windows)
        if len(windows) == description.window.batch:
            return run(windows)
        return np.concatenate([run(windows[number : number + 1]) for number in range(len(windows))])

    return run_in_batches


def _onnx(folder: Path, threads: int | None) -> Run:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as raised

    # ONNX Runtime's own errors have no base class but Exception.
    names = "EPFail Fail InvalidArgument InvalidGraph InvalidProtobuf NoSuchFile NotImplemented RuntimeException"
    failures = tuple(getattr(raised, name) for name in names.split())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    try:
        session = onnxruntime.InferenceSession(folder / "network.onnx", options, providers=["CPUExecutionProvider"])
    except failures as error:
        raise RuntimeError(str(error)) from error

    def run(windows: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            return session.run(None, {"image": windows})[0]
        except failures as error:
            raise RuntimeError(str(error)) from error

    return run


def _openvino(folder: Path, threads: int | None) -> Run:
    import openvino

    core = openvino.Core()
    model = core.read_model(folder / "network.xml")
    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = str(threads)
    requests = {}

    def run(windows: NDArray[np.float32]) -> NDArray[np.float32]:
        if windows.shape not in requests:
            model.reshape(list(windows.shape))
            requests[windows.shape] = core.compile_model(model, "CPU", settings).create_infer_request()
        return requests[windows.shape].infer([windows], share_inputs=True, share_outputs=False)[0]

    return run


def _torchscript(folder: Path, threads: int | None) -> Run:
    import torch

    from medseg.inference.running.threads import pytorch_threads

    loaded = torch.jit.load(str(folder / "network.pt"), map_location="cpu").eval()
    network = torch.jit.optimize_for_inference(torch.jit.freeze(loaded))

    def run(windows: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode(), pytorch_threads(threads):
            return network(torch.from_numpy(windows)).numpy()

    return run


_OPENERS: dict[str, Callable[[Path, int | None], Run]] = {
    "torchscript": _torchscript,
    "onnx": _onnx,
    "openvino": _openvino,
}
