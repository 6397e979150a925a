import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medseg.losses.distance import REACH_IN_SIGMAS, Boundary, border_weight_map, signed_distance_map

MASKS = arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 6)))


def test_signed_distance_by_hand():
    mask = np.array([0, 0, 1, 1, 1, 0], dtype=bool)

    assert signed_distance_map(mask).tolist() == [2, 1, 0, -1, 0, 1]


@pytest.mark.parametrize("value", [False, True])
def test_a_mask_without_a_boundary_has_distance_zero(value):
    assert not signed_distance_map(np.full((3, 4), value)).any()


@given(mask=MASKS)
@settings(max_examples=40, deadline=None)
def test_signed_distance_is_what_looking_at_every_voxel_gives(mask):
    if mask.all() or not mask.any():
        return
    inside, outside = np.argwhere(mask), np.argwhere(~mask)

    for index, is_inside in np.ndenumerate(mask):
        nearest = np.linalg.norm((outside if is_inside else inside) - index, axis=1).min()
        assert signed_distance_map(mask)[index] == pytest.approx(1 - nearest if is_inside else nearest)


def test_boundary_by_hand():
    """φ is 1, 0, 0, 1 and p is 0.5 everywhere."""
    target = torch.tensor([[[0, 1, 1, 0]]])

    assert Boundary()(torch.zeros(1, 1, 4), target).item() == pytest.approx((1 + 1) * 0.5 / 4)


def test_boundary_leaves_the_background_channel_out():
    target = torch.tensor([[[0, 1, 1, 0]]])
    one, two = torch.randn(1, 1, 4), torch.zeros(1, 2, 4)
    two[:, 1:] = one

    torch.testing.assert_close(Boundary()(two, target), Boundary()(one, target))


def test_boundary_punishes_a_far_error_more_than_a_near_one():
    target = torch.zeros(1, 1, 12)
    target[..., 1:4] = 1
    perfect = 20.0 * (2 * target - 1)
    near, far = perfect.clone(), perfect.clone()
    near[..., 4], far[..., 10] = 20.0, 20.0

    assert Boundary()(perfect, target) < Boundary()(near, target) < Boundary()(far, target)


def test_border_weights_by_hand():
    """Two objects with a gap of three: d1 + d2 is 4 throughout the gap; 8 zeros and 2 ones balance."""
    label = np.array([0, 0, 0, 1, 0, 0, 0, 1, 0, 0])

    weights = border_weight_map(label, w0=10, sigma=5)

    gap = 10 / (2 * 8) + 10 * np.exp(-(4**2) / 50)
    assert weights[4:7] == pytest.approx([gap] * 3)
    assert weights[3] == pytest.approx(10 / (2 * 2) + 10 * np.exp(-(4**2) / 50))
    assert weights[2] == pytest.approx(10 / (2 * 8) + 10 * np.exp(-(6**2) / 50))
    assert weights.dtype == np.float32


@pytest.mark.parametrize("value", [0, 3])
def test_an_image_of_one_class_weighs_one_everywhere(value):
    assert border_weight_map(np.full((4, 5), value)).tolist() == np.ones((4, 5)).tolist()


def test_one_object_alone_has_no_border_term():
    label = np.zeros((9, 9), dtype=int)
    label[3:6, 3:6] = 1

    assert border_weight_map(label, w0=10).tolist() == border_weight_map(label, w0=0).tolist()


def test_touching_objects_of_two_classes_are_two_objects():
    label = np.array([[0, 1, 1, 2, 2, 0]])

    assert border_weight_map(label, w0=10, sigma=5)[0, 2] == pytest.approx(1 + 10 * np.exp(-1 / 50))


def test_class_weights_have_a_mean_of_one():
    label = np.random.default_rng(0).integers(0, 4, (6, 7, 5))

    assert border_weight_map(label, w0=0).mean() == pytest.approx(1, abs=1e-5)


@given(mask=MASKS, sigma=st.sampled_from([0.5, 1.0, 5.0]))
@settings(max_examples=40, deadline=None)
def test_border_weights_are_what_looking_at_every_object_gives(mask, sigma):
    objects = connected_pieces(mask)
    weights = border_weight_map(mask.astype(int), w0=10, sigma=sigma) - border_weight_map(mask.astype(int), w0=0)

    for index in np.ndindex(mask.shape):
        distances = sorted(min(np.linalg.norm(np.subtract(voxel, index)) for voxel in piece) for piece in objects)
        expected = 10 * np.exp(-(sum(distances[:2]) ** 2) / (2 * sigma**2)) if len(objects) > 1 else 0.0
        forgotten = 10 * np.exp(-(REACH_IN_SIGMAS**2) / 2)
        assert weights[index] == pytest.approx(expected, abs=forgotten + 1e-5)


def connected_pieces(mask):
    """The face-connected pieces of a 2D mask, by flooding."""
    left = set(zip(*np.nonzero(mask), strict=True))
    pieces = []
    while left:
        piece, edge = set(), [left.pop()]
        while edge:
            x, y = voxel = edge.pop()
            piece.add(voxel)
            neighbours = {(x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)} & left
            left -= neighbours
            edge += neighbours
        pieces.append(piece)
    return pieces
