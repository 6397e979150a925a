"""A bundle's MONAI transforms as the steps of an exported bundle; whatever has no exact counterpart is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from monai import transforms
from monai.transforms import Compose, LazyTransform, MapTransform
from monai.transforms.utils import is_positive
from monai.utils import get_equivalent_dtype

from medseg.data.transforms import GreyToOneChanneld
from medseg.inference.exported.unsupported import need, unsupported
from medseg.inference.postprocess import KeepLargestd
from medseg.inference.steps.numpy_steps import Step

LINEAR = ("linear", "bilinear", "trilinear")
RAS_LABELS = (None, (("L", "R"), ("P", "A"), ("I", "S")))
PAD_MODES = {"constant": "constant", "edge": "edge", "replicate": "edge", "reflect": "reflect"}


def steps_before(preprocessing: Compose, axes: int) -> tuple[Step, ...]:
    """The steps from the image as it is read to the network's input.

    Args:
        preprocessing: The bundle's.
        axes: Spatial axes of its images.

    Raises:
        BundleError: EXPORT_UNSUPPORTED, naming the transform.
    """
    need(not preprocessing.lazy, "Compose", "lazy resampling joins transforms")
    chain = list(preprocessing.transforms)
    need(bool(chain) and type(chain[0]) is transforms.LoadImaged, "preprocessing", "it does not start with LoadImaged")
    has_channels = bool(chain[0]._loader.ensure_channel_first) or type(chain[1]) is transforms.EnsureChannelFirstd
    need(has_channels, "LoadImaged", "EnsureChannelFirstd does not follow it")
    translated = (_translated(each, axes) for each in chain)
    return tuple(step for step in translated if step)


def steps_later(later: Sequence[object]) -> tuple[Step, ...]:
    """The steps on the labels.

    Raises:
        BundleError: EXPORT_UNSUPPORTED, naming the transform.
    """
    steps = []
    for each in later:
        name = type(each).__name__
        need(type(each) is KeepLargestd, name, "only KeepLargestd may follow AsDiscreted")
        need(tuple(each.keys) == ("pred",), name, "its key is not 'pred'")  # type: ignore[attr-defined]
        steps.append({"step": "KeepLargest", "labels": [int(label) for label in each.labels]})  # type: ignore[attr-defined]
    return tuple(steps)


def _translated(transform: Any, axes: int) -> Step | None:
    name = type(transform).__name__
    translate = _TRANSLATIONS.get(type(transform))
    if translate is None:
        raise unsupported(name, "no exact counterpart of it is known")
    is_plain = isinstance(transform, MapTransform) and tuple(transform.keys) == ("image",)
    need(is_plain, name, "its keys are not 'image' alone")
    need(not (isinstance(transform, LazyTransform) and transform.lazy), name, "lazy resampling joins transforms")
    parameters = translate(transform, axes)
    return None if parameters is None else {"step": name.removesuffix("d"), **parameters}


def _load(transform: Any, axes: int) -> None:
    need(_is_float32(transform._loader.dtype), "LoadImaged", f"dtype {transform._loader.dtype}")


def _channel_first(transform: Any, axes: int) -> None:
    need(transform.adjuster.input_channel_dim is None, "EnsureChannelFirstd", "channel_dim is set")


def _typed(transform: Any, axes: int) -> None:
    types = getattr(transform, "dtype", None) or (transform.converter.dtype,)
    need(types[0] is None or _is_float32(types[0]), type(transform).__name__, f"dtype {types[0]}")


def _grey(transform: Any, axes: int) -> dict[str, Any]:
    return {}


def _orientation(transform: Any, axes: int) -> dict[str, Any]:
    turn = transform.ornt_transform
    need(axes == 3, "Orientationd", "of a 2D image")
    need(turn.labels in RAS_LABELS, "Orientationd", f"labels {turn.labels}")
    return {"axcodes": None if turn.as_closest_canonical else str("".join(turn.axcodes))}


def _spacing(transform: Any, axes: int) -> dict[str, Any]:
    spacing, name = transform.spacing_transform, "Spacingd"
    need(_text(transform.mode[0]) in LINEAR, name, f"mode {_text(transform.mode[0])}")
    need(_text(transform.padding_mode[0]) == "border", name, f"padding_mode {_text(transform.padding_mode[0])}")
    need(not transform.scale_extent[0] and not spacing.scale_extent, name, "scale_extent")
    need(not spacing.recompute_affine, name, "recompute_affine")
    limits = np.concatenate([spacing.min_pixdim, spacing.max_pixdim]).astype(float)
    need(bool(np.isnan(limits).all()), name, "min_pixdim or max_pixdim")
    return {"pixdim": spacing.pixdim.tolist(), "diagonal": bool(spacing.diagonal)}


def _resize(transform: Any, axes: int) -> dict[str, Any]:
    resizer, name = transform.resizer, "Resized"
    need(resizer.size_mode == "all", name, f"size_mode {resizer.size_mode}")
    need(_text(transform.mode[0]) in LINEAR, name, f"mode {_text(transform.mode[0])}")
    need(not transform.align_corners[0], name, "align_corners")
    need(not transform.anti_aliasing[0], name, "anti_aliasing")
    need(_is_float32(transform.dtype[0]), name, f"dtype {transform.dtype[0]}")
    size = _integers(resizer.spatial_size)
    need(isinstance(size, list) and len(size) == axes, name, f"spatial_size {size} for {axes} axes")
    return {"spatial_size": size}


def _spatial_crop(transform: Any, axes: int) -> dict[str, Any]:
    need(not transform._has_str_roi, "SpatialCropd", "a box that the data name")
    slices = list(transform.cropper.slices)[:axes]
    starts = [0 if each.start is None else int(each.start) for each in slices]
    stops = [None if each.stop is None else int(each.stop) for each in slices]
    need(all(each >= 0 for each in (*starts, *(stop or 0 for stop in stops))), "SpatialCropd", "counted from the end")
    return {"start": starts, "stop": stops}


def _centre_crop(transform: Any, axes: int) -> dict[str, Any]:
    return {"roi_size": _per_axis(transform.cropper.roi_size, axes, "CenterSpatialCropd")}


def _foreground(transform: Any, axes: int) -> dict[str, Any]:
    cropper, name = transform.cropper, "CropForegroundd"
    need(transform.source_key == "image", name, f"source_key {transform.source_key}")
    need(cropper.select_fn is is_positive, name, "a select_fn of its own")
    indices = cropper.channel_indices
    return {
        "channel_indices": None if indices is None else [int(each) for each in indices],
        "margin": _per_axis(cropper.margin, axes, name),
        "allow_smaller": bool(cropper.allow_smaller),
        "k_divisible": _per_axis(cropper.k_divisible, axes, name),
        "padding": list(_padding(transform, cropper.padder.kwargs).values()),
    }


def _spatial_pad(transform: Any, axes: int) -> dict[str, Any]:
    padder = transform.padder
    size = _per_axis(padder.spatial_size, axes, "SpatialPadd")
    return {"spatial_size": size, "method": _text(padder.method), **_padding(transform, padder.kwargs)}


def _crop_or_pad(transform: Any, axes: int) -> dict[str, Any]:
    padder = transform.padder.padder
    size = _per_axis(padder.spatial_size, axes, "ResizeWithPadOrCropd")
    return {"spatial_size": size, "method": _text(padder.method), **_padding(transform, padder.kwargs)}


def _divisible(transform: Any, axes: int) -> dict[str, Any]:
    padder = transform.padder
    return {
        "k": _per_axis(padder.k, axes, "DivisiblePadd"),
        "method": _text(padder.method),
        **_padding(transform, padder.kwargs),
    }


def _border(transform: Any, axes: int) -> dict[str, Any]:
    widths = transform.padder.compute_pad_width((1,) * axes)[1:]
    return {"amounts": [[int(a), int(b)] for a, b in widths], **_padding(transform, transform.padder.kwargs)}


def _normalize(transform: Any, axes: int) -> dict[str, Any]:
    step, name = transform.normalizer, "NormalizeIntensityd"
    need(_is_float32(step.dtype), name, f"dtype {step.dtype}")
    factors = {key: _factors(getattr(step, key)) for key in ("subtrahend", "divisor")}
    for value in factors.values():
        need(value is None or isinstance(value, list) == step.channel_wise, name, f"factors {value}")
    return {**factors, "nonzero": bool(step.nonzero), "channel_wise": bool(step.channel_wise)}


def _scale(transform: Any, axes: int) -> dict[str, Any]:
    step = transform.scaler
    need(_is_float32(step.dtype), "ScaleIntensityd", f"dtype {step.dtype}")
    numbers = {key: _number(getattr(step, key)) for key in ("minv", "maxv", "factor")}
    return {**numbers, "channel_wise": bool(step.channel_wise)}


def _range(transform: Any, axes: int) -> dict[str, Any]:
    step = transform.scaler
    need(_is_float32(step.dtype), "ScaleIntensityRanged", f"dtype {step.dtype}")
    return {**{key: _number(getattr(step, key)) for key in ("a_min", "a_max", "b_min", "b_max")}, "clip": step.clip}


def _percentiles(transform: Any, axes: int) -> dict[str, Any]:
    step, name = transform.scaler, "ScaleIntensityRangePercentilesd"
    need(_is_float32(step.dtype), name, f"dtype {step.dtype}")
    return {
        "percentiles": [float(step.lower), float(step.upper)],
        "target": [_number(step.b_min), _number(step.b_max)],
        **{key: bool(getattr(step, key)) for key in ("clip", "relative", "channel_wise")},
    }


def _padding(transform: Any, options: dict[str, Any]) -> dict[str, Any]:
    name, mode = type(transform).__name__, _text(transform.mode[0])
    need(mode in PAD_MODES, name, f"mode {mode}")
    unknown = set(options) - {"value", "constant_values"}
    need(not unknown, name, f"options {sorted(unknown)}")
    return {"mode": PAD_MODES[mode], "value": float(options.get("value", options.get("constant_values", 0)))}


def _per_axis(value: Any, axes: int, name: str) -> list[int] | int:
    number = _integers(value)
    need(isinstance(number, int) or len(number) == axes, name, f"{value} for {axes} axes")
    return number


def _integers(value: Any) -> list[int] | int:
    plain = np.asarray(value).tolist()
    return plain if isinstance(plain, int) else [int(each) for each in plain]


def _factors(value: Any) -> list[float] | float | None:
    return None if value is None else np.asarray(value, dtype=float).tolist()


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _text(value: Any) -> str:
    return str(getattr(value, "value", value))


def _is_float32(kind: Any) -> bool:
    return get_equivalent_dtype(kind, torch.Tensor) is torch.float32


_TRANSLATIONS: dict[type, Callable[[Any, int], dict[str, Any] | None]] = {
    GreyToOneChanneld: _grey,
    transforms.BorderPadd: _border,
    transforms.CastToTyped: _typed,
    transforms.CenterSpatialCropd: _centre_crop,
    transforms.CropForegroundd: _foreground,
    transforms.DivisiblePadd: _divisible,
    transforms.EnsureChannelFirstd: _channel_first,
    transforms.EnsureTyped: _typed,
    transforms.LoadImaged: _load,
    transforms.NormalizeIntensityd: _normalize,
    transforms.Orientationd: _orientation,
    transforms.Resized: _resize,
    transforms.ResizeWithPadOrCropd: _crop_or_pad,
    transforms.ScaleIntensityRangePercentilesd: _percentiles,
    transforms.ScaleIntensityRanged: _range,
    transforms.ScaleIntensityd: _scale,
    transforms.Spacingd: _spacing,
    transforms.SpatialCropd: _spatial_crop,
    transforms.SpatialPadd: _spatial_pad,
    transforms.ToTensord: _typed,
}
