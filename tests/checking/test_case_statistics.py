"""The numbers that are kept of a case are those of its voxels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.checking.case_statistics import LEVELS_COUNTED, SAMPLED_VOXELS, make_thumbnail, sample
from medseg.data.volume import Volume
from tests.checking.conftest import measured

NOISE = np.random.default_rng(0).normal(0, 100, (24, 20, 18))


def volume(array, **changes):
    return Volume(array, np.eye(4), **changes)


def test_a_mask_is_counted_by_label_and_by_piece():
    mask = np.zeros((10, 10, 10), np.uint8)
    mask[:2, :2, :2], mask[5:7, 5:7, 5:7], mask[7, 7, 7], mask[9, 0, 0] = 1, 1, 1, 3
    kept = measured(np.arange(1000).reshape(10, 10, 10), mask).mask
    assert kept.voxels == {0: 1000 - 18, 1: 17, 3: 1}
    assert kept.pieces == {1: 2, 3: 1}, "what touches at a corner is one piece"
    assert (kept.is_empty, kept.is_full) == (False, False)


@pytest.mark.parametrize(("value", "is_empty", "is_full"), [(0, True, False), (2, False, True)])
def test_a_mask_of_one_value_is_empty_or_full(value, is_empty, is_full):
    kept = measured(NOISE, np.full(NOISE.shape, value, np.uint8)).mask
    assert (kept.is_empty, kept.is_full) == (is_empty, is_full)


def test_what_is_not_there_is_none():
    assert measured(NOISE).mask is None
    assert measured(None).image is None


def test_an_image_is_kept_as_percentiles_levels_and_grid():
    kept = measured(np.arange(1000, dtype=np.int16).reshape(10, 10, 10)).image
    assert (kept.low, kept.high) == pytest.approx((9.99, 989.01))
    assert (kept.levels, kept.shape, kept.orientation) == (LEVELS_COUNTED, (10, 10, 10), "LPS")
    assert kept.spacing_mm == pytest.approx((1.5, 1.25, 2))
    assert not kept.looks_like_hu
    assert measured(np.arange(1000).reshape(10, 10, 10) - 900).image.looks_like_hu


def test_equal_voxels_have_one_digest_whatever_their_type():
    mask = (NOISE > 0).astype(np.uint8)
    assert measured(mask).image.digest == measured(mask.astype(np.int32)).image.digest
    assert measured(mask).image.digest != measured(1 - mask).image.digest
    assert measured(mask).image.digest != measured(mask.reshape(20, 24, 18)).image.digest


@pytest.mark.parametrize(
    ("image", "count"),
    [
        (NOISE, 0),
        ((NOISE > 0).astype(np.uint8), 2),
        ((NOISE > 0).astype(np.float32) * 3, 2),
        ((NOISE > 0) - 1, 0),
        ((NOISE > 0) * 0.5, 0),
        (np.rint(NOISE - NOISE.min()) % 100, 0),
        (np.repeat(np.arange(24) * 3, 20 * 18).reshape(NOISE.shape), 24),
        (np.zeros(NOISE.shape), 0),
    ],
    ids=["noise", "mask", "floats", "negative", "halves", "speckle", "bands", "zeros"],
)
def test_only_few_whole_values_from_0_or_patches_look_like_labels(image, count):
    assert measured(image).image.label_values == count


@settings(max_examples=30, deadline=None)
@given(scale=st.floats(0.01, 100), offset=st.floats(-1000, 1000))
def test_a_small_copy_has_no_mean_unit_length_and_no_contrast_of_its_own(scale, offset):
    small = make_thumbnail(volume(NOISE))
    assert len(small) == 16**3
    assert abs(float(small.sum())) < 1e-2
    assert float(np.linalg.norm(small)) == pytest.approx(1, abs=1e-4)
    assert float(small @ make_thumbnail(volume(NOISE * scale + offset))) > 0.999


@pytest.mark.parametrize("array", [np.zeros((8, 8, 8)), np.full((8, 8, 8), 5), np.ones((1, 8, 8)), np.ones((1, 8))])
def test_where_there_is_nothing_to_see_there_is_no_small_copy(array):
    assert make_thumbnail(volume(array)) is None


def test_channels_are_averaged_and_pictures_have_larger_copies():
    stacked = np.stack([NOISE, NOISE * 3])
    alike = make_thumbnail(volume(stacked, has_channels=True)) @ make_thumbnail(volume(NOISE))
    assert float(alike) == pytest.approx(1, abs=1e-4)
    assert len(make_thumbnail(volume(NOISE.reshape(96, 90)))) == 32 * 32


def test_a_sample_is_finite_and_evenly_spread():
    assert np.array_equal(sample(np.array([1.0, np.nan, np.inf, 2.0])), [1.0, 2.0])
    assert sample(np.zeros((0, 3))).size == 0
    large = sample(np.arange(3 * SAMPLED_VOXELS))
    assert np.array_equal(large, np.arange(0, 3 * SAMPLED_VOXELS, 3))
