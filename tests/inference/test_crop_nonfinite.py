"""Logits that are no numbers do not count as background: what was not run is never left out because of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from medseg.bundle.load import open_bundle
from medseg.data.cases.case import Case
from medseg.errors import ImageError
from medseg.inference.export import describe
from medseg.inference.predict import open_predictor
from medseg.inference.predictor import Predictor
from medseg.inference.runtimes import exported_network
from medseg.inference.steps.numpy_steps import NumpySteps
from medseg.options import PredictOptions
from tests.conftest import ball, save_nifti

SHAPE = (80, 30, 28)
CROPPED = PredictOptions(device="cpu", backend="torch", crop=True)


class BrokenInAir(torch.nn.Module):
    """Finds class 1 where a voxel is bright; in a window of one value it divides 0 by 0, as a normalisation may."""

    def __init__(self, is_broken: bool) -> None:
        super().__init__()
        self.nothing = torch.nn.Parameter(torch.zeros(()))
        self.is_broken = is_broken

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        logits = torch.cat([1 - windows, windows - 1], 1) + self.nothing
        spread = windows.flatten(1).amax(1) - windows.flatten(1).amin(1)
        broken = torch.where(spread == 0, torch.nan, 0.0) if self.is_broken else torch.zeros_like(spread)
        return logits + broken.reshape(-1, *[1] * (logits.ndim - 1))


def of_torch(bundle, network, monkeypatch):
    return open_predictor(replace(bundle, network=network), CROPPED)


def of_export(bundle, network, monkeypatch):
    def run(windows):
        with torch.no_grad():
            return network(torch.from_numpy(np.ascontiguousarray(windows))).numpy()

    monkeypatch.setattr(exported_network, "open_network", lambda *_: run)
    description, options = describe(bundle, "onnx"), replace(CROPPED, backend="auto")
    runtime = exported_network.ExportedRuntime(None, description, options)
    return Predictor(description, NumpySteps(description), runtime, options)


def case_of(tmp_path, has_ball):
    image = np.zeros(SHAPE, np.float32)
    if has_ball:
        image[30:50, 6:24, 6:22] = ball(1)[0]
    return Case("one", (str(save_nifti(image, tmp_path / "a.nii.gz")),), None, "one")


@pytest.fixture(params=[of_torch, of_export], ids=["bundle", "exported"])
def predictor(request, tiny_bundle, monkeypatch):
    return lambda is_broken: request.param(open_bundle(tiny_bundle), BrokenInAir(is_broken).eval(), monkeypatch)


@pytest.mark.parametrize("has_ball", [True, False])
def test_a_network_that_gives_no_numbers_in_air_fails_the_case(predictor, tmp_path, has_ball):
    run = predictor(True)
    with pytest.raises(ImageError) as caught:
        run(case_of(tmp_path, has_ball))
    assert caught.value.code == "OUTPUT_NONFINITE"
    assert list(run._found_nothing.values()) == [False]


@pytest.mark.parametrize("has_ball", [True, False])
def test_the_same_network_unbroken_leaves_the_air_out(predictor, tmp_path, has_ball):
    run = predictor(False)
    made = run(case_of(tmp_path, has_ball))
    assert made.labels.any() == has_ball
    assert ("IMAGE_ALL_AIR" in made.notes) == (not has_ball)
    assert list(run._found_nothing.values()) == [True]
