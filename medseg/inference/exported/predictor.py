"""One case through an exported bundle: image files in, a mask on their own grid out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.allocator import fit_allocator
from medseg.bundle.trust import ALLOW_CODE
from medseg.data.cases import Case
from medseg.data.images import read
from medseg.data.joining import stacked
from medseg.data.payload import memory_budget
from medseg.errors import BundleError, UsageError
from medseg.geometry import Grid
from medseg.inference.arrays import NumpyArrays
from medseg.inference.exported.memory import ExportedPlan, plan_of, smaller_plans
from medseg.inference.input_checks import check_axes, check_channels, check_finite, check_output, check_spacing
from medseg.inference.inverse_transform import axis_changes
from medseg.inference.options import NO_LOCATOR, PredictOptions
from medseg.inference.plan import allowed_bytes, first_fitting
from medseg.inference.prediction import Prediction, as_labels, emptiness
from medseg.inference.region import Box, region_of, within
from medseg.inference.restore import Discretisation, LabelRestorer
from medseg.inference.running.machine import usable_cores
from medseg.inference.runtimes.exported_network import open_network
from medseg.inference.slabs import Slab
from medseg.inference.steps.description import Description, read_description
from medseg.inference.steps.image import Image
from medseg.inference.steps.numpy_steps import improved, prepared
from medseg.inference.steps.spatial import restored
from medseg.inference.windows import Run, WindowPlan, blend

BACKEND_OF = {"torchscript": "torch", "onnx": "onnx", "openvino": "openvino"}
"""The ``--backend`` that each kind of export is."""


Restored = tuple[NDArray[np.integer], NDArray[np.float32] | None, bool]
"""Labels, perhaps probabilities, and whether the image was all air."""


@dataclass(frozen=True)
class Ready:
    """A case as the network takes it.

    Args:
        image: After the steps.
        grid: The image's own.
        notes: What is odd about it, with codes.
    """

    image: Image
    grid: Grid
    notes: str


class ExportedPredictor:
    """An exported bundle's network, loaded once and run over one case after the other.

    Args:
        folder: Of the exported bundle.
        options: How to run it.
        on_window: Called with a case's id and the number of windows run so far.
        allow: Error codes accepted knowingly; BUNDLE_RUNS_CODE lets a TorchScript file run, which is a program.

    Raises:
        UsageError: ``OPTION_NOT_EXPORTED``: the options ask for what only a bundle itself can do;
            ``RUNTIME_MISSING``.
        BundleError: EXPORT_UNREADABLE or EXPORT_ALTERED; BUNDLE_RUNS_CODE.
    """

    def __init__(
        self,
        folder: Path,
        options: PredictOptions,
        on_window: Callable[[str, int], None] | None = None,
        allow: Collection[str] = (),
    ) -> None:
        self._model = read_description(folder)
        self._options = options
        self._on_window = on_window
        _check_options(options, self._model)
        if self._model.to == "torchscript" and ALLOW_CODE not in allow:
            remedy = f"if you trust who exported it, repeat with --allow {ALLOW_CODE}; or export to onnx or openvino"
            raise BundleError("BUNDLE_RUNS_CODE", folder, "a TorchScript file is a program, which would run", remedy)
        self._run = open_network(folder, self._model, options.threads)
        self._found_nothing: dict[tuple[float, ...], bool] = {}
        fit_allocator(is_memory_limited=options.max_ram is not None)

    @property
    def model(self) -> Description:
        """What was exported."""
        return self._model

    @property
    def options(self) -> PredictOptions:
        """How it is run."""
        return self._options

    def __call__(self, case: Case) -> Prediction:
        """Segment one case.

        Raises:
            ImageError: As for ``prepare`` and ``segment``.
        """
        return self.segment(case, self.prepare(case))

    def prepare(self, case: Case) -> Ready:
        """The case as the network takes it.

        Raises:
            ImageError: The images cannot be read, or are not what the bundle takes.
        """
        with memory_budget(self.options.max_ram):
            volume = stacked([read(path) for path in case.images], case.images)
            channels = volume.array if volume.has_channels else volume.array[None]
            image = Image(channels.astype(np.float32), volume.affine)
            check_axes(len(image.size), len(self.model.window.roi), case)
            check_finite(int(np.count_nonzero(~np.isfinite(image.array))), image.array.size, case)
            for step in self.model.preprocessing:
                if step["step"] == "Spacing":
                    check_spacing(image, step["pixdim"], case.id)
            notes = "; ".join(str(note) for note in volume.notes)
            ready = Ready(prepared(image, self.model.preprocessing), volume.grid, notes)
            check_channels(ready.image.shape[0], self.model.channels, case)
            return ready

    def segment(self, case: Case, prepared: Ready) -> Prediction:
        """The mask of a case, from what ``prepare`` gave.

        Raises:
            ImageError: ``OUTPUT_NONFINITE`` and others of what the network gives; ``MEMORY_BUDGET``.
        """
        plan = self.plan(case, prepared)
        run = self._slab_by_slab if plan.is_streamed else self._whole
        labels, probabilities, is_air = run(prepared, plan, case)
        labels = as_labels(improved(labels, self.model.later)[None], self.model, case)
        notes = "; ".join(filter(None, [prepared.notes, emptiness(labels, is_air)]))
        return Prediction(labels, prepared.grid.affine, probabilities, notes, self._run_by(plan))

    def plan(self, case: Case, prepared: Ready) -> ExportedPlan:
        """How a prepared case will be run so that it keeps to the memory allowed, and what that takes.

        Raises:
            ImageError: ``MEMORY_BUDGET``: however it is run; the remedy names the size that would do.
        """
        free = plan_of(case.id, prepared.image, prepared.grid.shape, self.model, self.options)
        return first_fitting(smaller_plans(free), allowed_bytes(self.options))

    def _run_by(self, plan: ExportedPlan) -> dict[str, object]:
        """What ran the windows, for a record."""
        threads = self.options.threads or usable_cores()
        runtime = {"backend": BACKEND_OF[self.model.to], "windows_at_a_time": plan.batch, "threads": threads}
        return {**runtime, "chosen_by": "export"}

    @property
    def _how(self) -> Discretisation:
        return Discretisation(self.model.activation, self.model.threshold, ())

    def _slab_by_slab(self, ready: Ready, plan: ExportedPlan, case: Case) -> Restored:
        changes = axis_changes(ready.image)
        if changes is None:
            raise ValueError("a step that has no way back")
        image = ready.image.array
        box = self._box(image, plan)
        changes = within(changes, box) if box else changes
        restorer = LabelRestorer(changes, self._how, len(self.model.labels), self.options.probabilities)
        if box:
            for slab in self._slabs(image[(slice(None), *box)], plan, case):
                restorer.add(slab)
        return restorer.labels, restorer.probabilities, box is None

    def _box(self, image: NDArray[np.float32], plan: ExportedPlan) -> Box | None:
        """What of an image (channels, …) is run; None: nothing, for it is all air."""
        if not self.options.crop:
            return tuple(slice(0, size) for size in plan.windows.image)
        return region_of(image, plan.windows, self.model.air, lambda values: self._is_background(values, plan.window))

    def _is_background(self, values: NDArray[np.floating], window: WindowPlan) -> bool:
        """Whether the network finds nothing in a window filled with these values, one per channel."""
        key = tuple(values.tolist())
        if key not in self._found_nothing:
            shape = (window.batch, len(values), *window.network_roi)  # A batch of that shape comes anyway.
            filled = np.broadcast_to(values.reshape(1, -1, *[1] * len(window.network_roi)), shape)
            logits = self._run(np.ascontiguousarray(filled, np.float32))[0]
            threshold = self._how.threshold
            found = logits.argmax(0) if threshold is None else NumpyArrays().sigmoid(logits) >= threshold
            self._found_nothing[key] = bool(np.isfinite(logits).all()) and not found.any()
        return self._found_nothing[key]

    def _whole(self, ready: Ready, plan: ExportedPlan, case: Case) -> Restored:
        """The array of all classes is made, for a way back that mixes axes takes it whole."""
        closing = self._slabs(ready.image.array, plan, case)
        slabs = [replace(slab, logits=slab.logits.copy()) for slab in closing]
        logits = np.concatenate([slab.logits for slab in slabs], slabs[0].axis + 1)
        return *restored(logits, ready.image, self._how, self.options.probabilities), False

    def _slabs(self, image: NDArray[np.float32], plan: ExportedPlan, case: Case) -> Iterator[Slab]:
        for slab in blend(image, self._told(case), plan.window, spill=plan.spill):
            check_output(bool(np.isfinite(slab.logits).all()), case.id)
            yield slab

    def _told(self, case: Case) -> Run:
        """The network, telling of its windows."""
        done = 0

        def run(windows: np.ndarray) -> np.ndarray:
            nonlocal done
            logits = self._run(windows)
            done += len(windows)
            if self._on_window:
                self._on_window(case.id, done)
            return logits

        return run


def _check_options(options: PredictOptions, model: Description) -> None:
    asked = {
        "--tta": options.tta,
        "--amp": options.amp,
        "--device cuda": options.device == "cuda",
        f"--backend {options.backend}": options.backend not in ("auto", BACKEND_OF[model.to]),
        "--locator": options.locator not in (None, NO_LOCATOR),
    }
    for option, is_asked in asked.items():
        if is_asked:
            problem = f"a bundle exported to {model.to} runs as it was exported, on the CPU"
            raise UsageError("OPTION_NOT_EXPORTED", option, problem, "leave it out, or use the bundle itself")
