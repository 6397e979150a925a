"""What is summed of overlapping windows leaves row by row, alike in either library and wherever the sums are kept."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers import SlidingWindowInferer

from medseg.errors import ImageError
from medseg.inference import slabs
from medseg.inference.slabs import OpenSlab, empty_sums, rows_at_once
from medseg.inference.windows import Windows
from tests.inference.test_windows import LIBRARIES, both_libraries, noise, plan_of, whole


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return torch.nn.Conv3d(2, 3, 3, padding=1).eval()


def rows_of(windows, outputs, weights, storage="float32"):
    """The image's rows, made of all windows' outputs."""
    open_slab = OpenSlab(windows, weights, empty_sums(windows, outputs[0], storage))
    rows = []
    for corner, output in zip(windows.in_slab_order(), outputs, strict=True):
        rows += [np.asarray(slab.logits).copy() for slab in open_slab.close_before(corner[windows.slab_axis])]
        open_slab.add(corner, output)
    rows += [np.asarray(slab.logits).copy() for slab in open_slab.close_before(windows.padded[windows.slab_axis])]
    return np.concatenate(rows, windows.slab_axis + 1)


@both_libraries
@settings(max_examples=30, deadline=None)
@given(
    size=st.lists(st.integers(1, 14), min_size=2, max_size=3),
    roi=st.integers(1, 6),
    overlap=st.sampled_from([0.0, 0.3, 0.75]),
)
def test_rows_are_the_weighted_mean_of_the_windows_over_them(library, size, roi, overlap):
    windows = Windows(tuple(size), (roi,) * len(size), (overlap,) * len(size))
    rng = np.random.default_rng(roi)
    weights = rng.uniform(0.1, 1, windows.roi).astype(np.float32)
    outputs = [rng.normal(size=(2, *windows.roi)).astype(np.float32) for _ in range(len(windows))]
    totals, sums = np.zeros(windows.padded), np.zeros((2, *windows.padded))
    for corner, output in zip(windows.in_slab_order(), outputs, strict=True):
        box = slabs.box_of(corner, windows.roi)
        totals[box] += weights
        sums[(slice(None), *box)] += output * weights
    kept = tuple(slice(before, before + n) for (before, _), n in zip(windows.padding, windows.image, strict=True))
    make = LIBRARIES[library]
    found = rows_of(windows, [make(each) for each in outputs], make(weights))
    np.testing.assert_allclose(found, (sums / totals)[(slice(None), *kept)], atol=1e-5)


def test_sums_in_half_the_bytes_give_whole_floats():
    windows, outputs = Windows((4, 9), (4, 4), (0.5, 0.5)), [torch.full((1, 4, 4), 3.0)] * 4
    found = rows_of(windows, outputs, torch.ones(4, 4), "bfloat16")
    assert found.dtype == np.float32
    assert (found == 3).all()


@both_libraries
@pytest.mark.parametrize("at_once", [1 << 26, 1])
@pytest.mark.parametrize("overlap", [0.0, 0.6])
def test_sums_in_a_file_give_the_same_logits_to_the_last_bit(network, library, tmp_path, monkeypatch, at_once, overlap):
    monkeypatch.setattr(slabs, "CLOSED_BYTES", at_once)
    image = noise(2, 20, 18, 9)
    plan = plan_of(SlidingWindowInferer((8, 8, 12), 2, overlap, "gaussian"), image.shape[1:])
    in_memory, in_file = (whole(image, network, plan, library, spill=folder) for folder in (None, tmp_path))
    assert np.array_equal(in_file, in_memory)
    assert np.ptp(in_file) > 0
    assert not list(tmp_path.iterdir())


@both_libraries
@pytest.mark.skipif(not hasattr(slabs.os, "posix_fallocate"), reason="room is not asked for beforehand")
def test_a_disk_without_room_for_the_sums_is_told_before_they_are_made(network, library, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(slabs.os, "posix_fallocate", full)
    image = np.zeros((2, 9, 9, 9), np.float32)
    plan = plan_of(SlidingWindowInferer((8, 8, 8)), image.shape[1:])
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ImageError) as caught:
            whole(image, network, plan, library, spill=folder)
        assert caught.value.code == "SPILL_FAILED"


def test_rows_are_as_many_as_hold_the_bytes_and_at_least_one(monkeypatch):
    monkeypatch.setattr(slabs, "CLOSED_BYTES", 4 * 3 * 50 * 7)
    assert rows_at_once((3, 50, 20), 2) == 7
    assert rows_at_once((3, 5000, 20), 2) == 1
