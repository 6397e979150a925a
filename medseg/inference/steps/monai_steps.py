"""A bundle's own transforms, MONAI's, before and after the network; resampling along axes is made quicker."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import monai.transforms
import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import SliceInferer
from monai.transforms import (
    Activationsd,
    AsDiscrete,
    AsDiscreted,
    CastToTyped,
    Compose,
    EnsureChannelFirstd,
    EnsureTyped,
    Invertd,
    LoadImaged,
    Orientationd,
    ScaleIntensityRanged,
    Spacingd,
)
from monai.transforms.inverse import TraceableTransform
from numpy.typing import NDArray
from torch import Tensor

from medseg.bundle.load import Bundle
from medseg.data.cases import Case
from medseg.errors import ImageError
from medseg.geometry import Grid, is_same_grid, spacing_mm
from medseg.inference.boxes import AIR_HU, Box
from medseg.inference.input_checks import check_axes, check_channels, check_finite, check_spacing
from medseg.inference.plan import Shapes
from medseg.inference.prediction import read_labels
from medseg.inference.predictor import Labelled, ReadyCase
from medseg.inference.restore import (
    OFF_AXIS,
    Banded,
    Discretisation,
    Prepared,
    axis_changes,
    linear_weights,
    narrow_to_axes,
)
from medseg.inference.torch_arrays import TorchArrays
from medseg.inference.windows import Windows

if TYPE_CHECKING:
    from medseg.inference.locator import Locator


class MonaiSteps:
    """A bundle's preprocessing and postprocessing; see ``medseg.inference.predictor.Steps``.

    Args:
        bundle: An opened bundle; its resampling is quickened.
        locator: Says where to look first; None: nothing does.
    """

    def __init__(self, bundle: Bundle, locator: Locator | None = None) -> None:
        quicken(bundle.preprocessing)
        self.bundle, self.locator = bundle, locator
        self.how = read_discretisation(bundle.postprocessing)
        self.air = find_air_value(bundle.preprocessing) if bundle.is_hounsfield else None

    def prepare(self, case: Case) -> ReadyCase:
        """The case as the bundle's preprocessing leaves it, checked on the way.

        Raises:
            ImageError: The images cannot be read, or are not what the bundle takes.
        """
        images = case.images[0] if len(case.images) == 1 else list(case.images)
        steps = self.bundle.preprocessing
        data = steps({"image": images, "case_id": case.id}, end=1)
        self._check_loaded(data["image"], case)
        check_resampled(data["image"], steps.transforms, case.id)
        coarse = self.locator and self.locator.prepare(case, data["image"], steps.transforms[0])
        data = steps(data, start=1)
        image, changes = data["image"], axis_changes(data["image"])
        check_channels(image.shape[0], self.bundle.channels, case)
        shape = tuple(int(n) for n in image.meta["spatial_shape"])
        return ReadyCase(
            image=image.as_tensor(),
            grid=Grid(shape, np.asarray(image.meta["original_affine"], dtype=float)),
            changes=changes,
            shapes=measure_shapes(image, is_along_axes=changes is not None),
            notes=str(image.meta.get("notes", "")),
            source=data,
            coarse=coarse,
        )

    def locate(self, ready: ReadyCase, windows: Windows, case_id: str) -> tuple[Box | None, str]:
        """The box that the locator finds, None where all has to be run; and what the record says of it.

        Raises:
            ImageError: The coarse network gives no numbers, or the case does not fit in memory.
        """
        if self.locator is None:
            return None, ""
        box, note = self.locator.locate(ready.coarse, ready.source["image"], windows, case_id)
        return box, str(note)

    def finish_labels(self, labels: NDArray[np.integer], ready: ReadyCase, case: Case) -> NDArray[np.integer]:
        """Labels on the image's own grid after the transforms that follow ``AsDiscreted``, checked to be a mask.

        Raises:
            ImageError: ``OUTPUT_NOT_LABELS`` or ``OUTPUT_OFF_GRID``.
        """
        later = self.how.later if self.how else ()
        pred: Any = MetaTensor(torch.from_numpy(labels)[None], affine=ready.source["image"].meta["original_affine"])
        pred = Compose(list(later))({**ready.source, "pred": pred})["pred"] if later else pred
        return self._check_labels(pred, ready, case)

    def label_whole(self, logits: Tensor, ready: ReadyCase, keeps_probabilities: bool, case: Case) -> Labelled:
        """Labels by the bundle's own postprocessing, from the logits (C, …) of the whole image.

        Raises:
            ImageError: ``OUTPUT_NOT_LABELS`` or ``OUTPUT_OFF_GRID``.
        """
        image = ready.source["image"]
        pred = MetaTensor(TorchArrays().to_ram(logits), meta=image.meta, applied_operations=image.applied_operations)
        state, probabilities = {**ready.source, "pred": pred}, None
        for transform in self.bundle.postprocessing.transforms:
            if keeps_probabilities and isinstance(transform, AsDiscrete | AsDiscreted):
                probabilities = np.asarray(state["pred"], dtype=np.float32)
            state = Compose([transform])(state)
        return self._check_labels(state["pred"], ready, case), probabilities

    def _check_loaded(self, image: MetaTensor, case: Case) -> None:
        if not isinstance(image, MetaTensor):
            raise ImageError("PREPROCESSING_NOT_LOADING", case.id, "preprocessing does not start by loading")
        wanted = 3 if isinstance(self.bundle.inferer, SliceInferer) else self.bundle.spatial_dims
        check_axes(len(image.meta["spatial_shape"]), wanted, case)
        if not TorchArrays().is_finite(image.as_tensor()):
            check_finite(int((~torch.isfinite(image)).sum()), image.numel(), case)

    def _check_labels(self, pred: Any, ready: ReadyCase, case: Case) -> NDArray[np.integer]:
        labels = read_labels(np.asarray(pred), self.bundle, case)
        check_on_grid(labels, pred, ready.grid, case)
        return labels


def read_discretisation(postprocessing: Compose) -> Discretisation | None:
    """What a bundle's postprocessing does, where it is activation, ``Invertd``, ``AsDiscreted`` and steps on labels.

    Returns:
        None where it is anything else, which MONAI then has to run.
    """
    match postprocessing.transforms:
        case [Activationsd() as activate, Invertd() as invert, AsDiscreted() as choose, *later]:
            is_plain = all(each.keys == ("pred",) for each in (activate, invert, choose)) and not (
                invert.nearest_interp[0]
                or invert.post_func[0]
                or choose.to_onehot[0]
                or choose.rounding[0]
                or activate.other[0]
            )
            threshold = choose.threshold[0]
            if is_plain and activate.softmax[0] and choose.argmax[0] and threshold is None:
                return Discretisation("softmax", None, tuple(later))
            if is_plain and activate.sigmoid[0] and not choose.argmax[0] and threshold is not None:
                return Discretisation("sigmoid", float(threshold), tuple(later))
    return None


def find_air_value(preprocessing: Compose) -> float | None:
    """What AIR_HU becomes where intensities are scaled from a fixed range and by nothing else.

    Args:
        preprocessing: The steps of a bundle that takes Hounsfield units.

    Returns:
        None where they are scaled otherwise; only padding can be told from the image then.
    """
    spatial = (LoadImaged, EnsureChannelFirstd, Orientationd, Spacingd, EnsureTyped, CastToTyped)
    match [step for step in preprocessing.transforms if not isinstance(step, spatial)]:
        case [ScaleIntensityRanged(scaler=scaler)] if scaler.clip and scaler.a_max > scaler.a_min:
            b_min, b_max = scaler.b_min, scaler.b_max
            share = (max(AIR_HU, scaler.a_min) - scaler.a_min) / (scaler.a_max - scaler.a_min)
            return None if b_min is None or b_max is None else float(b_min + share * (b_max - b_min))
    return None


def check_resampled(image: Prepared, transforms: Iterable[object], case: object) -> None:
    """Refuse an image that the bundle's spacing would blow up beyond the memory budget.

    Args:
        image: (C, X, Y[, Z]) as it was loaded.
        transforms: The bundle's preprocessing.
        case: Named in the error.

    Raises:
        ImageError: ``MEMORY_BUDGET``.
    """
    for transform in transforms:
        if isinstance(transform, Spacingd):
            wanted = np.ravel(np.asarray(transform.spacing_transform.pixdim, dtype=float))
            check_spacing(image, wanted.tolist(), case)


def measure_shapes(image: MetaTensor, is_along_axes: bool = True) -> Shapes:
    """The sizes of an image as preprocessing left it.

    Args:
        image: (channels, …).
        is_along_axes: Whether preprocessing interpolated along the axes alone.
    """
    shape = tuple(int(n) for n in image.meta["spatial_shape"])
    steps = {str(operation["class"]) for operation in image.applied_operations}
    return Shapes(
        channels=int(image.shape[0]),
        image=shape,
        network=tuple(int(n) for n in image.shape[1:]),
        spacing_mm=spacing_mm(np.asarray(image.meta["original_affine"], dtype=float))[: len(shape)],
        is_resampled="SpatialResample" in steps,
        is_along_axes=is_along_axes,
    )


def check_on_grid(labels: NDArray, pred: Any, original: Grid, case: Case) -> None:
    """Refuse a mask that does not lie on its image's own grid.

    Args:
        labels: (X, Y[, Z]).
        pred: What the labels were taken from, with the affine of where it lies.
        original: The image's own grid.
        case: Named in the error.

    Raises:
        ImageError: ``OUTPUT_OFF_GRID``.
    """
    is_known = isinstance(pred, MetaTensor)
    affine = np.asarray(pred.affine, dtype=float) if is_known else original.affine
    if not is_known or not is_same_grid(Grid(labels.shape, _as_4x4(affine)), original):
        raise ImageError(
            "OUTPUT_OFF_GRID",
            case.id,
            f"the mask has {labels.shape} voxels, the image {original.shape}, or it is not known where it lies",
        )


def _as_4x4(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    if affine.shape == (4, 4):
        return affine
    full = np.eye(4)
    full[:2, :2], full[:2, 3] = affine[:2, :2], affine[:2, 2]
    return full


SAME_GRID = 1e-3
"""MONAI's: entries of an affine closer than this are the same."""


class SpatialResample(monai.transforms.SpatialResample):
    """A drop-in for MONAI's transform of the same name, which bears it so that MONAI finds the way back.

    A linear interpolation along axes is a small matrix per axis. MONAI places every voxel by itself, which
    takes 56 bytes of memory for each; anything but linear interpolation along axes is left to it.
    """

    def __call__(
        self,
        img: Tensor,
        dst_affine: Any = None,
        spatial_size: Any = None,
        mode: str | int | None = None,
        padding_mode: str | None = None,
        align_corners: bool | None = None,
        dtype: Any = None,
        lazy: bool | None = None,
    ) -> Tensor:
        """Resample as MONAI's transform does; see there."""
        how = (self.mode if mode is None else mode, self.padding_mode if padding_mode is None else padding_mode)
        step = None
        if [str(getattr(each, "value", each)) for each in how] == ["bilinear", "border"] and not (lazy or self.lazy):
            step = _step_along_axes(img, dst_affine, spatial_size)
        if step is None:
            return super().__call__(img, dst_affine, spatial_size, mode, padding_mode, align_corners, dtype, lazy)
        align = self.align_corners if align_corners is None else align_corners
        noted = self._noted(img, step, spatial_size, align)
        stored = np.asarray(img.cpu())
        result = torch.empty((len(stored), *map(int, spatial_size)))
        for channel, into in zip(stored, result, strict=True):
            into.copy_(_resampled(torch.as_tensor(channel, dtype=torch.float32), step, into.shape))
        return MetaTensor(result.to(img.device)).copy_meta_from(noted)

    def _noted(self, img: Any, step: NDArray[np.float64], size: Sequence[int], align_corners: bool) -> Any:
        """The image's metadata on the new grid, with the step recorded as MONAI records it."""
        extra = {
            "dtype": "float64",
            "mode": "bilinear",
            "padding_mode": "border",
            "align_corners": align_corners,
            "src_affine": torch.as_tensor(narrow_to_axes(np.asarray(img.affine, dtype=float), img.ndim - 1)),
        }
        return TraceableTransform.track_transform_meta(
            img,
            sp_size=torch.tensor([int(n) for n in size]),
            affine=torch.as_tensor(step),
            extra_info=extra,
            orig_size=tuple(img.shape[1:]),
            transform_info=self.get_transform_info(),
            lazy=False,
        )


def quicken(preprocessing: Compose) -> None:
    """Let ``Spacingd`` of a bundle resample along axes where it can."""
    for step in preprocessing.transforms:
        if isinstance(step, Spacingd):
            slow = step.spacing_transform.sp_resample
            quick = SpatialResample(slow.mode, slow.padding_mode, slow.align_corners, slow.dtype, slow.lazy)
            step.spacing_transform.sp_resample = quick


def _resampled(channel: Tensor, step: NDArray[np.float64], size: Sequence[int]) -> Tensor:
    """One channel on the new grid, the axis that shrinks most first."""
    shares = [new / old for new, old in zip(size, channel.shape, strict=True)]
    for axis in np.argsort(shares, kind="stable").tolist():
        places = step[axis, axis] * np.arange(size[axis]) + step[axis, -1]
        matrix = Banded(linear_weights(places, channel.shape[axis]))
        channel = matrix.apply(TorchArrays(), channel, axis, range(size[axis]), 0)
    return channel


def _step_along_axes(img: Tensor, affine: Any, size: Any) -> NDArray[np.float64] | None:
    """From a voxel of the new grid to one of the image, where their axes are parallel.

    Returns:
        None where they are not, where nothing changes, or where either grid is not stated.
    """
    axes = img.ndim - 1
    if not isinstance(img, MetaTensor) or affine is None or axes not in (2, 3) or np.size(size) != axes:
        return None
    step = np.linalg.solve(
        narrow_to_axes(np.asarray(img.affine, dtype=float), axes), narrow_to_axes(np.asarray(affine, dtype=float), axes)
    ).astype(np.float64)
    linear = step[:-1, :-1]
    is_same = [int(n) for n in size] == list(img.shape[1:]) and np.allclose(step, np.eye(axes + 1), atol=SAME_GRID)
    return None if is_same or np.abs(linear - np.diag(np.diag(linear))).max() > OFF_AXIS else step
