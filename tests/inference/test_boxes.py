import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.transforms import Compose, NormalizeIntensityd, ScaleIntensityRanged
from scipy.ndimage import gaussian_filter

from medseg.geometry import Grid
from medseg.inference.boxes import (
    BLOCK,
    MARGIN,
    bound_labels,
    choose_region,
    find_box,
    find_outside_value,
    map_box,
    place_windows,
    restrict_to_box,
    widen,
)
from medseg.inference.restore import AxisChange, Discretisation, LabelRestorer, linear_weights
from medseg.inference.slabs import Slab
from medseg.inference.steps.monai_steps import find_air_value
from medseg.inference.windows import Windows

AIR = (1000 - 980) / 1600


def scaled(low, high, clip=True):
    return Compose([ScaleIntensityRanged("image", low, high, 0, 1, clip=clip)])


@pytest.mark.parametrize(
    ("steps", "air"),
    [
        (scaled(-1000, 600), AIR),
        (scaled(-175, 250), 0),
        (scaled(-1000, 600, clip=False), None),
        (scaled(-1000, -1000), None),
        (Compose([NormalizeIntensityd("image")]), None),
        (Compose([*scaled(-1000, 600).transforms, NormalizeIntensityd("image")]), None),
        (Compose([]), None),
    ],
)
def test_air_is_known_where_one_fixed_range_scales_the_image(steps, air):
    assert find_air_value(steps) == (None if air is None else pytest.approx(air))


def body_in_air(noise=0.0, seed=0):
    """A block of tissue in air, scaled from -1000 and 600 HU to 0 and 1."""
    image = np.zeros((1, 80, 70, 60), np.float32)
    image[0, 30:50, 20:51, 25:40] = 0.6
    return np.clip(image + np.random.default_rng(seed).normal(0, noise, image.shape), 0, 1).astype(np.float32)


@pytest.mark.parametrize("noise_hu", [0, 20])
def test_the_box_holds_the_body_and_a_margin_whatever_the_noise(noise_hu):
    box = find_box(body_in_air(noise_hu / 1600), (16, 16, 16), AIR)
    for part, start, stop in zip(box, (30, 20, 25), (50, 51, 40), strict=True):
        assert start - MARGIN - BLOCK < part.start <= start - MARGIN
        assert stop + MARGIN <= part.stop < stop + MARGIN + BLOCK


def test_emphysema_cut_off_by_the_field_of_view_is_not_air():
    image = np.zeros((1, 80, 64, 64), np.float32)
    image[:, 60:] = (1000 - 950) / 1600
    lungs = gaussian_filter(np.random.default_rng(0).normal(0, 0.03, image.shape), 0.5)
    assert find_box(np.clip(image + lungs, 0, 1).astype(np.float32), (8, 8, 8), AIR)[0].stop == 80


def test_only_exact_padding_is_left_out_where_air_is_not_known():
    image = np.full((2, 40, 50), -1.5, np.float32)
    image[1, 20:23, 30] = -1.4999
    assert find_box(image, (4, 4), None) == (slice(12, 31), slice(22, 39))


def test_the_box_is_as_large_as_a_window_where_the_image_is():
    image = np.zeros((1, 40, 10), np.float32)
    image[0, 39, 5] = 1
    assert find_box(image, (30, 30), None) == (slice(10, 40), slice(0, 10))


@pytest.mark.parametrize("air", [None, 0.1])
def test_there_is_nothing_to_run_in_air(air):
    assert find_box(np.zeros((1, 20, 20, 20), np.float32), (8, 8, 8), air) is None


def test_what_lies_outside_is_told_for_each_channel():
    image = np.stack([np.full((4, 4), 2.0), np.full((4, 4), 3.0)])
    image[:, 2, 2] = -1
    assert find_outside_value(image, None).tolist() == [2, 3]
    assert find_outside_value(image, 0.1).tolist() == [-1, -1]


@pytest.mark.parametrize(("finds_nothing", "sizes"), [(True, [36, 47, 31]), (False, [80, 70, 60])])
def test_all_is_run_where_the_network_finds_something_in_air(finds_nothing, sizes):
    windows, seen = Windows((80, 70, 60), (16, 16, 16), (0.5,) * 3), []

    def told(values):
        seen.append(values.tolist())
        return finds_nothing

    box = choose_region(body_in_air(), windows, None, told)
    assert [part.stop - part.start for part in box] == sizes
    assert seen == [[0]]


def test_all_is_run_where_a_box_would_take_as_many_windows():
    windows = Windows((80, 70, 60), (80, 70, 60), (0.25,) * 3)
    assert choose_region(body_in_air(), windows, None, lambda _: True) == (slice(0, 80), slice(0, 70), slice(0, 60))


def test_labels_of_a_box_are_put_where_it_lies():
    rng = np.random.default_rng(3)
    box = (slice(4, 12), slice(3, 9))
    changes = [
        AxisChange(0, linear_weights(np.arange(0, 16, 0.5), 16)),
        AxisChange(1, linear_weights(np.arange(12), 12)),
    ]
    logits = np.zeros((2, 16, 12), np.float32)
    logits[0] = 9
    logits[:, box[0], box[1]] = rng.normal(size=(2, 8, 6))
    whole, part = (
        LabelRestorer(each, Discretisation("softmax", None, ()), 2) for each in (changes, restrict_to_box(changes, box))
    )
    whole.add(Slab(0, 0, torch.from_numpy(logits)))
    part.add(Slab(0, 0, torch.from_numpy(logits[:, box[0], box[1]].copy())))
    inside = (slice(9, 22), slice(3, 9))
    assert part.labels.shape == (32, 12)
    assert np.array_equal(part.labels[inside], whole.labels[inside])
    part.labels[inside] = 0
    assert part.labels[:7].max() == part.labels[24:].max() == part.labels[:, :3].max() == part.labels[:, 9:].max() == 0


STRAIGHT = Grid((40, 50, 60), np.eye(4))
BOX = (slice(4, 9), slice(10, 12), slice(20, 30))


def sides(box):
    return [(part.start, part.stop) for part in box]


def test_the_box_of_labels_holds_every_voxel_above_0():
    labels = np.zeros((9, 8, 7), np.uint8)
    labels[2, 3, 4] = 1
    labels[5, 3, 6] = 2
    assert sides(bound_labels(labels)) == [(2, 6), (3, 4), (4, 7)]
    assert bound_labels(np.zeros((9, 8), np.uint8)) is None


def test_a_box_on_its_own_grid_stays_as_it_is():
    assert map_box(STRAIGHT, BOX, STRAIGHT, 0) == BOX
    assert sides(map_box(STRAIGHT, BOX, STRAIGHT, 2.5)) == [(1, 12), (7, 15), (17, 33)]


def coarse_grid(spacing_mm):
    """A grid over the same edges as STRAIGHT."""
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = (np.array(spacing_mm) - 1) / 2
    return Grid(tuple(int(n / mm) for n, mm in zip(STRAIGHT.shape, spacing_mm, strict=True)), affine)


def test_a_box_of_larger_voxels_is_as_much_larger():
    coarse = coarse_grid((4.0, 5.0, 3.0))
    found = (slice(1, 3), slice(2, 3), slice(0, 20))
    assert sides(map_box(STRAIGHT, found, coarse, 0)) == [(4, 12), (10, 15), (0, 60)]
    assert sides(map_box(STRAIGHT, found, coarse, 3)) == [(1, 15), (7, 18), (0, 60)]
    assert sides(map_box(coarse, (slice(4, 12), slice(10, 15), slice(6, 9)), STRAIGHT, 0)) == [(1, 3), (2, 3), (2, 3)]
    assert sides(map_box(coarse, (slice(4, 13), slice(9, 15), slice(6, 9)), STRAIGHT, 0)) == [(1, 4), (1, 3), (2, 3)]


def test_a_box_is_found_on_flipped_and_permuted_axes():
    # Voxel (i, j, k) lies where voxel (39 - k, i, 59 - j) of the straight grid does.
    turned = Grid((50, 60, 40), np.array([[0, 0, -1, 39], [1, 0, 0, 0], [0, -1, 0, 59], [0, 0, 0, 1.0]]))
    found = map_box(turned, BOX, STRAIGHT, 0)
    assert sides(found) == [(10, 12), (30, 40), (31, 36)]
    assert map_box(STRAIGHT, found, turned, 0) == BOX


def test_a_box_on_an_oblique_grid_holds_all_of_its_corners():
    angle = np.deg2rad(30)
    oblique = Grid((80, 80, 60), np.eye(4))
    oblique.affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    oblique.affine[:2, 3] = (10, -20)
    found = map_box(oblique, BOX, STRAIGHT, 0)
    edges = [(part.start - 0.5, part.stop - 0.5) for part in BOX]
    corners = np.array(np.meshgrid(*edges)).reshape(3, -1)
    index = np.linalg.solve(oblique.affine[:3, :3], corners - oblique.affine[:3, 3:])
    for part, low, high in zip(found, index.min(1), index.max(1), strict=True):
        assert part.start - 0.5 <= low < part.start + 0.5
        assert part.stop - 1.5 < high <= part.stop - 0.5


@pytest.mark.parametrize("seed", range(5))
def test_no_point_within_the_margin_lies_outside_the_box_whatever_the_grids(seed):
    rng = np.random.default_rng(seed)
    grids = []
    for size in (30, 60):
        affine = np.eye(4)
        affine[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] @ np.diag(rng.uniform(1, 3, 3))
        affine[:3, :3] = affine[:3, :3] @ (np.eye(3) + np.triu(rng.uniform(-0.3, 0.3, (3, 3)), 1))
        affine[:3, 3] = -affine[:3, :3] @ np.full(3, size / 2)
        grids.append(Grid((size,) * 3, affine))
    box = map_box(grids[1], (slice(13, 17), slice(12, 15), slice(15, 18)), grids[0], 5.0)
    inside = rng.uniform((12.5, 11.5, 14.5), (16.5, 14.5, 17.5), (500, 3))
    away = rng.normal(size=(500, 3))
    points = (
        inside @ grids[0].affine[:3, :3].T + grids[0].affine[:3, 3] + 5 * away / np.linalg.norm(away, axis=1)[:, None]
    )
    index = np.linalg.solve(grids[1].affine[:3, :3], (points - grids[1].affine[:3, 3]).T)
    for part, places in zip(box, index, strict=True):
        assert part.start == 0 or places.min() >= part.start - 0.5
        assert part.stop == 60 or places.max() <= part.stop - 0.5


def test_a_box_is_cut_at_the_edge_of_the_grid_and_is_none_beyond_it():
    assert sides(map_box(STRAIGHT, BOX, STRAIGHT, 100)) == [(0, 40), (0, 50), (0, 60)]
    aside = Grid((10, 50, 60), np.eye(4))
    aside.affine[0, 3] = 20
    assert map_box(aside, BOX, STRAIGHT, 5) is None


def test_pictures_have_boxes_too():
    coarse = Grid((10, 25), np.diag([4.0, 2.0, 1.0, 1.0]))
    coarse.affine[:2, 3] = (1.5, 0.5)
    found = map_box(Grid((40, 50), np.eye(4)), (slice(1, 2), slice(3, 5)), coarse, 1)
    assert sides(found) == [(3, 9), (5, 11)]


def test_a_box_is_made_as_large_as_its_windows_reach():
    windows = Windows((40, 10, 60), (16, 16, 16), (0.5, 0.5, 0.25))
    box = widen((slice(36, 40), slice(2, 3), slice(20, 37)), windows)
    assert sides(box) == [(24, 40), (0, 10), (15, 43)]
    assert place_windows(box, windows).starts == ((0,), (0,), (0, 12))


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 60), st.integers(1, 60)), min_size=1, max_size=3),
    st.floats(0, 0.9),
)
def test_no_window_is_added_by_making_a_box_larger(axes, overlap):
    sizes = tuple(start + length for _, start, length in axes)
    windows = Windows(sizes, tuple(roi for roi, _, _ in axes), (overlap,) * len(axes))
    box = tuple(slice(start, start + max(1, length // 2)) for _, start, length in axes)
    wide = widen(box, windows)
    assert len(place_windows(wide, windows)) == len(place_windows(box, windows))
    for small, large, size, roi in zip(box, wide, sizes, windows.roi, strict=True):
        assert 0 <= large.start <= small.start <= small.stop <= large.stop <= size
        assert large.stop - large.start >= min(roi, size)
