"""What a case will take in memory, held against the budget before it is allocated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from medseg.data.formats.payload import check_memory
from medseg.geometry import spacing_mm
from medseg.inference.restoring.way_back import Prepared

FLOAT_BYTES = 4


def check_resampled(image: Prepared, transforms: Iterable[object], case: object) -> None:
    """Refuse an image that the bundle's spacing would blow up beyond the memory budget.

    Args:
        image: (C, X, Y[, Z]) as it was loaded.
        transforms: The bundle's preprocessing.
        case: Named in the error.

    Raises:
        ImageError: ``MEMORY_BUDGET``.
    """
    from monai.transforms import Spacingd

    for transform in transforms:
        if isinstance(transform, Spacingd):
            wanted = np.ravel(np.asarray(transform.spacing_transform.pixdim, dtype=float))
            check_spacing(image, wanted.tolist(), case)


def check_spacing(image: Prepared, spacing: Sequence[float], case: object) -> None:
    """Refuse an image that a spacing would blow up beyond the memory budget.

    Args:
        image: (C, X, Y[, Z]) as it was loaded.
        spacing: In mm along its axes; 0 or less keeps the image's.
        case: Named in the error.

    Raises:
        ImageError: ``MEMORY_BUDGET``.
    """
    axes = len(image.shape) - 1
    steps = np.array(spacing_mm(np.asarray(image.affine, dtype=float))[:axes])
    lengths_mm, wanted = np.array(image.shape[1:]) * steps, np.array(spacing)[:axes]
    steps[: wanted.size] = np.where(wanted > 0, wanted, steps[: wanted.size])
    voxels = float(np.prod(np.ceil(lengths_mm / steps)))
    check_memory(int(image.shape[0] * voxels * FLOAT_BYTES), case, "its voxels, resampled as the bundle wants,")


def check_scores(image: Prepared, classes: int, case: object) -> None:
    """Refuse an image whose scores of every class would take more than the memory budget.

    Args:
        image: (C, X, Y[, Z]) as the network takes it.
        classes: Channels that the network gives.
        case: Named in the error.

    Raises:
        ImageError: ``MEMORY_BUDGET``.
    """
    voxels = int(np.prod(image.shape[1:], dtype=object))
    check_memory(classes * voxels * FLOAT_BYTES, case, f"the scores of {classes} classes")
