"""What a case takes is counted before it is run, and lessened step by step where it is too much."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.networks.nets import UNet

from medseg.bundle.load import open_bundle
from medseg.data.cases.case import Case
from medseg.data.read import read_extent
from medseg.errors import ImageError
from medseg.inference.bundle_plan import expect_shapes, fit_window, plan_case, plan_within_memory
from medseg.inference.monai_inferer import SlidingWindow
from medseg.inference.plan import Shapes, smaller_plans
from medseg.inference.predict import open_predictor
from medseg.inference.runtimes.network_runner import measure_allocation, measure_footprint
from medseg.inference.steps.monai_steps import measure_shapes
from medseg.options import PredictOptions
from tests.conftest import ball, save_nifti
from tests.inference.test_plan import plan_of


def test_windows_are_run_as_planned():
    *_, halved, spilled = smaller_plans(plan_of())
    window = SlidingWindow((64, 64, 64), sw_batch_size=4)
    assert fit_window(window, halved).storage == torch.bfloat16
    assert fit_window(window, spilled).spill.is_dir()
    assert window.sw_batch_size == 4
    assert window.spill is None


def test_what_a_call_allocates_is_counted_at_its_highest():
    def call():
        first = torch.zeros(1000)
        second = torch.zeros(3000)
        del first, second
        return torch.zeros(500)

    result, most = measure_allocation(call)
    assert result.numel() == 500
    assert 4 * 4000 <= most <= 4 * 4000 + 1024


def test_the_footprint_holds_at_least_the_result_and_grows_with_the_window():
    network = UNet(3, 1, 5, channels=(4, 8), strides=(2,)).eval()
    small, large = measure_footprint(network, (1, 16, 16, 16)), measure_footprint(network, (1, 32, 32, 32))
    assert small.channels == 5
    assert small.live_bytes >= 4 * 5 * 16**3
    assert large.live_bytes > 4 * small.live_bytes
    assert small.weight_bytes == sum(each.numel() * 4 for each in network.parameters())


def test_a_network_of_several_outputs_has_no_footprint():
    class Two(torch.nn.Module):
        def forward(self, windows):
            return [windows, windows]

    with pytest.raises(ImageError, match="OUTPUT_NOT_ONE_TENSOR"):
        measure_footprint(Two(), (1, 8, 8))


@pytest.mark.parametrize(
    "affine",
    [np.diag([-1.0, 1, 2, 1]), np.array([[0, 1.5, 0, -4], [0, 0, -1, 8], [2, 0, 0, 3], [0, 0, 0, 1.0]])],
)
def test_the_header_tells_the_shapes_that_preprocessing_gives(tiny_settings, licence, tmp_path, affine):
    from dataclasses import replace

    from medseg.bundle.build import write_bundle
    from medseg.networks import build_network

    settings = replace(tiny_settings, spacing_mm=(1.3, 0.8, 1.0), crop_voxels=(24, 24, 24))
    write_bundle(settings, tmp_path / "bundles", licence)
    root = tmp_path / "bundles" / settings.name
    (root / "models").mkdir()
    network = build_network("unet", 3, 1, 2, unet_options={"filters": 4, "depth": 2})
    torch.save(network.state_dict(), root / "models" / "model.pt")
    path = save_nifti(ball(1, (21, 17, 13))[0], tmp_path / "a.nii.gz", affine)
    bundle = open_bundle(root)
    prepared = open_predictor(bundle, PredictOptions(device="cpu")).prepare(Case("one", (str(path),), None, "one"))
    expected, found = expect_shapes(read_extent([str(path)]), bundle), measure_shapes(prepared.source["image"])
    assert (expected.image, expected.network) == (found.image, found.network)
    assert expected.spacing_mm == pytest.approx(found.spacing_mm)
    assert expected.is_resampled
    assert found.is_resampled


def test_a_bundle_s_plan_counts_its_windows_and_measures_one(tiny_bundle):
    bundle = open_bundle(tiny_bundle)
    shapes = Shapes(1, (40, 40, 40), (40, 40, 40), (1.0, 1.0, 1.0))
    plan = plan_case("one", shapes, bundle, PredictOptions(device="cpu", overlap=0.5))
    assert len(plan.windows) == math.ceil((40 - 16) / 8 + 1) ** 3
    assert plan.one_pass.live_bytes > 0
    assert plan.backend == "torch"


def test_a_bundle_s_plan_keeps_to_max_ram_or_is_refused(tiny_bundle):
    bundle = open_bundle(tiny_bundle)
    shapes = Shapes(1, (40, 40, 40), (40, 40, 40), (1.0, 1.0, 1.0))
    whole = plan_case("one", shapes, bundle, PredictOptions(device="cpu"))
    less = PredictOptions(device="cpu", max_ram=whole.peak_bytes - 1)
    assert plan_within_memory("one", shapes, bundle, less).peak_bytes < whole.peak_bytes
    with pytest.raises(ImageError, match="MEMORY_BUDGET"):
        plan_within_memory("one", shapes, bundle, PredictOptions(device="cpu", max_ram=1000))
