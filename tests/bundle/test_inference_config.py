from dataclasses import replace

import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose

from medseg.bundle.build import metadata
from medseg.bundle.inference_config import inference_config, preprocessing
from medseg.bundle.train_config import train_config

REVERSED = ("SpatialCropd", "Resized", "ResizeWithPadOrCropd")


def targets(steps):
    return [step["_target_"].rpartition(".")[2] for step in steps]


@pytest.mark.parametrize(
    ("intensity", "target"),
    [
        ({"kind": "z-score"}, "NormalizeIntensityd"),
        ({"kind": "unit"}, "ScaleIntensityd"),
        ({"kind": "window", "low": -1000, "high": 400}, "ScaleIntensityRanged"),
    ],
)
def test_each_kind_of_intensity_has_its_transform(tiny_settings, intensity, target):
    assert target in targets(preprocessing(replace(tiny_settings, intensity=intensity), ["image"]))


def test_a_spacing_is_resampled_to_and_nothing_is_where_there_is_none(tiny_settings):
    assert "Spacingd" not in targets(preprocessing(tiny_settings, ["image"]))
    steps = preprocessing(replace(tiny_settings, spacing_mm=(1.0, 1.0, 2.0)), ["image", "label"])
    spacing = next(step for step in steps if step["_target_"] == "Spacingd")
    assert (spacing["pixdim"], spacing["mode"]) == ([1.0, 1.0, 2.0], ["bilinear", "nearest"])


def test_labels_are_read_as_labels_and_aligned_with_their_image(tiny_settings):
    steps = preprocessing(tiny_settings, ["image", "label"])
    readers = {step["keys"]: step["reader"].rpartition(".")[2] for step in steps if step["_target_"] == "LoadImaged"}
    assert readers == {"image": "VolumeReader", "label": "MaskReader"}
    assert "AlignToImaged" in targets(steps)


def test_two_dimensional_bundles_have_no_third_axis(tiny_settings):
    flat = replace(tiny_settings, patch_voxels=(32, 32))
    assert "Orientationd" not in targets(preprocessing(flat, ["image"]))
    assert inference_config(flat)["network_def"]["spatial_dims"] == 2
    affine = next(step for step in train_config(flat)["train"]["random_transforms"] if "Affine" in step["_target_"])
    assert len(affine["rotate_range"]) == 1


def test_the_way_back_is_taken_by_probabilities(tiny_settings):
    steps = targets(inference_config(tiny_settings)["postprocessing"]["transforms"])
    assert steps == ["Activationsd", "Invertd", "AsDiscreted", "SaveImaged"]


def binary(settings):
    return replace(settings, activation="sigmoid")


def test_a_binary_bundle_has_one_channel_and_a_threshold(tiny_settings):
    config = inference_config(binary(tiny_settings))
    steps = config["postprocessing"]["transforms"]
    assert config["network_def"]["out_channels"] == 1
    assert steps[0]["sigmoid"]
    assert steps[2]["threshold"] == 0.5
    labels = metadata(binary(tiny_settings))["network_data_format"]["outputs"]["pred"]
    assert (labels["num_channels"], labels["channel_def"]) == (1, {"0": "ball"})


def test_values_of_a_mask_become_classes(tiny_settings):
    brats = replace(tiny_settings, label_values={0: 0, 1: 1, 4: 1})
    steps = preprocessing(brats, ["image", "label"])
    reader = next(step for step in steps if step.get("keys") == "label" and step["_target_"] == "LoadImaged")
    renamed = next(step for step in steps if step["_target_"] == "MapLabelValued")
    assert reader["values"] == [0, 1, 4]
    assert (renamed["orig_labels"], renamed["target_labels"]) == ([4], [1])
    assert "MapLabelValued" not in targets(preprocessing(brats, ["image"]))


def test_a_slicewise_bundle_turns_volumes_and_runs_over_slices(tiny_settings):
    settings = replace(tiny_settings, patch_voxels=(16, 16), slicewise=True)
    config = inference_config(settings)
    assert "Orientationd" in targets(config["preprocessing"]["transforms"])
    assert config["inferer"]["_target_"] == "SliceInferer"
    assert config["network_def"]["spatial_dims"] == 2
    assert config["output_ext"] == ".nii.gz"


def test_slices_size_and_crop_are_undone_on_the_way_back(tiny_settings):
    settings = replace(
        tiny_settings,
        patch_voxels=(16, 16),
        slicewise=True,
        slice_range=(2, 9),
        resize_voxels=(16, 16, -1),
        crop_voxels=(12, 12, -1),
    )
    steps = [step for step in preprocessing(settings, ["image"]) if step["_target_"] in REVERSED]
    chain = Compose([ConfigParser(step).get_parsed_content() for step in steps])
    image = MetaTensor(torch.rand(1, 30, 24, 11))
    done = chain({"image": image})
    assert tuple(done["image"].shape) == (1, 12, 12, 7)
    back = chain.inverse(done)["image"]
    assert tuple(back.shape) == (1, 30, 24, 11)
    assert not back[..., :2].any()
    assert not back[..., 9:].any()
    assert back[..., 2:9].any()


def test_the_region_of_the_mask_is_for_training_and_never_for_prediction(tiny_settings):
    settings = replace(tiny_settings, crop_to_mask=2, suppress_outside=True)
    with_mask = targets(preprocessing(settings, ["image", "label"]))
    assert {"CropForegroundd", "SuppressOutsided"} <= set(with_mask)
    assert not {"CropForegroundd", "SuppressOutsided"} & set(targets(preprocessing(settings, ["image"])))


def test_pieces_apart_from_the_largest_are_dropped_where_asked_for(tiny_settings):
    steps = inference_config(replace(tiny_settings, keep_largest=True))["postprocessing"]["transforms"]
    drop = ConfigParser(next(s for s in steps if "KeepLargest" in s["_target_"])).get_parsed_content()
    mask = torch.zeros(1, 8, 8, 8)
    mask[0, :3, :3, :3] = 1
    mask[0, 7, 7, 7] = 1
    assert float(drop({"pred": MetaTensor(mask)})["pred"].sum()) == 27
