"""What a training run keeps: its best weights or their running average, all that is needed to go on, and its log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.transforms import Randomizable
from monai.utils import set_determinism
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from medseg.errors import UsageError
from medseg.files import write_whole
from medseg.training.handlers import VAL_LOSS, StepNames, ValidationLoss, mean_over_ranks
from medseg.training.log import LOG_COLUMNS, TrainingLog
from medseg.training.optimisation import Schedule
from medseg.training.run_folder import check_same, hash_settings, read_checkpoint


@dataclass(eq=False)
class Checkpoints:
    """Keeps a run's best weights and, after every epoch, its whole state; steps the schedule; ends the run.

    `model.pt` holds the best weights so far (a plain state dict); `checkpoint.pt` holds the
    last epoch: weights, their average, optimiser, schedule, epoch, the best metric and the
    lowest loss. Each file appears whole or not at all. Every epoch draws from its own seed,
    so a resumed run on the CPU repeats the uninterrupted one. Of several ranks the first
    alone writes.

    Args:
        folder: Folder of the two files.
        network: The network whose weights are kept; a DistributedDataParallel wrapper is looked through.
        optimizer: The optimiser of the run.
        lr_scheduler: The learning-rate schedule of the run, stepped here unless a handler of the trainer does.
        trainer: MONAI's trainer.
        evaluator: MONAI's evaluator with a key metric, run after each epoch.
        log_dir: Folder of the log.
        loss: The loss of the training, to have it of the validation as well.
        select_by: The validation metric whose highest value marks the best weights, or `val_loss`, the lowest.
        patience: The run ends after so many epochs without a lower validation loss; 0 never ends it early.
        min_delta: The least fall of the validation loss that counts as lower.
        average_decay: Above 0, a running average of the weights is validated and kept; 0.999 for example.
        tensorboard: Write TensorBoard's events beside the log.
        config_file: The run's `train.json`; a run is not resumed after it was changed.

    Attributes:
        on_epoch: Called with each epoch's numbers after it was kept; may be set by whoever runs the trainer.
    """

    folder: str
    network: nn.Module
    optimizer: torch.optim.Optimizer
    lr_scheduler: Schedule
    trainer: Engine
    evaluator: Engine
    log_dir: str
    loss: Callable[[Any, Any], Any] | None = None
    select_by: str = "val_mean_dice"
    patience: int = 0
    min_delta: float = 1e-4
    average_decay: float = 0.0
    tensorboard: bool = False
    config_file: str | None = None
    on_epoch: Callable[[Mapping[str, Any]], None] | None = field(default=None, init=False, repr=False)
    _losses: list[float] = field(default_factory=list, init=False, repr=False)
    _loss: float = field(default=float("nan"), init=False, repr=False)
    _validated_epoch: int = field(default=0, init=False, repr=False)
    _learning_rate: float = field(default=0.0, init=False, repr=False)
    _schedule_epoch: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        self.best_path = Path(self.folder) / "model.pt"
        self.last_path = Path(self.folder) / "checkpoint.pt"
        self.network = _unwrap(self.network)
        self.selection = Selection(self.select_by)
        self.waiting = Patience(self.patience, self.min_delta)
        self.average = WeightAverage(self.network, self.average_decay) if self.average_decay > 0 else None
        self.log = TrainingLog(Path(self.log_dir), self.tensorboard)
        self._validation_loss = ValidationLoss(self.loss) if self.loss else None
        self._config_path = Path(self.config_file) if self.config_file else None
        parts = {"network": self.network, "optimizer": self.optimizer, "lr_scheduler": self.lr_scheduler}
        self._parts: dict[str, Any] = parts | ({"average": self.average} if self.average else {})
        is_plateau = isinstance(self.lr_scheduler, ReduceLROnPlateau)
        if self.loss is None and (self.patience or is_plateau or self.select_by == VAL_LOSS):
            raise UsageError("SETTING_INVALID", "checkpoints", "has no loss to go by", "give it one: @loss")

    @property
    def best_metric(self) -> float:
        """What the best weights were selected by, as measured with them."""
        return self.selection.metric

    @property
    def best_dice(self) -> float:
        """The evaluator's key metric with the best weights."""
        return self.selection.dice

    @property
    def best_epoch(self) -> int:
        """After which the best weights were kept."""
        return self.selection.epoch

    def attach(self, seed: int, resume: bool = False) -> None:
        """Hang all this and the seeding of epochs onto the run's engines.

        Args:
            seed: The run's seed; epoch n draws from ``seed + n``.
            resume: Go on from `checkpoint.pt`.

        Raises:
            BundleError: ``resume`` is asked for and there is nothing to go on from.
            UsageError: The run was begun with other settings.
        """
        done = self._restore() if resume else 0
        StepNames(self.trainer, self.evaluator)
        if self._validation_loss:
            self._validation_loss.attach(self.evaluator)
        if self.average:
            self.average.follow(self.optimizer)
        if isinstance(getattr(self.evaluator, "network", None), nn.parallel.DistributedDataParallel):
            # Inside the wrapper, ranks with different numbers of validation cases would wait for each other.
            self.evaluator.network = self.network  # type: ignore[attr-defined]
        self.trainer.add_event_handler(Events.STARTED, self._go_on_from, done)
        self.trainer.add_event_handler(Events.EPOCH_STARTED, self._begin_epoch, seed)
        self.trainer.add_event_handler(Events.ITERATION_COMPLETED, self._note_loss)
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, self._end_epoch)
        self.evaluator.add_event_handler(Events.STARTED, self._begin_validation)
        self.evaluator.add_event_handler(Events.COMPLETED, self._end_validation)
        if _is_first_rank():
            self.log.begin(done)
            self.trainer.add_event_handler(Events.COMPLETED, self.log.close)

    def _go_on_from(self, trainer: Engine, epoch: int) -> None:
        trainer.state.epoch = epoch
        trainer.state.iteration = epoch * (trainer.state.epoch_length or 0)
        if epoch and self.waiting.is_over(epoch):
            trainer.terminate()

    def _begin_epoch(self, trainer: Engine, seed: int) -> None:
        set_determinism(seed=seed + trainer.state.epoch)
        transform = getattr(trainer.data_loader.dataset, "transform", None)  # type: ignore[attr-defined]
        if isinstance(transform, Randomizable):
            transform.set_random_state(seed=seed + trainer.state.epoch)
        self._losses = []
        self._learning_rate = float(self.optimizer.param_groups[0]["lr"])
        self._schedule_epoch = self.lr_scheduler.last_epoch

    def _note_loss(self, trainer: Engine) -> None:
        output: Any = trainer.state.output
        self._losses.append(float(output[0]["loss"] if isinstance(output, list) else output["loss"]))

    def _begin_validation(self) -> None:
        if self.average:
            self.average.swap()
        if torch.distributed.is_initialized():
            # Each rank's normalisation has seen other cases last; the first rank's is the one that is kept.
            for buffer in self.network.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def _end_validation(self, evaluator: Engine) -> None:
        epoch, metrics = self.trainer.state.epoch, evaluator.state.metrics
        self._validated_epoch = epoch
        key_metric = evaluator.state.key_metric_name  # type: ignore[attr-defined]
        if self.selection.is_best(metrics, key_metric, epoch) and _is_first_rank():
            _save(self.network.state_dict(), self.best_path)
        if self.average:
            self.average.swap()
        if self.loss:
            self.waiting.note(metrics[VAL_LOSS], epoch)

    def _end_epoch(self, trainer: Engine) -> None:
        self._loss = mean_over_ranks(self._losses)
        self._step_schedule()
        if _is_first_rank():
            # The log first: what it has beyond the checkpoint is cut off when the run goes on.
            self.log.add(self.epoch_record(), self._batch_records())
            _save(self._state(), self.last_path)
        if self.on_epoch:
            self.on_epoch(self.epoch_record())
        if self.waiting.is_over(trainer.state.epoch):
            trainer.terminate()

    def _step_schedule(self) -> None:
        if self.lr_scheduler.last_epoch != self._schedule_epoch:
            return  # A handler of the trainer has stepped it already.
        if not isinstance(self.lr_scheduler, ReduceLROnPlateau):
            self.lr_scheduler.step()
        elif self._is_validated:
            self.lr_scheduler.step(self.evaluator.state.metrics[VAL_LOSS])

    @property
    def _is_validated(self) -> bool:
        return self._validated_epoch == self.trainer.state.epoch

    def epoch_record(self) -> dict[str, Any]:
        """The finished epoch's numbers, by the names in LOG_COLUMNS; None for what was not measured."""
        state = self.trainer.state
        metrics = {**state.metrics, **(self.evaluator.state.metrics if self._is_validated else {})}
        own = {
            "epoch": state.epoch,
            "loss": self._loss,
            "learning_rate": self._learning_rate,
            "seconds": state.times.get("EPOCH_COMPLETED"),
        }
        return {name: own.get(name, metrics.get(name)) for name in LOG_COLUMNS}

    def _batch_records(self) -> list[dict[str, Any]]:
        """The losses of the epoch's batches, of this rank, by the names in BATCH_COLUMNS."""
        losses = {"train": self._losses}
        if self._validation_loss and self._is_validated:
            losses["validation"] = self._validation_loss.batches
        return [
            {"epoch": self.trainer.state.epoch, "part": part, "step": step, "loss": loss}
            for part, values in losses.items()
            for step, loss in enumerate(values, 1)
        ]

    def _state(self) -> dict[str, Any]:
        parts = {name: part.state_dict() for name, part in self._parts.items()}
        progress = {"epoch": self.trainer.state.epoch, "settings": hash_settings(self._config_path)}
        return {**parts, **progress, **self.selection.state_dict(), **self.waiting.state_dict()}

    def _restore(self) -> int:
        """Take up the last epoch's state; returns that epoch."""
        saved = read_checkpoint(self.last_path)
        check_same(saved.get("settings", {}), self._config_path)
        for name, part in self._parts.items():
            part.load_state_dict(saved[name])
        self._follow_schedule()
        self.selection.load_state_dict(saved)
        self.waiting.load_state_dict(saved)
        return int(saved["epoch"])

    def _follow_schedule(self) -> None:
        """Take the rate from the schedule as it is now: with more epochs it falls more slowly than the saved one."""
        scheduler = self.lr_scheduler
        if isinstance(scheduler, LambdaLR):
            for group, rate, factor in zip(
                self.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True
            ):
                group["lr"] = rate * factor(scheduler.last_epoch)


def _unwrap(network: nn.Module) -> nn.Module:
    return network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network


def _is_first_rank() -> bool:
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


def _save(state: Mapping[str, Any], path: Path) -> None:
    write_whole(path, lambda file: torch.save(state, file))


class Selection:
    """The best validated epoch so far.

    Args:
        select_by: A validation metric, of which the highest value is the best, or `val_loss`, the lowest.
    """

    def __init__(self, select_by: str) -> None:
        self.select_by = select_by
        self.is_lower_better = select_by == VAL_LOSS
        self.metric = float("inf") if self.is_lower_better else float("-inf")
        self.dice = float("nan")
        self.epoch = 0

    def is_best(self, metrics: Mapping[str, Any], key_metric: str, epoch: int) -> bool:
        """Whether an epoch betters all before it; if so, it is remembered. NaN never does.

        Raises:
            UsageError: SETTING_INVALID, what is selected by was not measured.
        """
        if self.select_by not in metrics:
            measured = ", ".join(sorted(metrics))
            raise UsageError("SETTING_INVALID", "select_by", f"{self.select_by} is not measured", f"use {measured}")
        metric = float(metrics[self.select_by])
        if not (metric < self.metric if self.is_lower_better else metric > self.metric):
            return False
        self.metric, self.dice, self.epoch = metric, float(metrics[key_metric]), epoch
        return True

    def state_dict(self) -> dict[str, Any]:
        """What is kept to go on from."""
        return {"best_metric": self.metric, "best_dice": self.dice, "best_epoch": self.epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what was kept; earlier versions kept no Dice, but the metric was that."""
        self.metric, self.epoch = state["best_metric"], state["best_epoch"]
        self.dice = state.get("best_dice", self.metric)


class Patience:
    """Tells when the validation loss has not fallen for too long, as Keras' EarlyStopping does.

    Args:
        epochs: How many epochs may pass without a lower loss; 0 waits for ever.
        min_delta: What does not fall by more than this counts as not lower.
    """

    def __init__(self, epochs: int, min_delta: float) -> None:
        self.epochs = epochs
        self.min_delta = min_delta
        self.lowest = float("inf")
        self.lowest_epoch = 0

    def note(self, loss: float, epoch: int) -> None:
        """Take an epoch's validation loss into account."""
        if loss < self.lowest - self.min_delta:
            self.lowest, self.lowest_epoch = loss, epoch

    def is_over(self, epoch: int) -> bool:
        """Whether the training ends with this epoch; never before a loss was noted."""
        return self.lowest < float("inf") and 0 < self.epochs <= epoch - self.lowest_epoch

    def state_dict(self) -> dict[str, Any]:
        """What is kept to go on from."""
        return {"lowest_loss": self.lowest, "lowest_epoch": self.lowest_epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what was kept; without it, waiting begins with the kept epoch."""
        self.lowest = state.get("lowest_loss", float("inf"))
        self.lowest_epoch = state.get("lowest_epoch", state["epoch"])


class WeightAverage:
    """Exponential moving average of a network's weights and buffers, taken after each step of the optimiser.

    average ← d·average + (1−d)·weights with d = min(decay, (1+n)/(10+n)) at step n, so that
    the first, untrained weights are soon forgotten. Whole-number buffers are copied.

    Args:
        network: The network whose weights are averaged.
        decay: Weight of the average so far, from 0 to below 1, such as 0.999.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = network
        self.decay = decay
        self.steps = 0
        self.average = {key: value.detach().clone() for key, value in network.state_dict().items()}

    def follow(self, optimizer: Optimizer) -> None:
        """Take every step of ``optimizer`` into the average."""
        optimizer.register_step_post_hook(lambda *_: self.update())

    @torch.no_grad()
    def update(self) -> None:
        """Take the network's weights, as they are now, into the average."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for key, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.average[key].lerp_(value, 1 - decay)
            else:
                self.average[key].copy_(value)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the network's weights with the average; once more brings them back, bit by bit."""
        for key, value in self.network.state_dict().items():
            held: Tensor = value.clone()
            value.copy_(self.average[key])
            self.average[key].copy_(held)

    def state_dict(self) -> dict[str, Any]:
        """What is kept to go on from."""
        return {"steps": self.steps, "average": self.average}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what was kept."""
        self.steps = state["steps"]
        for key, value in self.average.items():
            value.copy_(state["average"][key])
