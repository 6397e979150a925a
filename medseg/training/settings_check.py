"""Changes to a bundle's training: which keys and values there may be, whether all can be built, and making them."""

from __future__ import annotations

import copy
import inspect
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from medseg.bundle.config import Config, resolve, value_at
from medseg.errors import UsageError, check_known, first_line
from medseg.findings import Finding, make_note
from medseg.losses import LOSSES, build_loss
from medseg.networks import MONAI_NETWORKS, NETWORKS, UNET_OPTIONS
from medseg.networks.unet import UNetSettings
from medseg.training.optimisation import OPTIMIZERS, SCHEDULES

OPEN_TABLES = ("network_options", "loss_options")
"""Tables that take options beyond those a bundle names."""
OF_THE_BUNDLE = ("channel_names",)
"""What is no setting of a training alone."""

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

_OURS = {
    "network_def": "medseg.networks.build_network",
    "loss": "medseg.losses.build_loss",
    "optimizer": "medseg.training.optimisation.build_optimizer",
    "lr_scheduler": "medseg.training.optimisation.build_schedule",
}
_MEASURED = ("validate::key_metric", "validate::additional_metrics")


@dataclass(frozen=True)
class Number:
    """A range of numbers.

    Args:
        least: The lowest.
        most: The highest; there may be none, but infinity itself is no setting.
        is_whole: Whether there is nothing between whole numbers.
    """

    least: float = 0.0
    most: float = math.inf
    is_whole: bool = False

    @property
    def text(self) -> str:
        """In words.

        >>> Number(1, is_whole=True).text, Number(most=1).text
        ('whole number of 1 or more', 'number from 0 to 1')
        """
        kind = "whole number" if self.is_whole else "number"
        most = f"from {self.least:g} to {self.most:g}" if self.most < math.inf else f"of {self.least:g} or more"
        return f"{kind} {most}"

    def holds(self, value: Any) -> bool:
        """Whether ``value`` is such a number."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        return self.least <= value <= self.most and (isinstance(value, int) or not self.is_whole)


_COUNT = Number(least=1, is_whole=True)
_COUNT_OR_NONE = Number(is_whole=True)
_SHARE = Number(most=1)

NUMBERS: Mapping[str, Number] = {
    "accumulation_steps": _COUNT,
    "average_decay": _SHARE,
    "batch_size": _COUNT,
    "cache_rate": _SHARE,
    "clip_norm": Number(),
    "epochs": _COUNT,
    "learning_rate": Number(),
    "min_delta": Number(),
    "momentum": _SHARE,
    "num_workers": _COUNT_OR_NONE,
    "patience": _COUNT_OR_NONE,
    "seed": _COUNT_OR_NONE,
    "val_interval": _COUNT,
    "weight_decay": Number(),
}
"""The settings that a library would refuse with words of its own, or take and go wrong."""

EXPRESSIONS: Mapping[str, str] = {"device": "$torch.device('cpu')"}
"""Settings that only an expression can give, each with an example."""

TRUTHS = ("amp",)
"""Settings that take a truth value, though a bundle may have an expression there."""


def put(config: Config, key: str, value: Any) -> bool:
    """Set what stands at a key such as ``a::b``; False, and nothing is changed, where there is no such place.

    A table for one of OPEN_TABLES is laid over what is there.
    """
    *way, last = key.split("::")
    place = value_at(config, "::".join(way)) if way else config
    if not isinstance(place, dict) or (last not in place and key not in _find_open_options(config)):
        return False
    place[last] = {**place[last], **value} if key in OPEN_TABLES and isinstance(value, Mapping) else value
    return True


def with_overrides(config: Config, overrides: Mapping[str, Any]) -> Config:
    """A configuration with changes to some keys; what is there is not touched."""
    changed = copy.deepcopy(config)
    for key, value in overrides.items():
        put(changed, key, value)
    return changed


def check_overrides(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    """Refuse a key that the configuration does not have, naming the nearest, and a value of another kind.

    Raises:
        UsageError: SETTING_UNKNOWN or SETTING_INVALID.
    """
    open_keys = _find_open_options(config)
    for key, value in overrides.items():
        if key in OF_THE_BUNDLE:
            remedy = "make a bundle for it: see docs/reference/bundles.md"
            raise UsageError("SETTING_INVALID", key, "belongs to the bundle, for prediction goes by it too", remedy)
        if key in open_keys:
            check_kind(key, open_keys[key], value)
            continue
        check_key(config, key, open_keys)
        check_not_built(config, key, value)
        check_kind(key, value_at(config, key), value)


def _find_open_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options of networks and losses that may be set though the bundle does not, with what they are without."""
    networks = {name: getattr(UNetSettings(), name) for name in UNET_OPTIONS}
    known = {"network_options": networks, "loss_options": {name: {} for name in LOSSES}}
    return {
        f"{table}::{name}": config[table].get(name, usual)
        for table, options in known.items()
        if isinstance(config.get(table), Mapping)
        for name, usual in options.items()
    }


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


def check_kind(key: str, known: Any, value: Any) -> None:
    """Refuse a value of another kind than the one that is known, or outside of what it can be.

    None and MONAI's expressions and references may stand for anything, and within the bundle's own tables
    a list for a single value.

    Args:
        key: Name of the setting, nested ones as ``a::b``.
        known: What the bundle has there.
        value: What it is to have.

    Raises:
        UsageError: SETTING_INVALID, with the kind that is expected.
    """
    if is_expression(value):
        return
    if key in EXPRESSIONS and is_expression(known):
        raise UsageError("SETTING_INVALID", key, f"{value!r} is no expression", f"give one, such as {EXPRESSIONS[key]}")
    if key in TRUTHS and not isinstance(value, bool):
        raise UsageError("SETTING_INVALID", key, f"{value!r} is no truth value", "give true or false")
    if known is None or is_expression(known):
        return
    if key in NUMBERS and kind_of(known) == "number":
        if not NUMBERS[key].holds(value):
            text = NUMBERS[key].text
            raise UsageError("SETTING_INVALID", key, f"{value!r} is no {text}", f"give a {text}, such as {known}")
        return
    wanted, given = kind_of(known), kind_of(value)
    may_be_list = wanted == "list" or (given == "list" and "::" in key)
    if wanted != given and not may_be_list:
        example = f"give a {wanted} such as {json.dumps(known)}" if wanted != "table" else "give a table of settings"
        raise UsageError("SETTING_INVALID", key, f"{value!r} is no {wanted}", example)


def is_expression(value: Any) -> bool:
    """Whether MONAI computes or looks up what is written."""
    return isinstance(value, str) and value.startswith(("$", "@", "%"))


def kind_of(value: Any) -> str:
    """The kind of a value, in words."""
    kinds = {bool: "truth value", int: "number", float: "number", str: "text", dict: "table", list: "list"}
    found = (name for kind, name in kinds.items() if isinstance(value, kind))
    return next(found, "list" if isinstance(value, tuple) else "none")


def check_choices(config: Config) -> None:
    """Refuse names and options that no part of the training can be built from.

    What a bundle builds with functions of its own, or computes, is left to the training.

    Args:
        config: The `train.json` with all changes.

    Raises:
        UsageError: NAME_UNKNOWN, SETTING_UNKNOWN, or SETTING_INVALID of `select_by`.
    """
    parts = {part: _find_arguments(config, part, target) for part, target in _OURS.items()}
    if "name" in parts["network_def"]:
        _check_network(parts["network_def"]["name"], parts["network_def"].get("unet_options") or {})
    if "name" in parts["loss"]:
        _check_loss(parts["loss"]["name"], parts["loss"].get("options_by_name") or {})
    if "name" in parts["optimizer"]:
        check_known("NAME_UNKNOWN", [parts["optimizer"]["name"]], OPTIMIZERS)
    if "name" in parts["lr_scheduler"]:
        check_known("NAME_UNKNOWN", [parts["lr_scheduler"]["name"]], SCHEDULES)
    _check_selection(config)


def check_names(networks: Iterable[str], losses: Iterable[str]) -> None:
    """Refuse networks and losses that there are not.

    Raises:
        UsageError: NAME_UNKNOWN.
    """
    check_known("NAME_UNKNOWN", networks, [*NETWORKS, *MONAI_NETWORKS])
    check_known("NAME_UNKNOWN", losses, LOSSES)


def notes_on_changes(config: Config, overrides: Mapping[str, Any]) -> Iterator[Finding]:
    """What changes to a configuration leave as it was, though it was chosen for something else.

    Args:
        config: The `train.json` before the changes.
        overrides: The changes.
    """
    before, after = config.get("optimizer_name"), overrides.get("optimizer_name")
    rate = config.get("learning_rate")
    if before and after and before != after and rate is not None and "learning_rate" not in overrides:
        text = f"the learning rate {rate} is the one chosen for {before}; give one for {after} with learning_rate=…"
        yield make_note("LEARNING_RATE_KEPT", text)


def _find_arguments(config: Config, part: str, target: str) -> dict[str, Any]:
    """What a part is built with, references looked up; nothing where it is not ours, or computed."""
    definition = resolve(config, config.get(part))
    if not isinstance(definition, dict) or definition.get("_target_") != target:
        return {}
    return {key: value for key, value in definition.items() if not _is_computed(value)}


def _is_computed(value: Any) -> bool:
    if isinstance(value, Mapping | list):
        return any(map(_is_computed, value.values() if isinstance(value, Mapping) else value))
    return is_expression(value)


def _check_network(name: str, options: Mapping[str, Any]) -> None:
    check_names([name], [])
    check_known("SETTING_UNKNOWN", options, UNET_OPTIONS)
    try:
        if name in NETWORKS:
            UNetSettings(**{**NETWORKS[name], **options})
    except TypeError as error:
        remedy = "give options such as those in docs/reference/networks.md"
        raise UsageError("SETTING_INVALID", name, f"{dict(options)}: {first_line(error)}", remedy) from error


def _check_loss(name: str, options_by_name: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse an unknown loss, and unknown options of any, also of one that is not trained with."""
    check_names([], [name, *options_by_name])
    for loss, options in options_by_name.items():
        if not isinstance(options, Mapping):
            raise UsageError("SETTING_INVALID", f"loss_options::{loss}", f"{options!r} is no table", "give its options")
        check_known("SETTING_UNKNOWN", options, inspect.signature(LOSSES[loss]).parameters, loss)
    try:
        build_loss(name, options_by_name)
    except TypeError as error:
        text = f"{dict(options_by_name[name])}: {first_line(error)}"
        remedy = "give options such as those in docs/reference/losses.md"
        raise UsageError("SETTING_INVALID", name, text, remedy) from error


def _check_selection(config: Config) -> None:
    wanted = config.get("select_by")
    measured = sorted(name for place in _MEASURED for name in value_at(config, place) or {})
    if isinstance(wanted, str) and measured and wanted not in (*measured, "val_loss"):
        remedy = f"use one of {', '.join(('val_loss', *measured))}"
        raise UsageError("SETTING_INVALID", "select_by", f"{wanted!r} is not measured", remedy)
