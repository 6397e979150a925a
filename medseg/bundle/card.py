"""What a bundle says of itself: metadata for programs, a card for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from medseg.bundle.settings import Settings
from medseg.data.terminology import dump_terms

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
TEMPLATE = Path(__file__).with_name("card.md.jinja")
TESTED_WITH = {"monai": "1.6.1", "pytorch": "2.13.0", "numpy": "2.4.6", "medseg": "0.1.0"}


def metadata(settings: Settings) -> dict[str, Any]:
    """`metadata.json`, in MONAI's schema of 2024-07-25 (which permits keys of one's own)."""
    labels = {str(value): name for value, name in settings.labels.items()}
    return {
        "schema": SCHEMA,
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


def card(settings: Settings) -> str:
    """`docs/README.md`: what the bundle is for, how it was trained, how well it does, how to run it."""
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    return environment.from_string(TEMPLATE.read_text(encoding="utf8")).render(
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
