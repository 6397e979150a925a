"""The running average of a network's weights, which often scores better than the last weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class WeightAverage:
    """Exponential moving average of a network's weights and buffers, taken after each step of the optimiser.

    average ← d·average + (1−d)·weights with d = min(decay, (1+n)/(10+n)) at step n, so that
    the first, untrained weights are soon forgotten. Whole-number buffers are copied.

    Args:
        network: Whose weights are averaged.
        decay: From 0 to below 1, such as 0.999.
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
