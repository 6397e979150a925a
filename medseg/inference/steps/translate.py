"""A bundle's MONAI transforms as the steps of an exported bundle; whatever has no exact counterpart is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from monai import transforms
from monai.inferers import Inferer, SliceInferer, SlidingWindowInferer
from monai.transforms import Compose, LazyTransform, MapTransform
from monai.transforms.utils import is_positive
from monai.utils import get_equivalent_dtype

from medseg.data.transforms import GreyToOneChanneld
from medseg.errors import BundleError
from medseg.inference.monai_inferer import SlidingWindow
from medseg.inference.postprocess import KeepLargestd
from medseg.inference.steps.description import PADDING_MODES
from medseg.inference.steps.numpy_steps import Step
from medseg.inference.windows import WindowPlan

LINEAR = ("linear", "bilinear", "trilinear")
RAS_LABELS = (None, (("L", "R"), ("P", "A"), ("I", "S")))
PAD_MODES = {"constant": "constant", "edge": "edge", "replicate": "edge", "reflect": "reflect"}


def translate_preprocessing(preprocessing: Compose, axes: int) -> tuple[Step, ...]:
    """The steps from the image as it is read to the network's input.

    Args:
        preprocessing: The bundle's.
        axes: Spatial axes of its images.

    Raises:
        BundleError: EXPORT_UNSUPPORTED, naming the transform.
    """
    require(not preprocessing.lazy, "Compose", "lazy resampling joins transforms")
    chain = list(preprocessing.transforms)
    require(
        bool(chain) and type(chain[0]) is transforms.LoadImaged, "preprocessing", "it does not start with LoadImaged"
    )
    has_channels = bool(chain[0]._loader.ensure_channel_first) or type(chain[1]) is transforms.EnsureChannelFirstd
    require(has_channels, "LoadImaged", "EnsureChannelFirstd does not follow it")
    translated = (_translate(each, axes) for each in chain)
    return tuple(step for step in translated if step)


def translate_label_steps(later: Sequence[object]) -> tuple[Step, ...]:
    """The steps on the labels.

    Raises:
        BundleError: EXPORT_UNSUPPORTED, naming the transform.
    """
    steps = []
    for each in later:
        name = type(each).__name__
        require(type(each) is KeepLargestd, name, "only KeepLargestd may follow AsDiscreted")
        require(tuple(each.keys) == ("pred",), name, "its key is not 'pred'")  # type: ignore[attr-defined]
        steps.append({"step": "KeepLargest", "labels": [int(label) for label in each.labels]})  # type: ignore[attr-defined]
    return tuple(steps)


def _translate(transform: Any, axes: int) -> Step | None:
    name = type(transform).__name__
    translate = _TRANSLATIONS.get(type(transform))
    if translate is None:
        raise refuse(name, "no exact counterpart of it is known")
    is_plain = isinstance(transform, MapTransform) and tuple(transform.keys) == ("image",)
    require(is_plain, name, "its keys are not 'image' alone")
    require(not (isinstance(transform, LazyTransform) and transform.lazy), name, "lazy resampling joins transforms")
    parameters = translate(transform, axes)
    return None if parameters is None else {"step": name.removesuffix("d"), **parameters}


def _translate_load(transform: Any, axes: int) -> None:
    require(_is_float32(transform._loader.dtype), "LoadImaged", f"dtype {transform._loader.dtype}")


def _translate_channel_first(transform: Any, axes: int) -> None:
    require(transform.adjuster.input_channel_dim is None, "EnsureChannelFirstd", "channel_dim is set")


def _translate_type(transform: Any, axes: int) -> None:
    types = getattr(transform, "dtype", None) or (transform.converter.dtype,)
    require(types[0] is None or _is_float32(types[0]), type(transform).__name__, f"dtype {types[0]}")


def _translate_grey(transform: Any, axes: int) -> dict[str, Any]:
    return {}


def _translate_orientation(transform: Any, axes: int) -> dict[str, Any]:
    turn = transform.ornt_transform
    require(axes == 3, "Orientationd", "of a 2D image")
    require(turn.labels in RAS_LABELS, "Orientationd", f"labels {turn.labels}")
    return {"axcodes": None if turn.as_closest_canonical else str("".join(turn.axcodes))}


def _translate_spacing(transform: Any, axes: int) -> dict[str, Any]:
    spacing, name = transform.spacing_transform, "Spacingd"
    require(_read_text(transform.mode[0]) in LINEAR, name, f"mode {_read_text(transform.mode[0])}")
    require(
        _read_text(transform.padding_mode[0]) == "border", name, f"padding_mode {_read_text(transform.padding_mode[0])}"
    )
    require(not transform.scale_extent[0] and not spacing.scale_extent, name, "scale_extent")
    require(not spacing.recompute_affine, name, "recompute_affine")
    limits = np.concatenate([spacing.min_pixdim, spacing.max_pixdim]).astype(float)
    require(bool(np.isnan(limits).all()), name, "min_pixdim or max_pixdim")
    return {"pixdim": spacing.pixdim.tolist(), "diagonal": bool(spacing.diagonal)}


def _translate_resize(transform: Any, axes: int) -> dict[str, Any]:
    resizer, name = transform.resizer, "Resized"
    require(resizer.size_mode == "all", name, f"size_mode {resizer.size_mode}")
    require(_read_text(transform.mode[0]) in LINEAR, name, f"mode {_read_text(transform.mode[0])}")
    require(not transform.align_corners[0], name, "align_corners")
    require(not transform.anti_aliasing[0], name, "anti_aliasing")
    require(_is_float32(transform.dtype[0]), name, f"dtype {transform.dtype[0]}")
    size = _read_integers(resizer.spatial_size)
    require(isinstance(size, list) and len(size) == axes, name, f"spatial_size {size} for {axes} axes")
    return {"spatial_size": size}


def _translate_crop(transform: Any, axes: int) -> dict[str, Any]:
    require(not transform._has_str_roi, "SpatialCropd", "a box that the data name")
    slices = list(transform.cropper.slices)[:axes]
    starts = [0 if each.start is None else int(each.start) for each in slices]
    stops = [None if each.stop is None else int(each.stop) for each in slices]
    require(
        all(each >= 0 for each in (*starts, *(stop or 0 for stop in stops))), "SpatialCropd", "counted from the end"
    )
    return {"start": starts, "stop": stops}


def _translate_centre_crop(transform: Any, axes: int) -> dict[str, Any]:
    return {"roi_size": _read_per_axis(transform.cropper.roi_size, axes, "CenterSpatialCropd")}


def _translate_foreground(transform: Any, axes: int) -> dict[str, Any]:
    cropper, name = transform.cropper, "CropForegroundd"
    require(transform.source_key == "image", name, f"source_key {transform.source_key}")
    require(cropper.select_fn is is_positive, name, "a select_fn of its own")
    indices = cropper.channel_indices
    return {
        "channel_indices": None if indices is None else [int(each) for each in indices],
        "margin": _read_per_axis(cropper.margin, axes, name),
        "allow_smaller": bool(cropper.allow_smaller),
        "k_divisible": _read_per_axis(cropper.k_divisible, axes, name),
        "padding": list(_read_padding(transform, cropper.padder.kwargs).values()),
    }


def _translate_pad(transform: Any, axes: int) -> dict[str, Any]:
    padder = transform.padder
    size = _read_per_axis(padder.spatial_size, axes, "SpatialPadd")
    return {"spatial_size": size, "method": _read_text(padder.method), **_read_padding(transform, padder.kwargs)}


def _translate_crop_or_pad(transform: Any, axes: int) -> dict[str, Any]:
    padder = transform.padder.padder
    size = _read_per_axis(padder.spatial_size, axes, "ResizeWithPadOrCropd")
    return {"spatial_size": size, "method": _read_text(padder.method), **_read_padding(transform, padder.kwargs)}


def _translate_divisible(transform: Any, axes: int) -> dict[str, Any]:
    padder = transform.padder
    return {
        "k": _read_per_axis(padder.k, axes, "DivisiblePadd"),
        "method": _read_text(padder.method),
        **_read_padding(transform, padder.kwargs),
    }


def _translate_border(transform: Any, axes: int) -> dict[str, Any]:
    widths = transform.padder.compute_pad_width((1,) * axes)[1:]
    return {"amounts": [[int(a), int(b)] for a, b in widths], **_read_padding(transform, transform.padder.kwargs)}


def _translate_normalize(transform: Any, axes: int) -> dict[str, Any]:
    step, name = transform.normalizer, "NormalizeIntensityd"
    require(_is_float32(step.dtype), name, f"dtype {step.dtype}")
    factors = {key: _read_factors(getattr(step, key)) for key in ("subtrahend", "divisor")}
    for value in factors.values():
        require(value is None or isinstance(value, list) == step.channel_wise, name, f"factors {value}")
    return {**factors, "nonzero": bool(step.nonzero), "channel_wise": bool(step.channel_wise)}


def _translate_scale(transform: Any, axes: int) -> dict[str, Any]:
    step = transform.scaler
    require(_is_float32(step.dtype), "ScaleIntensityd", f"dtype {step.dtype}")
    numbers = {key: _read_number(getattr(step, key)) for key in ("minv", "maxv", "factor")}
    return {**numbers, "channel_wise": bool(step.channel_wise)}


def _translate_range(transform: Any, axes: int) -> dict[str, Any]:
    step = transform.scaler
    require(_is_float32(step.dtype), "ScaleIntensityRanged", f"dtype {step.dtype}")
    return {
        **{key: _read_number(getattr(step, key)) for key in ("a_min", "a_max", "b_min", "b_max")},
        "clip": step.clip,
    }


def _translate_percentiles(transform: Any, axes: int) -> dict[str, Any]:
    step, name = transform.scaler, "ScaleIntensityRangePercentilesd"
    require(_is_float32(step.dtype), name, f"dtype {step.dtype}")
    return {
        "percentiles": [float(step.lower), float(step.upper)],
        "target": [_read_number(step.b_min), _read_number(step.b_max)],
        **{key: bool(getattr(step, key)) for key in ("clip", "relative", "channel_wise")},
    }


def _read_padding(transform: Any, options: dict[str, Any]) -> dict[str, Any]:
    name, mode = type(transform).__name__, _read_text(transform.mode[0])
    require(mode in PAD_MODES, name, f"mode {mode}")
    unknown = set(options) - {"value", "constant_values"}
    require(not unknown, name, f"options {sorted(unknown)}")
    return {"mode": PAD_MODES[mode], "value": float(options.get("value", options.get("constant_values", 0)))}


def _read_per_axis(value: Any, axes: int, name: str) -> list[int] | int:
    number = _read_integers(value)
    require(isinstance(number, int) or len(number) == axes, name, f"{value} for {axes} axes")
    return number


def _read_integers(value: Any) -> list[int] | int:
    plain = np.asarray(value).tolist()
    return plain if isinstance(plain, int) else [int(each) for each in plain]


def _read_factors(value: Any) -> list[float] | float | None:
    return None if value is None else np.asarray(value, dtype=float).tolist()


def _read_number(value: Any) -> float | None:
    return None if value is None else float(value)


def _read_text(value: Any) -> str:
    return str(getattr(value, "value", value))


def _is_float32(kind: Any) -> bool:
    return get_equivalent_dtype(kind, torch.Tensor) is torch.float32


_TRANSLATIONS: dict[type, Callable[[Any, int], dict[str, Any] | None]] = {
    GreyToOneChanneld: _translate_grey,
    transforms.BorderPadd: _translate_border,
    transforms.CastToTyped: _translate_type,
    transforms.CenterSpatialCropd: _translate_centre_crop,
    transforms.CropForegroundd: _translate_foreground,
    transforms.DivisiblePadd: _translate_divisible,
    transforms.EnsureChannelFirstd: _translate_channel_first,
    transforms.EnsureTyped: _translate_type,
    transforms.LoadImaged: _translate_load,
    transforms.NormalizeIntensityd: _translate_normalize,
    transforms.Orientationd: _translate_orientation,
    transforms.Resized: _translate_resize,
    transforms.ResizeWithPadOrCropd: _translate_crop_or_pad,
    transforms.ScaleIntensityRangePercentilesd: _translate_percentiles,
    transforms.ScaleIntensityRanged: _translate_range,
    transforms.ScaleIntensityd: _translate_scale,
    transforms.Spacingd: _translate_spacing,
    transforms.SpatialCropd: _translate_crop,
    transforms.SpatialPadd: _translate_pad,
    transforms.ToTensord: _translate_type,
}


LARGE = 10_000
"""Voxels of an image that is larger than any window."""


def translate_windows(inferer: Inferer, spatial_dims: int) -> WindowPlan:
    """The windows of a bundle's inferer.

    Raises:
        BundleError: EXPORT_UNSUPPORTED.
    """
    name = type(inferer).__name__
    require(isinstance(inferer, SlidingWindowInferer), name, "only sliding windows of a fixed size can be exported")
    window = SlidingWindow.of(inferer)  # type: ignore[arg-type]
    axes = spatial_dims + isinstance(inferer, SliceInferer)
    sigma = window.sigma_scale
    along = [float(sigma)] * axes if isinstance(sigma, float | int) else [float(each) for each in sigma]
    require(len(along) == axes, name, f"sigma_scale {sigma} for {axes} axes")
    windows = window.windows((LARGE,) * axes)
    require(LARGE not in windows.roi, name, f"a window of the image's size (roi_size {window.roi_size})")
    require(window.padding_mode in PADDING_MODES, name, f"padding_mode {window.padding_mode}")
    require(window.slice_axis is None or window.slice_axis >= 0, name, f"spatial_dim {window.slice_axis}")
    return WindowPlan(
        roi=windows.roi,
        overlap=tuple(float(each) for each in windows.overlap),
        batch=max(1, int(window.sw_batch_size)),
        mode=str(window.mode.value),
        sigma_scale=tuple(along),
        padding_mode=window.padding_mode,
        cval=float(window.cval),
        slice_axis=window.slice_axis,
    )


def require(is_so: bool, part: str, told: str) -> None:
    """Refuse a part of a bundle unless something holds.

    Args:
        is_so: Whether it holds.
        part: The transform or inferer, as its configuration names it.
        told: What does not hold, in words.

    Raises:
        BundleError: EXPORT_UNSUPPORTED.
    """
    if not is_so:
        raise refuse(part, told)


def refuse(part: str, told: str) -> BundleError:
    """The refusal of a part of a bundle."""
    problem = f"an exported bundle cannot do what {part} does: {told}"
    return BundleError("EXPORT_UNSUPPORTED", part, problem, "predict with the bundle itself, or build it without")
