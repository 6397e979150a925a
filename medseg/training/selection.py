"""Which weights are kept, the best epoch's or a running average's, and when there is no use in going on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from medseg.errors import UsageError
from medseg.training.handlers import VAL_LOSS


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
