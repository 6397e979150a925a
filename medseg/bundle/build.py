"""Settings to the files of a bundle: standalone JSON, metadata, card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from medseg.bundle.card import card, metadata
from medseg.bundle.configs import Config, evaluate_config, inference_config
from medseg.bundle.settings import Settings
from medseg.bundle.train_config import multi_gpu_train_config, train_config

STUDY = "study"
"""Name of the form in which a bundle is trained by itself, where its shipped weights are of another."""

_LOGGING = """\
[loggers]
keys=root

[handlers]
keys=consoleHandler

[formatters]
keys=fullFormatter

[logger_root]
level=INFO
handlers=consoleHandler

[handler_consoleHandler]
class=StreamHandler
level=INFO
formatter=fullFormatter
args=(sys.stdout,)

[formatter_fullFormatter]
format=%(asctime)s - %(name)s - %(levelname)s - %(message)s
"""


def bundle_files(settings: Settings, licence: str) -> dict[str, str]:
    """The text of every file of a bundle but its weights and its split, by relative path.

    Args:
        settings: What the bundle is.
        licence: Text of the licence of the configurations.
    """
    weights = settings.form(settings.shipped)
    base = {"metadata": metadata(settings), "train": train_config(settings), "inference": inference_config(weights)}
    configs = {
        **base,
        "evaluate": evaluate_config(settings),
        "multi_gpu_train": multi_gpu_train_config(),
        **_overlays(settings, base),
    }
    return {
        "LICENSE": licence,
        **{f"configs/{name}.json": _json(config) for name, config in configs.items()},
        "configs/logging.conf": _LOGGING,
        "docs/README.md": card(settings),
    }


def _overlays(settings: Settings, base: Mapping[str, Config]) -> dict[str, Config]:
    """What each form of the bundle changes: `train_small.json` is laid over `train.json`, and so on."""
    overlays: dict[str, Config] = {}
    # The bundle as it is trained without a form, where that is not what its shipped weights are for.
    as_trained = {STUDY: settings.form("")} if settings.shipped else {}
    for name, form in {**as_trained, **{name: settings.form(name) for name in settings.forms}}.items():
        whole = {"metadata": metadata(form), "train": train_config(form), "inference": inference_config(form)}
        for kind, config in whole.items():
            # Weights of another form never go where the shipped ones are.
            kept = {key: value for key, value in config.items() if key != "ckpt_dir"}
            changed = {key: value for key, value in kept.items() if base[kind].get(key) != value}
            if changed:
                overlays[f"{kind}_{name}"] = changed
    return overlays


def write_bundle(settings: Settings, folder: Path, licence: str) -> list[Path]:
    """Write a bundle's files below ``folder/<name>``; returns those whose text changed."""
    changed = []
    for path, text in _targets(settings, folder, licence).items():
        if not path.is_file() or path.read_text(encoding="utf8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf8")
            changed.append(path)
    return changed


def drifted_files(settings: Settings, folder: Path, licence: str) -> list[Path]:
    """The files below ``folder/<name>`` that are missing or differ from what the settings give."""
    targets = _targets(settings, folder, licence)
    return [path for path, text in targets.items() if not path.is_file() or path.read_text(encoding="utf8") != text]


def _targets(settings: Settings, folder: Path, licence: str) -> dict[Path, str]:
    root = folder / settings.name
    return {root / path: text for path, text in bundle_files(settings, licence).items()}


def _json(content: Config) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
