"""What a case will take in memory, stated before it is run, and held to what it may take; without PyTorch.

The parts are counted from shapes alone, but for the pass of a window, which was measured on one. Where a case would
take more than it may, its plan is changed step by step down a ladder until it fits.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from medseg.data.formats.payload import memory_limit
from medseg.errors import ImageError
from medseg.findings import Finding, make_note
from medseg.inference.input_checks import FLOAT_BYTES
from medseg.inference.slabs import rows_at_once
from medseg.inference.windows import Windows

if TYPE_CHECKING:
    from medseg.inference.runtimes.backends import Choice
    from medseg.options import PredictOptions

STORAGE_BYTES = {"float32": 4, "bfloat16": 2, "disk": 0}
"""Bytes of memory for each sum of logits: in full, in half, or in a file."""

GRID_BYTES = 56
"""For each voxel that MONAI resamples by itself: where it lies, in 64-bit floats, twice."""

WIDE_BYTES = 8
"""Bytes of a voxel while MONAI resamples it, in 64 bits."""


@dataclass(frozen=True)
class Shapes:
    """The sizes of a case.

    Args:
        channels: Number of channels that the network takes.
        image: Voxels along the axes of the scan's own grid.
        network: Voxels along the axes of the network's grid.
        spacing_mm: Spacing of the scan.
        stored_bytes: Bytes of one voxel in its file.
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


class PassCost(Protocol):
    """What a pass of the network takes."""

    @property
    def channels(self) -> int:
        """Channels of what it gives."""

    @property
    def weight_bytes(self) -> int:
        """Bytes of parameters and buffers, as far as a runtime would copy them."""

    def window_bytes(self, batch: int) -> int:
        """By how much the process grows while a batch of windows is run, over and over."""


@dataclass(frozen=True)
class Library:
    """What preparing and restoring a case take in one library of arrays.

    Args:
        preparing_bytes: What preprocessing takes.
        rows_in_use: Rows of one class on the network's grid, for each that closes, while labels are made of them.
        whole_arrays: Arrays of all classes on the network's grid that exist at once where labels are not made by slab.
        whole_bytes: What restoring takes there besides.
        ladder: How a plan is made smaller, the cheapest first; each step is taken as often as it can be.
    """

    preparing_bytes: Callable[[Shapes], int]
    rows_in_use: int
    whole_arrays: int
    whole_bytes: Callable[[CasePlan], int]
    ladder: tuple[Callable[[CasePlan], CasePlan | None], ...]


def _halve_batch(plan: CasePlan) -> CasePlan | None:
    return replace(plan, batch=plan.batch // 2, is_reduced=True) if plan.batch > 1 else None


def _run_one_at_a_time(plan: CasePlan) -> CasePlan | None:
    return replace(plan, batch=1, is_reduced=True) if plan.batch > 1 else None


def _store_as(kind: str) -> Callable[[CasePlan], CasePlan | None]:
    def step(plan: CasePlan) -> CasePlan | None:
        is_smaller = STORAGE_BYTES[kind] < STORAGE_BYTES[plan.storage]
        return replace(plan, storage=kind, is_reduced=True) if is_smaller else None

    return step


def _monai_bytes(shapes: Shapes) -> int:
    read, made = shapes.channels * math.prod(shapes.image), math.prod(shapes.network)
    if not shapes.is_resampled:
        return read * max(FLOAT_BYTES + shapes.stored_bytes, 2 * FLOAT_BYTES)
    resampling = FLOAT_BYTES * (read + 2 * shapes.channels * made)
    if not shapes.is_along_axes:
        resampling = read * WIDE_BYTES + made * (GRID_BYTES + shapes.channels * WIDE_BYTES)
    return read * FLOAT_BYTES + max(read * shapes.stored_bytes, resampling)


def _numpy_bytes(shapes: Shapes) -> int:
    read, made = (shapes.channels * math.prod(size) for size in (shapes.image, shapes.network))
    return int(FLOAT_BYTES * (3.3 * max(read, made) + read))


TORCH = Library(
    preparing_bytes=_monai_bytes,
    rows_in_use=3,
    whole_arrays=2,
    whole_bytes=lambda plan: 2 * plan.classes * FLOAT_BYTES * math.prod(plan.shapes.image),
    ladder=(_halve_batch, _store_as("bfloat16"), _store_as("disk")),
)
"""MONAI's transforms and PyTorch's tensors."""

NUMPY = Library(
    preparing_bytes=_numpy_bytes,
    rows_in_use=8,
    whole_arrays=1,
    whole_bytes=lambda plan: 6 * FLOAT_BYTES * max(math.prod(plan.shapes.image), math.prod(plan.windows.image)),
    # A batch that is not the one that was exported is run window by window, and there are no sums in 16 bits.
    ladder=(_run_one_at_a_time, _store_as("disk")),
)
"""Steps of exported bundles; with each plan down this ladder masks are the same."""


@dataclass(frozen=True)
class CasePlan:
    """How a case will be run, and what that takes.

    Args:
        case: Its id.
        shapes: Sizes of its image.
        classes: Number of classes that are told apart.
        windows: Where the windows lie.
        one_pass: What a pass takes; its channels are what is summed: logits of classes, or fewer features before them.
        batch: Windows per pass.
        backend: What runs the network.
        storage: A key of STORAGE_BYTES: how the sums of the open slab are kept.
        is_streamed: Whether labels are made slab by slab; otherwise the scores of all classes exist at once.
        keeps_probabilities: Whether the probabilities are given as well.
        slice_axis: The axis across which a 2D network takes slices; None: windows have the image's axes.
        seconds: What it will take, about; None where nothing was timed.
        is_reduced: Whether it was changed to take less memory.
        choice: What timing found best; None: batch and backend are chosen by rule.
        library: What prepares and restores it.
    """

    case: str
    shapes: Shapes
    classes: int
    windows: Windows
    one_pass: PassCost
    batch: int
    backend: str
    storage: str = "float32"
    is_streamed: bool = True
    keeps_probabilities: bool = False
    slice_axis: int | None = None
    seconds: float | None = None
    is_reduced: bool = False
    choice: Choice | None = None
    library: Library = TORCH

    @property
    def roi(self) -> tuple[int, ...]:
        """Voxels of a window along the axes that the network takes."""
        return tuple(n for axis, n in enumerate(self.windows.roi) if axis != self.slice_axis)

    @property
    def spill(self) -> Path | None:
        """Folder of the file that holds the sums; None: memory."""
        return Path(tempfile.gettempdir()) if self.storage == "disk" else None

    @property
    def parts(self) -> Mapping[str, int]:
        """Bytes by what they hold; not all are held at the same time, see ``peak_bytes``."""
        return {
            "preparing": self.library.preparing_bytes(self.shapes),
            "image": self._image_bytes(),
            "windows": self._window_bytes(),
            "sums": self._sum_bytes(),
            "restoring": self._restoring_bytes() if self.is_streamed else self.library.whole_bytes(self),
            "mask": 2 * self._label_bytes(),  # Of labels that are turned to the scan's axes.
        }

    @property
    def peak_bytes(self) -> int:
        """The most that the case takes at once."""
        parts = self.parts
        running = parts["image"] + parts["sums"] + self._label_bytes() + max(parts["windows"], parts["restoring"])
        return max(parts["preparing"], running, parts["image"] + parts["mask"])

    @property
    def note(self) -> Finding | None:
        """What was changed for the sake of memory and can be seen in the mask."""
        if self.storage != "bfloat16":
            return None
        return make_note("SUMS_HALVED", "to keep to the memory allowed, logits were summed in 16 bits")

    def _image_bytes(self) -> int:
        size, padded = math.prod(self.windows.image), math.prod(self.windows.padded)
        return FLOAT_BYTES * self.shapes.channels * (size + (padded if padded != size else 0))

    def _window_bytes(self) -> int:
        taken = FLOAT_BYTES * self.shapes.channels * self.batch * math.prod(self.windows.roi)
        converted = 0 if self.backend == "torch" else 2 * self.one_pass.weight_bytes
        return taken + self.one_pass.window_bytes(self.batch) + converted

    def _sum_bytes(self) -> int:
        kept = (self.one_pass.channels * STORAGE_BYTES[self.storage] + FLOAT_BYTES) * self.windows.slab_voxels()
        arrays = 0 if self.is_streamed else self.library.whole_arrays
        return kept + arrays * self.classes * FLOAT_BYTES * math.prod(self.windows.image)

    def _restoring_bytes(self) -> int:
        """What rows that close take: logits, one class's scores on either grid, and the last rows kept for the next."""
        axis, roi = self.windows.slab_axis, self.windows.roi
        row = self.windows.slab_voxels() // roi[axis]
        restored_row = math.prod(self.shapes.image) // self.windows.padded[axis]
        closing = min(roi[axis], rows_at_once((self.classes, roi[axis], row), 1))
        is_summed_so = self.storage != "bfloat16" and self.one_pass.channels == self.classes
        logits = 0 if is_summed_so else self.classes * closing * row
        last_batch = self.batch * self.one_pass.channels * math.prod(roi)
        scores = (self.library.rows_in_use * row + 4 * restored_row) * closing + self.classes * restored_row
        return int(FLOAT_BYTES * (last_batch + logits + scores))

    def _label_bytes(self) -> int:
        scores = FLOAT_BYTES * self.classes if self.keeps_probabilities else 0
        return ((1 if self.classes <= 256 else 4) + scores) * math.prod(self.shapes.image)


def count_allowed_bytes(options: PredictOptions) -> int | None:
    """What a case may take: ``options.max_ram``, or half of what is free; None where that is not known."""
    if options.max_ram is not None:
        return options.max_ram
    free = memory_limit()
    return None if free is None else free // 2  # The rest is for the cases that are read and written meanwhile.


def choose_fitting(plans: Iterable[CasePlan], most_bytes: int | None) -> CasePlan:
    """The first plan that takes no more than ``most_bytes``; None allows any.

    Args:
        plans: At least one, each smaller than the one before.
        most_bytes: What ``count_allowed_bytes`` says.

    Raises:
        ImageError: ``MEMORY_BUDGET``: none does; the remedy names the size that would do.
    """
    tried = []
    for plan in plans:
        if most_bytes is None or plan.peak_bytes <= most_bytes:
            return plan
        tried.append(plan)
    first, least = tried[0], tried[-1]
    parts = ", ".join(f"{name} {_gb(size)}" for name, size in least.parts.items())
    raise ImageError(
        "MEMORY_BUDGET",
        first.case,
        f"it takes {_gb(first.peak_bytes)} GB as it is and {_gb(least.peak_bytes)} GB at least ({parts}), "
        f"{_gb(most_bytes or 0)} GB are allowed",
        f"raise --max-ram to {math.ceil(least.peak_bytes / 2**20)}M where there is more memory, or crop the image",
    )


def fit_plan(plan: CasePlan, most_bytes: int | None) -> CasePlan:
    """The first plan down the ladder that takes no more than ``most_bytes``; None allows any.

    Raises:
        ImageError: ``MEMORY_BUDGET``: none does.
    """
    return choose_fitting(smaller_plans(plan), most_bytes)


def smaller_plans(plan: CasePlan) -> Iterator[CasePlan]:
    """The plan, and those down its library's ladder, each smaller than the one before."""
    yield plan
    for step in plan.library.ladder:
        while smaller := step(plan):
            plan = smaller
            yield plan


def _gb(size: int) -> str:
    return f"{size / 1e9:.3g}"
