"""A training that stops says at which step and with which cases."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents

from medseg.errors import BundleError, coded_cause, first_line

_REMEDY = "look at these cases and the settings, then repeat (--resume goes on from the last epoch)"


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
                "look for NaN in these images, lower learning_rate or set clip_norm, then --resume",
            )

    def _tell(self, engine: Engine, error: BaseException) -> NoReturn:
        """Raise the error, with the cases where it does not name them yet."""
        if not isinstance(error, Exception) or not self.cases:
            raise error
        coded = coded_cause(error)
        if coded is None:
            raise BundleError("TRAINING_FAILED", self._step, first_line(_root(error)), _REMEDY) from error
        if any(case in coded.case for case in self.cases):
            raise coded
        raise type(coded)(coded.code, f"{self._step}: {coded.case}", coded.problem, coded.remedy) from error


def _root(error: Exception) -> Exception:
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    return error
