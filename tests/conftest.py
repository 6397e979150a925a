"""Small things that many tests start from."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def licence() -> str:
    return (ROOT / "LICENSE").read_text(encoding="utf8")


@pytest.fixture
def tiny_settings():
    """A 3D bundle of two classes whose network takes milliseconds."""
    from medseg.bundle.settings import Settings

    return Settings(
        name="ball_segmentation",
        title="Bright ball",
        description="A bright ball on a dark ground.",
        intended_use="Tests.",
        modality="MR",
        channels=("T1",),
        labels={0: "background", 1: "ball"},
        data_source="made by the tests",
        patch_voxels=(16, 16, 16),
        intensity={"kind": "z-score"},
        network={"name": "unet", "filters": 4, "depth": 2},
        mirror_axes=(0,),
        epochs=2,
        batch_size=2,
        learning_rate=0.01,
        fractions=(0.5, 0.25, 0.25),
    )


@pytest.fixture
def tiny_bundle(tiny_settings, licence, tmp_path) -> Path:
    """That bundle on disk, with fresh weights."""
    import torch

    from medseg.bundle.build import write_bundle
    from medseg.networks import build_network

    write_bundle(tiny_settings, tmp_path / "bundles", licence)
    root = tmp_path / "bundles" / tiny_settings.name
    torch.manual_seed(3)
    network = build_network("unet", 3, 1, 2, unet_options={"filters": 4, "depth": 2})
    (root / "models").mkdir()
    torch.save(network.state_dict(), root / "models" / "model.pt")
    return root


def ball(seed: int, shape: tuple[int, int, int] = (20, 18, 16)) -> tuple[np.ndarray, np.ndarray]:
    """An image of a bright ball in noise, and its mask."""
    generator = np.random.default_rng(seed)
    centre = np.array(shape) / 2 + generator.uniform(-2, 2, 3)
    distance = np.linalg.norm(np.indices(shape).T - centre, axis=-1).T
    mask = (distance < 5).astype(np.uint8)
    return (100 * mask + generator.normal(0, 10, shape)).astype(np.float32), mask


def save_nifti(array: np.ndarray, path: Path, affine: np.ndarray | None = None) -> Path:
    """Write with nibabel, not with the code under test."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


@pytest.fixture
def ball_data(tmp_path) -> Path:
    """Eight cases in images/ and labels/."""
    folder = tmp_path / "balls"
    for case in range(8):
        image, mask = ball(case)
        save_nifti(image, folder / "images" / f"ball_{case}.nii.gz")
        save_nifti(mask, folder / "labels" / f"ball_{case}.nii.gz")
    return folder
