import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.data.combine import stack, unite
from medseg.data.read import read_mask
from medseg.data.volume import Note, Volume
from medseg.data.write import write
from medseg.errors import GridError, LabelError

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
    same, own = Note("A", "same"), Note("B", "own")
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
