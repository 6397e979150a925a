"""Optimisers and learning-rate schedules by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from medseg.errors import check_known

PLATEAU_EPOCHS = 10
PLATEAU_FACTOR = 0.2
PLATEAU_DELTA = 1e-4

_FUSED_ON = ("cpu", "cuda")

Schedule = LRScheduler | ReduceLROnPlateau

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"adam": Adam, "adamw": AdamW, "sgd": SGD}
"""Every optimiser by name; the weight decay of `adamw` is apart from the gradient, that of the others within it."""


def build_optimizer(
    name: str,
    network: nn.Module,
    learning_rate: float,
    weight_decay: float = 0.0,
    momentum: float = 0.99,
    clip_norm: float = 0.0,
) -> Optimizer:
    """An optimiser by its name, over all parameters of a network.

    Args:
        name: A name in `OPTIMIZERS`.
        network: The network whose parameters are trained.
        learning_rate: The rate at the start.
        weight_decay: Pull of the weights towards 0.
        momentum: Momentum of `sgd`; the others have their own.
        clip_norm: Largest norm of all gradients together, cut before each step; 0 cuts nothing.

    Raises:
        UsageError: NAME_UNKNOWN.
    """
    check_known("NAME_UNKNOWN", [name], OPTIMIZERS)
    own = {"momentum": momentum} if name == "sgd" else {}
    # One pass over all parameters instead of one for each operation.
    fused = all(parameter.device.type in _FUSED_ON for parameter in network.parameters())
    optimizer = OPTIMIZERS[name](network.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=fused, **own)
    if clip_norm > 0:

        def clip(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            torch.nn.utils.clip_grad_norm_(network.parameters(), clip_norm)

        optimizer.register_step_pre_hook(clip)
    return optimizer


def _poly(optimizer: Optimizer, epochs: int) -> Schedule:
    """Falls to 0 as (1 − epoch/epochs)^0.9 (Chen et al. 2017, DeepLab)."""
    return LambdaLR(optimizer, lambda epoch: max(1 - epoch / epochs, 0.0) ** 0.9)


def _constant(optimizer: Optimizer, epochs: int) -> Schedule:
    """Stays."""
    return LambdaLR(optimizer, lambda epoch: 1.0)


def _cosine(optimizer: Optimizer, epochs: int) -> Schedule:
    """Falls to 0 as half a wave (Loshchilov and Hutter 2017, without restarts)."""
    # CosineAnnealingLR would keep the old number of epochs in a run that is resumed for more.
    return LambdaLR(optimizer, lambda epoch: 0.5 * (1 + math.cos(math.pi * min(epoch / epochs, 1.0))))


def _plateau(optimizer: Optimizer, epochs: int) -> Schedule:
    """Falls to a fifth when the validation loss did not fall by 1e-4 in 10 epochs, as Keras' callback does."""
    return ReduceLROnPlateau(
        optimizer,
        mode="min",
        factor=PLATEAU_FACTOR,
        patience=PLATEAU_EPOCHS - 1,  # PyTorch allows so many bad epochs before the one that makes it act.
        threshold=PLATEAU_DELTA,
        threshold_mode="abs",
    )


SCHEDULES: dict[str, Callable[[Optimizer, int], Schedule]] = {
    "poly": _poly,
    "constant": _constant,
    "cosine": _cosine,
    "plateau": _plateau,
}
"""Every schedule by name. All but `plateau` depend on the epoch alone, and so on the number of epochs as it is now."""


def build_schedule(name: str, optimizer: Optimizer, epochs: int) -> Schedule:
    """A learning-rate schedule by its name, to be stepped once at each epoch's end.

    Args:
        name: A name in `SCHEDULES`.
        optimizer: The optimiser whose learning rate it sets.
        epochs: Number of epochs in all.

    Raises:
        UsageError: NAME_UNKNOWN.
    """
    check_known("NAME_UNKNOWN", [name], SCHEDULES)
    return SCHEDULES[name](optimizer, epochs)
