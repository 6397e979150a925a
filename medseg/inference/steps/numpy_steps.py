"""The steps that an exported bundle may take, by name, in NumPy; and a case taken through them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medseg.data.cases import Case
from medseg.data.images import read
from medseg.data.joining import stacked
from medseg.inference.input_checks import check_axes, check_channels, check_finite, check_spacing
from medseg.inference.inverse_transform import axis_changes
from medseg.inference.pieces import largest_pieces
from medseg.inference.plan import Shapes
from medseg.inference.prediction import as_labels
from medseg.inference.predictor import Labelled, ReadyCase
from medseg.inference.region import Box
from medseg.inference.restore import Discretisation
from medseg.inference.steps import intensity, spatial
from medseg.inference.steps.image import Image
from medseg.inference.steps.spatial import is_oblique, restore_oblique
from medseg.inference.windows import Windows

if TYPE_CHECKING:
    from medseg.inference.steps.description import Description

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


class NumpySteps:
    """An exported bundle's steps; see ``medseg.inference.predictor.Steps``.

    Args:
        description: What the exported bundle says of itself.
    """

    def __init__(self, description: Description) -> None:
        self.description, self.air = description, description.air
        self.how = Discretisation(description.activation, description.threshold, description.later)

    def prepare(self, case: Case) -> ReadyCase:
        """The case as the network takes it, checked on the way.

        Raises:
            ImageError: The images cannot be read, or are not what the bundle takes.
        """
        volume = stacked([read(path) for path in case.images], case.images)
        channels = volume.array if volume.has_channels else volume.array[None]
        image = Image(channels.astype(np.float32), volume.affine)
        check_axes(len(image.size), len(self.description.window.roi), case)
        check_finite(int(np.count_nonzero(~np.isfinite(image.array))), image.array.size, case)
        for step in self.description.preprocessing:
            if step["step"] == "Spacing":
                check_spacing(image, step["pixdim"], case.id)
        image = apply_steps(image, self.description.preprocessing)
        check_channels(image.shape[0], self.description.channels, case)
        changes = None if is_oblique(image) else axis_changes(image)
        return ReadyCase(
            image=image.array,
            grid=volume.grid,
            changes=changes,
            shapes=Shapes(
                channels=image.shape[0],
                image=volume.grid.shape,
                network=image.size,
                spacing_mm=volume.grid.spacing_mm,
                is_along_axes=changes is not None,
            ),
            notes="; ".join(str(note) for note in volume.notes),
            source=image,
        )

    def locate(self, ready: ReadyCase, windows: Windows, case_id: str) -> tuple[Box | None, str]:
        """All has to be run: no exported bundle has a locator."""
        return None, ""

    def finish_labels(self, labels: NDArray[np.integer], ready: ReadyCase, case: Case) -> NDArray[np.integer]:
        """Labels on the image's own grid after the later steps, checked to be a mask.

        Raises:
            ImageError: ``OUTPUT_NOT_LABELS``.
        """
        return as_labels(apply_label_steps(labels, self.description.later)[None], self.description, case)

    def label_whole(
        self, logits: NDArray[np.float32], ready: ReadyCase, keeps_probabilities: bool, case: Case
    ) -> Labelled:
        """Finished labels from the logits (C, …) of the whole image, whose way back mixes axes.

        Raises:
            ImageError: ``OUTPUT_NOT_LABELS``.
        """
        labels, probabilities = restore_oblique(logits, ready.source, self.how, keeps_probabilities)
        return self.finish_labels(labels, ready, case), probabilities


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


def apply_steps(image: Image, steps: Sequence[Step]) -> Image:
    """The image after the steps, its values float32 and in order."""
    for step in steps:
        image = BEFORE[step["step"]](image, **_parameters(step))
    return image.valued(np.ascontiguousarray(image.array))


def apply_label_steps(labels: NDArray, steps: Sequence[Step]) -> NDArray:
    """The labels after the steps."""
    for step in steps:
        labels = LATER[step["step"]](labels, **_parameters(step))
    return labels


def _parameters(step: Step) -> dict[str, Any]:
    return {key: value for key, value in step.items() if key != "step"}
