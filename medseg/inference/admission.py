"""Whether a case is what a model takes, before it is run."""

from __future__ import annotations

from collections.abc import Sequence

from medseg.data.cases import Case
from medseg.errors import ImageError


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
        voxels: Of how many.
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
