"""A network in ONNX Runtime, on the CPU."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medseg.inference.runtimes.torch_runtime import Built
from medseg.inference.windows import Windowing


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
