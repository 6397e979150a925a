"""How long the steps of a case take here, timed in a few seconds on little pieces."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor

from medseg.bundle.load import Bundle
from medseg.data.formats.payload import open_source
from medseg.inference.monai_inferer import SlidingWindow
from medseg.inference.plan import CasePlan
from medseg.inference.restore import AxisChange, LabelRestorer, linear_weights
from medseg.inference.runtimes.network_runner import NetworkRunner
from medseg.inference.runtimes.torch_runtime import make_noise
from medseg.inference.runtimes.tuning import time_call
from medseg.inference.slabs import Slab
from medseg.inference.steps.monai_steps import read_discretisation

PIECE_VOXELS = 48
"""Along each axis of the pieces that reading's and restoring's rates are taken from."""

START_BYTES = 1 << 23
"""So much of a file is read to see how fast it can be."""

TIMED_BATCHES = 2
"""So many batches are run to see what a window takes."""


def time_window(passes: NetworkRunner, plan: CasePlan, window: SlidingWindow) -> float:
    """Time one window, summing included, by a few batches of noise.

    Args:
        passes: What runs the network, with the runtime chosen.
        plan: The plan of the case.
        window: What ``medseg.inference.bundle_plan.fit_window`` gives.
    """
    axis, roi = plan.windows.slab_axis, plan.windows.roi
    step = max(1, int(roi[axis] * (1 - plan.windows.overlap[axis])))
    size = [*roi]
    size[axis] += min((TIMED_BATCHES * plan.batch - 1) * step, plan.windows.padded[axis] - roi[axis])
    noise = make_noise((plan.shapes.channels, *size)).to(passes.device)

    def run() -> None:
        with torch.inference_mode(), passes.precision():
            for _ in window.slabs(noise, passes):
                pass

    return time_call(run) / len(window.windows(size))


def time_reading(paths: Sequence[str], plan: CasePlan) -> float:
    """Seconds for a case's files, from the time that the first bytes of the first one take; 0 where it is a folder."""
    shapes, first = plan.shapes, Path(paths[0])
    if not first.is_file():
        return 0.0
    with open_source(first) as source:
        started = time.perf_counter()
        count = len(source.read(START_BYTES))
        passed = time.perf_counter() - started
    return passed / max(1, count) * shapes.stored_bytes * shapes.channels * math.prod(shapes.image)


def time_preparing(bundle: Bundle, plan: CasePlan) -> float:
    """Seconds of the bundle's preprocessing, from those of a piece of noise with the scan's spacing."""
    shapes = plan.shapes
    piece = tuple(min(n, PIECE_VOXELS) for n in shapes.image)
    noise = torch.rand(shapes.channels, *piece) * 100
    affine = torch.diag(torch.tensor([*shapes.spacing_mm, 1.0], dtype=torch.float64))
    data = {"image": MetaTensor(noise, affine=affine, meta={"original_channel_dim": 0})}
    passed = time_call(lambda: bundle.preprocessing(data, start=1))
    return passed * math.prod(shapes.image) / math.prod(piece)


def time_restoring(bundle: Bundle, plan: CasePlan) -> float:
    """Seconds of the way from logits to labels on the scan's grid, from those of a piece of noise."""
    how = read_discretisation(bundle.postprocessing)
    if how is None:
        return 0.0
    sizes = list(zip(plan.shapes.network, plan.shapes.image, strict=True))
    piece = [min(network, PIECE_VOXELS) for network, _ in sizes]
    wanted = [max(1, round(size * image / network)) for size, (network, image) in zip(piece, sizes, strict=True)]
    pairs = enumerate(zip(piece, wanted, strict=True))
    changes = [AxisChange(axis, linear_weights(np.linspace(0, old - 1, new), old)) for axis, (old, new) in pairs]
    slab = Slab(0, 0, torch.randn(plan.classes, *piece))
    passed = time_call(lambda: LabelRestorer(changes, how, len(bundle.labels)).add(slab))
    return passed * math.prod(plan.shapes.image) / math.prod(wanted)
