"""What a training run keeps: its best weights, all that is needed to go on with it, and its log."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.transforms import Randomizable
from monai.utils import set_determinism
from torch import nn

from medseg.errors import BundleError
from medseg.files import write_whole

LOG_COLUMNS = ("epoch", "loss", "train_mean_dice", "val_mean_dice", "val_mean_iou", "learning_rate", "seconds")


class Checkpoints:
    """Keeps a run's best weights and, after every epoch, its whole state.

    `model.pt` holds the weights with the best validation metric so far (a plain state
    dict); `checkpoint.pt` holds the last epoch: weights, optimiser, learning rate, epoch
    and the best metric, so that a resumed run never overwrites better weights. Each file
    appears whole or not at all. Every epoch draws from its own seed, so a resumed run on
    the CPU repeats the uninterrupted one.

    Args:
        folder: Where the two files go.
        network: Whose weights are kept; a DistributedDataParallel wrapper is looked through.
        optimizer: The optimiser of the run.
        lr_scheduler: The learning-rate schedule of the run.
        trainer: MONAI's trainer.
        evaluator: MONAI's evaluator with a key metric, run after each epoch.
        log_dir: Where `epochs.csv` goes, one row per epoch.
    """

    def __init__(
        self,
        folder: str,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        lr_scheduler: torch.optim.lr_scheduler.LRScheduler,
        trainer: Engine,
        evaluator: Engine,
        log_dir: str,
    ) -> None:
        self.best_path = Path(folder) / "model.pt"
        self.last_path = Path(folder) / "checkpoint.pt"
        self.log_path = Path(log_dir) / "epochs.csv"
        self.parts: dict[str, Any] = {
            "network": _unwrapped(network),
            "optimizer": optimizer,
            "lr_scheduler": lr_scheduler,
        }
        self.trainer = trainer
        self.evaluator = evaluator
        self.best_metric = float("-inf")
        self.best_epoch = 0
        self._losses: list[float] = []
        self._validated_epoch = 0
        self._learning_rate = 0.0

    def attach(self, seed: int, resume: bool = False) -> None:
        """Hang the keeping of files and the seeding of epochs onto the run's engines.

        Args:
            seed: The run's seed; epoch n draws from ``seed + n``.
            resume: Go on from `checkpoint.pt`.

        Raises:
            BundleError: ``resume`` is asked for and there is nothing to go on from.
        """
        if resume:
            self._restore()
        elif _is_first_rank():
            self.log_path.unlink(missing_ok=True)
        self.trainer.add_event_handler(Events.EPOCH_STARTED, self._begin_epoch, seed)
        self.trainer.add_event_handler(Events.ITERATION_COMPLETED, self._note_loss)
        self.evaluator.add_event_handler(Events.COMPLETED, self._note_validation)
        if _is_first_rank():
            self.evaluator.add_event_handler(Events.COMPLETED, self._keep_best)
            self.trainer.add_event_handler(Events.EPOCH_COMPLETED, self._keep_last)

    def _begin_epoch(self, trainer: Engine, seed: int) -> None:
        set_determinism(seed=seed + trainer.state.epoch)
        transform = getattr(trainer.data_loader.dataset, "transform", None)  # type: ignore[attr-defined]
        if isinstance(transform, Randomizable):
            transform.set_random_state(seed=seed + trainer.state.epoch)
        self._losses = []
        self._learning_rate = float(self.parts["optimizer"].param_groups[0]["lr"])

    def _note_loss(self, trainer: Engine) -> None:
        output: Any = trainer.state.output
        self._losses.append(float(output[0]["loss"] if isinstance(output, list) else output["loss"]))

    def _note_validation(self) -> None:
        self._validated_epoch = self.trainer.state.epoch

    def _keep_best(self, evaluator: Engine) -> None:
        metric = float(evaluator.state.metrics[evaluator.state.key_metric_name])  # type: ignore[attr-defined]
        if metric > self.best_metric:
            self.best_metric, self.best_epoch = metric, self.trainer.state.epoch
            _save(self.parts["network"].state_dict(), self.best_path)

    def _keep_last(self, trainer: Engine) -> None:
        state = {name: part.state_dict() for name, part in self.parts.items()}
        progress = {"epoch": trainer.state.epoch, "best_metric": self.best_metric, "best_epoch": self.best_epoch}
        _save({**state, **progress}, self.last_path)
        self._append_log(self.epoch_record())

    def epoch_record(self) -> dict[str, Any]:
        """The finished epoch's numbers, by the names in LOG_COLUMNS; None where it was not validated."""
        state = self.trainer.state
        validated = self.evaluator.state.metrics if self._validated_epoch == state.epoch else {}
        metrics = {**state.metrics, **validated}
        return {
            "epoch": state.epoch,
            "loss": sum(self._losses) / max(len(self._losses), 1),
            **{name: metrics.get(name) for name in LOG_COLUMNS[2:5]},
            "learning_rate": self._learning_rate,
            "seconds": state.times.get("EPOCH_COMPLETED"),
        }

    def _append_log(self, record: Mapping[str, Any]) -> None:
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not self.log_path.exists()
        with self.log_path.open("a", newline="", encoding="utf8") as file:
            writer = csv.DictWriter(file, LOG_COLUMNS)
            if is_new:
                writer.writeheader()
            writer.writerow({key: _rounded(value) for key, value in record.items()})

    def _restore(self) -> None:
        if not self.last_path.is_file():
            raise BundleError(
                "NOTHING_TO_RESUME", self.last_path, "there is no checkpoint", "start the training without resume"
            )
        saved = torch.load(self.last_path, map_location="cpu", weights_only=True)
        for name, part in self.parts.items():
            part.load_state_dict(saved[name])
        self._follow_schedule()
        self.best_metric, self.best_epoch = saved["best_metric"], saved["best_epoch"]
        self.trainer.add_event_handler(Events.STARTED, self._go_on_from, saved["epoch"])

    def _follow_schedule(self) -> None:
        """Take the rate from the schedule as it is now: with more epochs it falls more slowly than the saved one."""
        scheduler = self.parts["lr_scheduler"]
        if isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR):
            groups = self.parts["optimizer"].param_groups
            for group, rate, factor in zip(groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True):
                group["lr"] = rate * factor(scheduler.last_epoch)

    def _go_on_from(self, trainer: Engine, epoch: int) -> None:
        trainer.state.epoch = epoch
        trainer.state.iteration = epoch * (trainer.state.epoch_length or 0)


def _unwrapped(network: nn.Module) -> nn.Module:
    return network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network


def _is_first_rank() -> bool:
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


def _save(state: Mapping[str, Any], path: Path) -> None:
    write_whole(path, lambda file: torch.save(state, file))


def _rounded(value: object) -> object:
    return round(value, 6) if isinstance(value, float) else value
