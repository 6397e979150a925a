"""Settings as MONAI's training configuration, for one device and for several."""

from __future__ import annotations

from medseg.bundle.configs import Config, network_config, places, preprocessing, sliding_window
from medseg.bundle.settings import Settings

KEYS = ["image", "label"]


def train_config(settings: Settings) -> Config:
    """`train.json`: cases with labels in, weights out."""
    return {
        "imports": [
            "$from pathlib import Path",
            "$import torch",
            "$import monai",
            "$from medseg.bundle.load import running_root",
            "$from medseg.data.splits import datalist_of",
        ],
        **places("$@bundle_root + '/eval'"),
        "log_dir": "$@bundle_root + '/logs'",
        # A bundle without a split of its own draws one, which is the same in every run.
        "split_file": "$next(map(str, Path(@bundle_root).glob('configs/split.json')), None)",
        "fractions": list(settings.fractions),
        "part": "validation",
        "seed": settings.seed,
        "epochs": settings.epochs,
        "val_interval": 1,
        "batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "weight_decay": settings.weight_decay,
        "cache_rate": 1.0,
        "num_workers": 0,
        "resume": False,
        "amp": "$@device.type == 'cuda'",
        **network_config(settings),
        **_optimisation(settings),
        "train": _train(settings),
        "validate": _validate(settings),
        "checkpoints": {
            "_target_": "medseg.training.checkpoints.Checkpoints",
            "folder": "@ckpt_dir",
            "network": "@network",
            "optimizer": "@optimizer",
            "lr_scheduler": "@lr_scheduler",
            "trainer": "@train::trainer",
            "evaluator": "@validate::evaluator",
            "log_dir": "@log_dir",
        },
        "initialize": ["$monai.utils.set_determinism(seed=@seed)"],
        "run": ["$@checkpoints.attach(seed=@seed, resume=@resume)", "$@train::trainer.run()"],
    }


def multi_gpu_train_config() -> Config:
    """`multi_gpu_train.json`, laid over `train.json`: one process per device, started by torchrun.

    Every rank sees its share of the cases; rank 0 alone writes.
    """
    return {
        "imports": [
            "$import os",
            "$from pathlib import Path",
            "$import torch",
            "$import torch.distributed as dist",
            "$import monai",
            "$from medseg.bundle.load import running_root",
            "$from medseg.data.splits import datalist_of",
        ],
        "device": "$torch.device(int(os.environ['LOCAL_RANK']) if torch.cuda.is_available() else 'cpu')",
        "network": {
            "_target_": "torch.nn.parallel.DistributedDataParallel",
            "module": "$@network_def.to(@device)",
            "device_ids": "$[@device] if @device.type == 'cuda' else None",
        },
        "train::sampler": {
            "_target_": "DistributedSampler",
            "dataset": "@train::dataset",
            "even_divisible": True,
            "shuffle": True,
        },
        "train::dataloader::sampler": "@train::sampler",
        "train::dataloader::shuffle": False,
        # A rank whose whole share is less than a batch would train on nothing.
        "train::dataloader::drop_last": "$len(@train::sampler) > @batch_size",
        "validate::sampler": {
            "_target_": "DistributedSampler",
            "dataset": "@validate::dataset",
            "even_divisible": False,
            "shuffle": False,
        },
        "validate::dataloader::sampler": "@validate::sampler",
        "initialize": [
            "$dist.init_process_group(backend='nccl' if torch.cuda.is_available() else 'gloo')",
            "$torch.cuda.set_device(@device) if torch.cuda.is_available() else None",
            "$monai.utils.set_determinism(seed=@seed)",
        ],
        "finalize": ["$dist.destroy_process_group()"],
    }


def _optimisation(settings: Settings) -> Config:
    return {
        "loss_name": settings.loss_name,
        "loss": {"_target_": "medseg.losses.build_loss", "name": "@loss_name"},
        "optimizer": {
            "_target_": "torch.optim.AdamW",
            "params": "$@network.parameters()",
            "lr": "@learning_rate",
            "weight_decay": "@weight_decay",
        },
        "lr_scheduler": {
            "_target_": "torch.optim.lr_scheduler.LambdaLR",
            "optimizer": "@optimizer",
            "lr_lambda": "$lambda epoch: max(1 - epoch / @epochs, 0.0) ** 0.9",
        },
    }


def _train(settings: Settings) -> Config:
    return {
        "deterministic_transforms": [*preprocessing(settings, KEYS), _pad(settings)],
        "random_transforms": _random_transforms(settings),
        "preprocessing": {
            "_target_": "Compose",
            "transforms": "$@train::deterministic_transforms + @train::random_transforms",
        },
        "dataset": _dataset("$datalist_of(@dataset_dir, 'train', @split_file, @fractions, @seed)", "train"),
        "dataloader": {
            "_target_": "DataLoader",
            "dataset": "@train::dataset",
            "batch_size": "@batch_size",
            "shuffle": True,
            "drop_last": "$len(@train::dataset) > @batch_size",
            "num_workers": "@num_workers",
        },
        "inferer": {"_target_": "medseg.training.precision.MixedPrecisionInferer", "is_enabled": "@amp"},
        "postprocessing": {"_target_": "Compose", "transforms": _to_classes(settings)},
        "handlers": [
            {"_target_": "LrScheduleHandler", "lr_scheduler": "@lr_scheduler", "print_lr": False},
            {
                "_target_": "ValidationHandler",
                "validator": "@validate::evaluator",
                "epoch_level": True,
                "interval": "@val_interval",
            },
        ],
        "key_metric": {"train_mean_dice": _mean("MeanDice")},
        "trainer": {
            "_target_": "SupervisedTrainer",
            "max_epochs": "@epochs",
            "device": "@device",
            "train_data_loader": "@train::dataloader",
            "network": "@network",
            "loss_function": "@loss",
            "optimizer": "@optimizer",
            "inferer": "@train::inferer",
            "postprocessing": "@train::postprocessing",
            "key_train_metric": "@train::key_metric",
            "train_handlers": "@train::handlers",
        },
    }


def _validate(settings: Settings) -> Config:
    return {
        "preprocessing": {"_target_": "Compose", "transforms": preprocessing(settings, KEYS)},
        "dataset": _dataset("$datalist_of(@dataset_dir, @part, @split_file, @fractions, @seed)", "validate"),
        "dataloader": {
            "_target_": "DataLoader",
            "dataset": "@validate::dataset",
            "batch_size": 1,
            "num_workers": "@num_workers",
        },
        "inferer": sliding_window(settings),
        "postprocessing": {"_target_": "Compose", "transforms": _to_classes(settings)},
        "handlers": [],
        "key_metric": {"val_mean_dice": _mean("MeanDice")},
        "additional_metrics": {"val_mean_iou": _mean("MeanIoUHandler")},
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@validate::dataloader",
            "network": "@network",
            "inferer": "@validate::inferer",
            "postprocessing": "@validate::postprocessing",
            "key_val_metric": "@validate::key_metric",
            "additional_metrics": "@validate::additional_metrics",
            "val_handlers": "@validate::handlers",
        },
    }


def _dataset(data: str, stage: str) -> Config:
    return {
        "_target_": "CacheDataset",
        "data": data,
        "transform": f"@{stage}::preprocessing",
        "cache_rate": "@cache_rate",
        "progress": False,
    }


def _pad(settings: Settings) -> Config:
    return {"_target_": "SpatialPadd", "keys": KEYS, "spatial_size": list(settings.patch_voxels)}


def _random_transforms(settings: Settings) -> list[Config]:
    """Patches and their changes; a patch among many is cut first, so that only its own voxels are turned."""
    cut, turned = [_crop(settings)], _shape_changes(settings)
    spatial = cut + turned if settings.sampling == "balanced" else turned + cut
    return [*spatial, *_intensity_changes(settings)]


def _crop(settings: Settings) -> Config:
    patch = {"keys": KEYS, "num_samples": settings.patches_per_case}
    if settings.sampling == "balanced":
        classes = len(settings.labels)
        return {
            "_target_": "RandCropByLabelClassesd",
            "label_key": "label",
            "spatial_size": list(settings.patch_voxels),
            "num_classes": classes,
            "ratios": [1] * classes,
            "warn": False,
            **patch,
        }
    size = {"roi_size": list(settings.patch_voxels), "random_size": False}
    return {"_target_": "RandSpatialCropSamplesd", **size, **patch}


def _shape_changes(settings: Settings) -> list[Config]:
    affine = {
        "_target_": "RandAffined",
        "keys": KEYS,
        "prob": 0.5,
        "rotate_range": [settings.rotation_radians] * (3 if settings.spatial_dims == 3 else 1),
        "scale_range": [settings.scaling] * settings.spatial_dims,
        "translate_range": [size // 12 for size in settings.patch_voxels],
        "mode": ["bilinear", "nearest"],
        "padding_mode": "zeros",
    }
    flips = [
        {"_target_": "RandFlipd", "keys": KEYS, "prob": 0.5, "spatial_axis": axis} for axis in settings.mirror_axes
    ]
    return [affine, *flips]


def _intensity_changes(settings: Settings) -> list[Config]:
    blur = {f"sigma_{axis}": [0.3, 0.8] for axis in "xyz"[: settings.spatial_dims]}
    return [
        {"_target_": "RandGaussianNoised", "keys": "image", "prob": 0.15, "std": settings.noise},
        {"_target_": "RandGaussianSmoothd", "keys": "image", "prob": 0.15, **blur},
        {"_target_": "RandScaleIntensityd", "keys": "image", "prob": 0.3, "factors": 0.25},
        {"_target_": "RandAdjustContrastd", "keys": "image", "prob": 0.2, "gamma": [0.7, 1.5]},
    ]


def _to_classes(settings: Settings) -> list[Config]:
    classes = len(settings.labels)
    return [
        {"_target_": "AsDiscreted", "keys": "pred", "argmax": True, "to_onehot": classes},
        {"_target_": "AsDiscreted", "keys": "label", "to_onehot": classes},
    ]


def _mean(handler: str) -> Config:
    return {
        "_target_": handler,
        "include_background": False,
        "output_transform": "$monai.handlers.from_engine(['pred', 'label'])",
    }
