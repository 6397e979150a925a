"""What hangs on a trainer beyond MONAI's own handlers: measures, and the step and cases at which it stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced, sync_all_reduce
from monai.engines.utils import IterationEvents
from torch import Tensor

from medseg.errors import BundleError, GridError, coded_cause, first_line

VAL_LOSS = "val_loss"

_REMEDY = "look at these cases and the settings, then repeat (--resume goes on from the last epoch)"


class VoxelAccuracy(Metric):
    """Share of voxels whose class is right, over all voxels of all images and ranks.

    Takes what ``monai.handlers.from_engine(["pred", "label"])`` gives: lists of (C, …), one
    channel of 0 and 1, or one-hot channels. Without a voxel it is nan.

    Args:
        output_transform: Function from the engine's output to predictions and labels.
    """

    def __init__(self, output_transform: Callable[[Any], Any] = lambda output: output) -> None:
        super().__init__(output_transform=output_transform)

    @reinit__is_reduced
    def reset(self) -> None:
        """Forget what was counted."""
        self._right = torch.zeros((), dtype=torch.float64)
        self._voxels = torch.zeros((), dtype=torch.float64)

    @reinit__is_reduced
    def update(self, output: Sequence[Any]) -> None:
        """Count the voxels of predictions and labels: (B, C, …), or lists of (C, …)."""
        for one, other in zip(*output, strict=True):
            if one.shape != other.shape:
                found = f"prediction {tuple(one.shape)}, label {tuple(other.shape)}"
                raise GridError("SHAPE_MISMATCH", "accuracy", found, "bring both to one form, one-hot for example")
            is_right = (one.as_subclass(Tensor) == other.as_subclass(Tensor)).all(dim=0)
            self._right += is_right.sum().double().cpu()
            self._voxels += is_right.numel()

    @sync_all_reduce("_right", "_voxels")
    def compute(self) -> float:
        """The share, from 0 to 1."""
        return float(self._right / self._voxels)


class ValidationLoss:
    """Mean loss of the validation batches of all ranks, from the network's output before it is made into classes.

    Stands in the evaluator's metrics as ``val_loss``.

    Args:
        loss: The loss of the training.
    """

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.loss = loss
        self.batches: list[float] = []

    def attach(self, evaluator: Engine) -> None:
        """Measure every batch of ``evaluator``, one of MONAI's."""
        evaluator.add_event_handler(Events.STARTED, self.batches.clear)
        evaluator.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._measure)
        evaluator.add_event_handler(Events.COMPLETED, self._reduce)

    def _measure(self, evaluator: Engine) -> None:
        output: Any = evaluator.state.output
        with torch.no_grad():
            self.batches.append(float(self.loss(output["pred"], output["label"]).mean()))

    def _reduce(self, evaluator: Engine) -> None:
        evaluator.state.metrics[VAL_LOSS] = mean_over_ranks(self.batches)


def mean_over_ranks(values: Sequence[float]) -> float:
    """The mean of the values of all ranks, the same on each; nan where there are none. Every rank must call it."""
    sums = torch.tensor([sum(values), len(values)], dtype=torch.float64, device=idist.device())
    total, count = idist.all_reduce(sums).tolist()  # type: ignore[union-attr]
    return total / count if count else float("nan")


class StepNames:
    """Names the cases of the step at which an engine stops, and stops a training whose loss is not finite.

    Args:
        trainer: MONAI's trainer.
        evaluator: MONAI's evaluator, or None where only the training is watched.
    """

    def __init__(self, trainer: Engine, evaluator: Engine) -> None:
        self.trainer = trainer
        self.cases: list[str] = []
        self.part = "training"
        for part, engine in (("training", trainer), ("validation", evaluator)):
            engine.add_event_handler(Events.GET_BATCH_STARTED, self.cases.clear)
            engine.add_event_handler(Events.ITERATION_STARTED, self._begin, part)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self.cases.clear)
            engine.add_event_handler(Events.EXCEPTION_RAISED, self._tell)
        trainer.add_event_handler(IterationEvents.LOSS_COMPLETED, self._check_loss)

    def _begin(self, engine: Engine, part: str) -> None:
        batch: Any = engine.state.batch
        ids = batch.get("case_id", []) if isinstance(batch, dict) else []
        self.cases[:] = dict.fromkeys([ids] if isinstance(ids, str) else map(str, ids))
        step = (engine.state.iteration - 1) % (engine.state.epoch_length or engine.state.iteration) + 1
        self.part = f"{part}, epoch {self.trainer.state.epoch}, step {step}"

    @property
    def _step(self) -> str:
        return f"{self.part} ({', '.join(self.cases)})" if self.cases else self.part

    def _check_loss(self, trainer: Engine) -> None:
        output: Any = trainer.state.output
        if not torch.isfinite(output["loss"]):
            raise BundleError(
                "LOSS_NONFINITE",
                self._step,
                f"the loss is {output['loss'].item()}",
            )

    def _tell(self, engine: Engine, error: BaseException) -> NoReturn:
        """Raise the error, with the cases where it does not name them yet."""
        if not isinstance(error, Exception) or not self.cases:
            raise error
        coded = coded_cause(error)
        if coded is None:
            raise BundleError("TRAINING_FAILED", self._step, first_line(find_root(error)), _REMEDY) from error
        if any(case in coded.case for case in self.cases):
            raise coded
        raise type(coded)(coded.code, f"{self._step}: {coded.case}", coded.problem, coded.remedy) from error


def find_root(error: Exception) -> Exception:
    """The error that an error was raised from, at the end of the chain."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    return error
