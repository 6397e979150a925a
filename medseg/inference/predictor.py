"""One case: image files in, a mask on their own grid out.

A predictor is handed its steps (a bundle's in MONAI's transforms, or an exported bundle's in NumPy) and its runtime,
which plans and runs the network; what lies between is here, once, for arrays of either library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from medseg.data.formats.payload import memory_budget
from medseg.geometry import Grid
from medseg.inference.arrays import Array, arrays_of
from medseg.inference.boxes import Box, box_of_all, choose_region, restrict_to_box
from medseg.inference.input_checks import check_output, check_scores
from medseg.inference.plan import CasePlan, Shapes
from medseg.inference.prediction import Model, Prediction, describe_emptiness
from medseg.inference.restore import AxisChange, Discretisation, LabelRestorer, fill
from medseg.inference.slabs import Slab
from medseg.inference.windows import Run, WindowPlan, Windows, blend, join, lay_windows

if TYPE_CHECKING:
    from medseg.data.cases import Case
    from medseg.options import PredictOptions

SURE = 1e3
"""A logit that is given to every voxel outside the box that is run, for background or against a structure."""

Labelled = tuple[NDArray[np.integer], NDArray[np.float32] | None]
"""Labels (X, Y[, Z]) on the image's own grid, and the probabilities (C, X, Y[, Z]) where they are asked for."""


@dataclass(frozen=True)
class ReadyCase:
    """A case as the network takes it.

    Args:
        image: (channels, X, Y[, Z]), a NumPy array or a plain tensor.
        grid: The image's own.
        changes: The way back to it, axis by axis; None: the way mixes axes.
        shapes: Its sizes.
        notes: What is odd about the image, with codes.
        source: What the steps need for the way back.
        coarse: The image as a locator takes it; None: there is none.
    """

    image: Array
    grid: Grid
    changes: tuple[AxisChange, ...] | None
    shapes: Shapes
    notes: str
    source: Any
    coarse: Any = None


class Steps(Protocol):
    """What is done to an image before the network, and to its labels afterwards."""

    @property
    def how(self) -> Discretisation | None:
        """How scores become labels; None: only the steps themselves know."""

    @property
    def air(self) -> float | None:
        """Value of air in a prepared image, where it is known."""

    def prepare(self, case: Case) -> ReadyCase:
        """Read a case and make it what the network takes, checked on the way."""

    def locate(self, ready: ReadyCase, windows: Windows, case_id: str) -> tuple[Box | None, str]:
        """The box that has to be run, None where all has to be; and what the record says of it."""

    def finish_labels(self, labels: NDArray[np.integer], ready: ReadyCase, case: Case) -> NDArray[np.integer]:
        """Labels on the image's own grid after the steps on labels, checked to be a mask."""

    def label_whole(self, logits: Array, ready: ReadyCase, keeps_probabilities: bool, case: Case) -> Labelled:
        """Finished labels from the logits (C, …) of the whole image on the network's grid."""


class Runtime(Protocol):
    """What plans a case and runs the network over its windows."""

    on_windows: Callable[[int], None]
    """Told the number of windows of each batch that is done."""

    @property
    def run(self) -> Run:
        """The network: windows (N, channels, …) in, logits (N, C, …) or what ``finish`` takes out."""

    @property
    def note(self) -> str:
        """Why it is not the runtime that was asked for, if it is not."""

    @property
    def run_by(self) -> dict[str, Any]:
        """What ran the windows, for a record."""

    def plan(self, case_id: str, shapes: Shapes) -> CasePlan:
        """How a case will be run so that it keeps to the memory allowed."""

    def open(self) -> AbstractContextManager[None]:
        """Open while the network runs, with its precision and threads."""

    def choose(self, plan: CasePlan, image: Array) -> WindowPlan | None:
        """Make ready to run an image as planned; returns its windows, None: ``run_whole`` knows them."""

    def place(self, image: Array) -> Array:
        """The image where the network is."""

    def finish(self, slab: Slab) -> Iterator[Slab]:
        """Logits of a slab of what the passes gave."""

    def run_filled(self, values: NDArray[np.floating], window: WindowPlan) -> Array:
        """Logits (C, …) of a window filled with these values, one for each channel."""

    def run_whole(self, image: Array) -> Array:
        """Logits (C, …) of an image that has no windows."""


class Predictor:
    """A network, loaded once and run over one case after the other; ``open_predictor`` in ``predict`` makes one.

    Args:
        model: What made its masks, as records name it.
        steps: What is done before and after the network.
        runtime: What plans and runs the network.
        options: How to run it.
        on_window: Called with a case's id and the number of windows run so far.
    """

    def __init__(
        self,
        model: Model,
        steps: Steps,
        runtime: Runtime,
        options: PredictOptions,
        on_window: Callable[[str, int], None] | None = None,
    ) -> None:
        self.model, self.steps, self.runtime = model, steps, runtime
        self.options, self.on_window = options, on_window
        runtime.on_windows = self._count
        self._case_id, self._windows_done = "", 0
        self._found_nothing: dict[tuple[float, ...], bool] = {}

    def __call__(self, case: Case) -> Prediction:
        """Segment one case.

        Raises:
            ImageError: As for ``prepare`` and ``segment``.
        """
        return self.segment(case, self.prepare(case))

    def prepare(self, case: Case) -> ReadyCase:
        """The case as the network takes it, checked on the way; may be called from another thread than ``segment``.

        Raises:
            ImageError: The images cannot be read, or are not what the model takes.
        """
        with memory_budget(self.options.max_ram):
            return self.steps.prepare(case)

    def segment(self, case: Case, ready: ReadyCase) -> Prediction:
        """The mask of a case, from what ``prepare`` gave.

        Raises:
            ImageError: The network gives no numbers, or what makes no mask; or the case does not fit in memory.
        """
        self._case_id, self._windows_done = case.id, 0
        with memory_budget(self.options.max_ram):
            plan = self.runtime.plan(case.id, ready.shapes)
            label = self._label_by_slab if plan.is_streamed else self._label_whole
            with self.runtime.open():
                window = self.runtime.choose(plan, ready.image)
                box, located = self._choose_box(ready, window, case)
                labels, probabilities = label(case, ready, plan, window, box)
        notes = (ready.notes, self.runtime.note, plan.note, located, describe_emptiness(labels, box is None))
        noted = "; ".join(str(note) for note in notes if note)
        return Prediction(labels, ready.grid.affine, probabilities, noted, self.runtime.run_by)

    def _label_by_slab(
        self, case: Case, ready: ReadyCase, plan: CasePlan, window: WindowPlan | None, box: Box | None
    ) -> Labelled:
        """Labels made slab by slab; the array of all classes never exists."""
        if ready.changes is None or self.steps.how is None or window is None:
            raise ValueError(f"{case.id}: without windows and a way back along axes there are no slabs")
        changes = restrict_to_box(ready.changes, box) if box else ready.changes
        restorer = LabelRestorer(changes, self.steps.how, len(self.model.labels), self.options.probabilities)
        if box:
            image = self.runtime.place(ready.image[(slice(None), *box)])
            slabs = blend(image, self.runtime.run, window, plan.storage, plan.spill)
            fill(restorer, slabs, self.runtime.finish, case.id)
        return self.steps.finish_labels(restorer.labels, ready, case), restorer.probabilities

    def _label_whole(
        self, case: Case, ready: ReadyCase, plan: CasePlan, window: WindowPlan | None, box: Box | None
    ) -> Labelled:
        """Labels of the array of all classes, for a way back that mixes axes, or steps that take it whole."""
        check_scores(ready.image, len(self.model.labels), case.id)
        image = self.runtime.place(ready.image)
        if window is None:
            logits = self.runtime.run_whole(image)
        elif box == box_of_all(image.shape[1:]):
            logits = join(blend(image, self.runtime.run, window, plan.storage, plan.spill), image.shape[1:])
        else:
            logits = self._background_logits(image, plan.classes)
            if box:
                inside = (slice(None), *box)
                slabs = blend(image[inside], self.runtime.run, window, plan.storage, plan.spill)
                logits[inside] = join(slabs, logits[inside].shape[1:])
        check_output(arrays_of(logits).is_finite(logits), case.id)
        return self.steps.label_whole(logits, ready, self.options.probabilities, case)

    def _background_logits(self, image: Array, classes: int) -> Array:
        """Logits (C, …) that leave no doubt, of what is not run."""
        arrays = arrays_of(image)
        logits = arrays.zeros((classes, *image.shape[1:]), arrays.single, image)
        logits[...] = -SURE
        if self.steps.how is None or self.steps.how.threshold is None:
            logits[0] = SURE
        return logits

    def _choose_box(self, ready: ReadyCase, window: WindowPlan | None, case: Case) -> tuple[Box | None, str]:
        """What of a prepared image (channels, …) is run, None for nothing but air; and what the record says of it."""
        size = ready.image.shape[1:]
        if window is None or self.steps.how is None:
            return box_of_all(size), ""  # Of scores that are not read here it is not known what stands for background.
        windows = lay_windows(size, window)
        located, note = self.steps.locate(ready, windows, case.id)
        if located:
            return located, note
        if not self.options.crop:
            return box_of_all(size), note
        image = arrays_of(ready.image).to_numpy(ready.image)
        return choose_region(image, windows, self.steps.air, lambda values: self._is_background(values, window)), note

    def _is_background(self, values: NDArray[np.floating], window: WindowPlan) -> bool:
        """Whether the network finds nothing in a window filled with these values, one for each channel."""
        key = tuple(values.tolist())
        if key not in self._found_nothing:
            logits = self.runtime.run_filled(values, window)
            self._windows_done = 0
            arrays, threshold = arrays_of(logits), self.steps.how.threshold if self.steps.how else None
            found = logits.argmax(0) if threshold is None else arrays.sigmoid(logits) >= threshold
            self._found_nothing[key] = arrays.is_finite(logits) and not bool(found.any())
        return self._found_nothing[key]

    def _count(self, windows: int) -> None:
        self._windows_done += windows
        if self.on_window:
            self.on_window(self._case_id, self._windows_done)
