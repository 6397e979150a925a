"""The plan of a case of a bundle: its sizes before and after it was read, and what a pass of its network takes.

A pass is measured on one window; the rest is in ``medseg.inference.plan``.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.transforms import CropForegroundd, LazyTransform, Spacingd
from torch import nn

from medseg.bundle.load import Bundle
from medseg.data.deshear import is_sheared
from medseg.data.volume import Extent
from medseg.inference.monai_inferer import SlidingWindow
from medseg.inference.plan import CasePlan, Shapes, count_allowed_bytes, fit_plan
from medseg.inference.runtimes.backends import Choice, choose_backend
from medseg.inference.runtimes.graph_optimiser import optimise, split_head
from medseg.inference.runtimes.network_runner import Footprint, measure_footprint
from medseg.inference.steps.monai_steps import read_discretisation
from medseg.options import PredictOptions

ROUGH_SHARE = 0.25
"""Where all but the pass of a window takes less than this share of what is free, no window is run to measure it."""


def plan_case(
    case: str, shapes: Shapes, bundle: Bundle, options: PredictOptions, choice: Choice | None = None
) -> CasePlan:
    """How a case will be run where memory does not matter.

    One window is run to see what a pass takes.

    Args:
        case: The case's id.
        shapes: Sizes of its image.
        bundle: Its network on the device where it will run.
        options: How to run it.
        choice: What timing found best; None: batch and backend are chosen by rule.
    """
    plan = _rough_plan(case, shapes, bundle, options, choice)
    network, window = bundle.network, (shapes.channels, *plan.roi)
    if plan.is_streamed and isinstance(network, nn.Module):
        parts = split_head(network, (1, *window), len(bundle.labels))
        network = parts.body if parts else network
    return replace(plan, one_pass=measure_footprint(optimise(network), window))


def plan_within_memory(
    case: str, shapes: Shapes, bundle: Bundle, options: PredictOptions, choice: Choice | None = None
) -> CasePlan:
    """How a case will be run so that it keeps to ``options.max_ram``, or to what is free.

    A window is run to see what a pass takes only where memory is limited, or all the rest comes near what is free.

    Args:
        case: The case's id.
        shapes: Sizes of its image.
        bundle: Its network on the device where it will run.
        options: How to run it.
        choice: What timing found best; None: batch and backend are chosen by rule.

    Raises:
        ImageError: ``MEMORY_BUDGET``.
    """
    most = count_allowed_bytes(options)
    rough = _rough_plan(case, shapes, bundle, options, choice)
    if most is None or (options.max_ram is None and rough.peak_bytes < ROUGH_SHARE * most):
        return rough
    return fit_plan(plan_case(case, shapes, bundle, options, choice), most)


def read_window(bundle: Bundle, options: PredictOptions) -> SlidingWindow:
    """The bundle's windows; one that is the whole image where it has none."""
    if not isinstance(bundle.inferer, SlidingWindowInferer):
        return SlidingWindow(0)
    window = SlidingWindow.of(bundle.inferer)
    window.overlap = window.overlap if options.overlap is None else options.overlap
    return window


def fit_window(window: SlidingWindow, plan: CasePlan) -> SlidingWindow:
    """The same windows, run and summed as the plan has it."""
    fitted = copy.copy(window)
    fitted.sw_batch_size = plan.batch
    fitted.storage = torch.bfloat16 if plan.storage == "bfloat16" else None
    fitted.spill = plan.spill
    return fitted


def _rough_plan(case: str, shapes: Shapes, bundle: Bundle, options: PredictOptions, choice: Choice | None) -> CasePlan:
    """Where a pass of the network takes nothing."""
    window = read_window(bundle, options)
    windows = window.windows(shapes.network)
    has_windows = isinstance(bundle.inferer, SlidingWindowInferer)
    how = read_discretisation(bundle.postprocessing)
    classes = 1 if how and how.activation == "sigmoid" else len(bundle.labels)
    is_torch = options.amp or not has_windows or not isinstance(bundle.network, nn.Module)
    voxels = len(windows) * math.prod(windows.roi)
    counted = "torch" if is_torch else choose_backend(options.backend, bundle.network, voxels)
    return CasePlan(
        case=case,
        shapes=shapes,
        classes=classes,
        windows=windows,
        one_pass=Footprint(classes, 0, 0),
        batch=choice.batch if choice else max(1, window.sw_batch_size),
        backend=choice.backend if choice else counted,
        choice=choice,
        is_streamed=has_windows and how is not None and shapes.is_along_axes,
        keeps_probabilities=options.probabilities,
        slice_axis=window.slice_axis,
    )


def expect_shapes(extent: Extent, bundle: Bundle) -> Shapes:
    """The sizes of an image that was not read, as far as its header and the bundle's preprocessing tell.

    Steps that go by the voxels, such as cropping to what is not empty, are passed over: the network's grid is then at
    most as large as said here.
    """
    steps = bundle.preprocessing.transforms
    return Shapes(
        channels=len(bundle.channels),
        image=extent.shape,
        network=_after(extent, steps),
        spacing_mm=extent.spacing_mm,
        stored_bytes=extent.stored_bytes,
        is_resampled=any(isinstance(step, Spacingd) for step in steps),
        is_along_axes=not is_sheared(extent.affine) and not any(map(_turns, steps)),
    )


def _turns(step: object) -> bool:
    """Whether a step resamples onto the axes of the world."""
    return isinstance(step, Spacingd) and bool(step.spacing_transform.diagonal)


def _after(extent: Extent, steps: Iterable[object]) -> tuple[int, ...]:
    """MONAI's own sizes: each step is asked lazily, with an image whose voxels all share one place in memory."""
    axes = len(extent.shape)
    affine = extent.affine if axes == 3 else extent.affine[np.ix_([0, 1, 3], [0, 1, 3])]
    image = MetaTensor(torch.zeros([1] * (axes + 1)).expand(1, *extent.shape), affine=torch.as_tensor(affine))
    data = {"image": image}
    for step in steps:
        if isinstance(step, LazyTransform) and not isinstance(step, CropForegroundd):
            lazily: Any = step
            data = lazily(data, lazy=True)
    return tuple(int(n) for n in data["image"].peek_pending_shape())
