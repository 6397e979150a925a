import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from monai.data import MetaTensor
from scipy import ndimage

from medseg.inference.postprocess import KeepLargestd
from medseg.inference.prediction import keep_largest_pieces


def test_only_the_largest_piece_of_each_named_structure_stays():
    mask = np.zeros((9, 9), np.uint8)
    mask[:3, :3] = 1
    mask[8, 8] = 1
    mask[5:8, 0] = 2
    mask[0, 8] = 2
    kept = keep_largest_pieces(mask, [1])
    assert kept[:3, :3].all()
    assert kept[8, 8] == 0
    assert (kept == 2).sum() == 4
    assert (keep_largest_pieces(mask, [1, 2]) == 2).sum() == 3


def test_pieces_that_touch_by_a_corner_are_one():
    mask = np.zeros((4, 4, 4), np.uint8)
    mask[0, 0, 0] = mask[1, 1, 1] = 1
    assert keep_largest_pieces(mask, [1]).sum() == 2


def test_an_empty_mask_stays_empty():
    assert not keep_largest_pieces(np.zeros((3, 4, 5), np.uint8), [1, 2]).any()


@settings(max_examples=30, deadline=None)
@given(arrays.arrays(np.uint8, (6, 5, 4), elements=st.integers(0, 2)))
def test_nothing_is_added_and_each_structure_is_one_piece(mask):
    kept = keep_largest_pieces(mask, [1, 2])
    assert ((kept == mask) | (kept == 0)).all()
    for label in (1, 2):
        _, count = ndimage.label(kept == label, structure=np.ones((3, 3, 3)))
        assert count == (1 if (mask == label).any() else 0)
        sizes = np.bincount(ndimage.label(mask == label, np.ones((3, 3, 3)))[0].ravel())[1:]
        assert (kept == label).sum() == max(sizes, default=0)


def test_the_transform_keeps_where_the_mask_lies():
    mask = torch.zeros(1, 5, 5, 5)
    mask[0, :2, :2, :2] = 1
    mask[0, 4, 4, 4] = 1
    affine = torch.diag(torch.tensor([2.0, 2.0, 5.0, 1.0], dtype=torch.float64))
    kept = KeepLargestd("pred", [1])({"pred": MetaTensor(mask, affine=affine), "other": 3})
    assert float(kept["pred"].sum()) == 8
    assert torch.equal(kept["pred"].affine, affine)
    assert kept["other"] == 3
