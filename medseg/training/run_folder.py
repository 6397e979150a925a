"""A run's folder: whether it is free, what it holds before the first step, and whether its run may go on."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import medseg
from medseg.bundle.config import CONFIG_KINDS, CONFIG_SUFFIXES, Config, read_config, value_at
from medseg.bundle.load import place_locator, read_locator, read_tensors
from medseg.data.splits import Split, write_split
from medseg.errors import BundleError, OutputError, UsageError
from medseg.evaluation.runs import RUN_RECORD
from medseg.files import write_json, write_text
from medseg.options import SPLIT_PARTS, TrainOptions
from medseg.training.log import epochs_logged
from medseg.training.settings_check import check_overrides, put

_COPIED = ("LICENSE", "configs", "docs")
_CHANGED = ("train", "inference")
_WEIGHTS = "$@bundle_root + '/models'"

RESUMABLE = (
    "epochs",
    "val_interval",
    "patience",
    "num_workers",
    "cache_rate",
    "tensorboard",
    "dataset_dir",
    "device",
)
"""Settings that may change in a run under way."""
_PLACES = ("bundle_root", "ckpt_dir", "ckpt_path", "log_dir", "output_dir", "resume")


@dataclass(frozen=True)
class Start:
    """What a run is trained on.

    Args:
        data: The data set's folder.
        split: The split of its cases.
        notes: What is odd about them, or about the settings.
    """

    data: Path
    split: Split
    notes: tuple[str, ...] = ()


def begin(bundle: Path, folder: Path, configs: Mapping[str, Config], options: TrainOptions, start: Start) -> None:
    """Write what a run starts from; `run.json` last, so that a run that has it can be started again.

    Args:
        bundle: What the run is made from.
        folder: The run's folder.
        configs: The bundle's configurations in the form that is trained.
        options: Changes to them.
        start: The data, and how they are split.

    Raises:
        OutputError: Another run has been here, or the folder cannot be written.
    """
    check_free(bundle, folder)  # again: another run may have ended since
    (folder / "models" / "model.pt").unlink(missing_ok=True)  # of a run that finished no epoch
    _copy(bundle, folder)
    _copy_locator(bundle, folder, configs.get("inference", {}))
    for name, config in configs.items():
        write_json(config, folder / "configs" / f"{name}.json")
    # A bundle may keep what is trained apart from the weights that it is shipped with; a run has its own.
    _write_overrides(folder, {"ckpt_dir": _WEIGHTS, **options.overrides})
    write_split(start.split, folder / "configs" / "split.json")
    record = {
        "medseg": medseg.__version__,
        "bundle": bundle.name,
        "form": options.form,
        "data": str(start.data),
        "overrides": options.overrides,
        "cases": {part: len(getattr(start.split, part)) for part in SPLIT_PARTS},
        "notes": list(start.notes),
    }
    _describe(folder, record)
    write_json(record, folder / RUN_RECORD)


def go_on(folder: Path, overrides: Mapping[str, Any]) -> None:
    """Write what changes in a resumed run."""
    _write_overrides(folder, overrides)
    path = folder / RUN_RECORD
    known = read_config(path) if path.is_file() else {}
    write_json({**known, "overrides": {**known.get("overrides", {}), **overrides}}, path)


def read_notes(folder: Path) -> tuple[str, ...]:
    """What was odd about the data and settings of the run in ``folder``; nothing where it has no record.

    Raises:
        BundleError: BUNDLE_UNREADABLE, the record is damaged.
    """
    path = folder / RUN_RECORD
    return tuple(map(str, read_config(path).get("notes", ()))) if path.is_file() else ()


def _copy(bundle: Path, folder: Path) -> None:
    """Copy what the bundle says of itself, but for its forms and for YAML, in whose place the run has JSON."""
    forms = [f"{name}_*{suffix}" for name in (*CONFIG_KINDS, "split") for suffix in CONFIG_SUFFIXES]
    ignored = shutil.ignore_patterns(*forms, *(f"{kind}.y*ml" for kind in CONFIG_KINDS))
    for name in _COPIED:
        if (bundle / name).is_dir():
            shutil.copytree(bundle / name, folder / name, dirs_exist_ok=True, ignore=ignored)
        elif (bundle / name).is_file():
            shutil.copy2(bundle / name, folder / name)


def _copy_locator(bundle: Path, folder: Path, inference: Config) -> None:
    """The bundle's locator, where it lies inside the bundle, for the run predicts with it as well."""
    name, _ = read_locator(inference, bundle)
    if name is not None and (inside := place_locator(bundle, name)).is_dir():
        shutil.copytree(inside, folder / inside.relative_to(bundle.resolve()), dirs_exist_ok=True)


def _write_overrides(folder: Path, overrides: Mapping[str, Any]) -> None:
    """Write the changes into each configuration that has the key, so that training and predicting agree."""
    for name in _CHANGED:
        path = folder / "configs" / f"{name}.json"
        config = read_config(path)
        for key, value in overrides.items():
            put(config, key, value)
        write_json(config, path)


def _describe(folder: Path, record: Mapping[str, Any]) -> None:
    """Replace what the bundle says of its own training: its scores are not those of this run."""
    path = folder / "configs" / "metadata.json"
    metadata = {**read_config(path), "eval_metrics": {}, "name": folder.name, "data_source": "see run.json"}
    write_json({**metadata, "description": f"Trained from the bundle {record['bundle']}; see run.json."}, path)
    form = f", form {record['form']}" if record["form"] else ""
    counts = ", ".join(f"{count} {part}" for part, count in record["cases"].items())
    changes = "".join(f"\n- {key}: {value}" for key, value in record["overrides"].items()) or " none"
    write_text(
        f"# {folder.name}\n\nTrained by medseg {record['medseg']} from the bundle {record['bundle']}{form}.\n\n"
        f"Cases: {counts} (configs/split.json). Changes to its settings:{changes}\n\n"
        "The log of the training is logs/epochs.csv.\n",
        folder / "docs" / "README.md",
    )


def hash_settings(config_file: Path | None) -> dict[str, str]:
    """A short hash of each setting that cannot change in a run, and of the split beside the file.

    Nothing where there is no file: such a run is not compared.
    """
    if config_file is None or not config_file.is_file():
        return {}
    config = read_config(config_file)
    kept = {key: value for key, value in config.items() if key not in (*RESUMABLE, *_PLACES)}
    split = config_file.with_name("split.json")
    if split.is_file():
        kept["split.json"] = split.read_text(encoding="utf8")
    return {key: _print(value) for key, value in kept.items()}


def check_same(saved: Mapping[str, str], config_file: Path | None) -> None:
    """Refuse to go on with other settings than the run was begun with.

    Args:
        saved: The hashes that the checkpoint holds; none are compared with nothing.
        config_file: The run's `train.json` as it is now.

    Raises:
        UsageError: RESUME_SETTING, with the names of what changed.
    """
    now = hash_settings(config_file)
    if not saved or not now:
        return
    changed = sorted(key for key in saved.keys() | now.keys() if saved.get(key) != now.get(key))
    if changed:
        raise UsageError(
            "RESUME_SETTING",
            config_file,
            f"changed since the run began: {', '.join(changed)}",
            "undo the change, or start a new run for it",
        )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a run kept to go on from, on the CPU.

    Raises:
        BundleError: NOTHING_TO_RESUME, there is no such file; WEIGHTS_UNREADABLE.
    """
    if not path.is_file():
        raise BundleError("NOTHING_TO_RESUME", path, "there is no checkpoint", "start the training without resume")
    return read_tensors(path, "no checkpoint of a training", "start a new run")


def _print(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def check_free(bundle: Path, folder: Path) -> None:
    """Refuse a folder that holds a bundle, or a run of which an epoch was finished.

    Raises:
        OutputError: OUTPUT_EXISTS.
    """
    has_weights = any((folder / "models" / name).exists() for name in ("checkpoint.pt", "model.pt"))
    if folder == bundle or (has_weights and not is_barely_begun(folder)):
        raise OutputError(
            "OUTPUT_EXISTS",
            folder,
            "holds a bundle or run already",
            "give another folder, or --resume to go on with it",
        )


def is_barely_begun(folder: Path) -> bool:
    """Whether a run stopped before the end of its first epoch: nothing is lost where another takes its place."""
    return (folder / RUN_RECORD).is_file() and not has_checkpoint(folder) and epochs_logged(folder / "logs") == 0


def _has_results(folder: Path) -> bool:
    """Whether weights would be lost where a run without a checkpoint begins again."""
    finished = epochs_logged(folder / "logs")
    # The log is written just before the checkpoint, so that one epoch may be in it alone.
    return (folder / "models" / "model.pt").exists() if finished is None else finished > 1


def has_checkpoint(folder: Path) -> bool:
    """Whether an epoch of the run in ``folder`` was finished."""
    return (folder / "models" / "checkpoint.pt").is_file()


def check_resumable(folder: Path, overrides: Mapping[str, Any]) -> None:
    """Refuse to go on where nothing was begun, or with settings that would make it another run.

    A run that was begun and finished no epoch starts again from its own configuration.

    Raises:
        BundleError: NOTHING_TO_RESUME or WEIGHTS_UNREADABLE.
        UsageError: SETTING_UNKNOWN, SETTING_INVALID or RESUME_SETTING.
    """
    if not has_checkpoint(folder) and not (folder / RUN_RECORD).is_file():
        raise BundleError("NOTHING_TO_RESUME", folder, "there is no run", "leave --resume out to start one")
    if not has_checkpoint(folder) and _has_results(folder):
        problem = "epochs were finished, but models/checkpoint.pt is not there"
        raise BundleError("NOTHING_TO_RESUME", folder, problem, "put it back, or start a new run in another folder")
    path = folder / "configs" / "train.json"
    config = read_config(path)
    check_overrides(config, overrides)
    for key, value in overrides.items():
        if key not in RESUMABLE and not _holds(value_at(config, key), value):
            raise UsageError("RESUME_SETTING", key, "cannot change in a run under way", "start a new run for it")
    if has_checkpoint(folder):
        check_same(read_checkpoint(folder / "models" / "checkpoint.pt").get("settings", {}), path)


def _holds(there: Any, wanted: Any) -> bool:
    """Whether a value is the wanted one, or a table that has all that the wanted one has."""
    if isinstance(there, Mapping) and isinstance(wanted, Mapping):
        return all(there.get(key) == value for key, value in wanted.items())
    return bool(there == wanted)


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
        )
