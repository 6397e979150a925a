"""The steps that an exported bundle may take, by name, in NumPy; and a case taken through them and back."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medseg.data.align import stack
from medseg.data.read import read
from medseg.inference.arrays import NumpyArrays
from medseg.inference.boxes import Box
from medseg.inference.input_checks import check_axes, check_channels, check_finite, check_spacing
from medseg.inference.plan import Shapes
from medseg.inference.prediction import keep_largest_pieces, read_labels
from medseg.inference.predictor import Labelled, ReadyCase
from medseg.inference.restore import Discretisation, axis_changes
from medseg.inference.steps import numpy_image
from medseg.inference.steps.numpy_image import OBLIQUE, Image, multiply, sample
from medseg.inference.windows import Windows

if TYPE_CHECKING:
    from medseg.data.cases import Case
    from medseg.inference.steps.description import Description

Step = Mapping[str, Any]
"""``step``, a name from one of the tables below, and its parameters."""

BEFORE: dict[str, Callable[..., Image]] = {
    "BorderPad": numpy_image.pad_border,
    "CenterSpatialCrop": numpy_image.crop_centre,
    "CropForeground": numpy_image.crop_foreground,
    "DivisiblePad": numpy_image.pad_divisible,
    "GreyToOneChannel": numpy_image.keep_one_grey,
    "NormalizeIntensity": numpy_image.normalize,
    "Orientation": numpy_image.orient,
    "Resize": numpy_image.resize,
    "ResizeWithPadOrCrop": numpy_image.crop_or_pad,
    "ScaleIntensity": numpy_image.scale,
    "ScaleIntensityRange": numpy_image.scale_range,
    "ScaleIntensityRangePercentiles": numpy_image.scale_percentiles,
    "Spacing": numpy_image.resample,
    "SpatialCrop": numpy_image.crop,
    "SpatialPad": numpy_image.pad,
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
        volume = stack([read(path) for path in case.images], case.images)
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
        return read_labels(apply_label_steps(labels, self.description.later)[None], self.description, case)

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
    return keep_largest_pieces(mask, labels)


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


@dataclass(frozen=True)
class _Stage:
    """A part of an image's way; see ``medseg.inference.restore.Prepared``."""

    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    applied_operations: list[Any]


def is_oblique(image: Image) -> bool:
    """Whether a step mixed the image's axes."""
    return any(OBLIQUE in operation["extra_info"] for operation in image.applied_operations)


def restore_oblique(
    logits: NDArray[np.float32], image: Image, how: Discretisation, keeps_probabilities: bool
) -> tuple[NDArray[np.integer], NDArray[np.float32] | None]:
    """Labels (X, Y[, Z]) on the image's own grid, and the probabilities (C, X, Y[, Z]) where they are kept.

    Args:
        logits: (C, …) on the network's grid, all of them.
        image: The image as the network took it.
        how: How scores become labels.
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
    return (_undo(scores, image) for scores in activated)


def _undo(scores: NDArray[np.float32], image: Image) -> NDArray[np.float32]:
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
        scores = multiply(by_source, scores[None])[0].transpose([change.source for change in changes])
        if not oblique:
            return scores
        record = operations[first - 1]
        scores = sample(scores, np.linalg.inv(record["extra_info"][OBLIQUE]), record["orig_size"])
        stage = _Stage((1, *record["orig_size"]), record["extra_info"]["src_affine"], operations[: first - 1])
