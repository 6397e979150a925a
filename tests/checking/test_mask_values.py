"""What is stored in a mask's file becomes labels only where that is certain."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medseg.checking.mask_values import MOST_VALUES, WHITE, interpret_mask, is_one_hot, is_white_only, repair_labels
from medseg.data.volume import Volume
from tests.checking.conftest import mask_of, one_hot_first

MASK = mask_of(1)


def interpreted(array, values=None, is_picture=False, **changes):
    return interpret_mask(Volume(array, np.eye(4), **changes), "m.nii", values, is_picture=is_picture)


def codes(stored):
    return [finding.code for finding in stored.findings]


def test_whole_numbers_stay_as_they_are():
    for values in (None, {0, 1, 2}):
        stored = interpreted(MASK, values)
        assert np.array_equal(stored.labels.array, MASK)
        assert (stored.values, stored.findings) == ((0, 1, 2), ())


@pytest.mark.parametrize("off", [1e-6, 9e-4])
def test_what_is_nearly_whole_is_rounded_and_told(off):
    stored = interpreted(MASK + off)
    assert codes(stored) == ["LABEL_NEARLY_WHOLE"]
    assert f"up to {off:.2g} from whole" in stored.findings[0].problem
    assert np.array_equal(stored.labels.array, MASK)


@pytest.mark.parametrize("array", [MASK + 0.4, np.where(MASK == 1, np.nan, MASK)])
def test_what_is_no_whole_number_is_no_label(array):
    stored = interpreted(array)
    assert (stored.labels, stored.values) == (None, ())
    assert (codes(stored), stored.findings[0].is_error) == (["LABEL_NOT_INTEGER"], True)


@settings(max_examples=25, deadline=None)
@given(arrays(np.uint8, (4, 3, 2), elements=st.integers(0, 3)))
def test_one_channel_for_each_label_becomes_the_labels(labels):
    channels = one_hot_first(labels, 4)
    assert is_one_hot(channels)
    repaired, findings = repair_labels(Volume(channels, np.eye(4), has_channels=True))
    assert np.array_equal(repaired.array, labels)
    assert [finding.code for finding in findings] == ["LABEL_ONE_HOT"]


def test_channels_that_overlap_leave_gaps_or_hold_more_are_no_labels():
    channels = one_hot_first(MASK, 3)
    for spoil in (1, 2):
        spoilt = channels.copy()
        spoilt[:, 0, 0, 0] = [spoil, spoil, 0]
        assert not is_one_hot(spoilt)
    assert not is_one_hot(np.zeros_like(channels))
    assert not is_one_hot(np.ones_like(channels[:1]))
    assert codes(interpreted(np.ones_like(channels), has_channels=True)) == ["LABEL_CHANNELS"]


def test_a_value_that_is_not_expected_is_an_error_and_the_labels_stay():
    stored = interpreted(MASK, {0, 1})
    assert (codes(stored), stored.findings[0].is_error) == (["LABEL_UNEXPECTED"], True)
    assert np.array_equal(stored.labels.array, MASK)


def edged(edge=90):
    picture = np.zeros((40, 30), np.uint8)
    picture[9:21, 9:21], picture[10:20, 10:20] = edge, WHITE
    return picture


@pytest.mark.parametrize("values", [None, {0, 1}])
def test_soft_edges_of_a_picture_are_cut_at_half_and_their_share_is_told(values):
    stored = interpreted(edged(), values, is_picture=True)
    assert codes(stored) == ["LABEL_THRESHOLDED"]
    assert stored.findings[0].problem.endswith(f"{44 / 1200:.2%} of the voxels are grey")
    assert np.array_equal(stored.labels.array, edged() == WHITE)


def test_grey_values_of_a_volume_are_labels():
    assert codes(interpreted(edged())) == []


def test_too_many_values_are_told_sooner_of_pictures():
    ramp = np.arange(70, dtype=np.uint8).reshape(7, 10)
    assert codes(interpreted(ramp)) == []
    assert codes(interpreted(ramp, is_picture=True)) == ["LABEL_TOO_MANY"]
    large = np.arange(MOST_VALUES + 1).reshape(1, -1)
    assert codes(interpreted(large)) == ["LABEL_TOO_MANY"]
    assert codes(interpreted(large[:, :-1])) == []


@pytest.mark.parametrize(
    ("values", "is_white"), [((0, 255), True), ((255,), True), ((0,), False), ((), False), ((0, 1, 255), False)]
)
def test_white_only_is_255_and_nothing_else_but_0(values, is_white):
    assert is_white_only(values) is is_white
