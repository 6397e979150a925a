from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose
from torch.optim import SGD

from medseg.bundle.inference_config import inference_config, preprocessing, sliding_window
from medseg.bundle.settings import AUGMENTATION
from medseg.bundle.train_config import multi_gpu_train_config, random_transforms, train_config
from medseg.errors import UsageError


def parsed(settings, key, **changes):
    """A part of the training, built on the CPU."""
    parser = ConfigParser(train_config(settings))
    parser.update({"device": "$torch.device('cpu')", "network": "@network_def", **changes})
    return parser.get_parsed_content(key)


def test_training_prepares_images_as_inference_does_and_pads_to_the_patch(tiny_settings):
    settings = replace(tiny_settings, spacing_mm=(1.0, 1.0, 2.0), slicewise=True, patch_voxels=(16, 16))
    config = train_config(settings)
    *steps, pad = config["train"]["deterministic_transforms"]
    assert steps == config["validate"]["preprocessing"]["transforms"] == preprocessing(settings, ["image", "label"])
    assert config["train"]["random_transforms"] == random_transforms(settings)
    assert (pad["_target_"], pad["spatial_size"]) == ("SpatialPadd", [16, 16, 1])


def test_validation_runs_over_the_windows_of_inference(tiny_settings):
    config = train_config(tiny_settings)
    assert config["validate"]["inferer"] == sliding_window(tiny_settings) == inference_config(tiny_settings)["inferer"]


@pytest.mark.parametrize(("shipped", "folder"), [("", "'/models'"), ("small", "'/trained'")])
def test_weights_that_are_shipped_in_another_form_are_not_trained_over(tiny_settings, shipped, folder):
    settings = replace(tiny_settings, forms={"small": {"epochs": 1}}, shipped=shipped)
    assert folder in train_config(settings)["ckpt_dir"]


def test_what_is_chosen_by_name_is_built_by_it(tiny_settings):
    settings = replace(tiny_settings, optimizer_name="sgd", loss_name="focal", loss_options={"focal": {"gamma": 3.0}})
    optimizer = parsed(settings, "optimizer", momentum=0.5)
    assert isinstance(optimizer, SGD)
    assert (optimizer.defaults["lr"], optimizer.defaults["momentum"]) == (0.01, 0.5)
    assert parsed(settings, "loss").gamma == 3.0


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_a_validation_gives_predictions_and_labels_of_one_form(tiny_settings, activation):
    chain = parsed(replace(tiny_settings, activation=activation), "validate::postprocessing")
    channels = 1 if activation == "sigmoid" else 2
    label = torch.zeros(1, 4, 4, 4)
    label[:, :2] = 1
    logits = (2 * label - 1) if channels == 1 else torch.cat([1 - label, label])
    done = chain({"pred": logits, "label": label})
    assert done["pred"].shape == done["label"].shape
    assert bool((done["pred"] == done["label"]).all())


def test_several_devices_share_the_cases_and_change_nothing_else_of_a_training(tiny_settings):
    config, changes = train_config(tiny_settings), multi_gpu_train_config()
    deep = [key for key in changes if "::" in key]
    assert {key.split("::")[0] for key in deep} == {"train", "validate"}
    assert {key for key in changes if "::" not in key} <= {*config, "finalize"}
    assert [line for line in config["imports"] if line not in changes["imports"]] == []


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
