"""Masks of some of an image's voxels: spread over the whole of it, exactly or not at all."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from numpy.testing import assert_array_equal

from medseg.data.joining import completed, united
from medseg.data.placing import covering, on_grid, spread
from medseg.data.transforms import AlignToImaged
from medseg.data.volume import Volume
from medseg.errors import GridError
from medseg.evaluation.score import align_together
from medseg.geometry import Grid, is_same_grid

TURN = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])
AFFINE = np.eye(4)
AFFINE[:3, :3], AFFINE[:3, 3] = TURN @ np.diag([0.7, 0.9, 2.5]), (5, -40, 100)
SHAPE = (5, 6, 7)
WHOLE = Grid(SHAPE, AFFINE)
LABELS = np.random.default_rng(0).integers(0, 4, SHAPE).astype(np.uint8)


def part(low, high, order=(0, 1, 2), signs=(1, 1, 1)):
    """Voxels ``low`` to ``high`` of LABELS as a mask of their own, its axes in another order and direction."""
    change = np.eye(4)
    sizes = [high[axis] - low[axis] for axis in order]
    change[:3, :3] = 0
    change[:3, 3] = low
    for column, (axis, sign) in enumerate(zip(order, signs, strict=True)):
        change[axis, column] = sign
        change[axis, 3] += 0 if sign > 0 else sizes[column] - 1
    array = LABELS[tuple(slice(a, b) for a, b in zip(low, high, strict=True))].transpose(order)
    array = array[tuple(slice(None, None, sign) for sign in signs)]
    return Volume(array, AFFINE @ change, is_partial=True)


def kept(low, high):
    """LABELS within a box, background elsewhere."""
    array = np.zeros_like(LABELS)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    array[box] = LABELS[box]
    return array


BOXES = st.tuples(*[st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)) for n in SHAPE]).map(
    lambda ends: ([min(pair) for pair in ends], [max(pair) + 1 for pair in ends])
)


@settings(max_examples=60, deadline=None)
@given(BOXES, st.permutations(range(3)), st.tuples(*[st.sampled_from([1, -1])] * 3))
def test_any_part_in_any_order_lands_on_its_own_voxels(box, order, signs):
    mask = part(*box, tuple(order), signs)
    placed = on_grid(mask, WHOLE, "case")
    assert_array_equal(placed.array, kept(*box))
    assert is_same_grid(placed.grid, WHOLE)
    assert not placed.is_partial


def test_voxels_between_those_of_the_image_are_refused():
    for shift in (0.5, 0.2):
        mask = part([1, 1, 1], [3, 3, 3])
        moved = mask.affine @ np.array([[1, 0, 0, shift], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
        with pytest.raises(GridError, match="GRID_MISMATCH"):
            on_grid(Volume(mask.array, moved, is_partial=True), WHOLE, "case")


def test_a_header_rounded_by_less_than_a_tenth_of_a_voxel_is_told():
    mask = part([1, 1, 1], [3, 3, 3])
    moved = mask.affine @ np.array([[1, 0, 0, 0.05], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    array, apart = spread(mask.array, Grid(mask.spatial_shape, moved), WHOLE, "case")
    assert_array_equal(array, kept([1, 1, 1], [3, 3, 3]))
    assert apart == pytest.approx(0.05, rel=1e-6)


def test_another_spacing_and_another_number_of_axes_are_refused():
    mask = part([1, 1, 1], [3, 3, 3])
    for target in (Grid(SHAPE, AFFINE @ np.diag([1, 1, 2, 1])), Grid((5, 6), AFFINE)):
        with pytest.raises(GridError, match="GRID_MISMATCH"):
            on_grid(mask, target, "case")


def test_background_outside_the_image_is_cut_off_and_foreground_refused():
    smaller = Grid((5, 6, 4), AFFINE)
    empty = Volume(np.zeros(SHAPE, np.uint8), AFFINE, is_partial=True)
    assert on_grid(empty, smaller, "case").spatial_shape == (5, 6, 4)
    with pytest.raises(GridError, match="GRID_MISMATCH"):
        on_grid(Volume(LABELS, AFFINE, is_partial=True), smaller, "case")
    elsewhere = AFFINE.copy()
    elsewhere[:, 3] += 40 * AFFINE[:, 0]
    assert not on_grid(Volume(empty.array, elsewhere, is_partial=True), WHOLE, "case").array.any()


@settings(max_examples=40, deadline=None)
@given(BOXES, BOXES, st.permutations(range(3)))
def test_two_parts_alone_meet_on_the_grid_that_covers_both(first, second, order):
    one, two = part(*first), part(*second, tuple(order), (-1, 1, -1))
    grid = covering([one.grid, two.grid])
    moved = completed([one, two], ["a", "b"])
    assert all(mask.is_partial and is_same_grid(mask.grid, grid) for mask in moved)
    low = [min(pair) for pair in zip(first[0], second[0], strict=True)]
    high = [max(pair) for pair in zip(first[1], second[1], strict=True)]
    assert grid.shape == tuple(b - a for a, b in zip(low, high, strict=True))
    for mask, box in zip(moved, (first, second), strict=True):
        assert_array_equal(on_grid(mask, WHOLE, "case").array, kept(*box))


def test_the_union_of_parts_and_of_a_part_with_a_whole():
    left, right = part([0, 0, 0], [2, 6, 7]), part([3, 0, 0], [5, 6, 7])
    both = kept([0, 0, 0], [2, 6, 7]) + kept([3, 0, 0], [5, 6, 7])
    assert_array_equal(united([left, right], ["a", "b"]).array, both)
    whole = Volume(kept([3, 0, 0], [5, 6, 7]), AFFINE)
    assert_array_equal(united([left, whole], ["a", "b"]).array, both)


def test_a_part_is_judged_on_the_grid_of_the_reference_and_a_part_of_it_on_the_mask_s():
    mask, whole = part([1, 0, 2], [4, 6, 5]), Volume(LABELS, AFFINE)
    _, (array,) = align_together(whole, [mask], ["reference", "mask"])
    assert_array_equal(array, kept([1, 0, 2], [4, 6, 5]))
    reference, (array,) = align_together(mask, [whole], ["reference", "mask"])
    assert_array_equal(array, LABELS)
    assert_array_equal(reference.array, kept([1, 0, 2], [4, 6, 5]))


def test_a_training_gets_a_part_on_its_image_s_grid():
    mask = part([1, 0, 2], [4, 6, 5], (2, 0, 1), (1, -1, 1))
    image = MetaTensor(torch.zeros(1, *SHAPE), affine=torch.as_tensor(AFFINE))
    label = MetaTensor(torch.as_tensor(mask.array.copy())[None], affine=torch.as_tensor(mask.affine))
    label.meta["is_partial"] = True
    made = AlignToImaged("label")({"image": image, "label": label})["label"]
    assert_array_equal(made[0].numpy(), kept([1, 0, 2], [4, 6, 5]))
    assert made.meta["is_partial"] is False
