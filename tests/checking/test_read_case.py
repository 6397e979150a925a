"""A case is read as a training would read it, and what is wrong is kept."""

import shutil

import numpy as np
import pytest

from medseg.checking.read_case import Expected, count_channels, read_case
from medseg.data.case import Case
from medseg.data.volume import Volume
from tests.checking.conftest import AFFINE, codes, image_of, mask_of, save
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
