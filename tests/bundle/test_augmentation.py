from dataclasses import replace

import numpy as np
import pytest
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose

from medseg.bundle.augmentation import random_transforms
from medseg.bundle.settings import AUGMENTATION
from medseg.errors import UsageError

PROBABILITIES = {"move_probability": 0.5, "brightness_probability": 0.3}
OFF = dict.fromkeys(AUGMENTATION, 0) | {"padding": "zeros"} | PROBABILITIES


def names(settings):
    return [step["_target_"] for step in random_transforms(settings)]


def applied(settings, shape, seed=0):
    """What the transforms make of an image whose label is its bright part."""
    rng = np.random.default_rng(seed)
    label = np.zeros((1, *shape), np.float32)
    label[:, 4:12, 4:12] = 1
    chain = Compose([ConfigParser(step).get_parsed_content() for step in random_transforms(settings)])
    chain.set_random_state(seed)
    data = {"image": MetaTensor(label + rng.normal(0, 0.01, label.shape)), "label": MetaTensor(label)}
    return chain(data)


@pytest.fixture
def flat(tiny_settings):
    return replace(tiny_settings, patch_voxels=(16, 16), mirror_axes=())


def test_what_is_set_to_nothing_is_left_out(flat):
    assert names(replace(flat, augmentation=OFF)) == ["RandSpatialCropSamplesd"]


def test_each_change_can_be_asked_for_alone(flat):
    assert "RandGaussianNoised" in names(replace(flat, augmentation={**OFF, "noise": 0.1}))
    assert "RandAffined" in names(replace(flat, augmentation={**OFF, "shift": 0.1}))
    assert "RandScaleIntensityd" in names(replace(flat, augmentation={**OFF, "brightness": 0.2}))


def test_an_unknown_change_is_refused_with_the_nearest(flat):
    with pytest.raises(UsageError, match=r"SETTING_UNKNOWN.*rotation_radians"):
        replace(flat, augmentation={"rotation_radian": 1})


def test_elastic_deformation_takes_the_place_of_the_turns_and_bends_image_and_label_alike(flat):
    elastic = {**OFF, "elastic": {"spacing": 8, "magnitude": [2, 3]}}
    assert names(replace(flat, augmentation=elastic)) == ["Rand2DElasticd", "RandSpatialCropSamplesd"]
    results = [applied(replace(flat, augmentation=elastic), (16, 16), seed)[0] for seed in range(8)]
    changed = [r for r in results if not np.array_equal(np.asarray(r["label"])[0, 4:12, 4:12], np.ones((8, 8)))]
    assert changed
    for result in changed:
        bright = np.asarray(result["image"])[0] > 0.5
        assert (bright == (np.asarray(result["label"])[0] > 0.5)).mean() > 0.97


def test_slices_of_a_volume_lose_their_third_axis(flat):
    settings = replace(flat, slicewise=True, patches_per_case=3, augmentation=OFF)
    patches = applied(settings, (20, 18, 5))
    assert [tuple(patch["image"].shape) for patch in patches] == [(1, 16, 16)] * 3


def test_balanced_slices_hold_each_class_as_often(flat):
    settings = replace(flat, slicewise=True, sampling="balanced", patches_per_case=20, augmentation=OFF)
    patches = applied(settings, (40, 40, 3))
    centres = [float(np.asarray(patch["label"])[0, 8, 8]) for patch in patches]
    assert 5 <= sum(centres) <= 15


def test_balanced_patches_are_cut_before_they_are_turned(tiny_settings):
    def order(sampling):
        steps = names(replace(tiny_settings, sampling=sampling))
        return [step for step in steps if "Crop" in step or "Affine" in step]

    assert order("balanced") == ["RandCropByLabelClassesd", "RandAffined"]
    assert order("anywhere") == ["RandAffined", "RandSpatialCropSamplesd"]
