"""Training a bundle on a data set: the bundle's own train configuration, checked and followed."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import medseg
from medseg.bundle.load import find_bundle
from medseg.data.splits import Split, write_split
from medseg.errors import BundleError, MedsegError, UsageError, coded_cause, first_line
from medseg.files import held, write_json, write_text
from medseg.training.checkpoints import Checkpoints
from medseg.training.checks import check_free, check_resumable, check_start, check_validated, read_config

RECORD_NAME = "run.json"
_CONFIGS = ("train.json", "inference.json")
_COPIED = ("LICENSE", "configs", "docs")
_LIBRARY_ERRORS = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, OSError, MemoryError)

EpochSeen = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class TrainOptions:
    """What a training changes in its bundle's own configuration.

    Args:
        epochs: Number of epochs in all.
        network: A key of ``medseg.networks.NETWORKS`` or one of MONAI's networks by name.
        loss: A key of ``medseg.losses.LOSSES``.
        settings: Any other keys of `train.json`, nested ones as ``a::b``, with their new values.
        resume: Go on with the run in the output folder.
        new_split: Draw a split, also where the bundle's own names the data set's cases.
    """

    epochs: int | None = None
    network: str | None = None
    loss: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    resume: bool = False
    new_split: bool = False

    def __post_init__(self) -> None:
        if self.epochs is not None and self.epochs < 1:
            raise UsageError("SETTING_INVALID", "epochs", f"{self.epochs} is below 1", "give a number such as 50")

    @property
    def overrides(self) -> dict[str, Any]:
        """The changes by configuration key."""
        named = {"epochs": self.epochs, "network_name": self.network, "loss_name": self.loss}
        return {**{key: value for key, value in named.items() if value is not None}, **self.settings}


@dataclass(frozen=True)
class TrainingRun:
    """A finished training.

    Args:
        folder: The trained bundle: predict with it, or train it further.
        best_dice: Mean foreground Dice of the kept weights on the validation part.
        best_epoch: When it was reached.
        epochs: How many epochs the run has in all.
        seconds: Of this call.
    """

    folder: Path
    best_dice: float
    best_epoch: int
    epochs: int
    seconds: float


def train(
    bundle: str | Path,
    data: str | Path,
    output: str | Path,
    *,
    options: TrainOptions | None = None,
    on_epoch: EpochSeen | None = None,
    on_step: Callable[[int, int], None] | None = None,
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

    Raises:
        UsageError: A setting is not in the configuration, or cannot change in a resumed run.
        DatasetError: The data set cannot be used.
        OutputError: The folder holds another run.
        LockedError: Another run is writing to the folder.
        BundleError: There is nothing to resume, the configuration cannot be run, or no epoch was validated.
    """
    started = time.perf_counter()
    options = options or TrainOptions()
    folder = Path(output).resolve()
    dataset_dir = Path(data).resolve()
    source = folder if options.resume else find_bundle(bundle)
    # All that can be refused is refused before the folder is made, and nothing is written before it is held.
    split = None
    if options.resume:
        check_resumable(folder, options.overrides)
    else:
        split = check_start(source, folder, dataset_dir, options.overrides, options.new_split)
    with held(folder):
        _begin(source, folder, dataset_dir, options, split)
        checkpoints = _followed(folder, dataset_dir, options.resume, on_epoch, on_step)
    check_validated(folder)
    return TrainingRun(
        folder,
        checkpoints.best_metric,
        checkpoints.best_epoch,
        int(read_config(folder / "configs" / "train.json")["epochs"]),
        time.perf_counter() - started,
    )


def _begin(bundle: Path, folder: Path, dataset_dir: Path, options: TrainOptions, split: Split | None) -> None:
    """Write what a run starts from; without ``split``, only what changes in a resumed one."""
    if split is None:
        _write_overrides(folder, options.overrides)
        path = folder / RECORD_NAME
        known = read_config(path) if path.is_file() else {}
        write_json({**known, "overrides": {**known.get("overrides", {}), **options.overrides}}, path)
        return
    check_free(bundle, folder)  # again: another run may have ended since
    _copy(bundle, folder)
    _write_overrides(folder, options.overrides)
    write_split(split, folder / "configs" / "split.json")
    record = {
        "medseg": medseg.__version__,
        "bundle": bundle.name,
        "data": str(dataset_dir),
        "overrides": options.overrides,
        "cases": {part: len(getattr(split, part)) for part in ("train", "validation", "test")},
    }
    write_json(record, folder / RECORD_NAME)
    _describe(folder, record)


def _copy(bundle: Path, folder: Path) -> None:
    for name in _COPIED:
        if (bundle / name).is_dir():
            shutil.copytree(bundle / name, folder / name, dirs_exist_ok=True)
        elif (bundle / name).is_file():
            shutil.copy2(bundle / name, folder / name)


def _describe(folder: Path, record: Mapping[str, Any]) -> None:
    """Replace what the bundle says of its own training: its scores are not those of this run."""
    path = folder / "configs" / "metadata.json"
    metadata = {**read_config(path), "eval_metrics": {}, "name": folder.name, "data_source": "see run.json"}
    write_json({**metadata, "description": f"Trained from the bundle {record['bundle']}; see run.json."}, path)
    counts = ", ".join(f"{count} {part}" for part, count in record["cases"].items())
    changes = "".join(f"\n- {key}: {value}" for key, value in record["overrides"].items()) or " none"
    write_text(
        f"# {folder.name}\n\nTrained by medseg {record['medseg']} from the bundle {record['bundle']}.\n\n"
        f"Cases: {counts} (configs/split.json). Changes to its settings:{changes}\n\n"
        "The log of the training is logs/epochs.csv.\n",
        folder / "docs" / "README.md",
    )


def _write_overrides(folder: Path, overrides: Mapping[str, Any]) -> None:
    """Write the changes into each configuration that has the key, so that training and predicting agree."""
    for name in _CONFIGS:
        path = folder / "configs" / name
        config = read_config(path)
        for key, value in overrides.items():
            *way, last = key.split("::")
            place: Any = config
            for step in way:
                place = place.get(step, {})
            if last in place:
                place[last] = value
        write_json(config, path)


def _followed(
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
        if on_epoch:
            trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: on_epoch(checkpoints.epoch_record()))
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
    root = error
    while isinstance(root.__cause__, Exception):
        root = root.__cause__
    return BundleError(
        "TRAINING_FAILED",
        folder / "configs" / "train.json",
        first_line(root),
        "correct that setting, then repeat (--resume goes on from the last epoch)",
    )
