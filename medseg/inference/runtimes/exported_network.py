"""What plans the cases of an exported bundle and runs its network: ONNX Runtime, OpenVINO, or PyTorch for TorchScript.

Nothing here imports PyTorch or MONAI, but for TorchScript, which is PyTorch.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.allocator import fit_allocator
from medseg.errors import BundleError, UsageError, first_line
from medseg.inference.input_checks import FLOAT_BYTES
from medseg.inference.plan import NUMPY, CasePlan, Shapes, count_allowed_bytes, fit_plan
from medseg.inference.runtimes.machine import count_usable_cores
from medseg.inference.slabs import Slab
from medseg.inference.steps.description import Description
from medseg.inference.windows import Run, WindowPlan, lay_windows
from medseg.options import NO_LOCATOR, PredictOptions

MODULES = {"torchscript": "torch", "onnx": "onnxruntime", "openvino": "openvino"}
"""The package that each kind of export needs."""

BACKEND_OF = {"torchscript": "torch", "onnx": "onnx", "openvino": "openvino"}
"""The ``--backend`` that each kind of export is."""

PASS_SHARES = {"torchscript": (1.6, 0.0), "onnx": (1.0, 1.8), "openvino": (1.7, 0.0)}
"""What a runtime takes, in units of what PyTorch has in use for a window: for each window of a batch, and besides.

Measured on U-Nets of 48 and 96 voxels in batches of 1 and 2, at the upper end: ONNX Runtime lays windows out for its
convolutions, most of all those of many features.
"""

_FAILURES = (RuntimeError, ValueError, TypeError, OSError, LookupError, AttributeError, ImportError)


@dataclass(frozen=True)
class ExportedPass:
    """What a pass of an exported network takes; see ``medseg.inference.plan.PassCost``.

    Args:
        description: Says what one took in PyTorch at the export.
    """

    description: Description
    weight_bytes: int = 0

    @property
    def channels(self) -> int:
        """Channels of its logits."""
        return self.description.scores

    def window_bytes(self, batch: int) -> int:
        """Bytes of the results of a batch of windows, one of them weighted, and of what lies between."""
        per_window, besides = PASS_SHARES[self.description.to]
        given = FLOAT_BYTES * (self.channels + 1) * math.prod(self.description.window.roi)
        return batch * given + int((per_window * batch + besides) * self.description.pass_bytes)


class ExportedRuntime:
    """An exported bundle's network; see ``medseg.inference.predictor.Runtime``.

    Args:
        folder: The exported bundle.
        description: What it says of itself.
        options: How to run it.

    Raises:
        UsageError: ``PACKAGE_MISSING``.
        BundleError: EXPORT_UNREADABLE.
    """

    note = ""

    def __init__(self, folder: Path, description: Description, options: PredictOptions) -> None:
        self.description, self.options = description, options
        self.on_windows: Callable[[int], None] = lambda windows: None
        self._batch = description.window.batch
        self._network = open_network(folder, description, options.threads)
        fit_allocator(is_memory_limited=options.max_ram is not None)

    @property
    def run_by(self) -> dict[str, object]:
        """What ran the windows, for a record."""
        threads = self.options.threads or count_usable_cores()
        runtime = {"backend": BACKEND_OF[self.description.to], "windows_at_a_time": self._batch, "threads": threads}
        return {**runtime, "chosen_by": "export"}

    def plan(self, case_id: str, shapes: Shapes) -> CasePlan:
        """How a case will be run so that it keeps to the memory allowed.

        Raises:
            ImageError: ``MEMORY_BUDGET``: however it is run; the remedy names the size that would do. ``IMAGE_EMPTY``.
        """
        window = self._window(len(shapes.network))
        free = CasePlan(
            case=case_id,
            shapes=shapes,
            classes=self.description.scores,
            windows=lay_windows(shapes.network, window),
            one_pass=ExportedPass(self.description),
            batch=window.batch,
            backend=BACKEND_OF[self.description.to],
            is_streamed=shapes.is_along_axes,
            keeps_probabilities=self.options.probabilities,
            slice_axis=window.slice_axis,
            library=NUMPY,
        )
        return fit_plan(free, count_allowed_bytes(self.options))

    def open(self) -> AbstractContextManager[None]:
        """Nothing has to be set while the network runs."""
        return nullcontext()

    def choose(self, plan: CasePlan, image: NDArray[np.float32]) -> WindowPlan:
        """The windows, run as planned."""
        self._batch = plan.batch
        return replace(self._window(image.ndim - 1), batch=plan.batch)

    def place(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """The image itself."""
        return image

    def finish(self, slab: Slab) -> Iterator[Slab]:
        """The slab itself, which holds logits."""
        return iter([slab])

    def run(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits (N, C, …) of windows (N, channels, …), which are counted."""
        logits = self._network(windows)
        self.on_windows(len(windows))
        return logits

    def run_filled(self, values: NDArray[np.floating], window: WindowPlan) -> NDArray[np.float32]:
        """Logits (C, …) of a window filled with these values, one for each channel."""
        shape = (window.batch, len(values), *window.network_roi)  # A batch of that shape comes anyway.
        filled = np.broadcast_to(values.reshape(1, -1, *[1] * len(window.network_roi)), shape)
        return self._network(np.ascontiguousarray(filled, np.float32))[0]

    def run_whole(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits (C, …) of an image (channels, …) that goes through the network in one piece."""
        return self.run(image[None])[0]

    def _window(self, axes: int) -> WindowPlan:
        window, overlap = self.description.window, self.options.overlap
        return window if overlap is None else replace(window, overlap=(overlap,) * axes)


def check_options(options: PredictOptions, description: Description) -> None:
    """Refuse options that ask for what only a bundle itself can do.

    Raises:
        UsageError: ``OPTION_NOT_OFFERED``.
    """
    asked = {
        "--tta": options.tta,
        "--amp": options.amp,
        "--device cuda": options.device == "cuda",
        f"--backend {options.backend}": options.backend not in ("auto", BACKEND_OF[description.to]),
        "--locator": options.locator not in (None, NO_LOCATOR),
    }
    for option, is_asked in asked.items():
        if is_asked:
            problem = f"a bundle exported to {description.to} runs as it was exported, on the CPU"
            raise UsageError("OPTION_NOT_OFFERED", option, problem, "leave it out, or use the bundle itself")


def check_runtime(to: str) -> None:
    """Refuse a kind of export whose runtime is not installed.

    Raises:
        UsageError: ``PACKAGE_MISSING``.
    """
    if importlib.util.find_spec(MODULES[to]) is None:
        remedy = f"install it: pip install 'medseg[{to}]'" if to != "torchscript" else "install PyTorch"
        raise UsageError("PACKAGE_MISSING", to, f"{MODULES[to]} is not installed", remedy)


def open_network(folder: Path, description: Description, threads: int | None = None) -> Run:
    """The network of an exported bundle, ready to run; ``threads`` of them where that is given.

    A batch smaller than the description's is run window by window, so that no window is computed in vain.

    Raises:
        UsageError: ``PACKAGE_MISSING``.
        BundleError: EXPORT_UNREADABLE: the runtime cannot load it.
    """
    check_runtime(description.to)
    try:
        run = _opener(description.to)(folder, threads)
    except _FAILURES as error:
        remedy = f"export the bundle again, or update {MODULES[description.to]}"
        raise BundleError("EXPORT_UNREADABLE", folder, first_line(error), remedy) from error

    def run_in_batches(windows: NDArray[np.float32]) -> NDArray[np.float32]:
        windows = np.ascontiguousarray(windows)
        if len(windows) == description.window.batch:
            return run(windows)
        return np.concatenate([run(windows[number : number + 1]) for number in range(len(windows))])

    return run_in_batches


def _open_onnx(folder: Path, threads: int | None) -> Run:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as raised

    # ONNX Runtime's own errors have no base class but Exception.
    names = "EPFail Fail InvalidArgument InvalidGraph InvalidProtobuf NoSuchFile NotImplemented RuntimeException"
    failures = tuple(getattr(raised, name) for name in names.split())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or count_usable_cores()
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


def _open_openvino(folder: Path, threads: int | None) -> Run:
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


_OPENERS: dict[str, Callable[[Path, int | None], Run] | str] = {
    "torchscript": "medseg.inference.runtimes.torch_runtime:open_torchscript",
    "onnx": _open_onnx,
    "openvino": _open_openvino,
}
"""What opens a network; by name where that imports PyTorch, which nothing else here may."""


def _opener(to: str) -> Callable[[Path, int | None], Run]:
    opener = _OPENERS[to]
    if not isinstance(opener, str):
        return opener
    module, name = opener.split(":")
    return getattr(importlib.import_module(module), name)
