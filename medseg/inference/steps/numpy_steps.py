"""The steps that an exported bundle may take, by name, in NumPy."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.inference.pieces import largest_pieces
from medseg.inference.steps import intensity, spatial
from medseg.inference.steps.image import Image

Step = Mapping[str, Any]
"""``step``, a name from one of the tables below, and its parameters."""

BEFORE: dict[str, Callable[..., Image]] = {
    "BorderPad": spatial.pad_border,
    "CenterSpatialCrop": spatial.crop_centre,
    "CropForeground": spatial.crop_foreground,
    "DivisiblePad": spatial.pad_divisible,
    "GreyToOneChannel": intensity.keep_one_grey,
    "NormalizeIntensity": intensity.normalize,
    "Orientation": spatial.orient,
    "Resize": spatial.resize,
    "ResizeWithPadOrCrop": spatial.crop_or_pad,
    "ScaleIntensity": intensity.scale,
    "ScaleIntensityRange": intensity.scale_range,
    "ScaleIntensityRangePercentiles": intensity.scale_percentiles,
    "Spacing": spatial.resample,
    "SpatialCrop": spatial.crop,
    "SpatialPad": spatial.pad,
}
"""From the image as it is read to the network's input."""


def keep_largest(mask: NDArray, labels: Collection[int]) -> NDArray:
    """``medseg.inference.postprocess.KeepLargestd``."""
    return largest_pieces(mask, labels)


LATER: dict[str, Callable[..., NDArray]] = {"KeepLargest": keep_largest}
"""On the labels (X, Y[, Z]) on the image's own grid."""


def check_steps(steps: Sequence[Step], table: Mapping[str, Callable[..., Any]]) -> None:
    """Refuse steps that are not in a table, or not with these parameters.

    Raises:
        ValueError: With what is wrong, in words.
    """
    for step in steps:
        name = step.get("step")
        if name not in table:
            raise ValueError(f"{name!r} is none of the steps {', '.join(table)}")
        try:
            inspect.signature(table[str(name)]).bind(None, **_parameters(step))
        except TypeError as error:
            raise ValueError(f"step {name}: {error}") from error


def prepared(image: Image, steps: Sequence[Step]) -> Image:
    """The image after the steps, its values float32 and in order."""
    for step in steps:
        image = BEFORE[step["step"]](image, **_parameters(step))
    return image.valued(np.ascontiguousarray(image.array))


def improved(labels: NDArray, steps: Sequence[Step]) -> NDArray:
    """The labels after the steps."""
    for step in steps:
        labels = LATER[step["step"]](labels, **_parameters(step))
    return labels


def _parameters(step: Step) -> dict[str, Any]:
    return {key: value for key, value in step.items() if key != "step"}
