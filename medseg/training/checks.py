"""What is looked at before a training begins or goes on, and after it ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medseg.data.cases import open_dataset
from medseg.data.splits import Split, parts
from medseg.errors import BundleError, DatasetError, OutputError, UsageError, check_known

_NEEDED = {
    "train.json": ("epochs", "seed", "fractions", "checkpoints"),
    "inference.json": (),
    "metadata.json": ("network_data_format::outputs::pred::num_channels",),
}
_RESUMABLE = ("epochs", "val_interval", "num_workers", "cache_rate", "dataset_dir")


def check_start(
    bundle: Path, folder: Path, dataset_dir: Path, overrides: Mapping[str, Any], is_new_split: bool
) -> Split:
    """Refuse what cannot be trained, before anything is written; returns the split to train on.

    Raises:
        OutputError: The folder holds another run.
        BundleError: The bundle lacks something.
        UsageError: A setting is not known.
        DatasetError: The data set cannot be used.
    """
    check_free(bundle, folder)
    _check_complete(bundle)
    config = read_config(bundle / "configs" / "train.json")
    _check_known(config, overrides)
    dataset = open_dataset(dataset_dir)
    _check_labels(dataset.labels.names, read_config(bundle / "configs" / "metadata.json"), dataset_dir)
    own = bundle / "configs" / "split.json"
    split_file = own if own.is_file() and not is_new_split else None
    config = {**config, **overrides}
    return parts(dataset.cases, split_file, tuple(config["fractions"]), config["seed"])


def check_free(bundle: Path, folder: Path) -> None:
    """Refuse a folder that holds a bundle or a run.

    Raises:
        OutputError: RUN_EXISTS.
    """
    if folder == bundle or any((folder / "models" / name).exists() for name in ("checkpoint.pt", "model.pt")):
        raise OutputError(
            "RUN_EXISTS", folder, "holds a bundle or run already", "give another folder, or --resume to go on with it"
        )


def _check_complete(bundle: Path) -> None:
    for name, keys in _NEEDED.items():
        config = read_config(bundle / "configs" / name)
        for key in keys:
            if _value(config, key) is None:
                raise BundleError(
                    "BUNDLE_INCOMPLETE", bundle, f"configs/{name} has no {key}", "add it, or use another bundle"
                )


def check_resumable(folder: Path, overrides: Mapping[str, Any]) -> None:
    """Refuse to go on where nothing was begun, or with settings that would make it another run.

    Raises:
        BundleError: NOTHING_TO_RESUME.
        UsageError: SETTING_UNKNOWN or RESUME_SETTING.
    """
    if not (folder / "models" / "checkpoint.pt").is_file():
        raise BundleError(
            "NOTHING_TO_RESUME", folder, "there is no models/checkpoint.pt", "leave --resume out to start the run"
        )
    config = read_config(folder / "configs" / "train.json")
    _check_known(config, overrides)
    for key, value in overrides.items():
        if key not in _RESUMABLE and _value(config, key) != value:
            raise UsageError("RESUME_SETTING", key, "cannot change in a run under way", "start a new run for it")


def check_validated(folder: Path) -> None:
    """Refuse a finished run that kept no weights.

    Raises:
        BundleError: NOT_VALIDATED.
    """
    if not (folder / "models" / "model.pt").is_file():
        raise BundleError(
            "NOT_VALIDATED",
            folder,
            "no epoch gave a validation metric",
            "lower val_interval, or look at the validation labels",
        )


def _check_labels(named: Mapping[int, str], metadata: Mapping[str, Any], dataset_dir: Path) -> None:
    classes = metadata["network_data_format"]["outputs"]["pred"]["num_channels"]
    if named and max(named) + 1 != classes:
        raise DatasetError(
            "LABELS_DIFFER",
            dataset_dir,
            f"its labels go up to {max(named)}, the bundle has {classes} classes with the background",
            "use a bundle made for these labels",
        )


def _check_known(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    """Refuse a key that the configuration does not have, naming the nearest."""
    for key in overrides:
        place: Any = config
        for step in key.split("::"):
            check_known("SETTING_UNKNOWN", [step], place if isinstance(place, Mapping) else [], f"train.json: {key}")
            place = place[step]


def _value(config: Mapping[str, Any], key: str) -> Any:
    """What stands at a key such as ``a::b``; None where there is none."""
    place: Any = config
    for step in key.split("::"):
        place = place.get(step) if isinstance(place, Mapping) else None
    return place


def read_config(path: Path) -> dict[str, Any]:
    """The content of one of a bundle's JSON files.

    Raises:
        BundleError: BUNDLE_INCOMPLETE, there is no such file.
    """
    if not path.is_file():
        raise BundleError("BUNDLE_INCOMPLETE", path, f"there is no {path.name}", "add it, or use another bundle")
    return json.loads(path.read_text(encoding="utf8"))
