"""What a run's folder holds before its first step."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import medseg
from medseg.bundle.forms import KINDS, Config, read_config
from medseg.bundle.locator_name import place_locator, read_locator
from medseg.data.splits import Split, write_split
from medseg.files import write_json, write_text
from medseg.options import SPLIT_PARTS, TrainOptions
from medseg.training.checks import RECORD_NAME, check_free
from medseg.training.forms import put

_COPIED = ("LICENSE", "configs", "docs")
_CHANGED = ("train", "inference")
_WEIGHTS = "$@bundle_root + '/models'"


@dataclass(frozen=True)
class Start:
    """What a run is trained on.

    Args:
        data: Folder of the data set.
        split: Of its cases.
        notes: What is odd about them, or about the settings.
    """

    data: Path
    split: Split
    notes: tuple[str, ...] = ()


def begin(bundle: Path, folder: Path, configs: Mapping[str, Config], options: TrainOptions, start: Start) -> None:
    """Write what a run starts from; `run.json` last, so that a run that has it can be started again.

    Args:
        bundle: What the run is made from.
        folder: Of the run.
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
    write_json(record, folder / RECORD_NAME)


def go_on(folder: Path, overrides: Mapping[str, Any]) -> None:
    """Write what changes in a resumed run."""
    _write_overrides(folder, overrides)
    path = folder / RECORD_NAME
    known = read_config(path) if path.is_file() else {}
    write_json({**known, "overrides": {**known.get("overrides", {}), **overrides}}, path)


def notes_of(folder: Path) -> tuple[str, ...]:
    """What was odd about the data and settings of the run in ``folder``; nothing where it has no record.

    Raises:
        BundleError: BUNDLE_UNREADABLE, the record is damaged.
    """
    path = folder / RECORD_NAME
    return tuple(map(str, read_config(path).get("notes", ()))) if path.is_file() else ()


def _copy(bundle: Path, folder: Path) -> None:
    other_forms = shutil.ignore_patterns(*(f"{name}_*.json" for name in (*KINDS, "split")))
    for name in _COPIED:
        if (bundle / name).is_dir():
            shutil.copytree(bundle / name, folder / name, dirs_exist_ok=True, ignore=other_forms)
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
