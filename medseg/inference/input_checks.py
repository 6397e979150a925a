"""Whether a case is what a model takes, and what it will take in memory, before it is run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from medseg.data.formats.payload import check_memory
from medseg.errors import ImageError
from medseg.geometry import spacing_mm


def check_axes(found: int, wanted: int, case: Case) -> None:
    """Refuse images with another number of spatial axes than the model takes.

    Raises:
        ImageError: ``IMAGE_NOT_3D`` or ``IMAGE_NOT_2D``.
    """
    problem = f"{found}D, the bundle takes {wanted}D"
    if found < wanted:
        raise ImageError("IMAGE_NOT_3D", case.id, problem, "give whole volumes")
    if found > wanted:
        raise ImageError("IMAGE_NOT_2D", case.id, problem, "give slices, such as scan.nii.gz#12")


def check_finite(broken: int, voxels: int, case: Case) -> None:
    """Refuse an image with voxels that are no numbers.

    Args:
        broken: How many are NaN or infinite.
        voxels: How many voxels there are.
        case: Named in the error.

    Raises:
        ImageError: ``NONFINITE_VOXELS``.
    """
    if broken:
        raise ImageError(
            "NONFINITE_VOXELS",
            case.id,
            f"{broken} of {voxels} voxels are NaN or Inf",
            "replace them by a value that means 'no signal', or export the image again",
        )


def check_channels(found: int, channels: Sequence[str], case: Case) -> None:
    """Refuse an image with another number of channels than the model takes.

    Raises:
        ImageError: ``CHANNEL_COUNT``.
    """
    if found != len(channels):
        raise ImageError(
            "CHANNEL_COUNT",
            case.id,
            f"{found} channel(s), the bundle takes {len(channels)} ({', '.join(channels)})",
            "give one image per channel, in that order",
        )


def check_output(is_finite: bool, case_id: str) -> None:
    """Refuse logits that are no numbers.

    Raises:
        ImageError: ``OUTPUT_NONFINITE``.
    """
    if not is_finite:
        remedy = "leave --amp out; see the image"
        raise ImageError("OUTPUT_NONFINITE", case_id, "the network gives NaN or Inf", remedy)


if TYPE_CHECKING:
    from medseg.data.cases import Case
    from medseg.inference.restore import Prepared

FLOAT_BYTES = 4


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
