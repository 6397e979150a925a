"""A case is read as a training would read it, and what is wrong is kept."""

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medseg.checking.read_case import (
    MOST_VALUES,
    Expected,
    count_channels,
    interpret_mask,
    is_one_hot,
    read_case,
    repair_labels,
)
from medseg.data.cases.case import Case
from medseg.data.labels import WHITE
from medseg.data.volume import Volume
from tests.checking.conftest import AFFINE, codes, image_of, mask_of, one_hot_first, save
from tests.checking.triggers import flipped, moved


def test_a_mask_one_voxel_off_is_an_error_and_says_how_far(scans):
    scans.set_label(1, mask_of(1), moved(1))
    (finding,) = scans.check().findings
    assert (finding.code, finding.severity) == ("GRID_MISMATCH", "error")
    assert finding.problem.startswith("corners 1")


@pytest.mark.parametrize(("by", "code"), [(0.0009, None), (0.002, "GRID_NEAR"), (0.09, "GRID_NEAR")])
def test_how_near_is_near(by, code, scans):
    scans.set_label(1, mask_of(1), moved(by))
    assert codes(scans.check()) == ({code} if code else set())


def case_of(folder, image, mask=None, affine=AFFINE):
    paths = [save(image, folder / "a.nii.gz"), None if mask is None else save(mask, folder / "a_mask.nii.gz", affine)]
    return Case("a", (str(paths[0]),), None if mask is None else str(paths[1]), "a")


def test_a_sound_case_comes_with_its_voxels_and_no_finding(tmp_path):
    reading = read_case(case_of(tmp_path, image_of(1), mask_of(1)), Expected({0, 1, 2}, 1))
    assert (reading.findings, reading.is_readable) == ((), True)
    assert np.array_equal(reading.image.array, image_of(1))
    assert np.array_equal(reading.on_image, mask_of(1))


def test_a_turned_mask_is_turned_back_exactly(tmp_path):
    reading = read_case(case_of(tmp_path, image_of(1), mask_of(1)[::-1], flipped(0)), Expected())
    assert [each.code for each in reading.findings] == ["GRID_REINDEXED"]
    assert np.array_equal(reading.on_image, mask_of(1))
    assert np.array_equal(reading.mask.array, mask_of(1)[::-1])


def test_a_mask_elsewhere_has_no_voxels_on_the_image(tmp_path):
    reading = read_case(case_of(tmp_path, image_of(1), mask_of(1), moved(2)), Expected())
    assert [(each.code, each.is_error) for each in reading.findings] == [("GRID_MISMATCH", True)]
    assert reading.mask is not None
    assert reading.on_image is None


def test_a_case_without_a_mask_is_a_finding_where_one_is_needed(tmp_path):
    case = case_of(tmp_path, image_of(1))
    assert [each.code for each in read_case(case, Expected()).findings] == ["MASK_MISSING"]
    assert read_case(case, Expected(), needs_mask=False).findings == ()


def test_what_cannot_be_read_leaves_the_rest(tmp_path):
    case = case_of(tmp_path, image_of(1), mask_of(1))
    (tmp_path / "a.nii.gz").write_bytes(b"no image")
    reading = read_case(case, Expected())
    assert (reading.image, reading.on_image, reading.is_readable) == (None, None, False)
    assert np.array_equal(reading.mask.array, mask_of(1))
    assert [(each.case, each.code) for each in reading.findings] == [("a", "IMAGE_HEADER")]


@pytest.mark.parametrize(
    ("expected", "code"),
    [
        (Expected(channels=2), "CHANNEL_COUNT"),
        (Expected(axes=2), "IMAGE_NOT_2D"),
        (Expected(values={0, 1}), "LABEL_UNEXPECTED"),
        (Expected(values={0, 1, 2}, channels=1, axes=3), None),
    ],
)
def test_what_is_expected_is_held_against_the_case(expected, code, tmp_path):
    reading = read_case(case_of(tmp_path, image_of(1), mask_of(1)), expected)
    assert [each.code for each in reading.findings] == ([code] if code else [])
    assert reading.is_readable


def test_a_packed_file_that_does_not_say_so_is_read_and_told(tmp_path):
    case = case_of(tmp_path, image_of(1), mask_of(1))
    shutil.copy(tmp_path / "a.nii.gz", tmp_path / "b.nii")
    reading = read_case(Case("b", (str(tmp_path / "b.nii"),), case.label, "b"), Expected())
    assert [(each.code, each.problem) for each in reading.findings] == [("SUFFIX_WRONG", "b.nii is gzip")]


def test_a_grey_picture_saved_as_colours_has_one_channel_or_three():
    grey = np.repeat(np.arange(12).reshape(1, 3, 4), 3, axis=0)
    assert count_channels(Volume(grey, np.eye(4), has_channels=True)) == {1, 3}
    assert count_channels(Volume(grey * [[[1]], [[1]], [[2]]], np.eye(4), has_channels=True)) == {3}
    assert count_channels(Volume(grey[0], np.eye(4))) == {1}


MASK = mask_of(1)


def interpreted(array, values=None, is_picture=False, **changes):
    return interpret_mask(Volume(array, np.eye(4), **changes), "m.nii", values, is_picture=is_picture)


def listed(stored):
    return [finding.code for finding in stored.findings]


def test_whole_numbers_stay_as_they_are():
    for values in (None, {0, 1, 2}):
        stored = interpreted(MASK, values)
        assert np.array_equal(stored.labels.array, MASK)
        assert (stored.values, stored.findings) == ((0, 1, 2), ())


@pytest.mark.parametrize("off", [1e-6, 9e-4])
def test_what_is_nearly_whole_is_rounded_and_told(off):
    stored = interpreted(MASK + off)
    assert listed(stored) == ["LABEL_NEARLY_WHOLE"]
    assert f"up to {off:.2g} from whole" in stored.findings[0].problem
    assert np.array_equal(stored.labels.array, MASK)


@pytest.mark.parametrize("array", [MASK + 0.4, np.where(MASK == 1, np.nan, MASK)])
def test_what_is_no_whole_number_is_no_label(array):
    stored = interpreted(array)
    assert (stored.labels, stored.values) == (None, ())
    assert (listed(stored), stored.findings[0].is_error) == (["LABEL_NOT_INTEGER"], True)


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
    assert listed(interpreted(np.ones_like(channels), has_channels=True)) == ["LABEL_CHANNELS"]


def test_a_value_that_is_not_expected_is_an_error_and_the_labels_stay():
    stored = interpreted(MASK, {0, 1})
    assert (listed(stored), stored.findings[0].is_error) == (["LABEL_UNEXPECTED"], True)
    assert np.array_equal(stored.labels.array, MASK)


def edged(edge=90):
    picture = np.zeros((40, 30), np.uint8)
    picture[9:21, 9:21], picture[10:20, 10:20] = edge, WHITE
    return picture


@pytest.mark.parametrize("values", [None, {0, 1}])
def test_soft_edges_of_a_picture_are_cut_at_half_and_their_share_is_told(values):
    stored = interpreted(edged(), values, is_picture=True)
    assert listed(stored) == ["LABEL_THRESHOLDED"]
    assert stored.findings[0].problem.endswith(f"{44 / 1200:.2%} of the voxels are grey")
    assert np.array_equal(stored.labels.array, edged() == WHITE)


def test_grey_values_of_a_volume_are_labels():
    assert listed(interpreted(edged())) == []


def test_too_many_values_are_told_sooner_of_pictures():
    ramp = np.arange(70, dtype=np.uint8).reshape(7, 10)
    assert listed(interpreted(ramp)) == []
    assert listed(interpreted(ramp, is_picture=True)) == ["LABEL_TOO_MANY"]
    large = np.arange(MOST_VALUES + 1).reshape(1, -1)
    assert listed(interpreted(large)) == ["LABEL_TOO_MANY"]
    assert listed(interpreted(large[:, :-1])) == []
