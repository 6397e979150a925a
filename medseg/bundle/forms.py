"""A bundle's configurations as plain data: the base, and each form laid over it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from medseg.errors import BundleError, as_finding, first_line
from medseg.findings import Finding

Config = dict[str, Any]

KINDS = ("metadata", "inference", "train")
SUFFIXES = (".json", ".yaml", ".yml")
SEPARATOR = "::"
DEEPEST = 5
"""References that lead to each other are followed so far."""


@dataclass(frozen=True)
class Form:
    """A bundle's configurations in one of its forms.

    Args:
        name: Empty for the base.
        configs: ``metadata``, ``inference`` and ``train``, as far as the bundle has them.
        files: The file last laid down for each: the form's own, or the base's.
    """

    name: str
    configs: Mapping[str, Config]
    files: Mapping[str, Path]

    def owns(self, kind: str) -> bool:
        """Whether a file of this form (of the base, any file) gives the configuration."""
        return kind in self.files and (not self.name or self.files[kind].stem == f"{kind}_{self.name}")


def read_forms(root: Path) -> tuple[list[Form], list[Finding]]:
    """The base and every form of the bundle, by name, and what could not be read.

    ``train_small.json`` makes a form ``small``, laid over ``train.json``.
    """
    folder = root / "configs"
    configs: dict[str, Config] = {}
    files: dict[str, Path] = {}
    found: list[Finding] = []
    for kind in KINDS:
        path = next((folder / f"{kind}{suffix}" for suffix in SUFFIXES if (folder / f"{kind}{suffix}").is_file()), None)
        try:
            configs |= {kind: read_config(path)} if path else {}
            files |= {kind: path} if path else {}
        except BundleError as error:
            found.append(as_finding(error))
    base = Form("", configs, files)
    overlays = {kind: {_name(path, kind): path for path in _overlays(folder, kind)} for kind in KINDS}
    forms = [base]
    for name in sorted({name for paths in overlays.values() for name in paths}):
        own = {kind: paths[name] for kind, paths in overlays.items() if name in paths}
        try:
            laid = {kind: lay_over(configs.get(kind, {}), read_config(path), path) for kind, path in own.items()}
            forms.append(Form(name, {**configs, **laid}, {**files, **own}))
        except BundleError as error:
            found.append(as_finding(error))
    return forms, found


def read_config(path: Path) -> Config:
    """A configuration file as a table.

    Raises:
        BundleError: BUNDLE_INCOMPLETE, there is no such file; BUNDLE_UNREADABLE.
    """
    if not path.is_file():
        raise BundleError("BUNDLE_INCOMPLETE", path, f"there is no {path.name}", "add it, or use another bundle")
    try:
        text = path.read_text(encoding="utf8")
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise BundleError("BUNDLE_UNREADABLE", path, first_line(error), "correct the file") from error
    if not isinstance(content, dict):
        raise BundleError("BUNDLE_UNREADABLE", path, "not a table of settings", "correct the file")
    return {str(key): value for key, value in content.items()}


def lay_over(base: Config, overlay: Config, path: Path) -> Config:
    """``base`` with the overlay's keys, as MONAI merges files: ``a::b`` goes deeper, ``+a`` adds.

    Raises:
        BundleError: BUNDLE_UNREADABLE, there is no place for a key of the overlay ``path``.
    """
    merged = copy.deepcopy(base)
    for key, value in overlay.items():
        *way, last = key.lstrip("+").replace("#", SEPARATOR).split(SEPARATOR)
        place = value_at(merged, way)
        if not isinstance(place, dict):
            problem = f"the file below it has no place for {key}"
            raise BundleError("BUNDLE_UNREADABLE", path, problem, "correct the key, or add its parent to that file")
        present = place.get(last)
        if key.startswith("+") and isinstance(present, dict) and isinstance(value, dict):
            place[last] = {**present, **value}
        elif key.startswith("+") and isinstance(present, list) and isinstance(value, list):
            place[last] = [*present, *value]
        else:
            place[last] = value
    return merged


def value_at(config: Any, way: list[str]) -> Any:
    """What stands at the end of a way through tables and lists; None where there is nothing."""
    place = config
    for step in way:
        if isinstance(place, Mapping):
            place = place.get(step)
        elif isinstance(place, list) and step.isdecimal() and int(step) < len(place):
            place = place[int(step)]
        else:
            return None
    return place


def at(config: Config, key: str) -> Any:
    """What stands at a key such as ``train::trainer``; None where there is nothing."""
    return value_at(config, key.split(SEPARATOR))


def resolved(config: Config, value: Any, depth: int = 0) -> Any:
    """``value`` with references such as ``@patch`` (or macros, ``%patch``) to plain data replaced by what they name.

    An expression, and a reference to what is not there, stays as it is; so do references in a ring.
    """
    if isinstance(value, dict):
        return {key: resolved(config, inner, depth) for key, inner in value.items()}
    if isinstance(value, list):
        return [resolved(config, inner, depth) for inner in value]
    if isinstance(value, str) and value.startswith(("@", "%")) and depth < DEEPEST:
        target = at(config, value[1:].replace("#", SEPARATOR))
        return value if target is None else resolved(config, target, depth + 1)
    return value


def strings(value: Any) -> Iterator[str]:
    """Every text in a configuration, however deep."""
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from strings(inner)


def _overlays(folder: Path, kind: str) -> list[Path]:
    return sorted(path for path in folder.glob(f"{kind}_*") if path.suffix in SUFFIXES)


def _name(path: Path, kind: str) -> str:
    return path.stem.removeprefix(f"{kind}_")
