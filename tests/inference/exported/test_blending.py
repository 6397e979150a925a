"""MONAI's inferers are the oracle: same windows, same weights, same logits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.utils import compute_importance_map
from monai.inferers import SliceInferer, SlidingWindowInferer

from medseg.errors import ImageError
from medseg.inference.exported.blending import blended, importance
from medseg.inference.exported.description import WindowPlan
from medseg.inference.exported.window_plan import window_plan

SIZES = st.lists(st.integers(1, 24), min_size=3, max_size=3)


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    return {2: torch.nn.Conv2d(2, 3, 3, padding=1).eval(), 3: torch.nn.Conv3d(2, 3, 3, padding=1).eval()}


def whole(image, network, plan, overlap=None):
    """All slabs of an image put together."""

    def run(windows):
        with torch.no_grad():
            return network(torch.from_numpy(np.ascontiguousarray(windows))).numpy()

    slabs = list(blended(image, run, plan, overlap))
    assert [slab.start for slab in slabs[1:]] == [slab.stop for slab in slabs[:-1]]
    return np.concatenate([slab.logits for slab in slabs], axis=slabs[0].axis + 1)


@settings(max_examples=40, deadline=None)
@given(
    size=SIZES,
    roi=st.lists(st.sampled_from([1, 4, 7, 8, 12]), min_size=3, max_size=3),
    overlap=st.sampled_from([0, 0.25, 0.5, 0.75, (0.1, 0.3, 0.6)]),
    mode=st.sampled_from(["gaussian", "constant"]),
    batch=st.sampled_from([1, 2, 5]),
    padding=st.sampled_from([("constant", 0.0), ("constant", 1.5), ("replicate", 0.0)]),
)
def test_logits_are_those_of_monai(networks, size, roi, overlap, mode, batch, padding):
    inferer = SlidingWindowInferer(roi, batch, overlap, mode, padding_mode=padding[0], cval=padding[1])
    image = np.random.default_rng(sum(size)).normal(size=(2, *size)).astype(np.float32)
    with torch.no_grad():
        expected = inferer(torch.from_numpy(image)[None], networks[3])[0]
    found = whole(image, networks[3], window_plan(inferer, 3))
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(size=SIZES, axis=st.integers(0, 2), overlap=st.sampled_from([0.0, 0.5]), batch=st.sampled_from([1, 3]))
def test_slices_of_a_volume_give_the_logits_of_monais_slice_inferer(networks, size, axis, overlap, batch):
    inferer = SliceInferer(axis, roi_size=(8, 6), sw_batch_size=batch, overlap=overlap, mode="gaussian")
    image = np.random.default_rng(sum(size)).normal(size=(2, *size)).astype(np.float32)
    with torch.no_grad():
        expected = inferer(torch.from_numpy(image)[None], networks[2])[0]
    found = whole(image, networks[2], window_plan(inferer, 2))
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)


def test_another_overlap_may_be_asked_for(networks):
    image = np.random.default_rng(1).normal(size=(2, 20, 18, 9)).astype(np.float32)
    plan = window_plan(SlidingWindowInferer((8, 8, 8), 2, 0.5, "gaussian"), 3)
    with torch.no_grad():
        expected = SlidingWindowInferer((8, 8, 8), 2, 0.1, "gaussian")(torch.from_numpy(image)[None], networks[3])[0]
    np.testing.assert_allclose(whole(image, networks[3], plan, overlap=0.1), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mode", ["gaussian", "constant"])
def test_weights_of_a_window_are_those_of_monai(mode):
    plan = WindowPlan((9, 4, 1), (0.5,) * 3, 1, mode, (0.125, 0.3, 0.125), "constant", 0.0, None)
    expected = compute_importance_map(plan.roi, mode=mode, sigma_scale=plan.sigma_scale)
    np.testing.assert_allclose(importance(plan), expected, rtol=1e-5)


def test_an_image_without_voxels_and_a_network_that_resizes_are_refused():
    plan = window_plan(SlidingWindowInferer((4, 4, 4)), 3)
    with pytest.raises(ImageError) as caught:
        list(blended(np.zeros((1, 5, 0, 5), np.float32), lambda windows: windows, plan))
    assert caught.value.code == "IMAGE_EMPTY"
    with pytest.raises(ImageError) as caught:
        list(blended(np.zeros((1, 5, 5, 5), np.float32), lambda windows: windows[..., ::2], plan))
    assert caught.value.code == "OUTPUT_RESIZED"
