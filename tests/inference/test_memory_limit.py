"""What a plan states is what a case takes, and a case keeps to the memory that it is allowed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from medseg.bundle.build import write_bundle
from medseg.networks import build_network
from tests.conftest import ROOT, save_nifti

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")

CLASSES = 60
BESIDES = 1 << 26
"""Beside the 15 %: what the C library and the runtime keep for themselves."""


@pytest.fixture
def bundle(tiny_settings, licence, tmp_path):
    """Of many classes, with windows of 32 voxels; the worker puts another network in."""
    from dataclasses import replace

    labels = {value: f"class {value}" for value in range(CLASSES)}
    settings = replace(tiny_settings, labels=labels, patch_voxels=(32, 32, 32))
    write_bundle(settings, tmp_path / "bundles", licence)
    root = tmp_path / "bundles" / settings.name
    network = build_network("unet", 3, 1, CLASSES, unet_options={"filters": 4, "depth": 2})
    (root / "models").mkdir()
    torch.save(network.state_dict(), root / "models" / "model.pt")
    return root


def noise(path: Path, *shape: int) -> Path:
    return save_nifti(np.random.default_rng(0).normal(size=shape).astype(np.float32), path)


def predicted(bundle: Path, image: Path, allowed: str) -> dict:
    small = noise(image.parent / "small.nii", 40, 40, 40)
    words = [sys.executable, "-m", "tests.inference.memory_limit_worker", bundle, image, small, allowed]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def assert_as_planned(found: dict) -> None:
    assert found["grown"] <= 1.15 * found["planned"] + BESIDES
    assert found["planned"] <= 1.15 * found["grown"] + BESIDES


@pytest.mark.slow  # What other processes do decides how closely the growth can be watched.
def test_a_case_takes_the_memory_that_its_plan_states(bundle, tmp_path):
    assert_as_planned(predicted(bundle, noise(tmp_path / "image.nii", 96, 96, 128), "any"))


@pytest.mark.slow
def test_a_larger_case_takes_the_memory_that_its_plan_states(bundle, tmp_path):
    assert_as_planned(predicted(bundle, noise(tmp_path / "image.nii", 160, 160, 200), "any"))


@pytest.mark.slow
def test_under_a_limit_a_case_passes_with_max_ram_that_fails_without(bundle, tmp_path):
    image = noise(tmp_path / "image.nii", 160, 160, 200)
    held = predicted(bundle, image, "least")
    assert held["storage"] == "disk"
    assert held["without"] == "failed"
    assert held["grown"] <= 1.15 * held["planned"] + BESIDES
    assert held["labels"] == predicted(bundle, image, "any")["labels"]
