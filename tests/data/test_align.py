"""Bare arrays find their axes by size, or are refused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from numpy.testing import assert_array_equal

from medseg.data.align import complete, cover, order_axes, put_on_grid, spread, stack, unite
from medseg.data.read import read_mask
from medseg.data.transforms import AlignToImaged
from medseg.data.volume import Volume
from medseg.data.write import write
from medseg.errors import GridError, LabelError
from medseg.evaluation.score import align_together
from medseg.findings import make_note
from medseg.geometry import Grid, is_same_grid

AFFINE = np.array([[-0.7, 0, 0, 10], [0, -0.7, 0, 20], [0, 0, 2.5, 30], [0, 0, 0, 1.0]])


def grid(*shape):
    return Grid(shape, AFFINE)


def refusal(array, target):
    with pytest.raises(GridError) as caught:
        order_axes(array, target, "mask.npz")
    return caught.value


def test_a_stack_of_slices_lies_on_the_series_grid_voxel_by_voxel():
    volume = np.arange(6 * 6 * 4).reshape(6, 6, 4)  # (columns, rows, slices)
    slices = np.stack([volume[:, :, z].T for z in range(4)])  # each (rows, columns), as pixel arrays are
    np.testing.assert_array_equal(order_axes(slices, grid(6, 6, 4), "mask.npz"), volume)


@given(st.permutations([3, 4, 5]).map(tuple), st.sampled_from([(2, 1, 0), (1, 0, 2), (0, 1, 2)]))
def test_sizes_that_all_differ_tell_each_reading(shape, order):
    volume = np.arange(60).reshape(shape)
    np.testing.assert_array_equal(order_axes(volume.transpose(np.argsort(order)), grid(*shape), "m"), volume)


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
    assert put_on_grid(mask, grid(6, 6, 4), "m") is mask


def test_an_archive_without_affine_has_no_grid_and_takes_the_image_s(tmp_path):
    slices = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    np.savez(tmp_path / "bare.npz", slices)
    np.savez(tmp_path / "placed.npz", slices, affine=AFFINE)
    bare = read_mask(tmp_path / "bare.npz")
    assert not bare.has_grid
    assert read_mask(tmp_path / "placed.npz").has_grid
    mask = put_on_grid(bare, grid(6, 5, 4), "m")
    assert (mask.array.shape, mask.has_grid) == ((6, 5, 4), True)
    np.testing.assert_array_equal(mask.affine, AFFINE)


def test_bare_arrays_that_are_both_image_and_mask_are_taken_as_they_are():
    mask = Volume(np.zeros((6, 6, 4)), np.eye(4), has_grid=False)
    assert put_on_grid(mask, Grid((6, 6, 4), np.eye(4)), "m") is mask


TURN = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3], OBLIQUE[:3, 3] = TURN @ np.diag([0.7, 0.9, 2.5]), (5, -40, 100)
SHAPE = (5, 6, 7)
WHOLE = Grid(SHAPE, OBLIQUE)
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
    return Volume(array, OBLIQUE @ change, is_partial=True)


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
    placed = put_on_grid(mask, WHOLE, "case")
    assert_array_equal(placed.array, kept(*box))
    assert is_same_grid(placed.grid, WHOLE)
    assert not placed.is_partial


def test_voxels_between_those_of_the_image_are_refused():
    for shift in (0.5, 0.2):
        mask = part([1, 1, 1], [3, 3, 3])
        moved = mask.affine @ np.array([[1, 0, 0, shift], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
        with pytest.raises(GridError, match="GRID_MISMATCH"):
            put_on_grid(Volume(mask.array, moved, is_partial=True), WHOLE, "case")


def test_a_header_rounded_by_less_than_a_tenth_of_a_voxel_is_told():
    mask = part([1, 1, 1], [3, 3, 3])
    moved = mask.affine @ np.array([[1, 0, 0, 0.05], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    array, apart = spread(mask.array, Grid(mask.spatial_shape, moved), WHOLE, "case")
    assert_array_equal(array, kept([1, 1, 1], [3, 3, 3]))
    assert apart == pytest.approx(0.05, rel=1e-6)


def test_another_spacing_and_another_number_of_axes_are_refused():
    mask = part([1, 1, 1], [3, 3, 3])
    for target in (Grid(SHAPE, OBLIQUE @ np.diag([1, 1, 2, 1])), Grid((5, 6), OBLIQUE)):
        with pytest.raises(GridError, match="GRID_MISMATCH"):
            put_on_grid(mask, target, "case")


def test_background_outside_the_image_is_cut_off_and_foreground_refused():
    smaller = Grid((5, 6, 4), OBLIQUE)
    empty = Volume(np.zeros(SHAPE, np.uint8), OBLIQUE, is_partial=True)
    assert put_on_grid(empty, smaller, "case").spatial_shape == (5, 6, 4)
    with pytest.raises(GridError, match="GRID_MISMATCH"):
        put_on_grid(Volume(LABELS, OBLIQUE, is_partial=True), smaller, "case")
    elsewhere = OBLIQUE.copy()
    elsewhere[:, 3] += 40 * OBLIQUE[:, 0]
    assert not put_on_grid(Volume(empty.array, elsewhere, is_partial=True), WHOLE, "case").array.any()


@settings(max_examples=40, deadline=None)
@given(BOXES, BOXES, st.permutations(range(3)))
def test_two_parts_alone_meet_on_the_grid_that_covers_both(first, second, order):
    one, two = part(*first), part(*second, tuple(order), (-1, 1, -1))
    grid = cover([one.grid, two.grid])
    moved = complete([one, two], ["a", "b"])
    assert all(mask.is_partial and is_same_grid(mask.grid, grid) for mask in moved)
    low = [min(pair) for pair in zip(first[0], second[0], strict=True)]
    high = [max(pair) for pair in zip(first[1], second[1], strict=True)]
    assert grid.shape == tuple(b - a for a, b in zip(low, high, strict=True))
    for mask, box in zip(moved, (first, second), strict=True):
        assert_array_equal(put_on_grid(mask, WHOLE, "case").array, kept(*box))


def test_the_union_of_parts_and_of_a_part_with_a_whole():
    left, right = part([0, 0, 0], [2, 6, 7]), part([3, 0, 0], [5, 6, 7])
    both = kept([0, 0, 0], [2, 6, 7]) + kept([3, 0, 0], [5, 6, 7])
    assert_array_equal(unite([left, right], ["a", "b"]).array, both)
    whole = Volume(kept([3, 0, 0], [5, 6, 7]), OBLIQUE)
    assert_array_equal(unite([left, whole], ["a", "b"]).array, both)


def test_a_part_is_judged_on_the_grid_of_the_reference_and_a_part_of_it_on_the_mask_s():
    mask, whole = part([1, 0, 2], [4, 6, 5]), Volume(LABELS, OBLIQUE)
    _, (array,) = align_together(whole, [mask], ["reference", "mask"])
    assert_array_equal(array, kept([1, 0, 2], [4, 6, 5]))
    reference, (array,) = align_together(mask, [whole], ["reference", "mask"])
    assert_array_equal(array, LABELS)
    assert_array_equal(reference.array, kept([1, 0, 2], [4, 6, 5]))


def test_a_training_gets_a_part_on_its_image_s_grid():
    mask = part([1, 0, 2], [4, 6, 5], (2, 0, 1), (1, -1, 1))
    image = MetaTensor(torch.zeros(1, *SHAPE), affine=torch.as_tensor(OBLIQUE))
    label = MetaTensor(torch.as_tensor(mask.array.copy())[None], affine=torch.as_tensor(mask.affine))
    label.meta["is_partial"] = True
    made = AlignToImaged("label")({"image": image, "label": label})["label"]
    assert_array_equal(made[0].numpy(), kept([1, 0, 2], [4, 6, 5]))
    assert made.meta["is_partial"] is False


UPSIDE_DOWN = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 3], [0, 0, 0, 1.0]])
VOXELS = np.arange(24).reshape(2, 3, 4)


def mask(array, affine=None):
    return Volume(np.asarray(array), np.eye(4) if affine is None else affine)


def test_the_union_holds_each_part_s_labels():
    assert unite([mask([[1, 0, 0]]), mask([[0, 0, 2]])], ["a", "b"]).array.tolist() == [[1, 0, 2]]


def test_one_part_is_its_own_union():
    whole = mask([[1, 0]])
    assert unite([whole], ["a"]) == whole


def test_empty_parts_give_an_empty_union():
    assert not unite([mask([[0, 0]]), mask([[0, 0]])], ["a", "b"]).array.any()


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=4))
def test_of_binary_parts_the_union_is_their_maximum(parts):
    arrays = [np.array([part], np.uint8) for part in parts]
    union = unite([mask(array) for array in arrays], [str(i) for i in range(len(arrays))]).array
    np.testing.assert_array_equal(union, np.maximum.reduce(arrays))


def test_a_voxel_with_two_labels_is_refused_with_its_place():
    with pytest.raises(LabelError) as caught:
        unite([mask([[1, 1, 0]]), mask([[0, 2, 2]])], ["a", "b"])
    assert (caught.value.code, caught.value.case) == ("LABEL_OVERLAP", "b")
    assert "(0, 1)" in caught.value.problem


@pytest.mark.parametrize("other", [mask([[1, 0, 0, 0]]), mask([[1, 0, 0]], np.diag([1.0, 2, 1, 1]))])
def test_parts_on_different_grids_are_refused(other):
    with pytest.raises(GridError, match="GRID_MISMATCH"):
        unite([mask([[1, 0, 0]]), other], ["a", "b"])


def test_notes_of_parts_are_kept_once():
    same, own = make_note("A", "same"), make_note("B", "own")
    parts = [Volume(np.zeros((1, 2), int), np.eye(4), notes=notes) for notes in ((same,), (same, own))]
    assert unite(parts, ["a", "b"]).notes == (same, own)


def test_pictures_of_a_left_and_a_right_half_are_read_as_one_mask(tmp_path):
    halves = np.zeros((2, 4, 3), np.uint8)
    halves[0, :2], halves[1, 3:] = 255, 255
    paths = [write(half, np.eye(4), tmp_path / f"{i}.png") for i, half in enumerate(halves)]
    volume = read_mask(paths, [0, 1])
    assert volume.array[:, 0].tolist() == [1, 1, 0, 1]
    assert {note.code for note in volume.notes} == {"LABEL_MAPPED"}
    np.testing.assert_array_equal(read_mask(paths[:1], [0, 1]).array, read_mask(paths[0], [0, 1]).array)


def test_channels_lie_on_the_first_volume_s_grid():
    image = stack([mask(VOXELS), mask(VOXELS[:, :, ::-1] + 1, UPSIDE_DOWN)], ["a", "b"])
    assert image.has_channels
    np.testing.assert_array_equal(image.array, [VOXELS, VOXELS + 1])


def test_one_volume_is_not_stacked():
    alone = mask(VOXELS)
    assert stack([alone], ["a"]) is alone
