import copy
from pathlib import Path

import pytest

from medseg.bundle.config import Form
from medseg.bundle.consistency import check_label_names, find_disagreements

LOAD = {"_target_": "LoadImaged", "keys": "image", "reader": "medseg.data.images.VolumeReader"}
SCALE = {"_target_": "NormalizeIntensityd", "keys": "image", "channel_wise": True}
SPACE = {"_target_": "Spacingd", "keys": "image", "pixdim": [1.0, 1.0, 1.0], "mode": "bilinear"}
SPACE_BOTH = {**SPACE, "keys": ["image", "label"], "mode": ["bilinear", "nearest"]}
WINDOW = {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16]}
NETWORK = {"_target_": "medseg.networks.build_network", "name": "@network_name"}


def inference(*steps, **keys):
    return {
        "network_name": "unet",
        "network_def": NETWORK,
        "preprocessing": {"_target_": "Compose", "transforms": [LOAD, *steps]},
        "inferer": WINDOW,
        "ckpt_dir": "models",
        **keys,
    }


def train(*steps, **keys):
    chain = [LOAD, {**LOAD, "keys": "label"}, *steps]
    return {
        "network_name": "unet",
        "network_def": NETWORK,
        "train": {"deterministic_transforms": chain},
        "validate": {"preprocessing": {"_target_": "Compose", "transforms": chain}, "inferer": WINDOW},
        "ckpt_dir": "models",
        **keys,
    }


def form(name="", **configs):
    suffix = f"_{name}" if name else ""
    return Form(name, configs, {kind: Path(f"{kind}{suffix}.json") for kind in configs})


def codes(*forms):
    return [finding.code for finding in find_disagreements(forms)]


def test_the_same_steps_agree_whatever_concerns_the_masks_or_types_alone():
    ours = train(
        {"_target_": "monai.transforms.SpacingD", **{key: SPACE_BOTH[key] for key in ("keys", "pixdim", "mode")}},
        {"_target_": "MapLabelValued", "keys": "label"},
        SCALE,
        {"_target_": "EnsureTyped", "keys": ["image", "label"]},
    )
    assert codes(form(inference=inference(SPACE, SCALE), train=ours)) == []


@pytest.mark.parametrize("steps", [(SCALE,), (SPACE_BOTH,), (SCALE, SPACE_BOTH), (SPACE_BOTH, SCALE, SCALE)])
def test_a_step_that_is_missing_added_or_in_another_order_is_found_in_training_and_validation(steps):
    assert codes(form(inference=inference(SPACE, SCALE), train=train(*steps))) == ["BUNDLE_INCONSISTENT"] * 2


def test_the_first_step_that_differs_is_told():
    ours = train({**SPACE_BOTH, "pixdim": [2.0, 2.0, 2.0]}, SCALE)
    found = next(iter(find_disagreements([form(inference=inference(SPACE, SCALE), train=ours)])))
    assert found.place == "train.json: train::deterministic_transforms"
    assert "step 2 is" in found.problem
    assert "2.0" in found.problem


def test_a_chain_that_an_expression_makes_is_left_aside():
    config = train()
    config["train"]["deterministic_transforms"] = "$make()"
    config["validate"]["preprocessing"] = "@nothing"
    assert codes(form(inference=inference(SPACE, SCALE), train=config)) == []


def test_another_network_is_told_by_the_option_that_differs():
    found = list(find_disagreements([form(inference=inference(), train=train(network_name="res-unet"))]))
    assert [finding.code for finding in found] == ["BUNDLE_INCONSISTENT"]
    assert found[0].problem == "name is res-unet, in inference unet"


def test_a_base_that_trains_elsewhere_what_a_form_predicts_with_is_a_note():
    base = form(inference=inference(), train=train(network_name="res-unet", ckpt_dir="trained"))
    small = Form("small", {**base.configs, "train": train()}, {**base.files, "train": Path("train_small.json")})
    assert codes(base, small) == ["FORM_OF_WEIGHTS"]
    assert codes(base) == ["BUNDLE_INCONSISTENT"]


def test_without_a_training_there_is_nothing_to_agree():
    assert codes(form(inference=inference(SPACE))) == []
    assert codes() == []


METADATA = {
    "labels": {"0": "background", "1": "ball"},
    "network_data_format": {
        "inputs": {"image": {"num_channels": 1, "channel_def": {"0": "T1"}}},
        "outputs": {"pred": {"num_channels": 2, "channel_def": {"0": "background", "1": "ball"}}},
    },
}


def label_codes(**configs):
    return [finding.code for finding in check_label_names(form(**configs))]


def test_labels_that_count_from_0_and_channels_that_are_named_by_them_are_sound():
    assert label_codes(metadata=METADATA) == []


def test_a_single_channel_is_named_by_the_structure():
    metadata = copy.deepcopy(METADATA)
    metadata["network_data_format"]["outputs"]["pred"] = {"num_channels": 1, "channel_def": {"0": "ball"}}
    assert label_codes(metadata=metadata) == []


@pytest.mark.parametrize(
    ("labels", "channels"),
    [
        ({"0": "background", "2": "ball"}, {"0": "background", "1": "ball"}),
        ({"0": "background", "1": "ball"}, {"0": "background", "1": "cube"}),
        ({"0": "background", "1": "ball"}, {"0": "background"}),
    ],
)
def test_labels_with_gaps_or_of_other_names_or_numbers_are_found(labels, channels):
    metadata = copy.deepcopy(METADATA)
    metadata["labels"] = labels
    metadata["network_data_format"]["outputs"]["pred"]["channel_def"] = channels
    assert "BUNDLE_LABELS" in label_codes(metadata=metadata)


def test_a_tensor_that_is_not_described_is_incomplete():
    metadata = {**METADATA, "network_data_format": {"inputs": METADATA["network_data_format"]["inputs"]}}
    assert label_codes(metadata=metadata) == ["BUNDLE_INCOMPLETE"]


@pytest.mark.parametrize("key", ["num_classes", "to_onehot"])
def test_a_component_of_another_number_of_classes_is_found_through_a_reference(key):
    wrong = train(classes=3, post={"_target_": "AsDiscreted", key: "@classes"})
    assert label_codes(metadata=METADATA, train=wrong) == ["BUNDLE_LABELS"]
    assert label_codes(metadata=METADATA, train={**wrong, "classes": 2}) == []
