"""What a case of a bundle will take in memory and time, stated before it is run, and held to what it may take.

The parts are counted from shapes alone, but for the pass of a window, which is measured on one
(``medseg.inference.planning.footprint``). Where a case would take more than it may, its plan is changed
step by step along LADDER until it fits.
"""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.transforms import CropForegroundd, LazyTransform, Spacingd
from torch import nn

from medseg.bundle.load import Bundle
from medseg.data.extents import Extent
from medseg.data.rectifying import is_sheared
from medseg.data.volume import Note
from medseg.geometry import spacing_mm
from medseg.inference.input_checks import FLOAT_BYTES
from medseg.inference.options import PredictOptions
from medseg.inference.plan import allowed_bytes, first_fitting
from medseg.inference.planning.footprint import Footprint, footprint
from medseg.inference.restore import discretisation
from medseg.inference.running.backends import chosen_backend
from medseg.inference.running.folding import folded
from medseg.inference.running.heads import split
from medseg.inference.running.tuning import Choice
from medseg.inference.slabs import CLOSED_BYTES
from medseg.inference.sliding_window import SlidingWindow
from medseg.inference.windows import Windows

STORAGE_BYTES = {"float32": 4, "bfloat16": 2, "disk": 0}
"""Bytes of memory for each sum of logits: in full, in half, or in a file."""

GRID_BYTES = 56
"""For each voxel that MONAI resamples by itself: where it lies, in 64-bit floats, twice."""

ROUGH_SHARE = 0.25
"""Where all but the pass of a window takes less than this share of what is free, no window is run to measure it."""

WIDE_BYTES = 8
"""Of a voxel while MONAI resamples it, in 64 bits."""


@dataclass(frozen=True)
class CasePlan:
    """How a case will be run, and what that takes.

    Args:
        case: Its id.
        shapes: Of its image.
        classes: That are told apart.
        windows: Where they lie.
        one_pass: Of a window; its channels are what is summed: the classes' logits, or fewer features before them.
        batch: Windows per pass.
        backend: What runs the network.
        storage: A key of STORAGE_BYTES: how the sums of the open slab are kept.
        is_streamed: Whether labels are made slab by slab; otherwise the scores of all classes exist at once.
        keeps_probabilities: Whether the probabilities are given as well.
        slice_axis: The axis across which a 2D network takes slices; None: windows have the image's axes.
        seconds: What it will take, about; None where nothing was timed.
        is_reduced: Whether it was changed to take less memory.
        choice: What timing found best; None: batch and backend are chosen by rule.
    """

    case: str
    shapes: Shapes
    classes: int
    windows: Windows
    one_pass: Footprint
    batch: int
    backend: str
    storage: str = "float32"
    is_streamed: bool = True
    keeps_probabilities: bool = False
    slice_axis: int | None = None
    seconds: float | None = None
    is_reduced: bool = False
    choice: Choice | None = None

    @property
    def roi(self) -> tuple[int, ...]:
        """Voxels of a window along the axes that the network takes."""
        return tuple(n for axis, n in enumerate(self.windows.roi) if axis != self.slice_axis)

    @property
    def parts(self) -> Mapping[str, int]:
        """Bytes by what they hold; not all are held at the same time, see ``peak_bytes``."""
        return {
            "preparing": self._preparing_bytes(),
            "image": self._image_bytes(),
            "windows": self._window_bytes(),
            "sums": self._sum_bytes(),
            "restoring": self._restoring_bytes(),
            "mask": self._mask_bytes(),
        }

    @property
    def peak_bytes(self) -> int:
        """The most that the case takes at once."""
        parts = self.parts
        running = parts["image"] + parts["sums"] + self._label_bytes() + max(parts["windows"], parts["restoring"])
        return max(parts["preparing"], running, parts["image"] + parts["mask"])

    @property
    def note(self) -> Note | None:
        """What was changed for the sake of memory and can be seen in the mask."""
        if self.storage != "bfloat16":
            return None
        return Note("SUMS_HALVED", "to keep to the memory allowed, logits were summed in 16 bits")

    def _preparing_bytes(self) -> int:
        shapes = self.shapes
        read, made = shapes.channels * math.prod(shapes.image), math.prod(shapes.network)
        if not shapes.is_resampled:
            return read * max(FLOAT_BYTES + shapes.stored_bytes, 2 * FLOAT_BYTES)
        resampling = FLOAT_BYTES * (read + 2 * shapes.channels * made)
        if not shapes.is_along_axes:
            resampling = read * WIDE_BYTES + made * (GRID_BYTES + shapes.channels * WIDE_BYTES)
        return read * FLOAT_BYTES + max(read * shapes.stored_bytes, resampling)

    def _image_bytes(self) -> int:
        size, padded = math.prod(self.windows.image), math.prod(self.windows.padded)
        return FLOAT_BYTES * self.shapes.channels * (size + (padded if padded != size else 0))

    def _window_bytes(self) -> int:
        taken = FLOAT_BYTES * self.shapes.channels * self.batch * math.prod(self.windows.roi)
        converted = 0 if self.backend == "torch" else 2 * self.one_pass.weight_bytes
        return taken + self.one_pass.window_bytes(self.batch) + converted

    def _sum_bytes(self) -> int:
        kept = (self.one_pass.channels * STORAGE_BYTES[self.storage] + FLOAT_BYTES) * self.windows.slab_voxels()
        whole = 0 if self.is_streamed else 2 * self.classes * FLOAT_BYTES * math.prod(self.windows.image)
        return kept + whole

    def _restoring_bytes(self) -> int:
        """Of rows that close: their logits, scores of one class on either grid, and the last rows kept for the next."""
        image = math.prod(self.shapes.image)
        if not self.is_streamed:
            return 2 * self.classes * FLOAT_BYTES * image
        axis, roi = self.windows.slab_axis, self.windows.roi
        row, restored_row = self.windows.slab_voxels() // roi[axis], image // self.windows.padded[axis]
        closing = min(roi[axis], max(1, CLOSED_BYTES // (FLOAT_BYTES * self.classes * row)))
        is_summed_so = self.storage != "bfloat16" and self.one_pass.channels == self.classes
        logits = 0 if is_summed_so else self.classes * closing * row
        last_batch = self.batch * self.one_pass.channels * math.prod(roi)
        scores = (3 * row + 4 * restored_row) * closing + self.classes * restored_row
        return int(FLOAT_BYTES * (last_batch + logits + scores))

    def _label_bytes(self) -> int:
        scores = FLOAT_BYTES * self.classes if self.keeps_probabilities else 0
        return ((1 if self.classes <= 256 else 4) + scores) * math.prod(self.shapes.image)

    def _mask_bytes(self) -> int:
        """Of labels that are turned to the scan's axes."""
        return 2 * self._label_bytes()


Step = Callable[[CasePlan], CasePlan | None]


def _halved_batch(plan: CasePlan) -> CasePlan | None:
    return replace(plan, batch=plan.batch // 2, is_reduced=True) if plan.batch > 1 else None


def _stored_as(kind: str) -> Step:
    def step(plan: CasePlan) -> CasePlan | None:
        is_smaller = STORAGE_BYTES[kind] < STORAGE_BYTES[plan.storage]
        return replace(plan, storage=kind, is_reduced=True) if is_smaller else None

    return step


LADDER: tuple[Step, ...] = (_halved_batch, _stored_as("bfloat16"), _stored_as("disk"))
"""How a plan is made smaller, the cheapest first; each step is taken as often as it can be."""


def fitted_plan(plan: CasePlan, most_bytes: int | None) -> CasePlan:
    """The first plan down LADDER that takes no more than ``most_bytes``; None allows any.

    Raises:
        ImageError: ``MEMORY_BUDGET``: none does.
    """
    return first_fitting(smaller_plans(plan), most_bytes)


def smaller_plans(plan: CasePlan) -> Iterator[CasePlan]:
    """The plan, and those down LADDER from it, each smaller than the one before."""
    yield plan
    for step in LADDER:
        while smaller := step(plan):
            plan = smaller
            yield plan


def plan_case(
    case: str, shapes: Shapes, bundle: Bundle, options: PredictOptions, choice: Choice | None = None
) -> CasePlan:
    """How a case will be run where memory does not matter.

    One window is run to see what a pass takes.

    Args:
        case: Its id.
        shapes: Of its image.
        bundle: Its network on the device where it will run.
        options: How to run it.
        choice: What timing found best, of ``medseg.inference.planning.tuned``.
    """
    plan = _rough_plan(case, shapes, bundle, options, choice)
    network, window = bundle.network, (shapes.channels, *plan.roi)
    if plan.is_streamed and isinstance(network, nn.Module):
        parts = split(network, (1, *window), len(bundle.labels))
        network = parts.body if parts else network
    return replace(plan, one_pass=footprint(folded(network), window))


def plan_within_memory(
    case: str, shapes: Shapes, bundle: Bundle, options: PredictOptions, choice: Choice | None = None
) -> CasePlan:
    """How a case will be run so that it keeps to ``options.max_ram``, or to what is free.

    A window is run to see what a pass takes only where memory is limited, or all the rest comes near what is free.

    Args:
        case: Its id.
        shapes: Of its image.
        bundle: Its network on the device where it will run.
        options: How to run it.
        choice: What timing found best, of ``medseg.inference.planning.tuned``.

    Raises:
        ImageError: ``MEMORY_BUDGET``.
    """
    most = allowed_bytes(options)
    rough = _rough_plan(case, shapes, bundle, options, choice)
    if most is None or (options.max_ram is None and rough.peak_bytes < ROUGH_SHARE * most):
        return rough
    return fitted_plan(plan_case(case, shapes, bundle, options, choice), most)


def window_of(bundle: Bundle, options: PredictOptions) -> SlidingWindow:
    """The bundle's windows; one that is the whole image where it has none."""
    if not isinstance(bundle.inferer, SlidingWindowInferer):
        return SlidingWindow(0)
    window = SlidingWindow.of(bundle.inferer)
    window.overlap = window.overlap if options.overlap is None else options.overlap
    return window


def fitted_window(window: SlidingWindow, plan: CasePlan) -> SlidingWindow:
    """The same windows, run and summed as the plan has it."""
    fitted = copy.copy(window)
    fitted.sw_batch_size = plan.batch
    fitted.storage = torch.bfloat16 if plan.storage == "bfloat16" else None
    fitted.spill = Path(tempfile.gettempdir()) if plan.storage == "disk" else None
    return fitted


def _rough_plan(case: str, shapes: Shapes, bundle: Bundle, options: PredictOptions, choice: Choice | None) -> CasePlan:
    """Where a pass of the network takes nothing."""
    window = window_of(bundle, options)
    windows = window.windows(shapes.network)
    has_windows = isinstance(bundle.inferer, SlidingWindowInferer)
    how = discretisation(bundle.postprocessing)
    classes = 1 if how and how.activation == "sigmoid" else len(bundle.labels)
    is_torch = options.amp or not has_windows or not isinstance(bundle.network, nn.Module)
    voxels = len(windows) * math.prod(windows.roi)
    counted = "torch" if is_torch else chosen_backend(options.backend, bundle.network, voxels)
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


@dataclass(frozen=True)
class Shapes:
    """The sizes of a case.

    Args:
        channels: That the network takes.
        image: Voxels along the axes of the scan's own grid.
        network: Voxels along the axes of the network's grid.
        spacing_mm: Of the scan.
        stored_bytes: Of one voxel in its file.
        is_resampled: Whether preprocessing interpolates.
        is_along_axes: Whether it does so along the axes, and not for every voxel by itself.
    """

    channels: int
    image: tuple[int, ...]
    network: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    stored_bytes: int = FLOAT_BYTES
    is_resampled: bool = False
    is_along_axes: bool = True

    @property
    def network_voxels(self) -> int:
        """Of the image as the network takes it, one channel."""
        return math.prod(self.network)


def shapes_of(image: MetaTensor) -> Shapes:
    """Of an image as preprocessing left it, (channels, …)."""
    shape = tuple(int(n) for n in image.meta["spatial_shape"])
    steps = {str(operation["class"]) for operation in image.applied_operations}
    return Shapes(
        channels=int(image.shape[0]),
        image=shape,
        network=tuple(int(n) for n in image.shape[1:]),
        spacing_mm=spacing_mm(np.asarray(image.meta["original_affine"], dtype=float))[: len(shape)],
        is_resampled="SpatialResample" in steps,
    )


def expected_shapes(extent: Extent, bundle: Bundle) -> Shapes:
    """Of an image that was not read, as far as its header and the bundle's preprocessing tell.

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
