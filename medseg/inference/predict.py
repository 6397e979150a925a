"""One case: image files in, a mask on their own grid out."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import chain, combinations
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import SliceInferer, SlidingWindowInferer
from monai.transforms import AsDiscrete, AsDiscreted, Compose
from torch import Tensor

from medseg.bundle.load import Bundle
from medseg.data.cases import Case
from medseg.data.payload import memory_budget
from medseg.errors import ImageError, UsageError
from medseg.inference.allocator import keep_freed_memory
from medseg.inference.backends import Backend, Windowing, build_backend, chosen_backend, default_cache
from medseg.inference.budget import check_resampled, check_scores
from medseg.inference.masks import as_labels, check_on_grid
from medseg.inference.options import PredictOptions
from medseg.inference.prediction import Prediction
from medseg.inference.restore import LabelRestorer, discretisation
from medseg.inference.sliding_window import SlidingWindow
from medseg.inference.way_back import axis_changes


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
        self.bundle = bundle
        self.options = options
        self.on_window = on_window
        self._case_id, self._windows_done = "", 0
        self.device = options.torch_device
        layout = torch.channels_last_3d if bundle.spatial_dims == 3 else torch.channels_last
        self.network = bundle.network.to(self.device).to(memory_format=layout)  # type: ignore[call-overload]
        self._mirrorings = self._mirrorings_asked_for()
        if options.overlap is not None:
            self._set_overlap(options.overlap)
        self._window = SlidingWindow.of(bundle.inferer) if isinstance(bundle.inferer, SlidingWindowInferer) else None
        self._backend = Backend("torch", self.network)
        self._backends: dict[tuple[str, Windowing], Backend] = {}
        if self.device.type == "cpu":
            keep_freed_memory()

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
            return self._prepared(case)

    def segment(self, case: Case, prepared: dict[str, Any]) -> Prediction:
        """The mask of a case, from what ``prepare`` gave.

        Raises:
            ImageError: ``OUTPUT_NONFINITE`` and others of what the network gives; ``MEMORY_BUDGET``.
        """
        with memory_budget(self.options.max_ram):
            return self._segmented(case, prepared)

    def _segmented(self, case: Case, data: dict[str, Any]) -> Prediction:
        self._case_id, self._windows_done = case.id, 0
        self._choose_backend(data["image"])
        how = None if self.options.probabilities else discretisation(self.bundle.postprocessing)
        changes = axis_changes(data["image"]) if how and self._window else None
        with torch.inference_mode(), self._precision():
            if self._window and how and changes:
                restorer = LabelRestorer(changes, how, len(self.bundle.labels))
                return self._streamed(data, self._window, restorer, case)
            check_scores(data["image"], len(self.bundle.labels), case.id)
            inferer = self._window or self.bundle.inferer
            logits = inferer(data["image"][None].to(self.device), self._mirrored_mean)
        self._check_finite_output(logits)
        return self._restored(data, logits[0], case)

    def _streamed(self, data: dict[str, Any], window: SlidingWindow, restorer: LabelRestorer, case: Case) -> Prediction:
        """Labels made slab by slab; the array of all classes never exists."""
        image, how = data["image"], restorer.how
        for slab in window.slabs(image.to(self.device), self._mirrored_mean):
            self._check_finite_output(slab.logits)
            restorer.add(replace(slab, logits=slab.logits.cpu()))
        pred: Any = MetaTensor(torch.from_numpy(restorer.labels)[None], affine=image.meta["original_affine"])
        pred = Compose(list(how.later))({**data, "pred": pred})["pred"] if how.later else pred
        labels = as_labels(np.asarray(pred), self.bundle, case)
        check_on_grid(labels, pred, image, case)
        affine = np.asarray(image.meta["original_affine"], dtype=float)
        return Prediction(labels, affine, None, self._notes(image))

    def _choose_backend(self, image: MetaTensor) -> None:
        """The runtime for this case's windows; a network is converted once for each size of window."""
        self._backend = Backend("torch", self.network)
        is_module = isinstance(self.network, torch.nn.Module)
        if self._window is None or self.options.amp or self.options.backend == "torch" or not is_module:
            return
        windows = self._window.windows(image.shape[1:])
        name = chosen_backend(self.options.backend, self.network, len(windows) * math.prod(windows.roi))
        roi = tuple(n for axis, n in enumerate(windows.roi) if axis != self._window.slice_axis)
        key = (name, Windowing(self._window.sw_batch_size, image.shape[0], roi))
        if key not in self._backends:
            self._backends[key] = build_backend(self.network, *key, default_cache())
        self._backend = self._backends[key]

    def _check_finite_output(self, logits: Tensor) -> None:
        if not torch.isfinite(logits).all():
            raise ImageError(
                "OUTPUT_NONFINITE", self._case_id, "the network gives NaN or Inf", "leave --amp out; see the image"
            )

    def _prepared(self, case: Case) -> dict[str, Any]:
        images = case.images[0] if len(case.images) == 1 else list(case.images)
        chain_ = self.bundle.preprocessing
        data = chain_({"image": images, "case_id": case.id}, end=1)
        self._check_dimensions(data["image"], case)
        _check_finite(data["image"], case)
        check_resampled(data["image"], chain_.transforms, case.id)
        data = chain_(data, start=1)
        channels = data["image"].shape[0]
        if channels != len(self.bundle.channels):
            wanted = ", ".join(self.bundle.channels)
            raise ImageError(
                "CHANNEL_COUNT",
                case.id,
                f"{channels} channel(s), the bundle takes {len(self.bundle.channels)} ({wanted})",
                "give one image per channel, in that order",
            )
        return data

    def _check_dimensions(self, image: MetaTensor, case: Case) -> None:
        if not isinstance(image, MetaTensor):
            raise ImageError(
                "PREPROCESSING_NOT_LOADING", case.id, "preprocessing does not start by loading", "put LoadImaged first"
            )
        spatial = len(image.meta["spatial_shape"])
        wanted = 3 if isinstance(self.bundle.inferer, SliceInferer) else self.bundle.spatial_dims
        if spatial < wanted:
            raise ImageError("IMAGE_NOT_3D", case.id, f"{spatial}D, the bundle takes {wanted}D", "give whole volumes")
        if spatial > wanted:
            raise ImageError(
                "IMAGE_NOT_2D",
                case.id,
                f"{spatial}D, the bundle takes {wanted}D",
                "give slices, such as scan.nii.gz#12",
            )

    def _precision(self) -> AbstractContextManager[Any]:
        if not self.options.amp:
            return nullcontext()
        half = torch.float16 if self.device.type == "cuda" else torch.bfloat16
        return torch.autocast(self.device.type, dtype=half)

    def _mirrorings_asked_for(self) -> list[tuple[int, ...]]:
        axes = self.bundle.mirror_axes
        if not self.options.tta:
            return [()]
        if not axes:
            raise UsageError(
                "TTA_NOT_OFFERED",
                self.bundle.name,
                "its training mirrored along no axis",
                "leave --tta out, or train a bundle with mirror_axes",
            )
        subsets = chain.from_iterable(combinations(axes, size) for size in range(len(axes) + 1))
        return [tuple(axis + 2 for axis in subset) for subset in subsets]

    def _mirrored_mean(self, window: Tensor) -> Tensor:
        """Mean logits over the mirrorings of a batch of windows (N, C, X, Y[, Z])."""
        mean = self._logits(window)
        for axes in self._mirrorings[1:]:
            mean = mean + self._logits(window.flip(axes)).flip(axes)
        self._windows_done += len(window)
        if self.on_window:
            self.on_window(self._case_id, self._windows_done)
        return mean / len(self._mirrorings) if len(self._mirrorings) > 1 else mean

    def _logits(self, window: Tensor) -> Tensor:
        logits = self._backend.run(window)
        if not isinstance(logits, Tensor):
            kind = type(logits).__name__
            raise ImageError("OUTPUT_NOT_ONE_TENSOR", self._case_id, f"the network gives a {kind}", "export one output")
        return logits.float()

    def _set_overlap(self, overlap: float) -> None:
        if not hasattr(self.bundle.inferer, "overlap"):
            kind = type(self.bundle.inferer).__name__
            raise UsageError("OVERLAP_NOT_OFFERED", self.bundle.name, f"{kind} has none", "leave --overlap out")
        self.bundle.inferer.overlap = overlap

    def _restored(self, data: dict[str, Any], logits: Tensor, case: Case) -> Prediction:
        """Logits as labels on the image's own grid, by the bundle's postprocessing."""
        image = data["image"]
        pred = MetaTensor(logits.cpu().float(), meta=image.meta, applied_operations=image.applied_operations)
        state, probabilities = {**data, "pred": pred}, None
        for transform in self.bundle.postprocessing.transforms:
            if self.options.probabilities and isinstance(transform, AsDiscrete | AsDiscreted):
                probabilities = np.asarray(state["pred"], dtype=np.float32)
            state = Compose([transform])(state)
        labels = as_labels(np.asarray(state["pred"]), self.bundle, case)
        affine = np.asarray(image.meta["original_affine"], dtype=float)
        check_on_grid(labels, state["pred"], image, case)
        return Prediction(labels, affine, probabilities, self._notes(image))

    def _notes(self, image: MetaTensor) -> str:
        return "; ".join(filter(None, [str(image.meta.get("notes", "")), str(self._backend.note or "")]))


def _check_finite(image: Tensor, case: Case) -> None:
    broken = int((~torch.isfinite(image)).sum())
    if broken:
        raise ImageError(
            "NONFINITE_VOXELS",
            case.id,
            f"{broken} of {image.numel()} voxels are NaN or Inf",
            "replace them by a value that means 'no signal', or export the image again",
        )
