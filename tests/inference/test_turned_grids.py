"""Grids whose axes a resampling mixes are planned as such, and take no more than was planned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from medseg.bundle.build import write_bundle
from medseg.bundle.load import Bundle, open_bundle
from medseg.data.cases.case import Case
from medseg.data.read import read_extent
from medseg.inference.bundle_plan import expect_shapes, plan_case
from medseg.inference.predict import open_predictor
from medseg.inference.restore import axis_changes
from medseg.inference.runtimes.network_runner import measure_allocation
from medseg.inference.steps.monai_steps import measure_shapes
from medseg.networks import build_network
from medseg.options import PredictOptions
from tests.conftest import ball, save_nifti

TURNED = np.array([[0.96, -0.28, 0, 5], [0.28, 0.96, 0, -7], [0, 0, 1.4, 2], [0, 0, 0, 1.0]])
SHEARED = np.array([[1.3, 0, 0, 0], [0, 0.9, 0.8, 0], [0, 0, 1.5, 0], [0, 0, 0, 1.0]])
STRAIGHT = np.diag([-1.3, 0.9, 1.5, 1.0])

OPTIONS = PredictOptions(device="cpu", backend="torch")


@pytest.fixture
def bundle(tiny_settings, licence, tmp_path) -> Bundle:
    """That resamples to 1 mm."""
    settings = replace(tiny_settings, spacing_mm=(1.0, 1.0, 1.0), intensity={"kind": "window", "low": 0, "high": 99})
    write_bundle(settings, tmp_path / "bundles", licence)
    root = tmp_path / "bundles" / settings.name
    (root / "models").mkdir()
    torch.save(
        build_network("unet", 3, 1, 2, unet_options={"filters": 4, "depth": 2}).state_dict(), root / "models/model.pt"
    )
    return open_bundle(root)


def scan(tmp_path, affine) -> Case:
    return Case("one", (str(save_nifti(ball(1, (40, 44, 36))[0], tmp_path / "a.nii", affine)),), None, "one")


@pytest.mark.parametrize(
    ("affine", "is_along_axes"),
    [(STRAIGHT, True), (TURNED, True), (SHEARED, False)],
    ids=["straight", "turned", "sheared"],
)
def test_the_plan_knows_whether_the_way_back_goes_axis_by_axis(bundle, tmp_path, affine, is_along_axes):
    case = scan(tmp_path, affine)
    expected = expect_shapes(read_extent(case.images), bundle)
    image = open_predictor(bundle, OPTIONS).prepare(case).source["image"]
    assert expected.is_along_axes == is_along_axes == (axis_changes(image) is not None)
    assert expected.network == measure_shapes(image).network
    assert plan_case("one", expected, bundle, OPTIONS).is_streamed == is_along_axes


@pytest.mark.parametrize("affine", [STRAIGHT, TURNED, SHEARED], ids=["straight", "turned", "sheared"])
def test_preparing_takes_no_more_than_was_planned(bundle, tmp_path, affine):
    case = scan(tmp_path, affine)
    steps = open_predictor(bundle, OPTIONS).model.preprocessing  # As a prediction takes them.
    loaded = steps({"image": case.images[0], "case_id": case.id}, end=1)
    _, most = measure_allocation(lambda: steps(loaded, start=1))
    planned = plan_case("one", expect_shapes(read_extent(case.images), bundle), bundle, OPTIONS)
    assert most <= planned.peak_bytes
    if affine is SHEARED:
        assert most <= planned.parts["preparing"] <= 2 * most


def test_a_mixing_of_axes_is_planned_with_more(bundle, tmp_path):
    expected = expect_shapes(read_extent(scan(tmp_path, SHEARED).images), bundle)
    mixed, by_axis = (
        plan_case("one", replace(expected, is_along_axes=each), bundle, OPTIONS).parts for each in (False, True)
    )
    for part in ("preparing", "sums", "restoring"):
        assert mixed[part] > by_axis[part]
