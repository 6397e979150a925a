"""The numbers that are kept of a case are those of its voxels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.checking.case_statistics import (
    FEWEST_LEVELS,
    LEVELS_COUNTED,
    SAMPLED_VOXELS,
    apply_case_rules,
    make_thumbnail,
    measure_case,
    sample,
)
from medseg.checking.read_case import Expected
from medseg.data.volume import Volume
from tests.checking.conftest import measured, reading_of

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


RAMP = np.arange(20**3, dtype=np.int16).reshape(20, 20, 20)


def told(image, mask=None, modality="", **changes):
    reading = reading_of(image, mask, **changes)
    findings = apply_case_rules(reading, measure_case(reading), Expected(modality=modality))
    return [(each.code, each.problem) for each in findings]


def test_a_sound_case_shows_nothing():
    mask = (RAMP > 4000).astype(np.uint8)
    assert told(RAMP - 1000, mask, "CT") == []
    assert told(RAMP, mask, "MR") == []


def test_a_ct_without_a_value_below_0_is_told_with_its_lowest():
    assert told(RAMP, modality="ct") == [("CT_NOT_HU", "the lowest value is 0, air should be near -1000")]


def test_an_image_that_cannot_be_read_shows_nothing():
    assert told(None, None, "CT") == []


def test_one_value_throughout_is_told_with_it():
    assert told(np.full((20, 20, 20), 7, np.int16)) == [("IMAGE_CONSTANT", "every voxel is 7")]


@pytest.mark.parametrize(("levels", "is_told"), [(2, True), (FEWEST_LEVELS - 1, True), (FEWEST_LEVELS, False)])
def test_few_values_of_a_large_image_are_told(levels, is_told):
    found = told(RAMP % levels)
    assert [code for code, _ in found] == (["FEW_GREY_LEVELS"] if is_told else [])
    assert any("it may be a mask" in problem for _, problem in found) == (levels == 2)
    assert told(RAMP[:10, :10, :10] % levels) == []


def test_channels_that_are_the_same_are_named():
    noise = np.random.default_rng(0).normal(size=(3, 20, 20, 20))
    assert told(noise, has_channels=True) == []
    noise[2] = noise[1]
    assert told(noise, has_channels=True) == [("CHANNELS_DUPLICATE", "channels 1 and 2, counted from 0, are the same")]


def test_a_mask_without_background_is_told_with_its_labels():
    assert told(RAMP, np.ones_like(RAMP)) == [("MASK_FULL", "no voxel of the mask is 0; it holds 1")]


@pytest.mark.parametrize(("planes", "is_told"), [(1, False), (2, True), (9, True)])
def test_a_label_on_the_ground_is_told_with_its_share(planes, is_told):
    image, mask = RAMP.copy() + 1, np.zeros(RAMP.shape, np.uint8)
    image[:10] = 0
    mask[10 - planes : 20 - planes] = 1
    found = told(image, mask)
    expected = f"{planes * 10}% of the 4000 voxels of label 1 lie where the image is constant"
    assert found == ([("LABEL_OUTSIDE_BODY", expected)] if is_told else [])


def test_air_inside_the_body_is_no_ground():
    image, mask = RAMP.copy() + 1, np.zeros(RAMP.shape, np.uint8)
    image[:10], image[15:18, 8:12, 8:12], mask[15:18, 8:12, 8:12] = 0, 0, 1
    assert told(image, mask) == []
