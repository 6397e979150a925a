"""Which parts of a bundle's configuration may be built without running its code.

A MONAI configuration is a program: ``$…`` is evaluated, ``_target_`` names any
callable, and a transform's ``reader`` or ``writer`` is imported by name. Here a
configuration is read as data: only named networks, transforms and inferers are built,
and medseg reads and writes the images itself.
"""

from __future__ import annotations

from typing import Any

from medseg.bundle.config import iterate_texts, split_key
from medseg.errors import BundleError

SECTIONS = ("network_def", "preprocessing", "inferer", "postprocessing")
"""What a bundle must name for `medseg predict`."""

ALLOWED_TRANSFORMS = frozenset(
    [
        "Activations",
        "AsChannelLast",
        "AsDiscrete",
        "BorderPad",
        "CastToType",
        "CenterScaleCrop",
        "CenterSpatialCrop",
        "ClipIntensityPercentiles",
        "Compose",
        "ConvertToMultiChannelBasedOnBratsClasses",
        "CopyItems",
        "CropForeground",
        "DeleteItems",
        "DivisiblePad",
        "EnsureChannelFirst",
        "EnsureType",
        "FillHoles",
        "Flip",
        "GaussianSmooth",
        "HistogramNormalize",
        "Identity",
        "Invert",
        "KeepLargestConnectedComponent",
        "LabelFilter",
        "LoadImage",
        "MapLabelValue",
        "MaskIntensity",
        "MedianSmooth",
        "NormalizeIntensity",
        "Orientation",
        "RemoveSmallObjects",
        "RepeatChannel",
        "Resize",
        "ResizeWithPadOrCrop",
        "Rotate90",
        "ScaleIntensity",
        "ScaleIntensityRange",
        "ScaleIntensityRangePercentiles",
        "SelectItems",
        "ShiftIntensity",
        "Spacing",
        "SpatialCrop",
        "SpatialPad",
        "SqueezeDim",
        "ThresholdIntensity",
        "ToTensor",
        "Transpose",
        "Zoom",
    ]
)
"""Transforms, in array or dictionary form, that neither import, read, write nor fetch by name."""
ALLOWED_INFERERS = frozenset({"SimpleInferer", "SliceInferer", "SlidingWindowInferer", "SlidingWindowInfererAdapt"})
ALLOWED_TARGETS = (
    "medseg.networks.build_network",
    "medseg.data.transforms.GreyToOneChanneld",
    "medseg.inference.postprocess.KeepLargestd",
)
"""Callables that may be named besides these and MONAI's networks in ``medseg.networks.MONAI_NETWORKS``."""

ALLOW_CODE = "BUNDLE_RUNS_CODE"
READER = "medseg.data.images.VolumeReader"

_REFUSED_KEYS = ("_mode_", "_requires_", "allow_pickle", "merger_cls", "writer")
_LOADER_KEYS = ("_target_", "keys", "allow_missing_keys", "ensure_channel_first")


def select_sections(config: dict[str, Any], source: object, allow_code: bool) -> dict[str, Any]:
    """The part of an inference configuration that predicting needs, made safe to build.

    Readers are replaced by medseg's own and savers left out. Without ``allow_code`` the
    result holds no expression, no macro and only allowed targets.

    Args:
        config: The whole configuration as plain values.
        source: The file, named in errors.
        allow_code: Accept expressions and any target, as MONAI itself does.

    Raises:
        BundleError: A section is missing, or something in it would run code.
    """
    for section in SECTIONS:
        if section not in config:
            raise BundleError(
                "BUNDLE_INCOMPLETE",
                source,
                f"there is no {section!r}",
                f"an inference configuration names {', '.join(SECTIONS)}",
            )
    config = {key: _with_own_files(value, allow_code) for key, value in config.items()}
    if allow_code:
        return config
    needed = {key: config[key] for key in _reachable(config)}
    for section, value in needed.items():
        _check_is_data(value, f"{source}: {section}")
    return needed


def _reachable(config: dict[str, Any]) -> list[str]:
    """The top-level keys that the sections name, directly or through each other."""
    found: list[str] = []
    waiting = list(SECTIONS)
    while waiting:
        key = waiting.pop()
        if key in found or key not in config:
            continue
        found.append(key)
        waiting += [split_key(text.lstrip("@"))[0] for text in iterate_texts(config[key]) if text.startswith("@")]
    return found


def _with_own_files(value: Any, allow_code: bool) -> Any:
    """A part of the configuration with medseg's reader in every loader, and without savers."""
    if isinstance(value, list):
        return [_with_own_files(item, allow_code) for item in value if not _names(item, "SaveImage")]
    if not isinstance(value, dict):
        return value
    changed = {key: _with_own_files(inner, allow_code) for key, inner in value.items()}
    if not _names(value, "LoadImage"):
        return changed
    kept = changed if allow_code else {key: changed[key] for key in _LOADER_KEYS if key in changed}
    return {**kept, "reader": READER, "image_only": True}


def _names(item: Any, target: str) -> bool:
    """Whether a component is the transform ``target`` or one of its dictionary forms."""
    if not isinstance(item, dict) or not isinstance(item.get("_target_"), str):
        return False
    name = item["_target_"].rpartition(".")[2]
    return name in {target, f"{target}d", f"{target}D", f"{target}Dict"}


def _check_is_data(value: Any, place: str) -> None:
    if isinstance(value, str) and value.startswith(("$", "%")):
        raise _runs_code(place, value)
    if isinstance(value, list):
        for item in value:
            _check_is_data(item, place)
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in _REFUSED_KEYS or (key.startswith("pretrained") and inner):
                raise _runs_code(place, key)
            if key == "_target_" and not _is_allowed(inner):
                raise _runs_code(place, inner)
            if key == "reader" and inner != READER:
                raise _runs_code(place, f"{key} {inner}")
            _check_is_data(inner, f"{place}.{key}")


def _is_allowed(target: Any) -> bool:
    if not isinstance(target, str):
        return False
    if target in ALLOWED_TARGETS:
        return True
    from medseg.networks import MONAI_NETWORKS

    module, _, name = target.rpartition(".")
    plain = {name, name.removesuffix("d"), name.removesuffix("D"), name.removesuffix("Dict")}
    return (
        (module in ("", "monai.transforms") and bool(plain & ALLOWED_TRANSFORMS))
        or (module in ("", "monai.inferers") and name in ALLOWED_INFERERS)
        or (module in ("", "monai.networks.nets") and name in MONAI_NETWORKS)
    )


def _runs_code(place: str, what: object) -> BundleError:
    return BundleError(
        ALLOW_CODE,
        place,
        f"{str(what)[:80]!r} would run code of the bundle",
        f"read the configuration, and if you trust it, repeat with --allow {ALLOW_CODE}",
    )
