"""What segmenting a case gives: labels on the image's own grid, checked to be such."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from medseg.data.cases import Case
from medseg.data.dicom.terminology import Term
from medseg.data.labels import label_values
from medseg.data.volume import Note
from medseg.errors import ImageError
from medseg.geometry import Grid, is_same_grid
from medseg.inference.options import PredictOptions

if TYPE_CHECKING:
    from monai.data import MetaTensor


@dataclass(frozen=True)
class Prediction:
    """A mask and where it lies.

    Args:
        labels: (X, Y[, Z]) integers, on the image's own grid.
        affine: 4 by 4, voxel index to RAS+ mm; the image's own.
        probabilities: (C, X, Y[, Z]) float32 from 0 to 1, or None.
        notes: What is odd about the image without being wrong, with codes.
        run_by: Runtime, windows at a time and threads, and what chose them; empty where it is not known.
    """

    labels: NDArray[np.integer]
    affine: NDArray[np.float64]
    probabilities: NDArray[np.float32] | None
    notes: str = ""
    run_by: dict[str, Any] = field(default_factory=dict)

    @property
    def grid(self) -> Grid:
        """The mask's lattice."""
        return Grid(self.labels.shape, self.affine)


class Model(Protocol):
    """What made a mask, as records and DICOM SEG name it; a ``Bundle`` is one."""

    @property
    def name(self) -> str:
        """Of its folder."""

    @property
    def version(self) -> str:
        """As its metadata says."""

    @property
    def weights_sha256(self) -> str:
        """Of the weights that it was trained to."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the input channels."""

    @property
    def labels(self) -> Mapping[int, str]:
        """Name of each value of a mask."""

    @property
    def terms(self) -> Mapping[int, Term]:
        """Codes of the labels, where they are known."""


class Segmenter(Protocol):
    """Makes masks of cases, in two steps so that the first can be done while another case is in the second."""

    @property
    def model(self) -> Model:
        """What it runs."""

    @property
    def options(self) -> PredictOptions:
        """How it runs it."""

    def prepare(self, case: Case) -> Any:
        """The case as the network takes it; called from another thread than ``segment``."""

    def segment(self, case: Case, prepared: Any) -> Prediction:
        """The mask of a prepared case."""


def mask_volumes_ml(prediction: Prediction, names: Mapping[int, str]) -> Iterator[tuple[str, float]]:
    """Each structure's volume in millilitres, background left out."""
    counts = np.zeros(max(names) + 1, np.int64)
    for plane in prediction.labels:
        counts += np.bincount(plane.ravel(), minlength=counts.size)
    for value, name in names.items():
        if value:
            yield name, round(float(counts[value] * prediction.grid.voxel_volume_ml), 4)


def as_labels(pred: NDArray, model: Model, case: Case) -> NDArray[np.integer]:
    """A postprocessed result (1, …) of labels or (C, …) of one-hot classes as one label array; nothing is guessed.

    Raises:
        ImageError: ``OUTPUT_NOT_LABELS``.
    """
    kind: type[np.integer] = np.uint8 if len(model.labels) <= 256 else np.uint16
    if pred.shape[0] == 1:
        labels = pred[0].astype(kind)
        is_exact = bool((labels == pred[0]).all())
        found = label_values(labels) if is_exact else np.unique(pred).tolist()
        unknown = sorted(set(found) - set(model.labels))
        if not unknown:
            return labels
        problem = f"the mask holds {unknown[:3]}, the bundle's labels are {', '.join(map(str, model.labels))}"
    elif pred.shape[0] == len(model.labels):
        if np.isin(pred, (0, 1)).all() and (pred.sum(axis=0) == 1).all():
            return pred.argmax(axis=0).astype(kind)
        problem = "its classes overlap or leave voxels without a class"
    else:
        problem = f"it gives {pred.shape[0]} channels for {len(model.labels)} classes"
    raise ImageError(
        "OUTPUT_NOT_LABELS",
        case.id,
        f"the bundle's postprocessing gives no mask: {problem}",
        "end it with AsDiscreted(argmax=True), or AsDiscreted(threshold=0.5) for a single class",
    )


def emptiness(labels: NDArray, is_air: bool) -> str:
    """A note on a mask without any structure, or nothing.

    Args:
        labels: (X, Y[, Z]).
        is_air: Whether its image held nothing to run a network on.
    """
    if labels.any():
        return ""
    if is_air:
        return str(Note("IMAGE_ALL_AIR", "it holds nothing but air or padding"))
    return str(Note("MASK_EMPTY", "no voxel of any structure was found"))


def check_on_grid(labels: NDArray, pred: Any, image: MetaTensor, case: Case) -> None:
    """Refuse a mask that does not lie on its image's own grid.

    Args:
        labels: (X, Y[, Z]).
        pred: What the labels were taken from, with the affine of where it lies.
        image: The case's image as prepared, with the original grid in its metadata.
        case: Named in the error.

    Raises:
        ImageError: ``OUTPUT_OFF_GRID``.
    """
    from monai.data import MetaTensor

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
