"""Settings as MONAI configurations: what each JSON file of a bundle says.

Nothing in `network_def`, `preprocessing`, `inferer` and `postprocessing` is an
expression (``$…``), so that these parts can be read without running code.
"""

from __future__ import annotations

from typing import Any

from medseg.bundle.config import Config
from medseg.bundle.settings import Settings
from medseg.bundle.trust import READER

MASK_READER = "medseg.data.images.MaskReader"
WRITER = "medseg.data.images.VolumeWriter"

_ALL = 32767
"""More voxels than an axis has: a crop to there keeps it whole."""


def inference_config(settings: Settings) -> Config:
    """`inference.json`: a folder of images in, masks on the images' own grids out."""
    channels = list(settings.channels) if settings.named_channels else len(settings.channels)
    return {
        "imports": [
            "$import torch",
            "$from medseg.bundle.load import running_root",
            "$from medseg.data.cases import datalist",
            "$from medseg.data.cases import open_images",
        ],
        **places("$@bundle_root + '/predictions'"),
        "channels": channels,
        "datalist": "$datalist(open_images(@dataset_dir, @channels))",
        "output_ext": ".nii.gz" if settings.image_dims == 3 else ".png",
        "output_postfix": "",
        "output_dtype": "uint8",
        "amp": False,
        **network_config(settings),
        "mirror_axes": list(settings.mirror_axes),
        "preprocessing": {"_target_": "Compose", "transforms": preprocessing(settings, ["image"])},
        "dataset": {"_target_": "Dataset", "data": "@datalist", "transform": "@preprocessing"},
        "dataloader": _loader("@dataset", batch_size=1),
        "inferer": sliding_window(settings),
        "postprocessing": {"_target_": "Compose", "transforms": [*_make_labels(settings), _saver()]},
        "handlers": [],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
            "amp": "@amp",
        },
        "checkpointloader": _weights_loader("@evaluator"),
        "initialize": [],
        "run": ["$@checkpointloader(@evaluator)", "$@evaluator.run()"],
    }


def evaluate_config(settings: Settings) -> Config:
    """`evaluate.json`, laid over `train.json`: the weights' score on the test part."""
    return {
        "part": "test",
        "cache_rate": 0.0,
        "validate::handlers": [
            {
                "_target_": "MetricsSaver",
                "save_dir": "@output_dir",
                "metrics": ["val_mean_dice", "val_mean_iou"],
                "metric_details": ["val_mean_dice", "val_mean_iou"],
                "batch_transform": "$lambda batch: [item['image'].meta for item in batch]",
                "summary_ops": "*",
            }
        ],
        "checkpointloader": _weights_loader("@validate::evaluator"),
        "initialize": [],
        "run": ["$@checkpointloader(@validate::evaluator)", "$@validate::evaluator.run()"],
    }


def places(output: str) -> Config:
    """Folders, weights and device: what a command line most often overrides."""
    return {
        "bundle_root": "$running_root()",
        "dataset_dir": "$@bundle_root + '/data'",
        "ckpt_dir": "$@bundle_root + '/models'",
        "ckpt_path": "$@ckpt_dir + '/model.pt'",
        "output_dir": output,
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
    }


def network_config(settings: Settings) -> Config:
    """The network, replaceable by one override of `network_name`; channels last is faster on CPUs and GPUs."""
    layout = "channels_last_3d" if settings.spatial_dims == 3 else "channels_last"
    return {
        "network_name": settings.network["name"],
        "network_options": {key: value for key, value in settings.network.items() if key != "name"},
        "network_def": {
            "_target_": "medseg.networks.build_network",
            "name": "@network_name",
            "spatial_dims": settings.spatial_dims,
            "in_channels": len(settings.channels),
            "out_channels": settings.out_channels,
            "unet_options": "@network_options",
        },
        "network": f"$@network_def.to(@device).to(memory_format=torch.{layout})",
    }


def preprocessing(settings: Settings, keys: list[str]) -> list[Config]:
    """Transforms without chance, for an image alone or with its label."""
    steps: list[Config] = [{"_target_": "LoadImaged", "keys": "image", "reader": READER, "image_only": True}]
    if "label" in keys:
        names = {str(value): texts for value, texts in settings.mask_names.items()}
        values = {"values": list(settings.mask_values), "names": names}
        steps.append({"_target_": "LoadImaged", "keys": "label", "reader": MASK_READER, "image_only": True, **values})
    steps.append({"_target_": "EnsureChannelFirstd", "keys": keys})
    if settings.image_dims == 2 and len(settings.channels) == 1:
        steps.append({"_target_": "medseg.data.transforms.GreyToOneChanneld", "keys": "image"})
    if "label" in keys:
        steps.append({"_target_": "medseg.data.transforms.AlignToImaged", "keys": "label", "image_key": "image"})
        steps += _rename_labels(settings)
    if settings.image_dims == 3:
        steps.append({"_target_": "Orientationd", "keys": keys, "axcodes": "RAS", "labels": None})
    steps += _resample(settings, keys)
    if "label" in keys:
        steps += _keep_to_mask(settings, keys)
    return [*steps, _intensity(settings), {"_target_": "EnsureTyped", "keys": keys, "dtype": "float32"}]


def _rename_labels(settings: Settings) -> list[Config]:
    differing = {value: label for value, label in settings.label_values.items() if value != label}
    names = {"orig_labels": list(differing), "target_labels": list(differing.values())}
    return [{"_target_": "MapLabelValued", "keys": "label", **names}] if differing else []


def _resample(settings: Settings, keys: list[str]) -> list[Config]:
    """Spacing, slices and size, each on the way back undone by `Invertd`."""
    steps: list[Config] = []
    if settings.spacing_mm:
        pixdim, modes = list(settings.spacing_mm), ["bilinear", "nearest"][: len(keys)]
        steps.append({"_target_": "Spacingd", "keys": keys, "pixdim": pixdim, "mode": modes, "align_corners": False})
    if settings.slice_range:
        first, end = settings.slice_range
        steps.append(
            {"_target_": "SpatialCropd", "keys": keys, "roi_start": [0, 0, first], "roi_end": [_ALL, _ALL, end]}
        )
    if settings.resize_voxels:
        linear = "trilinear" if settings.image_dims == 3 else "bilinear"
        size, modes = list(settings.resize_voxels), [linear, "nearest"][: len(keys)]
        steps.append({"_target_": "Resized", "keys": keys, "spatial_size": size, "mode": modes})
    if settings.crop_voxels:
        steps.append({"_target_": "ResizeWithPadOrCropd", "keys": keys, "spatial_size": list(settings.crop_voxels)})
    return steps


def _keep_to_mask(settings: Settings, keys: list[str]) -> list[Config]:
    """The region of interest that a study's reference mask gives; there is none where a mask is to be found."""
    steps: list[Config] = []
    if settings.suppress_outside:
        steps.append({"_target_": "medseg.data.transforms.SuppressOutsided", "keys": "image", "mask_key": "label"})
    if settings.crop_to_mask is not None:
        crop = {"source_key": "label", "margin": settings.crop_to_mask, "allow_smaller": True}
        steps.append({"_target_": "CropForegroundd", "keys": keys, **crop})
    return steps


def _intensity(settings: Settings) -> Config:
    kind = settings.intensity["kind"]
    if kind == "z-score":
        return {"_target_": "NormalizeIntensityd", "keys": "image", "channel_wise": True}
    if kind == "unit":
        return {"_target_": "ScaleIntensityd", "keys": "image", "channel_wise": True}
    low, high = settings.intensity["low"], settings.intensity["high"]
    window = {"a_min": low, "a_max": high, "b_min": 0.0, "b_max": 1.0, "clip": True}
    return {"_target_": "ScaleIntensityRanged", "keys": "image", **window}


def sliding_window(settings: Settings) -> Config:
    """The inferer: overlapping windows, blended by a Gaussian; slice by slice where the network takes slices."""
    kind: Config = (
        {"_target_": "SliceInferer", "spatial_dim": 2} if settings.slicewise else {"_target_": "SlidingWindowInferer"}
    )
    return {
        **kind,
        "roi_size": list(settings.patch_voxels),
        "sw_batch_size": 2 if settings.spatial_dims == 3 else 8,
        "overlap": settings.overlap,
        "mode": "gaussian",
    }


def to_classes(settings: Settings, key: str = "pred", **options: Any) -> Config:
    """From logits or probabilities to classes: the likeliest, or the one above 0.5."""
    choice = {"threshold": 0.5} if settings.activation == "sigmoid" else {"argmax": True}
    return {"_target_": "AsDiscreted", "keys": key, **choice, **options}


def _make_labels(settings: Settings) -> list[Config]:
    """Logits to labels on the image's own grid: the way back is taken by probabilities, not by labels."""
    foreground = [value for value in settings.labels if value]
    largest = {"_target_": "medseg.inference.postprocess.KeepLargestd", "keys": "pred", "labels": foreground}
    return [
        {"_target_": "Activationsd", "keys": "pred", settings.activation: True},
        {
            "_target_": "Invertd",
            "keys": "pred",
            "transform": "@preprocessing",
            "orig_keys": "image",
            "nearest_interp": False,
            "to_tensor": True,
        },
        to_classes(settings),
        *([largest] if settings.keep_largest else []),
    ]


def _saver() -> Config:
    return {
        "_target_": "SaveImaged",
        "keys": "pred",
        "writer": WRITER,
        "output_ext": "@output_ext",
        "output_dtype": "@output_dtype",
        "resample": False,
        "folder_layout": {
            "_target_": "medseg.bundle.layout.CaseLayout",
            "output_dir": "@output_dir",
            "dataset_dir": "@dataset_dir",
            "channels": "@channels",
            "extension": "@output_ext",
            "postfix": "@output_postfix",
        },
    }


def _loader(dataset: str, batch_size: int | str) -> Config:
    return {
        "_target_": "DataLoader",
        "dataset": dataset,
        "batch_size": batch_size,
        "shuffle": False,
        "num_workers": 0,
    }


def _weights_loader(engine: str) -> Config:
    return {
        "_target_": "CheckpointLoader",
        "load_path": "@ckpt_path",
        "load_dict": {"model": "@network"},
        "map_location": "@device",
        "strict": True,
    }
