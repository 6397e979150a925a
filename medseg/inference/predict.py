"""One case: image files in, a mask on their own grid out."""

from __future__ import annotations

from collections.abc import Callable
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
from medseg.inference.admission import check_axes, check_channels, check_finite, check_output
from medseg.inference.masks import as_labels, check_on_grid, emptiness
from medseg.inference.options import PredictOptions
from medseg.inference.planning.budget import check_resampled, check_scores
from medseg.inference.planning.plan import fitted_window, plan_within_memory
from medseg.inference.planning.shapes import shapes_of
from medseg.inference.prediction import Prediction
from medseg.inference.region import Box, air_value, region_of, within
from medseg.inference.restoring.resampling import quicken
from medseg.inference.restoring.restore import Discretisation, LabelRestorer, discretisation
from medseg.inference.restoring.way_back import AxisChange, axis_changes
from medseg.inference.running.passes import Passes
from medseg.inference.sliding_window import SlidingWindow


class Predictor:
    """A bundle's network, loaded once and run over one case after the other.

    Args:
        bundle: An opened bundle.
        options: How to run it.
        on_window: Called with a case's id and the number of windows run so far.

    Raises:
        UsageError: The bundle does not offer what the options ask for.
    """

    def __init__(
        self, bundle: Bundle, options: PredictOptions, on_window: Callable[[str, int], None] | None = None
    ) -> None:
        self.bundle, self.options, self.on_window = bundle, options, on_window
        self._case_id, self._windows_done = "", 0
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
            if not _is_finite(data["image"].as_tensor()):
                check_finite(int((~torch.isfinite(data["image"])).sum()), data["image"].numel(), case)
            check_resampled(data["image"], steps.transforms, case.id)
            data = steps(data, start=1)
            check_channels(data["image"].shape[0], self.bundle.channels, case)
            return data

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
            plan = plan_within_memory(case.id, shapes, self.bundle, self.options)
            window = self._window and fitted_window(self._window, plan)
            with torch.inference_mode(), self.passes.precision():
                if window and self._how and changes:
                    made = self._streamed(prepared, window, self._how, changes, case)
                else:
                    made = self._whole(prepared, window, case)
        notes = (image.meta.get("notes", ""), self.passes.note, plan.note, made.notes)
        return replace(made, notes="; ".join(str(note) for note in notes if note))

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
        box = self._box(image.as_tensor(), window)
        restorer = LabelRestorer(within(changes, box) if box else changes, how, len(self.bundle.labels), keeps)
        if box is not None:
            part = image.as_tensor()[(slice(None), *box)].to(self.passes.device)
            for closed in window.slabs(part, self.passes):
                for slab in self.passes.finish(closed):
                    check_output(_is_finite(slab.logits), case.id)
                    restorer.add(replace(slab, logits=slab.logits.float().cpu()))
        pred: Any = MetaTensor(torch.from_numpy(restorer.labels)[None], affine=image.meta["original_affine"])
        pred = Compose(list(how.later))({**data, "pred": pred})["pred"] if how.later else pred
        return self._checked(pred, image, restorer.probabilities, case, is_air=box is None)

    def _box(self, image: Tensor, window: SlidingWindow) -> Box | None:
        """What of an image (channels, …) is run; None: nothing, for it is all air."""
        windows = window.windows(image.shape[1:])
        if not self.options.crop:
            return tuple(slice(0, size) for size in windows.image)

        def finds_nothing(values: NDArray) -> bool:
            return self._is_background(values, window.windowing(image.shape).roi)

        return region_of(image.cpu().numpy(), windows, self._air, finds_nothing)

    def _is_background(self, values: NDArray, roi: tuple[int, ...]) -> bool:
        """Whether the network finds nothing in a window filled with these values, one per channel."""
        key = tuple(values.tolist())
        if key not in self._found_nothing:
            filled = torch.tensor(key).reshape(1, -1, *[1] * len(roi)).expand(1, -1, *roi)
            logits = self.passes.finished(filled.to(self.passes.device))
            self._windows_done = 0
            threshold = self._how.threshold if self._how else None
            found = logits.argmax(1) if threshold is None else torch.sigmoid(logits) >= threshold
            self._found_nothing[key] = _is_finite(logits) and not bool(found.any())
        return self._found_nothing[key]

    def _whole(self, data: dict[str, Any], window: SlidingWindow | None, case: Case) -> Prediction:
        """Labels by the bundle's own postprocessing, from the logits of the whole image."""
        image = data["image"]
        check_scores(image, len(self.bundle.labels), case.id)
        self.passes.choose(window, image)
        logits = (window or self.bundle.inferer)(image[None].to(self.passes.device), self.passes)[0]
        check_output(_is_finite(logits), case.id)
        pred = MetaTensor(logits.cpu().float(), meta=image.meta, applied_operations=image.applied_operations)
        state, probabilities = {**data, "pred": pred}, None
        for transform in self.bundle.postprocessing.transforms:
            if self.options.probabilities and isinstance(transform, AsDiscrete | AsDiscreted):
                probabilities = np.asarray(state["pred"], dtype=np.float32)
            state = Compose([transform])(state)
        return self._checked(state["pred"], image, probabilities, case)

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


def _is_finite(values: Tensor) -> bool:
    """Whether none is NaN or infinite; the extremes tell, and take no copy."""
    return all(bool(torch.isfinite(extreme)) for extreme in torch.aminmax(values)) if values.numel() else True


def _set_overlap(bundle: Bundle, overlap: float) -> None:
    if not hasattr(bundle.inferer, "overlap"):
        kind = type(bundle.inferer).__name__
        raise UsageError("OVERLAP_NOT_OFFERED", bundle.name, f"{kind} has none", "leave --overlap out")
    bundle.inferer.overlap = overlap
