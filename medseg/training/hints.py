"""Which key of `train.json` is meant by a name that is none, or by one that is built from another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from medseg.errors import UsageError
from medseg.training.kinds import is_expression

NAMED_BY: Mapping[str, str] = {
    "network": "network_name",
    "loss": "loss_name",
    "optimizer": "optimizer_name",
    "lr_scheduler": "schedule_name",
}
"""Parts of a training that are built from a name, and the key of that name."""

OTHER_WORDS: Mapping[str, str] = {
    "batch": "batch_size",
    "clip": "clip_norm",
    "early_stopping": "patience",
    "ema": "average_decay",
    "lr": "learning_rate",
    "max_epochs": "epochs",
    "mixed_precision": "amp",
    "model": "network_name",
    "net": "network_name",
    "optim": "optimizer_name",
    "optimiser": "optimizer_name",
    "schedule": "schedule_name",
    "scheduler": "schedule_name",
    "split": "split_file",
    "wd": "weight_decay",
    "workers": "num_workers",
}
"""What other tools call a setting."""


def check_not_built(config: Mapping[str, Any], key: str, value: Any) -> None:
    """Refuse a name for what is built from one, such as ``optimizer=sgd``, with the key that takes it.

    Raises:
        UsageError: SETTING_INVALID.
    """
    name = NAMED_BY.get(key)
    if name in config and isinstance(value, str) and not is_expression(value):
        raise UsageError("SETTING_INVALID", key, f"is built from {name}; {value!r} is a name", f"set {name}={value}")


def check_key(config: Mapping[str, Any], key: str, options: Iterable[str]) -> None:
    """Refuse a key that leads nowhere, with the one that may be meant.

    Args:
        config: The `train.json`.
        key: Nested ones as ``a::b``.
        options: Keys of options that may be set though the configuration does not have them.

    Raises:
        UsageError: SETTING_UNKNOWN.
    """
    place: Any = config
    for step in key.split("::"):
        known = place if isinstance(place, Mapping) else {}
        if step not in known:
            raise _unknown(key, step, known, tuple(options) if place is config or "::" in key else ())
        place = known[step]


def _unknown(key: str, step: str, known: Mapping[str, Any], options: tuple[str, ...]) -> UsageError:
    meant = [OTHER_WORDS[key]] if OTHER_WORDS.get(key) in known else []
    short = {option.rpartition("::")[2]: option for option in options}
    meant += [short[step]] if step in short else []
    if not meant:
        near = get_close_matches(step, [*known, *short], n=2, cutoff=0.6)
        meant = [name if name in known else short[name] for name in near]
    remedy = f"did you mean {' or '.join(meant)}?" if meant else f"use one of {', '.join(known) or 'none'}"
    return UsageError("SETTING_UNKNOWN", step, f"is not known in train.json: {key}", remedy)
