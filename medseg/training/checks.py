"""What is looked at before a training begins or goes on, and after it ended."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from medseg.bundle.forms import Config, read_config
from medseg.data.cases.case import Dataset
from medseg.data.splits import Split, choose_split, keep_foreground, write_split
from medseg.errors import BundleError, DatasetError, OutputError, UsageError
from medseg.options import TrainOptions
from medseg.training.choices import check_choices
from medseg.training.forms import check_overrides, value_at, with_overrides
from medseg.training.logs import epochs_logged
from medseg.training.resuming import RESUMABLE, check_same, read_checkpoint

RECORD_NAME = "run.json"
_TRAINED_ON = ("train", "validation")
_NEEDED = {
    "train": ("epochs", "seed", "fractions", "checkpoints"),
    "inference": (),
    "metadata": ("network_data_format::outputs::pred::num_channels",),
}


def check_start(
    bundle: Path, folder: Path, dataset: Dataset, configs: Mapping[str, Config], options: TrainOptions
) -> Split:
    """Refuse what cannot be trained, before anything is written; returns the split to train on.

    Args:
        bundle: Where the configurations come from.
        folder: Of the run.
        dataset: The data set.
        configs: The bundle's configurations in the form that is trained.
        options: Changes to them.

    Raises:
        OutputError: The folder holds another run.
        BundleError: The bundle lacks something.
        UsageError: A setting is not known or has a value that it cannot have.
        DatasetError: The data set or the split cannot be used; PART_EMPTY, it leaves nothing to train or choose by.
    """
    check_free(bundle, folder)
    _check_complete(bundle, configs)
    check_overrides(configs["train"], options.overrides)
    config = with_overrides(configs["train"], options.overrides)
    check_choices(config)
    if options.split is not None:
        split = _confirmed(options.split, dataset)
    else:
        split = choose_split(dataset.cases, split_file_of(bundle, options), config["fractions"], config["seed"])
    for part in _TRAINED_ON:
        if not getattr(split, part):
            raise _empty(dataset, part, split.how)
    return split


def check_foreground(dataset: Dataset, split: Split, config: Config) -> None:
    """Refuse a split of which a part holds nothing but empty masks, where a training leaves those out.

    Masks are read until one shows something.

    Args:
        dataset: With masks that can be read.
        split: Of its cases.
        config: The `train.json` that is followed.

    Raises:
        DatasetError: PART_EMPTY.
    """
    if config.get("drop_empty") is not True:
        return
    for part in _TRAINED_ON:
        wanted = set(getattr(split, part))
        if not any(keep_foreground([case]) for case in dataset.cases if case.id in wanted):
            raise _empty(dataset, part, f"{split.how}, empty masks left out")


def split_file_of(bundle: Path, options: TrainOptions) -> Path | str | None:
    """The split to look at: one named in the settings, or the form's or bundle's own unless a new one is wanted."""
    of_form = bundle / "configs" / f"split_{options.form}.json"
    own = of_form if options.form and of_form.is_file() else bundle / "configs" / "split.json"
    named = options.overrides.get("split_file")
    if isinstance(named, str) and not named.startswith("$"):
        return named
    return own if own.is_file() and not options.new_split else None


def check_free(bundle: Path, folder: Path) -> None:
    """Refuse a folder that holds a bundle, or a run of which an epoch was finished.

    Raises:
        OutputError: RUN_EXISTS.
    """
    has_weights = any((folder / "models" / name).exists() for name in ("checkpoint.pt", "model.pt"))
    if folder == bundle or (has_weights and not is_barely_begun(folder)):
        raise OutputError(
            "RUN_EXISTS", folder, "holds a bundle or run already", "give another folder, or --resume to go on with it"
        )


def is_barely_begun(folder: Path) -> bool:
    """Whether a run stopped before the end of its first epoch: nothing is lost where another takes its place."""
    return (folder / RECORD_NAME).is_file() and not has_checkpoint(folder) and epochs_logged(folder / "logs") == 0


def _check_complete(bundle: Path, configs: Mapping[str, Config]) -> None:
    for name, keys in _NEEDED.items():
        for key in keys:
            if value_at(configs[name], key) is None:
                raise BundleError(
                    "BUNDLE_INCOMPLETE", bundle, f"configs/{name}.json has no {key}", "add it, or use another bundle"
                )


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
    if not has_checkpoint(folder) and not (folder / RECORD_NAME).is_file():
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
            "lower val_interval, or look at the validation labels",
        )


def _empty(dataset: Dataset, part: str, how: str) -> DatasetError:
    return DatasetError(
        "PART_EMPTY", dataset.root, f"no case is left for {part} ({how})", "add cases or change the fractions"
    )


def _confirmed(split: Split, dataset: Dataset) -> Split:
    """A split that was given, checked like one in a file: it names all cases, and divides no patient."""
    if not {case.id for case in dataset.cases} & set(split.ids):
        raise DatasetError(
            "SPLIT_PARTIAL", dataset.root, "has none of the split's cases", "give the split of its cases"
        )
    with TemporaryDirectory() as folder:
        return choose_split(dataset.cases, write_split(split, Path(folder) / "split.json"))
