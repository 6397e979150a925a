"""The way back of images whose voxel axes are not perpendicular, class by class on the whole grid.

Where resampling mixes axes, the way back is no matrix per axis; the steps before and after it still are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.inference.exported.image import Image
from medseg.inference.exported.spatial import applied, sampled
from medseg.inference.restoring.arrays import NumpyArrays
from medseg.inference.restoring.restore import Discretisation
from medseg.inference.restoring.way_back import axis_changes

OBLIQUE = "oblique_step"
"""What the record of a resampling holds that mixes axes: from its voxels' indices to those before."""


@dataclass(frozen=True)
class _Stage:
    """A part of an image's way; see ``medseg.inference.restoring.way_back.Prepared``."""

    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    applied_operations: list[Any]


def is_oblique(image: Image) -> bool:
    """Whether a step mixed the image's axes."""
    return any(OBLIQUE in operation["extra_info"] for operation in image.applied_operations)


def restored(
    logits: NDArray[np.float32], image: Image, how: Discretisation, keeps_probabilities: bool
) -> tuple[NDArray[np.integer], NDArray[np.float32] | None]:
    """Labels (X, Y[, Z]) on the image's own grid, and the probabilities (C, X, Y[, Z]) where they are kept.

    Args:
        logits: (C, …) on the network's grid, all of them.
        image: As the network took it.
        how: From scores to labels.
        keeps_probabilities: Whether they are wanted.
    """
    labels, best, kept = np.zeros((), np.uint16), np.zeros((), np.float32), []
    for label, score in enumerate(_scores(logits, image, how)):
        kept += [score] if keeps_probabilities else []
        if label:
            best = NumpyArrays().mark_higher(labels, label, score, best)
        else:
            labels, best = np.zeros(score.shape, np.uint16), score.copy()
    if how.threshold is not None:
        labels = (best >= how.threshold).astype(np.uint16)
    return labels, np.stack(kept) if kept else None


def _scores(logits: NDArray[np.float32], image: Image, how: Discretisation) -> Iterator[NDArray[np.float32]]:
    arrays = NumpyArrays()
    activated = arrays.softmax(logits) if how.activation == "softmax" else iter([arrays.sigmoid(logits[0])])
    return (_undone(scores, image) for scores in activated)


def _undone(scores: NDArray[np.float32], image: Image) -> NDArray[np.float32]:
    """Scores on the network's grid as they are on the image's own."""
    stage = _Stage(image.shape, image.affine, list(image.applied_operations))
    while True:
        operations = stage.applied_operations
        oblique = [number for number, each in enumerate(operations) if OBLIQUE in each["extra_info"]]
        first = oblique[-1] + 1 if oblique else 0
        changes = axis_changes(_Stage(stage.shape, stage.affine, operations[first:]))
        if changes is None:
            raise ValueError("an operation that has no way back")
        by_source = [change.weights for change in sorted(changes, key=lambda each: each.source)]
        scores = applied(by_source, scores[None])[0].transpose([change.source for change in changes])
        if not oblique:
            return scores
        record = operations[first - 1]
        scores = sampled(scores, np.linalg.inv(record["extra_info"][OBLIQUE]), record["orig_size"])
        stage = _Stage((1, *record["orig_size"]), record["extra_info"]["src_affine"], operations[: first - 1])
