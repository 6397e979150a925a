"""Grids that are refused or noted, values that are, and stored values rescaled."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.data.volume import Volume, check_affine, put_channels_first, rescale, value_notes
from medseg.errors import ImageError
from medseg.findings import make_note

STORED = np.arange(-12, 12, dtype=np.int16).reshape(2, 3, 4)


def codes(notes):
    return [note.code for note in notes]


@pytest.mark.parametrize(
    "affine",
    [
        np.diag([1, 0, 1, 1.0]),
        np.diag([1, np.nan, 1, 1]),
        np.diag([1, np.inf, 1, 1]),
        np.diag([1, 60, 1, 1.0]),
        np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
        np.array([[1, 1, 2, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1.0]]),
    ],
    ids=["zero", "not a number", "infinite", "far apart", "twice the same axis", "flat"],
)
def test_a_matrix_that_places_no_volume_is_refused(affine):
    with pytest.raises(ImageError, match="IMAGE_GRID: case"):
        check_affine(affine, (5, 5, 5), "case")


def test_the_spacing_of_an_axis_of_one_voxel_is_not_judged():
    assert check_affine(np.diag([1, 1, 100, 1.0]), (5, 5, 1), "case") == ()
    assert check_affine(np.diag([1, 1, 100, 1.0]), (5, 5), "case") == ()


@given(st.floats(0.01, 1.2))
def test_shear_is_noted_and_rotation_is_not(angle):
    rotated, sheared = np.eye(4), np.eye(4)
    rotated[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    sheared[0, 1] = angle
    assert check_affine(rotated, (5, 5, 5), "case") == ()
    assert codes(check_affine(sheared, (5, 5, 5), "case")) == ["SHEARED_GRID"]


@given(st.floats(-100, 100).filter(lambda slope: slope != 1), st.floats(-2000, 2000))
def test_scaled_values_are_those_of_double_precision_rounded_once(slope, intercept):
    scaled = rescale(STORED, slope, intercept)
    assert scaled.dtype == np.float32
    np.testing.assert_array_equal(scaled, (STORED.astype(float) * slope + intercept).astype(np.float32))


@given(st.integers(-(10**6), 10**6))
def test_a_whole_intercept_alone_keeps_integers_exact(intercept):
    scaled = rescale(STORED, 1.0, float(intercept))
    assert scaled.dtype == (np.int16 if abs(intercept) < 32000 else scaled.dtype)
    np.testing.assert_array_equal(scaled, STORED.astype(int) + intercept)


def test_no_scaling_is_the_array_itself():
    assert rescale(STORED, 1.0, 0.0) is STORED


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (STORED, []),
        (np.zeros((0, 2)), []),
        (np.array([True]), []),
        (np.array([2**24]), []),
        (np.array([-(2**24) - 1]), ["INTEGER_BEYOND_FLOAT32"]),
        (np.array([0.5, -1e17]), []),
        (np.array([0.5, -1e19]), ["HUGE_VALUES"]),
        (np.array([np.nan, 1e19]), ["NONFINITE_VOXELS", "HUGE_VALUES"]),
        (np.array([np.nan, np.nan]), ["NONFINITE_VOXELS"]),
    ],
)
def test_values_that_networks_cannot_hold_are_noted(array, expected):
    assert codes(value_notes(array)) == expected


@pytest.mark.parametrize(
    ("shape", "expected", "has_channels"),
    [((2, 3), (2, 3), False), ((2, 3, 1), (2, 3, 1), False), ((2, 3, 4, 1, 1), (2, 3, 4), False)],
)
def test_singletons_beyond_the_third_axis_go(shape, expected, has_channels):
    array, found = put_channels_first(np.zeros(shape), "case")
    assert (array.shape, found) == (expected, has_channels)


def test_five_axes_in_use_are_refused():
    with pytest.raises(ImageError, match=r"IMAGE_NOT_3D.*2×3×4×1×2"):
        put_channels_first(np.zeros((2, 3, 4, 1, 2)), "case")


def test_the_grid_of_a_volume_leaves_out_its_channels():
    assert Volume(np.zeros((2, 3, 4, 5)), np.eye(4), has_channels=True).grid.shape == (3, 4, 5)
    assert Volume(np.zeros((3, 4, 5)), np.eye(4)).grid.shape == (3, 4, 5)


def test_a_note_reads_as_its_code_and_text():
    assert str(make_note("CODE", "what was found")) == "CODE: what was found"
