"""Settings to the files of a bundle: standalone JSON, metadata, card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from medseg.bundle.card import card, metadata
from medseg.bundle.configs import evaluate_config, inference_config
from medseg.bundle.settings import Settings
from medseg.bundle.train_config import multi_gpu_train_config, train_config

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
    return {
        "LICENSE": licence,
        "configs/metadata.json": _json(metadata(settings)),
        "configs/inference.json": _json(inference_config(settings)),
        "configs/train.json": _json(train_config(settings)),
        "configs/evaluate.json": _json(evaluate_config(settings)),
        "configs/multi_gpu_train.json": _json(multi_gpu_train_config()),
        "configs/logging.conf": _LOGGING,
        "docs/README.md": card(settings),
    }


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


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
