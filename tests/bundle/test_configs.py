from dataclasses import replace

import pytest

from medseg.bundle.configs import inference_config, preprocessing
from medseg.bundle.train_config import train_config


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


def test_balanced_patches_are_cut_before_they_are_turned(tiny_settings):
    def order(sampling):
        steps = targets(train_config(replace(tiny_settings, sampling=sampling))["train"]["random_transforms"])
        return [step for step in steps if "Crop" in step or "Affine" in step]

    assert order("balanced") == ["RandCropByLabelClassesd", "RandAffined"]
    assert order("anywhere") == ["RandAffined", "RandSpatialCropSamplesd"]
