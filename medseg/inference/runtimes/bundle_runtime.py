"""What plans the cases of a bundle and runs its network over their windows, in PyTorch or what it was converted to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from monai.inferers import SlidingWindowInferer
from numpy.typing import NDArray
from torch import Tensor

from medseg.bundle.load import Bundle
from medseg.errors import UsageError
from medseg.inference.bundle_plan import fit_window, plan_within_memory, read_window
from medseg.inference.plan import CasePlan, Shapes
from medseg.inference.runtimes.network_runner import NetworkRunner
from medseg.inference.runtimes.tuning import tune
from medseg.inference.slabs import Slab
from medseg.inference.windows import Run, WindowPlan
from medseg.options import PredictOptions


class BundleRuntime:
    """A bundle's network; see ``medseg.inference.predictor.Runtime``.

    On a CPU the C library of the whole process is told to keep freed memory, or with ``max_ram`` to give it back; see
    ``medseg.allocator``.

    Args:
        bundle: An opened bundle.
        options: How to run it.

    Raises:
        UsageError: The bundle does not offer what the options ask for.
    """

    def __init__(self, bundle: Bundle, options: PredictOptions) -> None:
        self.bundle, self.options = bundle, options
        self.on_windows: Callable[[int], None] = lambda windows: None
        self.passes = NetworkRunner(bundle, options, self._tell)
        self.run: Run = self.passes
        if options.overlap is not None:
            _set_overlap(bundle, options.overlap)

    @property
    def note(self) -> str:
        """Why it is not the runtime that was asked for, or that was to be tried, if it is not."""
        return self.passes.note

    @property
    def run_by(self) -> dict[str, Any]:
        """What ran the windows, for a record."""
        return self.passes.run_by

    def plan(self, case_id: str, shapes: Shapes) -> CasePlan:
        """How a case will be run so that it keeps to the memory allowed, as timing found best where that was worth it.

        Raises:
            ImageError: ``MEMORY_BUDGET``.
        """
        choice = tune(self.passes, shapes)
        return plan_within_memory(case_id, shapes, self.bundle, self.options, choice)

    @contextmanager
    def open(self) -> Iterator[None]:
        """Open while the network runs, with its precision and threads."""
        with torch.inference_mode(), self.passes.precision():
            yield

    def choose(self, plan: CasePlan, image: Tensor) -> WindowPlan | None:
        """Choose the runtime for an image's windows; returns these, None where the bundle's inferer has none."""
        if not isinstance(self.bundle.inferer, SlidingWindowInferer):
            self.passes.choose(None, image)
            return None
        window = fit_window(read_window(self.bundle, self.options), plan)
        self.passes.choose(window, image, splits=plan.is_streamed)
        return window.plan(image.shape[1:])

    def place(self, image: Tensor) -> Tensor:
        """The image on the network's device."""
        return image.to(self.passes.device)

    def finish(self, slab: Slab) -> Iterator[Slab]:
        """Logits of a slab of what the passes gave, a few rows at a time."""
        return self.passes.finish(slab)

    def run_filled(self, values: NDArray[np.floating], window: WindowPlan) -> Tensor:
        """Logits (C, …) of a window filled with these values, one for each channel."""
        roi = window.network_roi
        filled = torch.tensor(values.tolist()).reshape(1, -1, *[1] * len(roi)).expand(1, -1, *roi)
        return self.passes.finished(filled.to(self.passes.device))[0]

    def _tell(self, windows: int) -> None:
        self.on_windows(windows)

    def run_whole(self, image: Tensor) -> Tensor:
        """Logits (C, …) of an image by the bundle's own inferer."""
        return self.bundle.inferer(image[None], self.passes)[0]


def _set_overlap(bundle: Bundle, overlap: float) -> None:
    if not hasattr(bundle.inferer, "overlap"):
        kind = type(bundle.inferer).__name__
        raise UsageError("OPTION_NOT_OFFERED", bundle.name, f"{kind} has none", "leave --overlap out")
    bundle.inferer.overlap = overlap
