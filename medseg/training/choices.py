"""Whether a training's parts can be built from the names and options that are set, before anything is written."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from medseg.bundle.forms import Config, at, resolved
from medseg.data.volume import Note
from medseg.errors import UsageError, check_known, first_line
from medseg.losses.named import LOSSES, build_loss
from medseg.networks import MONAI_NETWORKS, NETWORKS, UNET_OPTIONS
from medseg.networks.unet import UNetSettings
from medseg.training.kinds import is_expression
from medseg.training.optimisation import OPTIMIZERS, SCHEDULES

_OURS = {
    "network_def": "medseg.networks.build_network",
    "loss": "medseg.losses.build_loss",
    "optimizer": "medseg.training.optimisation.build_optimizer",
    "lr_scheduler": "medseg.training.optimisation.build_schedule",
}
_MEASURED = ("validate::key_metric", "validate::additional_metrics")


def check_choices(config: Config) -> None:
    """Refuse names and options that no part of the training can be built from.

    What a bundle builds with functions of its own, or computes, is left to the training.

    Args:
        config: The `train.json` with all changes.

    Raises:
        UsageError: NETWORK_…, LOSS_…, OPTIMIZER_UNKNOWN, SCHEDULE_UNKNOWN, or SETTING_INVALID of `select_by`.
    """
    parts = {part: _arguments(config, part, target) for part, target in _OURS.items()}
    if "name" in parts["network_def"]:
        _check_network(parts["network_def"]["name"], parts["network_def"].get("unet_options") or {})
    if "name" in parts["loss"]:
        _check_loss(parts["loss"]["name"], parts["loss"].get("options_by_name") or {})
    if "name" in parts["optimizer"]:
        check_known("OPTIMIZER_UNKNOWN", [parts["optimizer"]["name"]], OPTIMIZERS)
    if "name" in parts["lr_scheduler"]:
        check_known("SCHEDULE_UNKNOWN", [parts["lr_scheduler"]["name"]], SCHEDULES)
    _check_selection(config)


def notes_on_changes(config: Config, overrides: Mapping[str, Any]) -> Iterator[Note]:
    """What changes to a configuration leave as it was, though it was chosen for something else.

    Args:
        config: The `train.json` before the changes.
        overrides: The changes.
    """
    before, after = config.get("optimizer_name"), overrides.get("optimizer_name")
    rate = config.get("learning_rate")
    if before and after and before != after and rate is not None and "learning_rate" not in overrides:
        text = f"the learning rate {rate} is the one chosen for {before}; give one for {after} with learning_rate=…"
        yield Note("LEARNING_RATE_KEPT", text)


def _arguments(config: Config, part: str, target: str) -> dict[str, Any]:
    """What a part is built with, references looked up; nothing where it is not ours, or computed."""
    definition = resolved(config, config.get(part))
    if not isinstance(definition, dict) or definition.get("_target_") != target:
        return {}
    return {key: value for key, value in definition.items() if not _is_computed(value)}


def _is_computed(value: Any) -> bool:
    if isinstance(value, Mapping | list):
        return any(map(_is_computed, value.values() if isinstance(value, Mapping) else value))
    return is_expression(value)


def _check_network(name: str, options: Mapping[str, Any]) -> None:
    check_known("NETWORK_UNKNOWN", [name], [*NETWORKS, *MONAI_NETWORKS])
    check_known("NETWORK_OPTION_UNKNOWN", options, UNET_OPTIONS)
    try:
        if name in NETWORKS:
            UNetSettings(**{**NETWORKS[name], **options})
    except TypeError as error:
        remedy = "give options such as those in docs/reference/networks.md"
        raise UsageError("NETWORK_OPTION_INVALID", name, f"{dict(options)}: {first_line(error)}", remedy) from error


def _check_loss(name: str, options_by_name: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse an unknown loss, and unknown options of any, also of one that is not trained with."""
    check_known("LOSS_UNKNOWN", [name, *options_by_name], LOSSES)
    for loss, options in options_by_name.items():
        if not isinstance(options, Mapping):
            raise UsageError("SETTING_INVALID", f"loss_options::{loss}", f"{options!r} is no table", "give its options")
        check_known("LOSS_OPTION_UNKNOWN", options, inspect.signature(LOSSES[loss]).parameters, loss)
    try:
        build_loss(name, options_by_name)
    except TypeError as error:
        text = f"{dict(options_by_name[name])}: {first_line(error)}"
        remedy = "give options such as those in docs/reference/losses.md"
        raise UsageError("LOSS_OPTION_INVALID", name, text, remedy) from error


def _check_selection(config: Config) -> None:
    wanted = config.get("select_by")
    measured = sorted(name for place in _MEASURED for name in at(config, place) or {})
    if isinstance(wanted, str) and measured and wanted not in (*measured, "val_loss"):
        remedy = f"use one of {', '.join(('val_loss', *measured))}"
        raise UsageError("SETTING_INVALID", "select_by", f"{wanted!r} is not measured", remedy)
