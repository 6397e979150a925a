"""Miniature bundles of every kind with random weights, their images, and their exports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from medseg.bundle.build import write_bundle
from medseg.networks import build_network
from tests.conftest import save_nifti

LABELS = {0: "background", 1: "one", 2: "two", 3: "three"}
TURNED = np.diag([-1.3, -0.9, 2.2, 1.0])

KINDS = {
    "volumes": {"labels": LABELS, "spacing_mm": (1.6, 1.6, 1.6), "patch_voxels": (16, 16, 16), "keep_largest": True},
    "slices": {
        "labels": LABELS,
        "slicewise": True,
        "patch_voxels": (16, 16),
        "crop_voxels": (28, 20, -1),
        "mirror_axes": (),
        "intensity": {"kind": "unit"},
    },
    "pictures": {
        "labels": {0: "background", 1: "polyp"},
        "activation": "sigmoid",
        "channels": ("red", "green", "blue"),
        "patch_voxels": (32, 32),
        "resize_voxels": (32, 32),
        "mirror_axes": (),
        "intensity": {"kind": "window", "low": 0, "high": 255},
    },
}


def weights_of(settings) -> dict[str, torch.Tensor]:
    """Random weights that give each class somewhere."""
    torch.manual_seed(3)
    outputs = 1 if settings.activation == "sigmoid" else len(settings.labels)
    network = build_network(
        "unet", settings.spatial_dims, len(settings.channels), outputs, unet_options={"filters": 4, "depth": 2}
    )
    for name, values in network.named_parameters():
        if name == "head.0.bias":
            values.data += 0.01  # Where all units are silent, the logits are not on the threshold.
    return network.state_dict()


@pytest.fixture
def miniature(tiny_settings, licence, tmp_path):
    """A bundle of one of KINDS, and a folder of two images for it."""

    def build(kind: str) -> tuple[Path, Path]:
        settings = replace(tiny_settings, name=f"{kind}_segmentation", **KINDS[kind])
        write_bundle(settings, tmp_path / "bundles", licence)
        root = tmp_path / "bundles" / settings.name
        (root / "models").mkdir()
        torch.save(weights_of(settings), root / "models" / "model.pt")
        images = tmp_path / f"{kind}_images"
        for number in range(2):
            rng = np.random.default_rng(number)
            if settings.channels == ("T1",):
                grains = np.kron(rng.normal(100, 40, (8, 8, 6)), np.ones((5, 4, 4)))
                save_nifti(grains.astype(np.float32), images / f"case_{number}.nii.gz", TURNED)
            else:
                images.mkdir(exist_ok=True)
                grains = np.kron(rng.integers(0, 255, (9, 12, 3)), np.ones((7, 5, 1)))
                Picture.fromarray(grains.astype(np.uint8)).save(images / f"case_{number}.png")
        return root, images

    return build
