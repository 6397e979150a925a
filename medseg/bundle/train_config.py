"""Settings as MONAI's training configuration: for one device and for several, with random changes of images."""

from __future__ import annotations

from medseg.bundle.config import Config
from medseg.bundle.inference_config import network_config, places, preprocessing, sliding_window, to_classes
from medseg.bundle.settings import AUGMENTATION, Settings

KEYS = ["image", "label"]

_IMPORTS = (
    "$from medseg.bundle.load import running_root",
    "$from medseg.data.splits import datalist_of",
    "$from medseg.allocator import keep_freed_memory",
)
_ON_CUDA = "$@device.type == 'cuda'"


def train_config(settings: Settings) -> Config:
    """`train.json`: cases with labels in, weights out."""
    return {
        "imports": [
            "$from pathlib import Path",
            "$import torch",
            "$import monai",
            *_IMPORTS,
        ],
        **places("$@bundle_root + '/eval'"),
        # The shipped weights have another form than what is trained here, and stay.
        **({"ckpt_dir": "$@bundle_root + '/trained'"} if settings.shipped else {}),
        "log_dir": "$@bundle_root + '/logs'",
        # A bundle without a split of its own draws one, which is the same in every run.
        "split_file": "$next(map(str, Path(@bundle_root).glob('configs/split.json')), None)",
        "fractions": list(settings.fractions),
        "channel_names": list(settings.channels) if settings.named_channels else None,
        "drop_empty": settings.drop_empty,
        **_numbers(settings),
        **network_config(settings),
        **_optimisation(settings),
        "train": _train(settings),
        "validate": _validate(settings),
        "checkpoints": _checkpoints(),
        "initialize": ["$keep_freed_memory()", "$monai.utils.set_determinism(seed=@seed)"],
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
            *_IMPORTS,
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
            "$keep_freed_memory()",
            "$dist.init_process_group(backend='nccl' if torch.cuda.is_available() else 'gloo')",
            "$torch.cuda.set_device(@device) if torch.cuda.is_available() else None",
            "$monai.utils.set_determinism(seed=@seed)",
        ],
        "finalize": ["$dist.destroy_process_group()"],
    }


def _numbers(settings: Settings) -> Config:
    """What a command line most often changes of a training."""
    return {
        "part": "validation",
        "seed": settings.seed,
        "epochs": settings.epochs,
        "val_interval": 1,
        "batch_size": settings.batch_size,
        "accumulation_steps": 1,
        "optimizer_name": settings.optimizer_name,
        "learning_rate": settings.learning_rate,
        "momentum": settings.momentum,
        "weight_decay": settings.weight_decay,
        "clip_norm": 0.0,
        "schedule_name": settings.schedule_name,
        "select_by": settings.select_by,
        "patience": settings.patience,
        "min_delta": 0.0001,
        "average_decay": settings.average_decay,
        "tensorboard": False,
        "cache_rate": 1.0,
        "num_workers": 0,
        "resume": False,
        "amp": _ON_CUDA,
    }


def _checkpoints() -> Config:
    return {
        "_target_": "medseg.training.checkpoints.Checkpoints",
        "folder": "@ckpt_dir",
        "network": "@network",
        "optimizer": "@optimizer",
        "lr_scheduler": "@lr_scheduler",
        "trainer": "@train::trainer",
        "evaluator": "@validate::evaluator",
        "log_dir": "@log_dir",
        "loss": "@loss",
        "select_by": "@select_by",
        "patience": "@patience",
        "min_delta": "@min_delta",
        "average_decay": "@average_decay",
        "tensorboard": "@tensorboard",
        "config_file": "$@bundle_root + '/configs/train.json'",
    }


def _optimisation(settings: Settings) -> Config:
    return {
        "loss_name": settings.loss_name,
        "loss_options": {name: dict(options) for name, options in settings.loss_options.items()},
        "loss": {"_target_": "medseg.losses.build_loss", "name": "@loss_name", "options_by_name": "@loss_options"},
        "optimizer": {
            "_target_": "medseg.training.optimisation.build_optimizer",
            "name": "@optimizer_name",
            "network": "@network",
            "learning_rate": "@learning_rate",
            "weight_decay": "@weight_decay",
            "momentum": "@momentum",
            "clip_norm": "@clip_norm",
        },
        "lr_scheduler": {
            "_target_": "medseg.training.optimisation.build_schedule",
            "name": "@schedule_name",
            "optimizer": "@optimizer",
            "epochs": "@epochs",
        },
    }


def _train(settings: Settings) -> Config:
    return {
        "deterministic_transforms": [*preprocessing(settings, KEYS), _pad(settings)],
        "random_transforms": random_transforms(settings),
        "preprocessing": {
            "_target_": "Compose",
            "transforms": "$@train::deterministic_transforms + @train::random_transforms",
        },
        "dataset": _dataset(_cases("'train'"), "train"),
        "dataloader": {
            "_target_": "medseg.training.loading.AheadLoader",
            "dataset": "@train::dataset",
            "batch_size": "@batch_size",
            "shuffle": True,
            "drop_last": "$len(@train::dataset) > @batch_size",
            "num_workers": "@num_workers",
            "ahead": 1,
            "pin_memory": _ON_CUDA,
        },
        "inferer": {"_target_": "medseg.training.precision.MixedPrecisionInferer", "is_enabled": "@amp"},
        "postprocessing": {"_target_": "medseg.training.counting.CountVoxels", "num_classes": len(settings.labels)},
        "handlers": [
            {
                "_target_": "ValidationHandler",
                "validator": "@validate::evaluator",
                "epoch_level": True,
                "interval": "@val_interval",
            },
        ],
        "key_metric": {"train_mean_dice": _count("MeanOverlap", measure="dice")},
        "additional_metrics": {
            "train_mean_iou": _count("MeanOverlap", measure="iou"),
            "train_accuracy": _count("CountedAccuracy"),
        },
        "trainer": _trainer(),
    }


def _trainer() -> Config:
    return {
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
        "additional_metrics": "@train::additional_metrics",
        "train_handlers": "@train::handlers",
        "accumulation_steps": "@accumulation_steps",
        "optim_set_to_none": True,
        "non_blocking": _ON_CUDA,
        "decollate": False,
    }


def _validate(settings: Settings) -> Config:
    return {
        "preprocessing": {"_target_": "Compose", "transforms": preprocessing(settings, KEYS)},
        "dataset": _dataset(_cases("@part"), "validate"),
        "dataloader": {
            "_target_": "DataLoader",
            "dataset": "@validate::dataset",
            "batch_size": 1,
            "num_workers": "@num_workers",
        },
        "inferer": sliding_window(settings),
        "postprocessing": {"_target_": "Compose", "transforms": _make_classes(settings)},
        "handlers": [],
        "key_metric": {"val_mean_dice": _mean("MeanDice")},
        "additional_metrics": {"val_mean_iou": _mean("MeanIoUHandler"), "val_accuracy": _accuracy()},
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


def _cases(part: str) -> str:
    return f"$datalist_of(@dataset_dir, {part}, @split_file, @fractions, @seed, @channel_names, @drop_empty)"


def _dataset(data: str, stage: str) -> Config:
    return {
        "_target_": "CacheDataset",
        "data": data,
        "transform": f"@{stage}::preprocessing",
        "cache_rate": "@cache_rate",
        "progress": False,
    }


def _pad(settings: Settings) -> Config:
    size = [*settings.patch_voxels, 1] if settings.slicewise else list(settings.patch_voxels)
    return {"_target_": "SpatialPadd", "keys": KEYS, "spatial_size": size}


def _make_classes(settings: Settings) -> list[Config]:
    if settings.activation == "sigmoid":
        return [{"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.0}]  # of logits: a probability of 0.5
    classes = len(settings.labels)
    return [
        to_classes(settings, to_onehot=classes),
        {"_target_": "AsDiscreted", "keys": "label", "to_onehot": classes},
    ]


def _count(metric: str, **options: str) -> Config:
    """A metric of the training batches, from the counts that its postprocessing leaves."""
    return {"_target_": f"medseg.training.counting.{metric}", **options}


def _accuracy() -> Config:
    return {
        "_target_": "medseg.training.handlers.VoxelAccuracy",
        "output_transform": "$monai.handlers.from_engine(['pred', 'label'])",
    }


def _mean(handler: str) -> Config:
    return {
        "_target_": handler,
        "include_background": False,
        "output_transform": "$monai.handlers.from_engine(['pred', 'label'])",
    }


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
