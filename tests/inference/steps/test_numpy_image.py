"""MONAI's transforms are the oracle of the steps in NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai import transforms as monai_transforms
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged

from medseg.data.transforms import GreyToOneChanneld
from medseg.errors import BundleError
from medseg.inference.restore import axis_changes
from medseg.inference.steps.numpy_image import Image
from medseg.inference.steps.numpy_steps import BEFORE, apply_steps, check_steps, is_oblique
from medseg.inference.steps.translate import translate_preprocessing


def of_image(name, *arguments, **options):
    return getattr(monai_transforms, name)("image", *arguments, **options)


IN_3D = {
    "turned to RAS": [of_image("Orientationd", "RAS", labels=None)],
    "turned to LIA": [of_image("Orientationd", "LIA", labels=(("L", "R"), ("P", "A"), ("I", "S")))],
    "turned to the nearest": [of_image("Orientationd", as_closest_canonical=True, labels=None)],
    "resampled": [of_image("Spacingd", (1.7, 1.3, 2.1), mode="bilinear")],
    "resampled at corners": [of_image("Spacingd", (1.7, 0.9, 2.1), mode="bilinear", align_corners=True)],
    "resampled along one axis": [of_image("Spacingd", (0, 0, 2.1), mode="bilinear")],
    "resampled alike": [of_image("Spacingd", 1.6, mode="bilinear", dtype=np.float32)],
    "resampled to the world's axes": [
        of_image("Orientationd", "RAS", labels=None),
        of_image("Spacingd", (1.2, 1.3, 2.1), diagonal=True, mode="bilinear"),
    ],
    "resized": [of_image("Resized", (16, 9, -1), mode="trilinear")],
    "cropped": [of_image("SpatialCropd", roi_start=(0, 2, 1), roi_end=(99, 9, 5))],
    "cropped about a point": [of_image("SpatialCropd", roi_center=(6, 6, 6), roi_size=(4, 3, 20))],
    "cropped in the middle": [of_image("CenterSpatialCropd", (5, -1, 30))],
    "padded": [of_image("SpatialPadd", (20, 21, -1), value=-3)],
    "padded at the end": [of_image("SpatialPadd", (20, 21, 3), method="end", mode="edge")],
    "padded with its mirror image": [of_image("BorderPadd", (1, 2, 3), mode="reflect")],
    "padded to multiples": [of_image("DivisiblePadd", (8, 0, 5))],
    "cropped or padded": [of_image("ResizeWithPadOrCropd", (12, 18, 9), constant_values=0.5)],
    "cropped to what is above 0": [
        of_image("CropForegroundd", source_key="image", margin=1, allow_smaller=True),
        of_image("CropForegroundd", source_key="image", channel_indices=[0], margin=(2, 0, 1), k_divisible=(4, 1, 8)),
    ],
    "all at once": [
        of_image("Orientationd", "RAS", labels=None),
        of_image("Spacingd", (1.7, 1.3, 2.1), mode="bilinear"),
        of_image("CropForegroundd", source_key="image"),
        of_image("Resized", (14, 13, 12), mode="trilinear"),
        of_image("SpatialPadd", (20, 10, 20)),
        of_image("NormalizeIntensityd", nonzero=True, channel_wise=True),
        of_image("EnsureTyped", dtype="float32"),
    ],
}
OF_VALUES = {
    "normalised": [of_image("NormalizeIntensityd")],
    "normalised by channel": [of_image("NormalizeIntensityd", channel_wise=True)],
    "normalised where not 0": [of_image("NormalizeIntensityd", nonzero=True, channel_wise=True)],
    "normalised by given numbers": [of_image("NormalizeIntensityd", subtrahend=3.5, divisor=0.5)],
    "normalised by given numbers of channels": [
        of_image("NormalizeIntensityd", subtrahend=[3, 4], divisor=[2, 0], channel_wise=True)
    ],
    "scaled": [of_image("ScaleIntensityd")],
    "scaled by channel": [of_image("ScaleIntensityd", -1, 3, channel_wise=True)],
    "scaled to a share": [of_image("ScaleIntensityd", None, 3)],
    "scaled by a factor": [of_image("ScaleIntensityd", None, None, 0.5)],
    "a range": [of_image("ScaleIntensityRanged", -10, 40, 0, 1)],
    "a range, cut": [of_image("ScaleIntensityRanged", -10, 40, 0, 1, True)],
    "a range, cut below": [of_image("ScaleIntensityRanged", 0, 40, 0, None, True)],
    "percentiles": [of_image("ScaleIntensityRangePercentilesd", 5, 95, 0, 1)],
    "percentiles by channel, cut": [of_image("ScaleIntensityRangePercentilesd", 1, 99, -1, 1, True, channel_wise=True)],
    "percentiles of the target": [of_image("ScaleIntensityRangePercentilesd", 10, 80, 0, 1, True, relative=True)],
    "one channel of a grey picture": [GreyToOneChanneld("image")],
}
IN_2D = {
    "resized": [of_image("Resized", (16, 9), mode="bilinear")],
    "resampled": [of_image("Spacingd", (1.5, 0.7), mode="bilinear")],
    "cropped or padded": [of_image("ResizeWithPadOrCropd", (12, 18))],
    "cropped to what is above 0": [of_image("CropForegroundd", source_key="image")],
}


def any_affine(rng, is_turned):
    """A grid whose axes point anywhere: along the world's, or turned by some degrees."""
    affine, order = np.eye(4), rng.permutation(3)
    affine[:3, :3] = 0
    affine[order, range(3)] = rng.choice([-1, 1], 3) * rng.uniform(0.7, 3, 3)
    if is_turned:
        a, b = rng.uniform(-0.5, 0.5, 2)
        around_z = [[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]
        around_x = [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
        affine[:3, :3] = np.array(around_z) @ around_x @ affine[:3, :3]
    affine[:3, 3] = rng.uniform(-50, 50, 3)
    return affine


def compare(transforms, array, affine):
    """Values, grid and way back of both."""
    read = [LoadImaged("image"), EnsureChannelFirstd("image")]
    steps = translate_preprocessing(Compose([*read, *transforms]), array.ndim - 1)
    check_steps(steps, BEFORE)
    found = apply_steps(Image(array.copy(), affine.copy()), steps)
    wanted = Compose(transforms)({"image": MetaTensor(torch.as_tensor(array.copy()), affine=affine.copy())})["image"]
    assert found.array.dtype == np.float32
    assert found.shape == tuple(wanted.shape)
    values = np.asarray(wanted)
    spread = max(float(np.ptp(values)), 1.0) if values.size else 1.0
    np.testing.assert_allclose(found.array, values, atol=1e-4 * spread)
    if values.size:
        np.testing.assert_allclose(found.affine, wanted.affine, atol=1e-6)
        if is_oblique(found):
            assert axis_changes(wanted) is None
            return
        back, as_monai = axis_changes(found), axis_changes(wanted)
        assert [each.source for each in back] == [each.source for each in as_monai]
        for ours, theirs in zip(back, as_monai, strict=True):
            np.testing.assert_allclose(ours.weights.toarray(), theirs.weights.toarray(), atol=1e-6)


@pytest.mark.parametrize("name", IN_3D)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), sizes=st.lists(st.integers(4, 19), min_size=3, max_size=3))
def test_steps_on_volumes_are_those_of_monai(name, seed, sizes):
    rng = np.random.default_rng(seed)
    is_turned = rng.random() < 0.5 and "world" not in name
    array = rng.normal(-1, 1, (2, *sizes)).astype(np.float32)
    compare(IN_3D[name], array, any_affine(rng, is_turned))


@pytest.mark.parametrize("name", OF_VALUES)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), sizes=st.lists(st.integers(3, 9), min_size=2, max_size=2))
def test_steps_on_values_are_those_of_monai(name, seed, sizes):
    rng = np.random.default_rng(seed)
    array = np.round(rng.normal(10, 20, (2, *sizes))).astype(np.float32) * rng.choice([0, 1], (2, *sizes))
    if rng.random() < 0.3:
        array[1] = array[0]
    if rng.random() < 0.3:
        array[0] = 7
    compare(OF_VALUES[name], array.astype(np.float32), np.eye(4))


@pytest.mark.parametrize("name", IN_2D)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), sizes=st.lists(st.integers(4, 19), min_size=2, max_size=2))
def test_steps_on_pictures_are_those_of_monai(name, seed, sizes):
    rng = np.random.default_rng(seed)
    affine = np.diag([*rng.uniform(0.5, 2, 2), 1, 1])
    affine[:3, 3] = rng.uniform(-50, 50, 3)
    compare(IN_2D[name], rng.normal(0, 1, (3, *sizes)).astype(np.float32), affine)


def test_an_image_without_anything_above_0_is_cropped_to_nothing_as_by_monai():
    compare([of_image("CropForegroundd", source_key="image")], -np.ones((1, 5, 6, 7), np.float32), np.eye(4))


def test_every_step_is_held_against_monai():
    chains = [*IN_3D.values(), *OF_VALUES.values(), *IN_2D.values()]
    tried = {type(transform).__name__.removesuffix("d") for chain in chains for transform in chain}
    assert set(BEFORE) <= tried


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), sizes=st.lists(st.integers(5, 15), min_size=3, max_size=3))
def test_a_sheared_volume_is_resampled_as_by_monai(seed, sizes):
    rng = np.random.default_rng(seed)
    affine = any_affine(rng, is_turned=False)
    affine[:3, 2] += rng.uniform(0.2, 0.5) * affine[:3, 1]
    compare(IN_3D["resampled"], rng.normal(size=(2, *sizes)).astype(np.float32), affine)


REFUSED = {
    "a transform without a counterpart": of_image("GaussianSmoothd", 1.0),
    "nearest neighbours": of_image("Spacingd", (1, 1, 1), mode="nearest"),
    "zeros outside": of_image("Spacingd", (1, 1, 1), padding_mode="zeros"),
    "spacing within limits": of_image("Spacingd", (1, 1, 1), min_pixdim=0.5, max_pixdim=2.0),
    "the longest side": of_image("Resized", 16, size_mode="longest", mode="trilinear"),
    "areas": of_image("Resized", (8, 8, 8), mode="area"),
    "smoothed before": of_image("Resized", (8, 8, 8), mode="trilinear", anti_aliasing=True),
    "a foreground of its own": of_image("CropForegroundd", source_key="image", select_fn=lambda voxel: voxel > 5),
    "another key": monai_transforms.ScaleIntensityd("label"),
    "whole numbers": of_image("EnsureTyped", dtype="uint8"),
    "lazy": of_image("Spacingd", (1, 1, 1), lazy=True),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_exact_counterpart_is_refused_by_name(name):
    transform = REFUSED[name]
    with pytest.raises(BundleError) as caught:
        translate_preprocessing(Compose([LoadImaged("image"), EnsureChannelFirstd("image"), transform]), 3)
    assert caught.value.code == "EXPORT_UNSUPPORTED"
    assert type(transform).__name__ in caught.value.case


def test_images_that_are_not_loaded_first_or_not_channel_first_are_refused():
    for chain in ([of_image("ScaleIntensityd")], [LoadImaged("image"), of_image("ScaleIntensityd")], []):
        with pytest.raises(BundleError) as caught:
            translate_preprocessing(Compose(chain), 3)
        assert caught.value.code == "EXPORT_UNSUPPORTED"
