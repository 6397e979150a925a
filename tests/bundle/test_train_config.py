from dataclasses import replace

import pytest
import torch
from monai.bundle import ConfigParser
from torch.optim import SGD

from medseg.bundle.augmentation import random_transforms
from medseg.bundle.inference_config import inference_config, preprocessing, sliding_window
from medseg.bundle.train_config import multi_gpu_train_config, train_config


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
