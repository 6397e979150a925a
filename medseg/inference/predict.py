"""One case: image files in, a mask on their own grid out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import chain, combinations
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import SliceInferer
from monai.transforms import AsDiscrete, AsDiscreted, Compose
from numpy.typing import NDArray
from torch import Tensor

from medseg.bundle.load import Bundle
from medseg.data.cases import Case
from medseg.errors import ImageError, UsageError
from medseg.geometry import Grid, is_same_grid

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class PredictOptions:
    """How a network is run over a case.

    Args:
        device: One of DEVICES; auto takes CUDA where there is one.
        amp: Run the network in 16-bit floats (float16 on CUDA, bfloat16 on the CPU).
        tta: Average over the mirrorings that the bundle was trained with.
        overlap: Share of a window that its neighbour covers again; None leaves the bundle's.
        probabilities: Give the class probabilities on the image's grid as well.
    """

    device: str = "auto"
    amp: bool = False
    tta: bool = False
    overlap: float | None = None
    probabilities: bool = False

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise UsageError("DEVICE_UNKNOWN", self.device, "not a device", f"choose one of {', '.join(DEVICES)}")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise UsageError("DEVICE_MISSING", "cuda", "PyTorch finds no CUDA device", "use --device cpu")
        if self.overlap is not None and not 0 <= self.overlap < 1:
            raise UsageError("OVERLAP_INVALID", self.overlap, "not from 0 to below 1", "give a share such as 0.5")

    @property
    def torch_device(self) -> torch.device:
        """The device that ``device`` stands for on this machine."""
        chosen = "cuda" if self.device == "auto" and torch.cuda.is_available() else self.device
        return torch.device("cpu" if chosen == "auto" else chosen)


@dataclass(frozen=True)
class Prediction:
    """A mask and where it lies.

    Args:
        labels: (X, Y[, Z]) integers, on the image's own grid.
        affine: 4 by 4, voxel index to RAS+ mm; the image's own.
        probabilities: (C, X, Y[, Z]) float32 from 0 to 1, or None.
        notes: What is odd about the image without being wrong, with codes.
    """

    labels: NDArray[np.integer]
    affine: NDArray[np.float64]
    probabilities: NDArray[np.float32] | None
    notes: str = ""

    @property
    def grid(self) -> Grid:
        """The mask's lattice."""
        return Grid(self.labels.shape, self.affine)


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

    def __call__(self, case: Case) -> Prediction:
        """Segment one case.

        Raises:
            ImageError: The images cannot be read, are not what the bundle takes, or give non-finite values.
        """
        self._case_id, self._windows_done = case.id, 0
        data = self._prepared(case)
        with torch.inference_mode(), self._precision():
            logits = self.bundle.inferer(data["image"][None].to(self.device), self._mirrored_mean)
        if not torch.isfinite(logits).all():
            raise ImageError(
                "OUTPUT_NONFINITE", case.id, "the network gives NaN or Inf", "leave --amp out; see the image"
            )
        return self._restored(data, logits[0], case)

    def _prepared(self, case: Case) -> dict[str, Any]:
        """The case as the bundle's preprocessing leaves it, checked on the way."""
        images = case.images[0] if len(case.images) == 1 else list(case.images)
        chain_ = self.bundle.preprocessing
        data = chain_({"image": images, "case_id": case.id}, end=1)
        self._check_dimensions(data["image"], case)
        _check_finite(data["image"], case)
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
        logits = self.network(window)
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
        labels = _as_labels(np.asarray(state["pred"]), self.bundle, case)
        affine = np.asarray(image.meta["original_affine"], dtype=float)
        _check_on_grid(labels, state["pred"], image, case)
        return Prediction(labels, affine, probabilities, str(image.meta.get("notes", "")))


def _check_finite(image: Tensor, case: Case) -> None:
    broken = int((~torch.isfinite(image)).sum())
    if broken:
        raise ImageError(
            "NONFINITE_VOXELS",
            case.id,
            f"{broken} of {image.numel()} voxels are NaN or Inf",
            "replace them by a value that means 'no signal', or export the image again",
        )


def _as_labels(pred: NDArray, bundle: Bundle, case: Case) -> NDArray[np.integer]:
    """A postprocessed result (1, …) of labels or (C, …) of one-hot classes as one label array; nothing is guessed."""
    kind: type[np.integer] = np.uint8 if len(bundle.labels) <= 256 else np.uint16
    if pred.shape[0] == 1:
        labels = pred[0].astype(kind)
        is_exact = bool((labels == pred[0]).all())
        found = np.flatnonzero(np.bincount(labels.ravel())) if is_exact else np.unique(pred)
        unknown = sorted(set(found.tolist()) - set(bundle.labels))
        if not unknown:
            return labels
        problem = f"the mask holds {unknown[:3]}, the bundle's labels are {', '.join(map(str, bundle.labels))}"
    elif pred.shape[0] == len(bundle.labels):
        if np.isin(pred, (0, 1)).all() and (pred.sum(axis=0) == 1).all():
            return pred.argmax(axis=0).astype(kind)
        problem = "its classes overlap or leave voxels without a class"
    else:
        problem = f"it gives {pred.shape[0]} channels for {len(bundle.labels)} classes"
    raise ImageError(
        "OUTPUT_NOT_LABELS",
        case.id,
        f"the bundle's postprocessing gives no mask: {problem}",
        "end it with AsDiscreted(argmax=True), or AsDiscreted(threshold=0.5) for a single class",
    )


def _check_on_grid(labels: NDArray, pred: Any, image: MetaTensor, case: Case) -> None:
    original = Grid(tuple(int(n) for n in image.meta["spatial_shape"]), np.asarray(image.meta["original_affine"]))
    is_known = isinstance(pred, MetaTensor)
    affine = np.asarray(pred.affine, dtype=float) if is_known else original.affine
    if not is_known or not is_same_grid(Grid(labels.shape, _as_4x4(affine)), original):
        raise ImageError(
            "OUTPUT_OFF_GRID",
            case.id,
            f"the mask has {labels.shape} voxels, the image {original.shape}, or it is not known where it lies",
            "add Invertd to the bundle's postprocessing",
        )


def _as_4x4(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    if affine.shape == (4, 4):
        return affine
    full = np.eye(4)
    full[:2, :2], full[:2, 3] = affine[:2, :2], affine[:2, 2]
    return full


def mask_volumes_ml(prediction: Prediction, names: Mapping[int, str]) -> Iterator[tuple[str, float]]:
    """Each structure's volume in millilitres, background left out."""
    counts = np.bincount(prediction.labels.ravel(), minlength=len(names))
    for value, name in names.items():
        if value:
            yield name, round(float(counts[value] * prediction.grid.voxel_volume_ml), 4)
