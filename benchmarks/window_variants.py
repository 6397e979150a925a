"""Ways to run a network over a volume's windows: MONAI's, nnU-Net's, medseg's, and the forward passes alone."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from medseg.allocator import keep_freed_memory
from medseg.inference.monai_inferer import SlidingWindow
from medseg.inference.restore import AxisChange, Discretisation, LabelRestorer
from medseg.inference.runtimes.backends import Windowing, build_backend
from medseg.inference.runtimes.graph_optimiser import optimise, split_head

MATMUL_SIZE = 2048
MATMUL_REPEATS = 5


class BackendRefusedError(RuntimeError):
    """The runtime that was to be measured was left for PyTorch."""


@dataclass(frozen=True)
class Work:
    """What every way is given.

    Args:
        network: In evaluation mode.
        image: (1, X, Y, Z) float32.
        classes: Of the network's logits.
        window: Voxels of a window along each axis.
        overlap: Share of a window that its neighbour covers again.
        batch: Windows per forward pass of medseg and of the passes alone.
        cache: Where converted networks are kept.
    """

    network: nn.Module
    image: Tensor
    classes: int
    window: tuple[int, int, int]
    overlap: float
    batch: int
    cache: Path

    @property
    def sliding_window(self) -> SlidingWindow:
        """medseg's windows, which are MONAI's."""
        return SlidingWindow(self.window, self.batch, self.overlap, mode="gaussian")

    @property
    def count(self) -> int:
        """Windows of the volume."""
        return len(self.sliding_window.windows(self.image.shape[1:]))


@dataclass(frozen=True)
class Prepared:
    """A way that is ready to run.

    Args:
        run: The run proper; gives what ``label`` takes.
        label: Makes labels (X, Y, Z) of it, as this toolkit does; None where nothing is to be labelled.
        cpu_seconds: What the run takes, where that is reckoned and not measured.
    """

    run: Callable[[], Any]
    label: Callable[[Any], NDArray] | None = None
    cpu_seconds: float | None = None


def _monai(work: Work, batch: int) -> Prepared:
    from monai.inferers import SlidingWindowInferer
    from monai.transforms import AsDiscrete

    inferer = SlidingWindowInferer(work.window, batch, work.overlap, mode="gaussian")
    _first_pass(work, work.network, batch)
    choose = AsDiscrete(argmax=True)
    return Prepared(lambda: inferer(work.image[None], work.network)[0], lambda logits: np.asarray(choose(logits))[0])


def _nnunet(work: Work) -> Prepared:
    """nnU-Net's predictor with a made-up plan, at MONAI's windows; its own would be as many, spaced evenly."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(
        work.overlap, use_mirroring=False, device=torch.device("cpu"), perform_everything_on_device=False
    )
    predictor.allow_tqdm = False
    predictor.network = work.network
    predictor.configuration_manager = SimpleNamespace(patch_size=work.window)
    predictor.label_manager = SimpleNamespace(num_segmentation_heads=work.classes)
    places = itertools.product(*work.sliding_window.windows(work.image.shape[1:]).starts)
    slicers = [(slice(None), *_box(place, work.window)) for place in places]
    predictor._internal_get_sliding_window_slicers = lambda size: slicers
    _first_pass(work, work.network, 1)
    return Prepared(
        lambda: predictor.predict_sliding_window_return_logits(work.image),
        # The quicker way of its label manager where classes exclude each other.
        lambda logits: logits.argmax(0).numpy(),
    )


def _medseg(work: Work, backend: str) -> Prepared:
    parts = split_head(work.network, (1, 1, *work.window), work.classes)
    run = _as_medseg_runs_it(work, parts.body if parts else work.network, backend)
    changes = tuple(
        AxisChange(axis, sparse.eye_array(size, format="csr")) for axis, size in enumerate(work.image.shape[1:])
    )

    def labels() -> NDArray:
        restorer = LabelRestorer(changes, Discretisation("softmax", None, ()), work.classes)
        for closed in work.sliding_window.slabs(work.image, run):
            for slab in parts.finish(closed) if parts else [closed]:
                restorer.add(slab)
        return restorer.labels

    return Prepared(labels, lambda array: array)


def _passes(work: Work) -> Prepared:
    _first_pass(work, work.network, work.batch)
    return _repeated(work, work.network)


def _passes_as_medseg(work: Work, backend: str) -> Prepared:
    return _repeated(work, _as_medseg_runs_it(work, work.network, backend))


def _arithmetic(work: Work) -> Prepared:
    """The time that the network's floating-point operations take at this machine's rate of matrix products."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work.network(_batch(work, 1))
    flops = counter.get_total_flops() * work.count
    return Prepared(lambda: None, cpu_seconds=flops / _matmul_flops_per_cpu_second())


def _as_medseg_runs_it(work: Work, network: nn.Module, backend: str) -> Callable[[Tensor], Tensor]:
    """A network as ``Predictor`` prepares it, first pass done."""
    keep_freed_memory()
    network = optimise(network.to(memory_format=torch.channels_last_3d))  # type: ignore[call-overload]
    built = build_backend(network, backend, Windowing(work.batch, 1, work.window), work.cache)
    if built.name != backend:
        raise BackendRefusedError(built.note)
    _first_pass(work, built.run, work.batch)
    return built.run


def _first_pass(work: Work, run: Callable[[Tensor], Tensor], batch: int) -> None:
    run(_batch(work, batch))


def _repeated(work: Work, run: Callable[[Tensor], Tensor]) -> Prepared:
    batch = _batch(work, work.batch)

    def passes() -> None:
        for _ in range(math.ceil(work.count / work.batch)):
            run(batch)

    return Prepared(passes)


def _batch(work: Work, count: int) -> Tensor:
    """The window in the middle of the volume, ``count`` times."""
    starts = [(size - length) // 2 for size, length in zip(work.image.shape[1:], work.window, strict=True)]
    return work.image[(slice(None), *_box(starts, work.window))].expand(count, -1, -1, -1, -1).contiguous()


def _box(corner: Sequence[int], window: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(start, start + length) for start, length in zip(corner, window, strict=True))


def _matmul_flops_per_cpu_second() -> float:
    """The best rate of a few products of large matrices, by the time of all cores together.

    PyTorch has two libraries for them, and on some processors one is half as fast as the other.
    """
    from torch.utils.mkldnn import to_mkldnn

    matrix = torch.randn(MATMUL_SIZE, MATMUL_SIZE)
    products: list[Callable[[], Any]] = [lambda: matrix @ matrix]
    if torch.backends.mkldnn.is_available():
        linear, rows = to_mkldnn(nn.Linear(MATMUL_SIZE, MATMUL_SIZE, bias=False).eval()), matrix.to_mkldnn()
        products.append(lambda: linear(rows))
    best = min(_cpu_seconds(product) for product in products for _ in range(MATMUL_REPEATS))
    return 2 * MATMUL_SIZE**3 / best


def _cpu_seconds(function: Callable[[], Any]) -> float:
    started = time.process_time()
    function()
    return time.process_time() - started


@dataclass(frozen=True)
class Variant:
    """One way to measure.

    Args:
        prepare: Makes it ready to run.
        modules: What it needs; imported before anything is measured.
    """

    prepare: Callable[[Work], Prepared]
    modules: tuple[str, ...] = ()


_NNUNET = ("nnunetv2.inference.predict_from_raw_data",)
_OPENVINO = ("openvino",)

VARIANTS: dict[str, Variant] = {
    "MONAI, batch 1": Variant(lambda work: _monai(work, 1)),
    "MONAI, batch 4": Variant(lambda work: _monai(work, 4)),
    "nnU-Net": Variant(_nnunet, _NNUNET),
    "medseg, torch": Variant(lambda work: _medseg(work, "torch")),
    "medseg, openvino": Variant(lambda work: _medseg(work, "openvino"), _OPENVINO),
    "passes, torch": Variant(_passes),
    "passes, torch as medseg": Variant(lambda work: _passes_as_medseg(work, "torch")),
    "passes, openvino": Variant(lambda work: _passes_as_medseg(work, "openvino"), _OPENVINO),
    "arithmetic": Variant(_arithmetic),
}
