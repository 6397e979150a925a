"""Bare arrays find their axes by size, or are refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.data.images import read_mask
from medseg.data.placing import on_grid, placed
from medseg.data.volume import Volume
from medseg.errors import GridError
from medseg.geometry import Grid

AFFINE = np.array([[-0.7, 0, 0, 10], [0, -0.7, 0, 20], [0, 0, 2.5, 30], [0, 0, 0, 1.0]])


def grid(*shape):
    return Grid(shape, AFFINE)


def refusal(array, target):
    with pytest.raises(GridError) as caught:
        placed(array, target, "mask.npz")
    return caught.value


def test_a_stack_of_slices_lies_on_the_series_grid_voxel_by_voxel():
    volume = np.arange(6 * 6 * 4).reshape(6, 6, 4)  # (columns, rows, slices)
    slices = np.stack([volume[:, :, z].T for z in range(4)])  # each (rows, columns), as pixel arrays are
    np.testing.assert_array_equal(placed(slices, grid(6, 6, 4), "mask.npz"), volume)


@given(st.permutations([3, 4, 5]).map(tuple), st.sampled_from([(2, 1, 0), (1, 0, 2), (0, 1, 2)]))
def test_sizes_that_all_differ_tell_each_reading(shape, order):
    volume = np.arange(60).reshape(shape)
    np.testing.assert_array_equal(placed(volume.transpose(np.argsort(order)), grid(*shape), "m"), volume)


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [((6, 6, 6), (6, 6, 6)), ((6, 6, 4), (6, 6, 4)), ((6, 4, 6), (6, 4, 6)), ((5, 5), (5, 5))],
)
def test_sizes_that_fit_in_two_ways_are_refused(stored, wanted):
    assert refusal(np.zeros(stored), grid(*wanted)).code == "AXES_AMBIGUOUS"


@pytest.mark.parametrize("stored", [(3, 6, 6), (6, 6, 3), (5, 6, 6)])
def test_another_number_of_slices_is_refused_with_both_numbers(stored):
    error = refusal(np.zeros(stored), grid(6, 6, 4))
    assert error.code == "SLICES_DIFFER"
    assert str(min(stored)) in error.problem
    assert "4" in error.problem


@pytest.mark.parametrize("stored", [(4, 5, 6), (6, 6), (4, 6, 6, 1), (0, 0, 0)])
def test_sizes_that_fit_in_no_way_are_refused(stored):
    assert refusal(np.zeros(stored), grid(6, 6, 4)).code == "GRID_MISMATCH"


def test_a_mask_with_a_grid_is_left_alone():
    mask = Volume(np.zeros((4, 6, 6)), np.eye(4))
    assert on_grid(mask, grid(6, 6, 4), "m") is mask


def test_an_archive_without_affine_has_no_grid_and_takes_the_image_s(tmp_path):
    slices = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    np.savez(tmp_path / "bare.npz", slices)
    np.savez(tmp_path / "placed.npz", slices, affine=AFFINE)
    bare = read_mask(tmp_path / "bare.npz")
    assert not bare.has_grid
    assert read_mask(tmp_path / "placed.npz").has_grid
    mask = on_grid(bare, grid(6, 5, 4), "m")
    assert (mask.array.shape, mask.has_grid) == ((6, 5, 4), True)
    np.testing.assert_array_equal(mask.affine, AFFINE)


def test_bare_arrays_that_are_both_image_and_mask_are_taken_as_they_are():
    mask = Volume(np.zeros((6, 6, 4)), np.eye(4), has_grid=False)
    assert on_grid(mask, Grid((6, 6, 4), np.eye(4)), "m") is mask
