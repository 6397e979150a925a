"""MONAI's own way back, all classes on the whole grid, is the oracle."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import (
    Activationsd,
    AsDiscreted,
    BorderPadd,
    Compose,
    CropForegroundd,
    DivisiblePadd,
    EnsureTyped,
    Invertd,
    Orientationd,
    Resized,
    ResizeWithPadOrCropd,
    Rotated,
    Spacingd,
    SpatialCropd,
    SpatialPadd,
)

from medseg.errors import ImageError
from medseg.inference.monai_inferer import Slab
from medseg.inference.restore import LabelRestorer, axis_changes
from medseg.inference.steps.monai_steps import read_discretisation

RAS = Orientationd("image", "RAS", labels=None)


def resampled(align_corners):
    return Spacingd("image", (1.7, 1.3, 2.1), mode="bilinear", align_corners=align_corners)


CHAINS = {
    "nothing": [EnsureTyped("image")],
    "turned": [RAS],
    "resampled": [RAS, resampled(False)],
    "resampled at corners": [RAS, resampled(True)],
    "resampled, cropped and padded": [RAS, resampled(False), ResizeWithPadOrCropd("image", (12, 18, 9))],
    "resized": [RAS, Resized("image", (16, 9, 21), mode="trilinear")],
    "resampled, then resized": [RAS, resampled(False), Resized("image", (16, 9, 21), mode="trilinear")],
    "slices left out": [RAS, SpatialCropd("image", roi_start=(0, 0, 2), roi_end=(99, 99, 5))],
    "cropped to what is bright": [
        resampled(False),
        CropForegroundd("image", source_key="image", select_fn=lambda voxel: voxel > 0.3, allow_smaller=True),
    ],
    "padded": [Resized("image", (16, 9, 21), mode="trilinear"), SpatialPadd("image", (20, 20, 20))],
}


def image_on_any_grid(rng, sizes):
    affine, order = np.eye(4), rng.permutation(3)
    affine[:3, :3] = 0
    affine[order, range(3)] = rng.choice([-1, 1], 3) * rng.uniform(0.7, 3, 3)
    affine[:3, 3] = rng.uniform(-50, 50, 3)
    return MetaTensor(torch.as_tensor(rng.random((1, *sizes)), dtype=torch.float32), affine=affine)


def smooth_logits(rng, classes, shape):
    coarse = torch.as_tensor(rng.normal(size=(1, classes, *[max(2, n // 3) for n in shape])), dtype=torch.float32)
    return 3 * torch.nn.functional.interpolate(coarse, tuple(shape), mode="trilinear")[0]


def postprocessing(preprocessing, classes):
    activation, choice = (
        ({"sigmoid": True}, {"threshold": 0.5}) if classes == 1 else ({"softmax": True}, {"argmax": True})
    )
    invert = Invertd("pred", preprocessing, orig_keys="image", nearest_interp=False, to_tensor=True)
    return Compose([Activationsd("pred", **activation), invert, AsDiscreted("pred", **choice)])


@pytest.mark.parametrize("chain", CHAINS)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), sizes=st.lists(st.integers(7, 22), min_size=3, max_size=3))
def test_labels_are_those_of_the_whole_volume_at_once(chain, seed, sizes):
    rng = np.random.default_rng(seed)
    preprocessing, classes = Compose(CHAINS[chain]), int(rng.choice([1, 2, 4]))
    prepared = preprocessing({"image": image_on_any_grid(rng, sizes)})
    image = prepared["image"]
    logits, post = smooth_logits(rng, classes, image.shape[1:]), postprocessing(preprocessing, classes)

    restorer = LabelRestorer(axis_changes(image), read_discretisation(post), max(classes, 2))
    axis, start = int(rng.integers(3)), 0
    while start < image.shape[axis + 1]:
        stop = min(image.shape[axis + 1], start + int(rng.integers(1, 8)))
        restorer.add(Slab(axis, start, logits.narrow(axis + 1, start, stop - start)))
        start = stop

    pred = MetaTensor(logits.clone(), meta=image.meta, applied_operations=image.applied_operations)
    probabilities = Compose(post.transforms[:2])({**prepared, "pred": pred})
    # On the edge of what was cropped away all classes are 0, or by rounding a little more.
    is_known = np.asarray(probabilities["pred"]).max(axis=0) > 1e-3
    expected = np.asarray(post.transforms[2](probabilities)["pred"][0])
    assert restorer.labels.shape == tuple(sizes)
    assert ((restorer.labels != expected) & is_known).mean() <= 1e-4 + 1.5 / expected.size


@pytest.mark.parametrize(
    "chain",
    [
        [Resized("image", (16, 12), mode="bilinear")],
        [Spacingd("image", (1.5, 0.7), mode="bilinear")],
        [BorderPadd("image", 2), DivisiblePadd("image", 8)],
    ],
    ids=["resized", "resampled", "padded"],
)
def test_a_picture_goes_back_to_its_place_and_size(chain):
    affine = np.diag([-1.1, 0.9, 1.0, 1.0])
    affine[:3, 3] = 50, -20, 7  # A slice of a volume does not begin at the world's origin.
    preprocessing = Compose(chain)
    prepared = preprocessing({"image": MetaTensor(torch.rand(3, 37, 50), affine=affine)})
    image, post = prepared["image"], postprocessing(preprocessing, 1)
    logits = smooth_logits_2d(*image.shape[1:])

    restorer = LabelRestorer(axis_changes(image), read_discretisation(post), 2)
    restorer.add(Slab(0, 0, logits))

    pred = MetaTensor(logits.clone(), meta=image.meta, applied_operations=image.applied_operations)
    np.testing.assert_array_equal(restorer.labels, np.asarray(post({**prepared, "pred": pred})["pred"][0]))


def smooth_logits_2d(*shape):
    coarse = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(coarse, shape, mode="bilinear")[0]


def test_a_turn_off_the_axes_is_left_to_monai():
    prepared = Rotated("image", angle=0.3)({"image": MetaTensor(torch.rand(1, 8, 8))})
    assert axis_changes(prepared["image"]) is None


def test_a_sheared_grid_that_is_straightened_is_left_to_monai():
    affine = np.eye(4)
    affine[1, 2] = 0.3
    prepared = resampled(False)({"image": MetaTensor(torch.rand(1, 8, 8, 8), affine=affine)})
    assert axis_changes(prepared["image"]) is None


def test_slabs_out_of_order_are_refused():
    restorer = LabelRestorer(
        axis_changes(MetaTensor(torch.zeros(1, 4, 4, 4))), read_discretisation(postprocessing(Compose([]), 2)), 2
    )
    with pytest.raises(ValueError, match="row 0"):
        restorer.add(Slab(0, 2, torch.zeros(2, 2, 4, 4)))


@pytest.mark.parametrize(("classes", "channels"), [(1, 3), (2, 3), (4, 2)])
def test_channels_that_are_not_one_for_each_label_are_refused(classes, channels):
    how = read_discretisation(postprocessing(Compose([]), classes))
    restorer = LabelRestorer(axis_changes(MetaTensor(torch.zeros(1, 4, 4, 4))), how, max(classes, 2))
    with pytest.raises(ImageError, match="OUTPUT_NOT_LABELS"):
        restorer.add(Slab(0, 0, torch.zeros(channels, 4, 4, 4)))


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), classes=st.sampled_from([1, 2, 5]))
def test_slabs_of_numpy_arrays_give_the_labels_and_probabilities_of_tensors(seed, classes):
    rng = np.random.default_rng(seed)
    preprocessing = Compose(CHAINS["resampled, cropped and padded"])
    image = preprocessing({"image": image_on_any_grid(rng, (14, 11, 16))})["image"]
    logits = smooth_logits(rng, classes, image.shape[1:])
    how = read_discretisation(postprocessing(preprocessing, classes))
    changes, labels = axis_changes(image), max(2, classes)
    cut = int(rng.integers(1, logits.shape[1]))
    restored = []
    for whole in (logits, logits.numpy()):
        restorer = LabelRestorer(changes, how, labels, keeps_probabilities=True)
        for start, stop in ((0, cut), (cut, logits.shape[1])):
            restorer.add(Slab(0, start, whole[:, start:stop]))
        restored.append(restorer)
    of_tensors, of_arrays = restored
    assert np.mean(of_arrays.labels == of_tensors.labels) > 0.999
    np.testing.assert_allclose(of_arrays.probabilities, of_tensors.probabilities, atol=1e-5)
    assert of_arrays.probabilities.shape == (classes, 14, 11, 16)
