"""Random changes of training images: MONAI transforms from settings."""

from __future__ import annotations

from typing import Any

from medseg.bundle.settings import AUGMENTATION, Settings

Config = dict[str, Any]

KEYS = ["image", "label"]


def random_transforms(settings: Settings) -> list[Config]:
    """Patches and their changes; a patch among many is cut first, so that only its own voxels are turned."""
    chosen = {**AUGMENTATION, **settings.augmentation}
    cut, turned = _cut(settings), _shape_changes(settings, chosen)
    is_cut_first = settings.sampling == "balanced" or settings.slicewise
    spatial = cut + turned if is_cut_first else turned + cut
    return [*spatial, *_intensity_changes(settings, chosen)]


def _cut(settings: Settings) -> list[Config]:
    """Patches of a case; where the network takes slices, they are one voxel thick and lose that axis."""
    size = [*settings.patch_voxels, 1] if settings.slicewise else list(settings.patch_voxels)
    patch: Config = {"keys": KEYS, "num_samples": settings.patches_per_case}
    if settings.sampling == "balanced":
        classes = {"num_classes": len(settings.labels), "ratios": [1] * len(settings.labels), "warn": False}
        crop = {"_target_": "RandCropByLabelClassesd", "label_key": "label", "spatial_size": size, **classes, **patch}
    else:
        crop = {"_target_": "RandSpatialCropSamplesd", "roi_size": size, "random_size": False, **patch}
    slices = {"_target_": "SqueezeDimd", "keys": KEYS, "dim": -1, "update_meta": False}
    return [crop, slices] if settings.slicewise else [crop]


def _shape_changes(settings: Settings, chosen: Config) -> list[Config]:
    axes = settings.spatial_dims
    affine: Config = {
        "_target_": "RandAffined",
        "keys": KEYS,
        "prob": chosen["move_probability"],
        "rotate_range": [chosen["rotation_radians"]] * (3 if axes == 3 else 1),
        "scale_range": [chosen["scaling"]] * axes,
        "translate_range": [int(size * chosen["shift"]) for size in settings.patch_voxels],
        "mode": ["bilinear", "nearest"],
        "padding_mode": chosen["padding"],
    }
    if chosen["elastic"]:
        # In one resampling with the turns, so that an image is blurred once.
        spacing = [chosen["elastic"]["spacing"]] * axes
        affine |= {
            "_target_": "Rand2DElasticd",
            "spacing": spacing,
            "magnitude_range": list(chosen["elastic"]["magnitude"]),
        }
    is_moved = any(chosen[key] for key in ("rotation_radians", "scaling", "shift", "elastic"))
    flips = [
        {"_target_": "RandFlipd", "keys": KEYS, "prob": 0.5, "spatial_axis": axis} for axis in settings.mirror_axes
    ]
    return [affine, *flips] if is_moved else flips


def _intensity_changes(settings: Settings, chosen: Config) -> list[Config]:
    blur = {f"sigma_{axis}": list(chosen["blur"] or ()) for axis in "xyz"[: settings.spatial_dims]}
    steps = {
        "noise": {"_target_": "RandGaussianNoised", "keys": "image", "prob": 0.15, "std": chosen["noise"]},
        "blur": {"_target_": "RandGaussianSmoothd", "keys": "image", "prob": 0.15, **blur},
        "brightness": {
            "_target_": "RandScaleIntensityd",
            "keys": "image",
            "prob": chosen["brightness_probability"],
            "factors": chosen["brightness"],
            **({"channel_wise": True} if chosen["colour"] else {}),
        },
        "gamma": {
            "_target_": "RandAdjustContrastd",
            "keys": "image",
            "prob": 0.2,
            "gamma": list(chosen["gamma"] or ()),
        },
    }
    return [step for key, step in steps.items() if chosen[key]]
