"""One loop over windows for both libraries; MONAI's inferers are the oracle: same windows, weights and logits."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers import SliceInferer, SlidingWindowInferer
from monai.inferers.utils import _get_scan_interval

from medseg.errors import ImageError
from medseg.inference.monai_inferer import SlidingWindow
from medseg.inference.windows import Windowing, WindowPlan, Windows, blend, importance, lay_windows

SIZES = st.lists(st.integers(1, 24), min_size=3, max_size=3)
PADDINGS = st.sampled_from([("constant", 0.0), ("constant", 1.5), ("replicate", 0.0)])
LIBRARIES = {"numpy": lambda array: array, "torch": torch.from_numpy}
both_libraries = pytest.mark.parametrize("library", LIBRARIES)


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    return {2: torch.nn.Conv2d(2, 3, 3, padding=1).eval(), 3: torch.nn.Conv3d(2, 3, 3, padding=1).eval()}


def noise(*size):
    return np.random.default_rng(sum(size)).normal(size=size).astype(np.float32)


def plan_of(inferer, size):
    return SlidingWindow.of(inferer).plan(size)


def run_by(network, library):
    """The network for arrays of a library."""

    def run(windows):
        with torch.no_grad():
            if library == "torch":
                return network(windows)
            return np.asarray(network(torch.from_numpy(np.ascontiguousarray(windows))))

    return run


def whole(image, network, plan, library="numpy", **how):
    """All slabs of an image put together."""
    found = blend(LIBRARIES[library](image), run_by(network, library), plan, **how)
    slabs = [replace(slab, logits=np.asarray(slab.logits).copy()) for slab in found]
    assert [slab.start for slab in slabs[1:]] == [slab.stop for slab in slabs[:-1]]
    return np.concatenate([slab.logits for slab in slabs], axis=slabs[0].axis + 1)


def of_monai(inferer, image, network):
    with torch.no_grad():
        return inferer(torch.from_numpy(image)[None], network)[0].numpy()


@both_libraries
@settings(max_examples=40, deadline=None)
@given(
    size=SIZES,
    roi=st.lists(st.sampled_from([1, 4, 7, 8, 12]), min_size=3, max_size=3),
    overlap=st.sampled_from([0, 0.25, 0.5, 0.75, (0.1, 0.3, 0.6)]),
    mode=st.sampled_from(["gaussian", "constant"]),
    batch=st.sampled_from([1, 2, 5]),
    padding=PADDINGS,
)
def test_logits_are_those_of_monai(networks, library, size, roi, overlap, mode, batch, padding):
    inferer = SlidingWindowInferer(roi, batch, overlap, mode, padding_mode=padding[0], cval=padding[1])
    image = noise(2, *size)
    found = whole(image, networks[3], plan_of(inferer, size), library)
    np.testing.assert_allclose(found, of_monai(inferer, image, networks[3]), atol=1e-5, rtol=1e-5)


@both_libraries
@settings(max_examples=20, deadline=None)
@given(
    size=SIZES,
    axis=st.integers(0, 2),
    overlap=st.sampled_from([0.0, 0.5]),
    batch=st.sampled_from([1, 3]),
    padding=PADDINGS,
)
def test_slices_of_a_volume_give_the_logits_of_monais_slice_inferer(
    networks, library, size, axis, overlap, batch, padding
):
    how = {"padding_mode": padding[0], "cval": padding[1]}
    inferer = SliceInferer(axis, roi_size=(8, 6), sw_batch_size=batch, overlap=overlap, mode="gaussian", **how)
    image = noise(2, *size)
    found = whole(image, networks[2], plan_of(inferer, size), library)
    np.testing.assert_allclose(found, of_monai(inferer, image, networks[2]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("padding_mode", ["reflect", "circular"])
@both_libraries
def test_a_small_image_is_padded_with_itself_as_by_monai(networks, library, padding_mode):
    image = noise(2, 9, 30, 7)
    inferer = SlidingWindowInferer((12, 12, 12), 2, 0.25, "gaussian", padding_mode=padding_mode)
    found = whole(image, networks[3], plan_of(inferer, image.shape[1:]), library)
    np.testing.assert_allclose(found, of_monai(inferer, image, networks[3]), atol=1e-5, rtol=1e-5)


@settings(max_examples=15, deadline=None)
@given(size=SIZES, overlap=st.sampled_from([0.0, 0.6]), batch=st.sampled_from([1, 4]))
def test_both_libraries_give_the_same_logits(networks, size, overlap, batch):
    plan = plan_of(SlidingWindowInferer((8, 6, 9), batch, overlap, "gaussian"), size)
    of_arrays, of_tensors = (whole(noise(2, *size), networks[3], plan, library) for library in LIBRARIES)
    np.testing.assert_allclose(of_arrays, of_tensors, atol=2e-6, rtol=1e-6)


@both_libraries
def test_another_overlap_may_be_asked_for(networks, library):
    image = noise(2, 20, 18, 9)
    plan = plan_of(SlidingWindowInferer((8, 8, 8), 2, 0.5, "gaussian"), image.shape[1:])
    expected = of_monai(SlidingWindowInferer((8, 8, 8), 2, 0.1, "gaussian"), image, networks[3])
    found = whole(image, networks[3], replace(plan, overlap=(0.1,) * 3), library)
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)


@both_libraries
@pytest.mark.parametrize("batch", [1, 3])
def test_windows_of_padding_are_run_once_and_nothing_changes(networks, library, batch):
    image, counted = np.full((2, 40, 16, 16), -0.5, np.float32), []
    image[:, 12:20, 2:9, 3:11] = noise(2, 8, 7, 8)
    inferer = SlidingWindowInferer((8, 8, 8), batch, 0.5, mode="gaussian")
    plan, run = plan_of(inferer, image.shape[1:]), run_by(networks[3], library)

    def counting(windows):
        counted.append(len(windows))
        return run(windows)

    slabs = [np.asarray(slab.logits).copy() for slab in blend(LIBRARIES[library](image), counting, plan)]
    expected = of_monai(inferer, image, networks[3])
    np.testing.assert_allclose(np.concatenate(slabs, 1), expected, atol=1e-5, rtol=1e-5)
    assert sum(counted) < 0.6 * len(lay_windows(image.shape[1:], plan))


@pytest.mark.parametrize("mode", ["gaussian", "constant"])
def test_weights_of_a_window_are_those_of_monai(mode):
    plan = WindowPlan((9, 4, 1), (0.5,) * 3, 1, mode, (0.125, 0.3, 0.125), "constant", 0.0, None)
    expected = compute_importance_map(plan.roi, mode=mode, sigma_scale=plan.sigma_scale)
    np.testing.assert_allclose(importance(plan), expected, rtol=1e-5)


@both_libraries
@pytest.mark.parametrize(
    ("size", "network", "code"),
    [
        ((5, 0, 5), lambda windows: windows, "IMAGE_EMPTY"),
        ((5, 5, 5), lambda windows: windows[..., ::2], "OUTPUT_RESIZED"),
        ((5, 5, 5), lambda windows: [windows, windows], "OUTPUT_NOT_ONE_TENSOR"),
    ],
    ids=["no voxels", "resized", "two results"],
)
def test_an_image_without_voxels_and_a_network_that_resizes_are_refused(library, size, network, code):
    plan = WindowPlan((4, 4, 4), (0.25,) * 3, 1, "constant", (0.125,) * 3, "constant", 0.0, None)
    with pytest.raises(ImageError) as caught:
        list(blend(LIBRARIES[library](np.zeros((1, *size), np.float32)), network, plan))
    assert caught.value.code == code


@given(size=SIZES, roi=st.lists(st.integers(1, 12), min_size=3, max_size=3), overlap=st.sampled_from([0.0, 0.3, 0.5]))
def test_windows_lie_where_monai_puts_them(size, roi, overlap):
    windows = Windows(tuple(size), tuple(roi), (overlap,) * 3)
    padded = windows.padded
    expected = dense_patch_slices(padded, roi, _get_scan_interval(padded, roi, 3, (overlap,) * 3), return_slice=False)

    assert sorted(windows.in_slab_order()) == sorted(tuple(int(pair[0]) for pair in each) for each in expected)
    assert len(windows) == len(expected)


def test_memory_is_one_window_thick_however_long_the_image():
    short, long = (Windows((64, 64, depth), (16, 16, 16), (0.5,) * 3) for depth in (64, 640))
    assert short.slab_voxels() == long.slab_voxels() == 64 * 64 * 16


def test_a_network_of_slices_gets_batches_without_their_axis():
    plan = WindowPlan((8, 1, 6), (0.0,) * 3, 5, "constant", (0.125,) * 3, "constant", 0.0, 1)
    assert Windowing(plan.batch, 2, plan.network_roi).shape == (5, 2, 8, 6)
