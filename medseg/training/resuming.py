"""Whether a run may go on: what was begun, and with which settings."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from medseg.errors import BundleError, UsageError, first_line

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


def prints_of(config_file: Path | None) -> dict[str, str]:
    """A short hash of each setting that cannot change in a run, and of the split beside the file.

    Nothing where there is no file: such a run is not compared.
    """
    if config_file is None or not config_file.is_file():
        return {}
    config = json.loads(config_file.read_text(encoding="utf8"))
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
    now = prints_of(config_file)
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
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise BundleError(
            "WEIGHTS_UNREADABLE", path, f"no checkpoint of a training ({first_line(error)})", "start a new run"
        ) from error


def _print(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
