"""Settings to the files of a bundle: standalone JSON, metadata, card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from medseg.bundle.config import STUDY, Config
from medseg.bundle.inference_config import evaluate_config, inference_config
from medseg.bundle.settings import Settings
from medseg.bundle.train_config import multi_gpu_train_config, train_config
from medseg.data.terminology import dump_terms

METADATA_SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
)
CARD = Path(__file__).with_name("card.md.jinja")
LOGGING = Path(__file__).with_name("logging.conf")
"""For MONAI's command line; the same in every bundle."""
TESTED_WITH = {"monai": "1.6.1", "pytorch": "2.13.0", "numpy": "2.4.6", "medseg": "0.1.0"}


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
        "configs/logging.conf": LOGGING.read_text(encoding="utf8"),
        "docs/README.md": render_card(settings),
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


def find_drifted_files(settings: Settings, folder: Path, licence: str) -> list[Path]:
    """The files below ``folder/<name>`` that are missing or differ from what the settings give."""
    targets = _targets(settings, folder, licence)
    return [path for path, text in targets.items() if not path.is_file() or path.read_text(encoding="utf8") != text]


def _targets(settings: Settings, folder: Path, licence: str) -> dict[Path, str]:
    root = folder / settings.name
    return {root / path: text for path, text in bundle_files(settings, licence).items()}


def _json(content: Config) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def metadata(settings: Settings) -> dict[str, Any]:
    """`metadata.json`, in MONAI's schema of 2024-07-25 (which permits keys of one's own)."""
    labels = {str(value): name for value, name in settings.labels.items()}
    return {
        "schema": METADATA_SCHEMA,
        "version": settings.version,
        "changelog": dict(settings.changelog),
        "monai_version": TESTED_WITH["monai"],
        "pytorch_version": TESTED_WITH["pytorch"],
        "numpy_version": TESTED_WITH["numpy"],
        "required_packages_version": {"medseg": TESTED_WITH["medseg"]},
        "name": settings.title,
        "task": f"Segmentation of {_enumerated(settings)} in {settings.modality}",
        "description": settings.description,
        "authors": "The medseg developers",
        "copyright": "Copyright (c) the medseg developers",
        "data_source": settings.data_source,
        "data_type": "nifti, nrrd, mha, dicom",
        "image_classes": f"{len(settings.channels)} channel(s): {', '.join(settings.channels)}",
        "label_classes": "one channel, one integer per class",
        "labels": labels,
        "terminology": dump_terms(settings.terms),
        "pred_classes": ", ".join(f"{value}: {name}" for value, name in labels.items()),
        "eval_metrics": dict(settings.trained.get("test_dice", {})),
        "intended_use": settings.intended_use,
        "references": list(settings.references),
        "supported_apps": {},
        "weights_licence": settings.weights_licence,
        "weights_form": settings.shipped,
        "network_data_format": _network_format(settings.form(settings.shipped), labels),
    }


def render_card(settings: Settings) -> str:
    """`docs/README.md`: what the bundle is for, how it was trained, how well it does, how to run it."""
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    return environment.from_string(CARD.read_text(encoding="utf8")).render(
        settings=settings, weights=settings.form(settings.shipped)
    )


def _enumerated(settings: Settings) -> str:
    return ", ".join(name for value, name in settings.labels.items() if value)


def _network_format(settings: Settings, labels: Mapping[str, str]) -> dict[str, Any]:
    stride = 2 ** settings.network.get("depth", 4)
    tensor = {
        "type": "image",
        "spatial_shape": [f"{2 * stride}*n"] * settings.spatial_dims,
        "dtype": "float32",
        "is_patch_data": True,
    }
    image = {
        **tensor,
        "format": "magnitude" if settings.modality == "MR" else "hounsfield" if settings.modality == "CT" else "rgb",
        "modality": settings.modality,
        "num_channels": len(settings.channels),
        "value_range": [0, 1] if settings.intensity["kind"] != "z-score" else [],
        "channel_def": {str(index): name for index, name in enumerate(settings.channels)},
    }
    pred = {
        **tensor,
        "format": "segmentation",
        "num_channels": settings.out_channels,
        "value_range": [],
        "channel_def": labels if settings.out_channels > 1 else {"0": labels["1"]},
    }
    return {"inputs": {"image": image}, "outputs": {"pred": pred}}
