"""Training a bundle on a data set: the bundle's own train configuration, checked and followed."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.bundle.config import Config, find_bundle, find_config, read_form, value_at
from medseg.data.cases import open_dataset
from medseg.data.cases.case import Dataset
from medseg.data.splits import Split
from medseg.errors import BundleError, MedsegError, coded_cause, first_line
from medseg.files import hold
from medseg.options import TrainOptions
from medseg.training.checkpoints import Checkpoints
from medseg.training.data_check import CaseSeen, check_data, check_foreground, find_split
from medseg.training.handlers import find_root
from medseg.training.run_folder import (
    Start,
    begin,
    check_free,
    check_resumable,
    check_validated,
    go_on,
    has_checkpoint,
    read_notes,
)
from medseg.training.settings_check import check_choices, check_overrides, notes_on_changes, with_overrides

__all__ = ["EpochSeen", "TrainOptions", "TrainingRun", "train"]

_LIBRARY_ERRORS = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, OSError, MemoryError)

_NEEDED = {
    "train": ("epochs", "seed", "fractions", "checkpoints"),
    "inference": (),
    "metadata": ("network_data_format::outputs::pred::num_channels",),
}

EpochSeen = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class TrainingRun:
    """A finished training.

    Args:
        folder: The trained bundle: predict with it, or train it further.
        best_dice: Mean foreground Dice of the kept weights on the validation part.
        best_epoch: The epoch after which they were kept.
        selected_by: The validation metric that they were kept for; `val_loss` is best where it is lowest.
        best_metric: That metric of theirs.
        epochs: How many epochs the run has in all; fewer than asked for where it ended early.
        seconds: Time that this call took.
        notes: What is odd about the data without being wrong, with codes.
    """

    folder: Path
    best_dice: float
    best_epoch: int
    selected_by: str
    best_metric: float
    epochs: int
    seconds: float
    notes: tuple[str, ...] = ()


def train(
    bundle: str | Path,
    data: str | Path,
    output: str | Path,
    *,
    options: TrainOptions | None = None,
    on_epoch: EpochSeen | None = None,
    on_step: Callable[[int, int], None] | None = None,
    on_case: CaseSeen | None = None,
) -> TrainingRun:
    """Train a bundle's network on a data set; the result is a bundle of its own.

    ``output`` receives the bundle's configurations with the changes written into them, the
    split, the best weights (`models/model.pt`), the state to resume from and a log. The
    shipped bundle is not touched. The bundle's train configuration is run as MONAI runs it,
    expressions included: train only what you trust.

    Args:
        bundle: A bundle's folder, or the name of one that medseg ships.
        data: A data set in any layout that ``medseg.data.cases`` knows.
        output: Folder of the run.
        options: Changes to the configuration.
        on_epoch: Called after each epoch with its numbers.
        on_step: Called after each optimiser step with the step and the steps per epoch.
        on_case: Called for each case that is looked at before, with its id and the number of cases.

    Raises:
        UsageError: A setting or form is not known, has a value that it cannot have, or cannot change in a resumed run.
        DatasetError: The data set cannot be used.
        OutputError: The folder holds another run.
        LockedError: Another run is writing to the folder.
        BundleError: There is nothing to resume, the configuration cannot be run, or no epoch was validated.
    """
    started = time.perf_counter()
    options = options or TrainOptions()
    folder = Path(output).resolve()
    dataset_dir = Path(data).resolve()
    # All that can be refused is refused before the folder is made, and nothing is written before it is held.
    if options.resume:
        check_resumable(folder, options.overrides)
        with hold(folder):
            go_on(folder, options.overrides)
            checkpoints = _follow(folder, dataset_dir, has_checkpoint(folder), on_epoch, on_step)
    else:
        source = find_bundle(bundle)
        configs = read_form(source, options.form)
        dataset = open_dataset(dataset_dir)
        split = check_start(source, folder, dataset, configs, options)
        config = with_overrides(configs["train"], options.overrides)
        notes = check_data(dataset, config, configs["metadata"], on_case)
        notes += tuple(map(str, notes_on_changes(configs["train"], options.overrides)))
        check_foreground(dataset, split, config)
        with hold(folder):
            begin(source, folder, configs, options, Start(dataset_dir, split, notes))
            checkpoints = _follow(folder, dataset_dir, False, on_epoch, on_step)
    check_validated(folder)
    return TrainingRun(
        folder,
        checkpoints.best_dice,
        checkpoints.best_epoch,
        checkpoints.selection.select_by,
        checkpoints.best_metric,
        checkpoints.trainer.state.epoch,
        time.perf_counter() - started,
        read_notes(folder),
    )


def check_start(
    bundle: Path, folder: Path, dataset: Dataset, configs: Mapping[str, Config], options: TrainOptions
) -> Split:
    """Refuse what cannot be trained, before anything is written; returns the split to train on.

    Args:
        bundle: The bundle that the configurations come from.
        folder: The run's folder.
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
    return find_split(bundle, dataset, config, options)


def _check_complete(bundle: Path, configs: Mapping[str, Config]) -> None:
    """Refuse configurations that lack something, or hold what the run's JSON files cannot, such as YAML's dates."""
    for name, keys in _NEEDED.items():
        for key in keys:
            if value_at(configs[name], key) is None:
                raise BundleError(
                    "BUNDLE_INCOMPLETE", bundle, f"configs/{name}.json has no {key}", "add it, or use another bundle"
                )
        for key, value in configs[name].items():
            try:
                json.dumps(value)
            except (TypeError, ValueError) as error:
                place, problem = find_config(bundle, name), f"{key}: {first_line(error)}"
                raise BundleError("BUNDLE_UNREADABLE", place, problem, "write it as text") from error


def _follow(
    folder: Path,
    dataset_dir: Path,
    resume: bool,
    on_epoch: EpochSeen | None,
    on_step: Callable[[int, int], None] | None,
) -> Checkpoints:
    """Run the folder's train configuration to its end."""
    from ignite.engine import Events
    from monai.bundle import ConfigWorkflow

    # MONAI warns that the bundle's logging.conf is not used, which is meant: progress is told by the callbacks.
    logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)
    places: dict[str, Any] = {"bundle_root": str(folder), "dataset_dir": str(dataset_dir), "resume": resume}
    try:
        workflow = ConfigWorkflow(str(folder / "configs" / "train.json"), logging_file=False, **places)
        workflow.initialize()
        trainer = workflow.parser.get_parsed_content("train::trainer")
        checkpoints = workflow.parser.get_parsed_content("checkpoints")
        checkpoints.on_epoch = on_epoch
        if on_step:
            length = trainer.state.epoch_length or len(trainer.data_loader)
            trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: on_step(trainer.state.iteration, length))
        workflow.run()
    except MedsegError:
        raise
    except _LIBRARY_ERRORS as error:
        raise coded_cause(error) or _config_error(folder, error) from error
    return checkpoints


def _config_error(folder: Path, error: Exception) -> BundleError:
    return BundleError(
        "TRAINING_FAILED",
        folder / "configs" / "train.json",
        first_line(find_root(error)),
        "correct that setting, then repeat (--resume goes on from the last epoch)",
    )
