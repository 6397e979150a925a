"""MONAI's inferers are the oracle: same windows, same weights, same logits."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.inferers import SliceInferer, SlidingWindowInferer

from medseg.errors import ImageError
from medseg.inference.monai_inferer import SlidingWindow

SIZES = st.lists(st.integers(1, 24), min_size=3, max_size=3)
SHARES = st.sampled_from([0, 0.25, 0.5, 0.75, (0.1, 0.3, 0.6)])


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    return {2: torch.nn.Conv2d(2, 3, 3, padding=1).eval(), 3: torch.nn.Conv3d(2, 3, 3, padding=1).eval()}


@settings(max_examples=60, deadline=None)
@given(
    size=SIZES,
    roi=st.lists(st.sampled_from([-1, 1, 4, 7, 8, 12]), min_size=3, max_size=3),
    overlap=SHARES,
    mode=st.sampled_from(["gaussian", "constant"]),
    batch=st.sampled_from([1, 2, 5]),
)
def test_logits_are_those_of_monai(networks, size, roi, overlap, mode, batch):
    inferer = SlidingWindowInferer(roi, batch, overlap, mode)
    images = torch.randn(2, 2, *size)

    with torch.no_grad():
        expected = inferer(images, networks[3])
    found = SlidingWindow.of(inferer)(images, networks[3])

    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(size=SIZES, axis=st.integers(0, 2), overlap=st.sampled_from([0.0, 0.5]), batch=st.sampled_from([1, 3]))
def test_slices_of_a_volume_give_the_logits_of_monais_slice_inferer(networks, size, axis, overlap, batch):
    options = {"roi_size": (8, 6), "sw_batch_size": batch, "overlap": overlap, "mode": "gaussian"}
    images = torch.randn(1, 2, *size)

    with torch.no_grad():
        expected = SliceInferer(axis, **options)(images, networks[2])
    found = SlidingWindow.of(SliceInferer(axis, **options))(images, networks[2])

    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_slabs_follow_each_other_and_cover_the_image(networks):
    image = torch.randn(2, 9, 40, 11)
    slabs = [(slab.axis, slab.start, slab.stop) for slab in SlidingWindow((8, 8, 8)).slabs(image, networks[3])]

    assert {axis for axis, _, _ in slabs} == {1}
    assert [start for _, start, _ in slabs] == [0, *(stop for _, _, stop in slabs[:-1])]
    assert slabs[-1][2] == 40


def test_sums_kept_in_half_the_bytes_stay_near(networks):
    image = torch.randn(1, 2, 20, 20, 40)
    exact = SlidingWindow((12, 12, 12), overlap=0.5, mode="gaussian")(image, networks[3])
    halved = SlidingWindow((12, 12, 12), overlap=0.5, mode="gaussian", storage=torch.bfloat16)(image, networks[3])

    assert halved.dtype == torch.float32
    assert (halved - exact).abs().max() < 0.03 * exact.abs().max()


def test_sums_kept_in_a_file_are_the_same_and_the_file_goes(networks, tmp_path):
    image = torch.randn(1, 2, 30, 20, 22)
    expected = SlidingWindow(12, 2, 0.5, mode="gaussian")(image, networks[3])
    assert torch.equal(SlidingWindow(12, 2, 0.5, mode="gaussian", spill=tmp_path)(image, networks[3]), expected)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_a_coded_error(networks, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full, raising=False)
    with pytest.raises(ImageError, match="SPILL_FAILED"):
        SlidingWindow(12, spill=tmp_path)(torch.randn(1, 2, 30, 20, 22), networks[3])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("storage", [None, torch.bfloat16])
def test_rows_are_handed_on_a_few_at_a_time(networks, monkeypatch, storage):
    image = torch.randn(2, 40, 10, 12)
    window = SlidingWindow(8, 2, 0.5, mode="gaussian", storage=storage)
    whole = window(image[None], networks[3])[0]
    monkeypatch.setattr("medseg.inference.slabs.CLOSED_BYTES", 3 * 4 * whole[:, 0].numel())
    seen = [(slab.start, slab.logits.clone()) for slab in window.slabs(image, networks[3])]
    assert max(logits.shape[1] for _, logits in seen) == 3
    assert torch.equal(torch.cat([logits for _, logits in seen], 1), whole)


@pytest.mark.parametrize("batch", [1, 3])
def test_windows_of_padding_are_run_once_and_nothing_changes(networks, batch):
    image, counted = torch.full((1, 2, 40, 16, 16), -0.5), []
    image[:, :, 12:20, 2:9, 3:11] = torch.randn(1, 2, 8, 7, 8)

    def counting(windows):
        counted.append(len(windows))
        return networks[3](windows)

    found = SlidingWindow(8, batch, 0.5, mode="gaussian")(image, counting)
    expected = SlidingWindowInferer(8, batch, 0.5, mode="gaussian")(image, networks[3])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert sum(counted) < 0.6 * len(SlidingWindow(8, overlap=0.5).windows(image.shape[2:]))


def test_metadata_of_the_image_stays(networks):
    image = MetaTensor(torch.randn(1, 2, 8, 8, 8), meta={"name": "a"})
    assert SlidingWindow((8, 8, 8))(image, networks[3]).meta["name"] == "a"


@pytest.mark.parametrize(
    ("network", "code"),
    [
        (lambda windows: [windows, windows], "OUTPUT_NOT_ONE_TENSOR"),
        (lambda windows: windows[..., ::2], "OUTPUT_RESIZED"),
    ],
)
def test_a_network_that_gives_something_else_is_refused(network, code):
    with pytest.raises(ImageError) as caught:
        SlidingWindow((8, 8, 8))(torch.zeros(1, 1, 10, 10, 10), network)
    assert caught.value.code == code


@pytest.mark.parametrize(("shape", "code"), [((1, 1, 0, 8, 8), "IMAGE_EMPTY"), ((1, 1, 8, 8), "IMAGE_DIMENSIONS")])
def test_an_image_without_voxels_or_of_other_dimensions_is_refused(shape, code):
    with pytest.raises(ImageError) as caught:
        SlidingWindow((8, 8, 8))(torch.zeros(shape), lambda windows: windows)
    assert caught.value.code == code
