"""A bundle's configurations in one of its forms, with changes to single keys."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medseg.bundle.build import STUDY
from medseg.bundle.forms import KINDS, Config, lay_over, read_config
from medseg.errors import UsageError, check_known
from medseg.losses.named import LOSSES
from medseg.networks import UNET_OPTIONS
from medseg.networks.unet import UNetSettings
from medseg.training.hints import check_key, check_not_built
from medseg.training.kinds import check_kind

OPEN_TABLES = ("network_options", "loss_options")
"""Tables that take options beyond those a bundle names."""
OF_THE_BUNDLE = ("channel_names",)
"""What is no setting of a training alone."""


def forms_of(bundle: Path) -> tuple[str, ...]:
    """Names of the bundle's forms, sorted."""
    names = [path.stem.removeprefix(f"{kind}_") for kind in KINDS for path in _overlays(bundle, kind)]
    return tuple(sorted(set(names)))


def laid_over(bundle: Path, form: str | None) -> dict[str, Config]:
    """The bundle's train, inference and metadata configurations in a form.

    Without a form they are taken as they are, unless the shipped weights are of another form than
    the bundle is trained in; then it is trained as its study has it.

    Raises:
        UsageError: FORM_UNKNOWN.
        BundleError: A file is missing or cannot be read, or a form changes what is not there.
    """
    configs = {kind: read_config(bundle / "configs" / f"{kind}.json") for kind in KINDS}
    form = form or (STUDY if configs["metadata"].get("weights_form") else None)
    if form is None:
        return configs
    check_known("FORM_UNKNOWN", [form], forms_of(bundle), bundle.name)
    paths = {kind: bundle / "configs" / f"{kind}_{form}.json" for kind in KINDS}
    laid = {kind: lay_over(configs[kind], read_config(path), path) for kind, path in paths.items() if path.is_file()}
    return {**configs, **laid}


def _overlays(bundle: Path, kind: str) -> list[Path]:
    return sorted((bundle / "configs").glob(f"{kind}_*.json"))


def put(config: Config, key: str, value: Any) -> bool:
    """Set what stands at a key such as ``a::b``; False, and nothing is changed, where there is no such place.

    A table for one of OPEN_TABLES is laid over what is there.
    """
    *way, last = key.split("::")
    place = value_at(config, "::".join(way)) if way else config
    if not isinstance(place, dict) or (last not in place and key not in _options_open_in(config)):
        return False
    place[last] = {**place[last], **value} if key in OPEN_TABLES and isinstance(value, Mapping) else value
    return True


def value_at(config: Mapping[str, Any], key: str) -> Any:
    """What stands at a key such as ``a::b``; None where there is none."""
    place: Any = config
    for step in key.split("::"):
        place = place.get(step) if isinstance(place, Mapping) else None
    return place


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
    open_keys = _options_open_in(config)
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


def _options_open_in(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options of networks and losses that may be set though the bundle does not, with what they are without."""
    networks = {name: getattr(UNetSettings(), name) for name in UNET_OPTIONS}
    known = {"network_options": networks, "loss_options": {name: {} for name in LOSSES}}
    return {
        f"{table}::{name}": config[table].get(name, usual)
        for table, options in known.items()
        if isinstance(config.get(table), Mapping)
        for name, usual in options.items()
    }
