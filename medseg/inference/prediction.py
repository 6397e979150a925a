"""What segmenting a case gives: labels on the image's own grid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from medseg.data.cases import Case
from medseg.data.terminology import Term
from medseg.geometry import Grid
from medseg.options import PredictOptions


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
