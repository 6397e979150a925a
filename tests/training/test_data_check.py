import json

import numpy as np
import pytest
from PIL import Image

from medseg.bundle.config import read_form
from medseg.data.cases import open_dataset
from medseg.errors import DatasetError
from medseg.training.data_check import check_data, mask_values
from tests.conftest import ball, save_nifti


def checked(bundle, data, on_case=None):
    configs = read_form(bundle, None)
    return check_data(open_dataset(data), configs["train"], configs["metadata"], on_case)


def test_a_sound_data_set_passes_without_a_note_and_each_case_is_told(tiny_bundle, ball_data):
    seen = []
    assert checked(tiny_bundle, ball_data, lambda case, total: seen.append((case, total))) == ()
    assert seen == [(f"ball_{n}", 8) for n in range(8)]


def test_all_that_is_wrong_is_named_at_once(tiny_bundle, ball_data):
    _, mask = ball(0, shape=(10, 10, 10))
    save_nifti(mask, ball_data / "labels" / "ball_0.nii.gz")
    save_nifti(np.full((20, 18, 16), 3, np.uint8), ball_data / "labels" / "ball_1.nii.gz")
    (ball_data / "images" / "ball_2.nii.gz").write_bytes(b"no image")
    with pytest.raises(DatasetError, match="PAIRS_UNUSABLE") as refused:
        checked(tiny_bundle, ball_data)
    text = str(refused.value)
    assert all(f"ball_{n}" in text for n in range(3))
    assert "SHAPE_MISMATCH" in text
    assert "LABEL_UNEXPECTED" in text
    assert "ball_3" not in text


def flat(configs, inferer):
    """The bundle as one of a 2D network."""
    configs["metadata"]["network_data_format"]["inputs"]["image"]["spatial_shape"] = ["16*n", "16*n"]
    configs["train"]["validate"]["inferer"]["_target_"] = inferer
    return configs["train"], configs["metadata"]


def test_volumes_are_refused_for_a_network_of_pictures_and_taken_slice_by_slice(tiny_bundle, ball_data):
    configs = read_form(tiny_bundle, None)
    assert check_data(open_dataset(ball_data), *flat(configs, "SliceInferer")) == ()
    with pytest.raises(DatasetError, match="IMAGE_NOT_2D"):
        check_data(open_dataset(ball_data), *flat(configs, "SlidingWindowInferer"))


def test_the_values_of_a_mask_are_those_that_its_reader_takes(tiny_bundle):
    assert mask_values(read_form(tiny_bundle, None)["train"]) == [0, 1]
    assert mask_values({}) is None


def test_a_bundle_of_one_channel_takes_a_data_set_of_two_labels(tiny_bundle, ball_data):
    metadata = tiny_bundle / "configs" / "metadata.json"
    described = json.loads(metadata.read_text())
    described["network_data_format"]["outputs"]["pred"]["num_channels"] = 1
    metadata.write_text(json.dumps(described))
    (ball_data / "imagesTr").mkdir()
    pairs = [{"image": f"images/ball_{n}.nii.gz", "label": f"labels/ball_{n}.nii.gz"} for n in range(8)]
    description = {"labels": {"0": "background", "1": "ball"}, "training": pairs}
    (ball_data / "dataset.json").write_text(json.dumps(description))
    assert checked(tiny_bundle, ball_data) == ()
    description["labels"]["2"] = "ring"
    (ball_data / "dataset.json").write_text(json.dumps(description))
    with pytest.raises(DatasetError, match="LABELS_DIFFER"):
        checked(tiny_bundle, ball_data)


def described(data, labels):
    pairs = [{"image": f"images/ball_{n}.nii.gz", "label": f"labels/ball_{n}.nii.gz"} for n in range(8)]
    (data / "dataset.json").write_text(json.dumps({"labels": labels, "training": pairs}))


def test_other_labels_are_told_with_the_values_as_stored_and_the_layout(tiny_bundle, ball_data):
    described(ball_data, {"0": "background", "4": "ring"})
    with pytest.raises(DatasetError, match="LABELS_DIFFER") as refused:
        checked(tiny_bundle, ball_data)
    told = refused.value.problem
    assert open_dataset(ball_data).layout in told
    assert "0 background, 4 ring" in told
    assert told.endswith("0, 1")


def test_a_data_set_that_names_255_is_taken_where_the_bundle_has_one_class(tiny_bundle, ball_data):
    described(ball_data, {"0": "background", "255": "ball"})
    for number in range(8):
        save_nifti(ball(number)[1] * 255, ball_data / "labels" / f"ball_{number}.nii.gz")
    assert [note.partition(":")[0] for note in checked(tiny_bundle, ball_data)] == ["LABEL_MAPPED"]


def test_soft_edges_of_masks_are_noted_with_their_threshold(tmp_path):
    for number in range(3):
        for folder, values in (("images", [0, 200] * 32), ("masks", [0] * 31 + [90, 200] + [255] * 31)):
            (tmp_path / folder).mkdir(exist_ok=True)
            picture = np.resize(np.array(values, np.uint8), (64, 64))
            Image.fromarray(picture).save(tmp_path / folder / f"{number}.png")
    pred = {"num_channels": 1}
    metadata = {"network_data_format": {"inputs": {"image": {"num_channels": 1}}, "outputs": {"pred": pred}}}
    reader = {"keys": "label", "values": [0, 1]}
    train = {"validate": {"preprocessing": {"transforms": [reader]}}}
    notes = check_data(open_dataset(tmp_path), train, metadata)
    assert any("LABEL_THRESHOLDED" in note and "127.5" in note for note in notes)


def test_what_only_a_mask_makes_possible_is_told_of(tiny_bundle, ball_data):
    configs = read_form(tiny_bundle, None)
    steps = configs["train"]["validate"]["preprocessing"]["transforms"]
    steps.append({"_target_": "CropForegroundd", "keys": ["image", "label"], "source_key": "label"})
    notes = check_data(open_dataset(ball_data), configs["train"], configs["metadata"])
    assert [note.partition(":")[0] for note in notes] == ["TRAIN_NEEDS_MASK"]
