import numpy as np
import pytest
import torch
from monai.transforms import Compose, NormalizeIntensityd, ScaleIntensityRanged
from scipy.ndimage import gaussian_filter

from medseg.inference.region import BLOCK, MARGIN, air_value, box_to_run, outside_value, region_of, within
from medseg.inference.restoring.restore import Discretisation, LabelRestorer
from medseg.inference.restoring.way_back import AxisChange, linear_weights
from medseg.inference.windows import Slab, Windows

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
    assert air_value(steps) == (None if air is None else pytest.approx(air))


def body_in_air(noise=0.0, seed=0):
    """A block of tissue in air, scaled from -1000 and 600 HU to 0 and 1."""
    image = np.zeros((1, 80, 70, 60), np.float32)
    image[0, 30:50, 20:51, 25:40] = 0.6
    return np.clip(image + np.random.default_rng(seed).normal(0, noise, image.shape), 0, 1).astype(np.float32)


@pytest.mark.parametrize("noise_hu", [0, 20])
def test_the_box_holds_the_body_and_a_margin_whatever_the_noise(noise_hu):
    box = box_to_run(body_in_air(noise_hu / 1600), (16, 16, 16), AIR)
    for part, start, stop in zip(box, (30, 20, 25), (50, 51, 40), strict=True):
        assert start - MARGIN - BLOCK < part.start <= start - MARGIN
        assert stop + MARGIN <= part.stop < stop + MARGIN + BLOCK


def test_emphysema_cut_off_by_the_field_of_view_is_not_air():
    image = np.zeros((1, 80, 64, 64), np.float32)
    image[:, 60:] = (1000 - 950) / 1600
    lungs = gaussian_filter(np.random.default_rng(0).normal(0, 0.03, image.shape), 0.5)
    assert box_to_run(np.clip(image + lungs, 0, 1).astype(np.float32), (8, 8, 8), AIR)[0].stop == 80


def test_only_exact_padding_is_left_out_where_air_is_not_known():
    image = np.full((2, 40, 50), -1.5, np.float32)
    image[1, 20:23, 30] = -1.4999
    assert box_to_run(image, (4, 4), None) == (slice(12, 31), slice(22, 39))


def test_the_box_is_as_large_as_a_window_where_the_image_is():
    image = np.zeros((1, 40, 10), np.float32)
    image[0, 39, 5] = 1
    assert box_to_run(image, (30, 30), None) == (slice(10, 40), slice(0, 10))


@pytest.mark.parametrize("air", [None, 0.1])
def test_there_is_nothing_to_run_in_air(air):
    assert box_to_run(np.zeros((1, 20, 20, 20), np.float32), (8, 8, 8), air) is None


def test_what_lies_outside_is_told_for_each_channel():
    image = np.stack([np.full((4, 4), 2.0), np.full((4, 4), 3.0)])
    image[:, 2, 2] = -1
    assert outside_value(image, None).tolist() == [2, 3]
    assert outside_value(image, 0.1).tolist() == [-1, -1]


@pytest.mark.parametrize(("finds_nothing", "sizes"), [(True, [36, 47, 31]), (False, [80, 70, 60])])
def test_all_is_run_where_the_network_finds_something_in_air(finds_nothing, sizes):
    windows, seen = Windows((80, 70, 60), (16, 16, 16), (0.5,) * 3), []

    def told(values):
        seen.append(values.tolist())
        return finds_nothing

    box = region_of(body_in_air(), windows, None, told)
    assert [part.stop - part.start for part in box] == sizes
    assert seen == [[0]]


def test_all_is_run_where_a_box_would_take_as_many_windows():
    windows = Windows((80, 70, 60), (80, 70, 60), (0.25,) * 3)
    assert region_of(body_in_air(), windows, None, lambda _: True) == (slice(0, 80), slice(0, 70), slice(0, 60))


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
        LabelRestorer(each, Discretisation("softmax", None, ()), 2) for each in (changes, within(changes, box))
    )
    whole.add(Slab(0, 0, torch.from_numpy(logits)))
    part.add(Slab(0, 0, torch.from_numpy(logits[:, box[0], box[1]].copy())))
    inside = (slice(9, 22), slice(3, 9))
    assert part.labels.shape == (32, 12)
    assert np.array_equal(part.labels[inside], whole.labels[inside])
    part.labels[inside] = 0
    assert part.labels[:7].max() == part.labels[24:].max() == part.labels[:, :3].max() == part.labels[:, 9:].max() == 0
