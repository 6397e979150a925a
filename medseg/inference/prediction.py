"""What segmenting a case gives: labels on the image's own grid, checked to be such, and connected pieces of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medseg.data.labels import BACKGROUND, label_values
from medseg.errors import ImageError
from medseg.findings import make_note
from medseg.geometry import Grid

if TYPE_CHECKING:
    from medseg.data.cases import Case
    from medseg.data.terminology import Term

EXPORT_NAME = "exported.json"
"""The file in which an exported bundle says what it is."""


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
        """Name of its folder."""

    @property
    def version(self) -> str:
        """Version that its metadata says."""

    @property
    def weights_sha256(self) -> str:
        """Checksum of the weights that it was trained to."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the input channels."""

    @property
    def labels(self) -> Mapping[int, str]:
        """Name of each value of a mask."""

    @property
    def terms(self) -> Mapping[int, Term]:
        """Codes of the labels, where they are known."""


def is_exported(folder: str | Path) -> bool:
    """Whether a folder is an exported bundle."""
    return (Path(folder) / EXPORT_NAME).is_file()


def measure_volumes_ml(prediction: Prediction, names: Mapping[int, str]) -> Iterator[tuple[str, float]]:
    """Each structure's volume in millilitres, background left out."""
    counts = np.zeros(max(names) + 1, np.int64)
    for plane in prediction.labels:
        counts += np.bincount(plane.ravel(), minlength=counts.size)
    for value, name in names.items():
        if value:
            yield name, round(float(counts[value] * prediction.grid.voxel_volume_ml), 4)


def read_labels(pred: NDArray, model: Model, case: Case) -> NDArray[np.integer]:
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


def describe_emptiness(labels: NDArray, is_air: bool) -> str:
    """A note on a mask without any structure, or nothing.

    Args:
        labels: (X, Y[, Z]).
        is_air: Whether its image held nothing to run a network on.
    """
    if labels.any():
        return ""
    if is_air:
        return str(make_note("IMAGE_ALL_AIR", "it holds nothing but air or padding"))
    return str(make_note("MASK_EMPTY", "no voxel of any structure was found"))


def keep_largest_pieces(mask: NDArray, labels: Collection[int]) -> NDArray:
    """A copy of ``mask`` (X, Y[, Z]) in which each of ``labels`` is one connected piece at most."""
    kept = mask.copy()
    for label in labels:
        pieces, count = ndimage.label(mask == label, structure=np.ones((3,) * mask.ndim))
        if count > 1:
            sizes = np.bincount(pieces.ravel())
            sizes[0] = 0
            kept[(mask == label) & (pieces != sizes.argmax())] = BACKGROUND
    return kept
