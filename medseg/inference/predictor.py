"""One case: image files in, a mask on their own grid out."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import SliceInferer, SlidingWindowInferer
from monai.transforms import AsDiscrete, AsDiscreted, Compose
from numpy.typing import NDArray
from torch import Tensor

from medseg.bundle.load import Bundle
from medseg.data.cases import Case
from medseg.data.payload import memory_budget
from medseg.errors import ImageError, UsageError
from medseg.inference.bundle_plan import fitted_window, plan_within_memory, shapes_of
from medseg.inference.input_checks import (
    check_axes,
    check_channels,
    check_finite,
    check_output,
    check_resampled,
    check_scores,
)
from medseg.inference.inverse_transform import AxisChange, axis_changes
from medseg.inference.locating import open_locator
from medseg.inference.options import PredictOptions
from medseg.inference.planning.tuned import tuned
from medseg.inference.prediction import Prediction, as_labels, check_on_grid, emptiness
from medseg.inference.region import Box, air_value, region_of, whole, within
from medseg.inference.restore import Discretisation, LabelRestorer, discretisation
from medseg.inference.running.passes import Passes
from medseg.inference.sliding_window import SlidingWindow
from medseg.inference.steps.resampling import quicken
from medseg.inference.streaming import is_finite, run_into

COARSE = "coarse"
"""Where a prepared case holds its image as the locator takes it."""

SURE = 1e3
"""A logit that leaves no doubt, of what is not run."""


class Predictor:
    """A bundle's network, loaded once and run over one case after the other.

    On a CPU the C library of the whole process is told to keep freed memory, or with ``max_ram`` to give it back; see
    ``medseg.allocator``.

    Args:
        bundle: An opened bundle.
        options: How to run it.
        on_window: Called with a case's id and the number of windows run so far.
        allow: Error codes accepted knowingly in the bundle's locator, as when the bundle was opened.

    Raises:
        UsageError: The bundle does not offer what the options ask for.
        BundleError: The locator is refused.
    """

    def __init__(
        self,
        bundle: Bundle,
        options: PredictOptions,
        on_window: Callable[[str, int], None] | None = None,
        allow: Collection[str] = (),
    ) -> None:
        self.bundle, self.options, self.on_window = bundle, options, on_window
        self._case_id, self._windows_done = "", 0
        self.locator = open_locator(bundle, options, allow)
        self.passes = Passes(bundle, options, self._count)
        if options.overlap is not None:
            _set_overlap(bundle, options.overlap)
        quicken(bundle.preprocessing)
        self._window = SlidingWindow.of(bundle.inferer) if isinstance(bundle.inferer, SlidingWindowInferer) else None
        self._how = discretisation(bundle.postprocessing)
        self._found_nothing: dict[tuple[float, ...], bool] = {}
        self._air = air_value(bundle.preprocessing) if bundle.is_hounsfield else None

    @property
    def model(self) -> Bundle:
        """The bundle."""
        return self.bundle

    def __call__(self, case: Case) -> Prediction:
        """Segment one case.

        Raises:
            ImageError: The images cannot be read, are not what the bundle takes, or give non-finite values.
        """
        return self.segment(case, self.prepare(case))

    def prepare(self, case: Case) -> dict[str, Any]:
        """The case as the bundle's preprocessing leaves it, checked on the way.

        Raises:
            ImageError: The images cannot be read, or are not what the bundle takes.
        """
        with memory_budget(self.options.max_ram):
            images = case.images[0] if len(case.images) == 1 else list(case.images)
            steps = self.bundle.preprocessing
            data = steps({"image": images, "case_id": case.id}, end=1)
            self._check_axes(data["image"], case)
            if not is_finite(data["image"].as_tensor()):
                check_finite(int((~torch.isfinite(data["image"])).sum()), data["image"].numel(), case)
            check_resampled(data["image"], steps.transforms, case.id)
            coarse = self.locator and self.locator.prepare(case, data["image"], steps.transforms[0])
            data = steps(data, start=1)
            check_channels(data["image"].shape[0], self.bundle.channels, case)
            return data if coarse is None else {**data, COARSE: coarse}

    def segment(self, case: Case, prepared: dict[str, Any]) -> Prediction:
        """The mask of a case, from what ``prepare`` gave.

        Raises:
            ImageError: ``OUTPUT_NONFINITE`` and others of what the network gives; ``MEMORY_BUDGET``.
        """
        self._case_id, self._windows_done = case.id, 0
        image = prepared["image"]
        with memory_budget(self.options.max_ram):
            changes = axis_changes(image)
            shapes = replace(shapes_of(image), is_along_axes=changes is not None)
            choice = tuned(self.passes, shapes)
            plan = plan_within_memory(case.id, shapes, self.bundle, self.options, choice)
            window = self._window and fitted_window(self._window, plan)
            with torch.inference_mode(), self.passes.precision():
                if window and self._how and changes:
                    made = self._streamed(prepared, window, self._how, changes, case)
                else:
                    made = self._whole(prepared, window, case)
        notes = (image.meta.get("notes", ""), self.passes.note, plan.note, made.notes)
        noted = "; ".join(str(note) for note in notes if note)
        return replace(made, notes=noted, run_by=self.passes.run_by)

    def _streamed(
        self,
        data: dict[str, Any],
        window: SlidingWindow,
        how: Discretisation,
        changes: tuple[AxisChange, ...],
        case: Case,
    ) -> Prediction:
        """Labels made slab by slab; the array of all classes never exists."""
        image, keeps = data["image"], self.options.probabilities
        self.passes.choose(window, image, splits=True)
        box, note = self._region(data, window, case)
        restorer = LabelRestorer(within(changes, box) if box else changes, how, len(self.bundle.labels), keeps)
        if box is not None:
            run_into(restorer, image.as_tensor()[(slice(None), *box)], window, self.passes, case.id)
        pred: Any = MetaTensor(torch.from_numpy(restorer.labels)[None], affine=image.meta["original_affine"])
        pred = Compose(list(how.later))({**data, "pred": pred})["pred"] if how.later else pred
        made = self._checked(pred, image, restorer.probabilities, case, is_air=box is None)
        return _noted(made, note)

    def _region(self, data: dict[str, Any], window: SlidingWindow, case: Case) -> tuple[Box | None, str]:
        """What of a prepared image (channels, …) is run, None for nothing but air; and what the record says of it."""
        image, note = data["image"], ""
        windows = window.windows(image.shape[1:])
        if self.locator:
            located, told = self.locator.locate(data[COARSE], image, windows, case.id)
            if located:
                return located, str(told)
            note = str(told)
        if not self.options.crop:
            return whole(windows.image), note

        def finds_nothing(values: NDArray) -> bool:
            return self._is_background(values, window.windowing(image.shape).roi)

        return region_of(image.as_tensor().cpu().numpy(), windows, self._air, finds_nothing), note

    def _is_background(self, values: NDArray, roi: tuple[int, ...]) -> bool:
        """Whether the network finds nothing in a window filled with these values, one per channel."""
        key = tuple(values.tolist())
        if key not in self._found_nothing:
            filled = torch.tensor(key).reshape(1, -1, *[1] * len(roi)).expand(1, -1, *roi)
            logits = self.passes.finished(filled.to(self.passes.device))
            self._windows_done = 0
            threshold = self._how.threshold if self._how else None
            found = logits.argmax(1) if threshold is None else torch.sigmoid(logits) >= threshold
            self._found_nothing[key] = is_finite(logits) and not bool(found.any())
        return self._found_nothing[key]

    def _whole(self, data: dict[str, Any], window: SlidingWindow | None, case: Case) -> Prediction:
        """Labels by the bundle's own postprocessing, from the logits of the whole image."""
        image = data["image"]
        check_scores(image, len(self.bundle.labels), case.id)
        self.passes.choose(window, image)
        # Of scores that are not read here it is not known what stands for background: all are made.
        box, note = self._region(data, window, case) if window and self._how else (whole(image.shape[1:]), "")
        logits = self._logits(image.to(self.passes.device), window, box)
        check_output(is_finite(logits), case.id)
        pred = MetaTensor(logits.cpu().float(), meta=image.meta, applied_operations=image.applied_operations)
        state, probabilities = {**data, "pred": pred}, None
        for transform in self.bundle.postprocessing.transforms:
            if self.options.probabilities and isinstance(transform, AsDiscrete | AsDiscreted):
                probabilities = np.asarray(state["pred"], dtype=np.float32)
            state = Compose([transform])(state)
        return _noted(self._checked(state["pred"], image, probabilities, case, is_air=box is None), note)

    def _logits(self, image: MetaTensor, window: SlidingWindow | None, box: Box | None) -> Tensor:
        """Of the whole image, (C, …); outside the box, which is run alone, they are those of background."""
        run = window or self.bundle.inferer
        if box == whole(image.shape[1:]):
            return run(image[None], self.passes)[0]
        has_one = self._how is not None and self._how.threshold is not None
        logits = torch.full((1 if has_one else len(self.bundle.labels), *image.shape[1:]), -SURE, device=image.device)
        if not has_one:
            logits[0] = SURE
        if box is not None:
            part = (slice(None), *box)
            logits[part] = run(image.as_tensor()[part][None], self.passes)[0]
        return logits

    def _checked(
        self, pred: Any, image: MetaTensor, probabilities: NDArray[np.float32] | None, case: Case, is_air: bool = False
    ) -> Prediction:
        labels = as_labels(np.asarray(pred), self.bundle, case)
        check_on_grid(labels, pred, image, case)
        affine = np.asarray(image.meta["original_affine"], dtype=float)
        return Prediction(labels, affine, probabilities, emptiness(labels, is_air))

    def _check_axes(self, image: MetaTensor, case: Case) -> None:
        if not isinstance(image, MetaTensor):
            raise ImageError(
                "PREPROCESSING_NOT_LOADING", case.id, "preprocessing does not start by loading", "put LoadImaged first"
            )
        wanted = 3 if isinstance(self.bundle.inferer, SliceInferer) else self.bundle.spatial_dims
        check_axes(len(image.meta["spatial_shape"]), wanted, case)

    def _count(self, windows: int) -> None:
        self._windows_done += windows
        if self.on_window:
            self.on_window(self._case_id, self._windows_done)


def _noted(made: Prediction, note: str) -> Prediction:
    return replace(made, notes="; ".join(text for text in (note, made.notes) if text))


def _set_overlap(bundle: Bundle, overlap: float) -> None:
    if not hasattr(bundle.inferer, "overlap"):
        kind = type(bundle.inferer).__name__
        raise UsageError("OVERLAP_NOT_OFFERED", bundle.name, f"{kind} has none", "leave --overlap out")
    bundle.inferer.overlap = overlap
