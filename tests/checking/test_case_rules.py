"""What one case shows of itself, rule by rule, on arrays in memory."""

import numpy as np
import pytest

from medseg.checking.case_rules import FEWEST_LEVELS, apply_case_rules
from medseg.checking.case_statistics import measure_case
from medseg.checking.read_case import Expected
from tests.checking.conftest import reading_of

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
