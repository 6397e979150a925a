"""MONAI's inferers are the oracle: same windows, same weights, same logits."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.utils import compute_importance_map
from monai.inferers import SliceInferer, SlidingWindowInferer

from medseg.errors import ImageError
from medseg.inference.exported import sums
from medseg.inference.exported.blending import blended, importance
from medseg.inference.exported.window_plan import window_plan
from medseg.inference.steps.description import WindowPlan

SIZES = st.lists(st.integers(1, 24), min_size=3, max_size=3)


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    return {2: torch.nn.Conv2d(2, 3, 3, padding=1).eval(), 3: torch.nn.Conv3d(2, 3, 3, padding=1).eval()}


def whole(image, network, plan, overlap=None, spill=None):
    """All slabs of an image put together."""

    def run(windows):
        with torch.no_grad():
            return network(torch.from_numpy(np.ascontiguousarray(windows))).numpy()

    slabs = [replace(slab, logits=slab.logits.copy()) for slab in blended(image, run, plan, overlap, spill)]
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


@pytest.mark.parametrize("at_once", [1 << 26, 1])
@pytest.mark.parametrize("overlap", [0.0, 0.6])
def test_sums_in_a_file_give_the_same_logits_to_the_last_bit(networks, tmp_path, monkeypatch, at_once, overlap):
    monkeypatch.setattr(sums, "CLOSED_BYTES", at_once)
    image = np.random.default_rng(4).normal(size=(2, 20, 18, 9)).astype(np.float32)
    plan = window_plan(SlidingWindowInferer((8, 8, 12), 2, overlap, "gaussian"), 3)
    in_memory, in_file = (whole(image, networks[3], plan, spill=folder) for folder in (None, tmp_path))
    assert np.array_equal(in_file, in_memory)
    assert np.ptp(in_file) > 0
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(sums.os, "posix_fallocate"), reason="room is not asked for beforehand")
def test_a_disk_without_room_for_the_sums_is_told_before_they_are_made(networks, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sums.os, "posix_fallocate", full)
    plan = window_plan(SlidingWindowInferer((8, 8, 8)), 3)
    with pytest.raises(ImageError) as caught:
        whole(np.zeros((2, 9, 9, 9), np.float32), networks[3], plan, spill=tmp_path)
    assert caught.value.code == "SPILL_FAILED"
    with pytest.raises(ImageError) as caught:
        whole(np.zeros((2, 9, 9, 9), np.float32), networks[3], plan, spill=tmp_path / "missing")
    assert caught.value.code == "SPILL_FAILED"
