"""Grids that agree, and arrays moved from one grid to another, exactly."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import aff2axcodes, apply_orientation

from medseg.errors import GridError
from medseg.geometry import (
    LPS_TO_RAS,
    Grid,
    corner_distance_voxels,
    corner_indices,
    flip_axes,
    is_same_grid,
    orientation,
    reindex,
    shear_cosine,
    spacing_mm,
)


def rotation(angles):
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = [i for i in range(3) if i != axis]
        turn = np.eye(3)
        turn[[first, first, second, second], [first, second, first, second]] = [
            np.cos(angle),
            -np.sin(angle),
            np.sin(angle),
            np.cos(angle),
        ]
        matrix = matrix @ turn
    return matrix


@st.composite
def grids(draw):
    shape = tuple(draw(st.integers(1, 5)) for _ in range(3))
    angles = [draw(st.floats(-3.1, 3.1)) for _ in range(3)]
    spacing = [draw(st.floats(0.1, 8)) for _ in range(3)]
    affine = np.eye(4)
    affine[:3, :3] = rotation(angles) * spacing * [draw(st.sampled_from([-1, 1])), 1, 1]
    affine[:3, 3] = [draw(st.floats(-300, 300)) for _ in range(3)]
    return Grid(shape, affine)


@st.composite
def stored_otherwise(draw):
    """A grid, the same voxels with axes flipped and swapped, and the change made."""
    grid = draw(grids())
    order = draw(st.permutations(range(3)))
    flips = [draw(st.booleans()) for _ in range(3)]
    change = np.zeros((4, 4))
    change[3, 3] = 1
    for new_axis, (old_axis, is_flipped) in enumerate(zip(order, flips, strict=True)):
        change[old_axis, new_axis] = -1 if is_flipped else 1
        change[old_axis, 3] = grid.shape[old_axis] - 1 if is_flipped else 0
    other = Grid(tuple(grid.shape[axis] for axis in order), grid.affine @ change)
    return grid, other, order, flips


@settings(max_examples=150, deadline=None)
@given(stored_otherwise())
def test_reindexing_moves_every_voxel_to_the_index_with_the_same_world_position(case):
    source, target, order, flips = case
    array = np.arange(np.prod(source.shape)).reshape(source.shape)
    moved = reindex(array, source, target, "case")
    expected = np.flip(array.transpose(order), [axis for axis, flipped in enumerate(flips) if flipped])
    if len(set(source.shape)) == 3 and 1 not in source.shape:
        np.testing.assert_array_equal(moved, expected)
    for index in itertools.product(*(range(n) for n in target.shape)):
        world = target.affine @ [*index, 1]
        before = np.rint(np.linalg.solve(source.affine, world))[:3].astype(int)
        assert moved[index] == array[tuple(before)]


@settings(max_examples=50, deadline=None)
@given(stored_otherwise())
def test_reindexing_there_and_back_gives_the_array_itself(case):
    source, target, *_ = case
    array = np.arange(np.prod(source.shape)).reshape(source.shape)
    there = reindex(array, source, target, "case")
    np.testing.assert_array_equal(reindex(there, target, source, "case"), array)


@given(grids())
def test_a_grid_is_the_same_as_itself_after_rounding_to_float32(grid):
    rounded = Grid(grid.shape, grid.affine.astype(np.float32).astype(float))
    assert corner_distance_voxels(grid, grid) == 0
    assert is_same_grid(grid, rounded)


@given(grids(), st.integers(0, 2), st.sampled_from([-1.0, 0.01, 0.5, 1.0]))
def test_a_shift_along_an_axis_is_measured_in_voxels_and_is_not_the_same_grid(grid, axis, voxels):
    affine = grid.affine.copy()
    affine[:, 3] += affine[:, axis] * voxels
    expected = abs(voxels) * grid.spacing_mm[axis] / min(grid.spacing_mm)
    assert corner_distance_voxels(grid, Grid(grid.shape, affine)) == pytest.approx(expected, rel=1e-6)
    assert not is_same_grid(grid, Grid(grid.shape, affine))


def test_grids_of_different_shape_are_infinitely_far_apart():
    assert corner_distance_voxels(Grid((2, 3, 4), np.eye(4)), Grid((2, 3, 5), np.eye(4))) == float("inf")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(np.array([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), id="shifted by a voxel"),
        pytest.param(np.diag([2.0, 1, 1, 1]), id="other spacing"),
        pytest.param(np.diag([-1.0, 1, 1, 1]), id="mirrored without its origin moved"),
        pytest.param(np.array([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), id="sheared"),
    ],
)
def test_reindexing_refuses_a_grid_that_does_not_hold_the_same_voxels(change):
    source = Grid((3, 4, 5), np.diag([1.5, 2, 3, 1]))
    with pytest.raises(GridError, match="GRID_MISMATCH: mask"):
        reindex(np.zeros(source.shape), source, Grid(source.shape, source.affine @ change), "mask")


def test_reindexing_refuses_another_shape():
    source = Grid((3, 4, 5), np.eye(4))
    with pytest.raises(GridError):
        reindex(np.zeros(source.shape), source, Grid((3, 4, 6), np.eye(4)), "case")


def test_2d_grids_agree_or_are_refused_but_are_never_flipped():
    grid = Grid((3, 4), np.diag([1.0, 2, 1, 1]))
    array = np.arange(12).reshape(3, 4)
    assert reindex(array, grid, grid, "case") is array
    with pytest.raises(GridError):
        reindex(array, grid, Grid((3, 4), np.diag([-1.0, 2, 1, 1])), "case")


@given(grids())
def test_spacing_is_that_of_the_affine_and_volume_its_product(grid):
    assert grid.voxel_volume_ml == pytest.approx(np.prod(grid.spacing_mm) / 1000, rel=1e-6)
    assert spacing_mm(grid.affine) == grid.spacing_mm


@given(st.permutations(range(3)), st.tuples(*[st.sampled_from([-1, 1])] * 3), st.floats(-0.3, 0.3))
def test_orientation_letters_agree_with_nibabel(order, signs, angle):
    affine = np.eye(4)
    affine[:3, :3] = rotation([angle, angle / 2, 0]) @ np.eye(3)[:, order] * signs
    assert orientation(affine) == "".join(aff2axcodes(affine))


def test_a_2d_grid_has_two_spacings_and_two_letters():
    grid = Grid((3, 4), np.diag([-0.5, 2, 1, 1]))
    assert grid.spacing_mm == (0.5, 2.0)
    assert grid.orientation == "LA"


@given(grids())
def test_a_grid_that_is_only_turned_has_no_shear(grid):
    assert shear_cosine(grid.affine) < 1e-9


@given(grids(), st.floats(0.05, 1.2))
def test_the_shear_is_the_cosine_between_the_two_axes_that_lean(grid, angle):
    sheared = grid.affine.copy()
    first, second = (sheared[:3, axis] / np.linalg.norm(sheared[:3, axis]) for axis in (0, 1))
    sheared[:3, 1] = 2 * (np.cos(angle) * first + np.sin(angle) * second)
    assert shear_cosine(sheared) == pytest.approx(np.cos(angle))


@pytest.mark.parametrize("shape", [(4, 3, 2), (1, 1, 1), (5, 1, 9), (6, 5)])
def test_the_corners_are_all_combinations_of_first_and_last_voxels(shape):
    corners = corner_indices(shape)
    padded = (*shape, 1)[:3]
    assert corners.shape == (8, 4)
    assert {tuple(corner) for corner in corners} == {(*c, 1) for c in itertools.product(*((0, n - 1) for n in padded))}


@given(stored_otherwise())
def test_axes_are_flipped_as_nibabel_flips_them(case):
    grid, _, order, flips = case
    array = np.arange(np.prod(grid.shape)).reshape(grid.shape)
    orientations = np.zeros((3, 2))
    for new_axis, (old_axis, is_flipped) in enumerate(zip(order, flips, strict=True)):
        orientations[old_axis] = new_axis, -1 if is_flipped else 1
    flipped = flip_axes(array, order, [-1 if is_flipped else 1 for is_flipped in flips])
    np.testing.assert_array_equal(flipped, apply_orientation(array, orientations))
    assert np.shares_memory(flipped, array)


def test_lps_and_ras_are_each_other_s_mirror():
    np.testing.assert_array_equal(LPS_TO_RAS @ LPS_TO_RAS, np.eye(4))
    np.testing.assert_array_equal(LPS_TO_RAS @ [1, 2, 3, 1], [-1, -2, 3, 1])
