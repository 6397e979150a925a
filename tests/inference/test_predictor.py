import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference
from monai.transforms import ToNumpyd
from PIL import Image

from medseg.bundle.build import write_bundle
from medseg.bundle.load import open_bundle
from medseg.data.cases.case import Case
from medseg.errors import ImageError, UsageError
from medseg.inference.predict import open_predictor
from medseg.inference.predictor import Predictor
from medseg.networks import build_network
from medseg.options import PredictOptions
from tests.conftest import ball, save_nifti


def case_of(path):
    return Case(id="one", images=(str(path),), label=None, group="one")


def predictor(bundle, **options):
    return open_predictor(open_bundle(bundle), PredictOptions(device="cpu", **options))


def test_labels_are_those_of_the_network_over_monai_s_windows(tiny_bundle, tmp_path):
    image, _ = ball(1, (20, 18, 24))
    made = predictor(tiny_bundle)(case_of(save_nifti(image, tmp_path / "a.nii.gz")))
    network = open_bundle(tiny_bundle).network
    scaled = torch.from_numpy((image - image.mean()) / image.std())[None, None]
    with torch.no_grad():
        logits = sliding_window_inference(scaled, (16, 16, 16), 2, network, overlap=0.5, mode="gaussian")
    assert np.mean(made.labels == logits.argmax(1)[0].numpy()) > 0.9999


@pytest.mark.parametrize(
    "affine",
    [
        np.diag([-1.0, -1.0, 2.0, 1.0]),
        np.array([[0, 1.5, 0, -4], [0, 0, -1, 8], [2, 0, 0, 3], [0, 0, 0, 1.0]]),
        np.array([[0.98, -0.17, 0, 5], [0.17, 0.98, 0, -7], [0, 0, 1, 2], [0, 0, 0, 1.0]]),
    ],
)
def test_the_mask_lies_on_the_image_s_own_grid(tiny_bundle, tmp_path, affine):
    image, _ = ball(2, (21, 17, 13))
    made = predictor(tiny_bundle)(case_of(save_nifti(image, tmp_path / "a.nii.gz", affine)))
    assert made.labels.shape == image.shape
    assert np.allclose(made.affine, affine, atol=1e-5)


def test_an_image_stored_the_other_way_round_gives_the_same_mask(tiny_bundle, tmp_path):
    image, _ = ball(3)
    flipped = np.diag([-1.0, 1.0, 1.0, 1.0])
    flipped[0, 3] = image.shape[0] - 1
    run = predictor(tiny_bundle)
    straight = run(case_of(save_nifti(image, tmp_path / "a.nii.gz"))).labels
    turned = run(case_of(save_nifti(image[::-1].copy(), tmp_path / "b.nii.gz", flipped))).labels
    assert np.array_equal(turned[::-1], straight)


def test_probabilities_add_up_and_agree_with_the_labels(tiny_bundle, tmp_path):
    image, _ = ball(4)
    made = predictor(tiny_bundle, probabilities=True)(case_of(save_nifti(image, tmp_path / "a.nii.gz")))
    assert np.allclose(made.probabilities.sum(axis=0), 1, atol=1e-5)
    assert np.array_equal(made.probabilities.argmax(axis=0), made.labels)


def test_mirroring_averages_over_the_bundle_s_axes(tiny_bundle, tmp_path):
    image, _ = ball(5, (16, 16, 16))
    made = predictor(tiny_bundle, tta=True, probabilities=True)(case_of(save_nifti(image, tmp_path / "a.nii.gz")))
    network = open_bundle(tiny_bundle).network
    scaled = torch.from_numpy((image - image.mean()) / image.std())[None, None]
    with torch.no_grad():
        mean = (network(scaled) + network(scaled.flip(2)).flip(2)) / 2
    assert np.allclose(made.probabilities, mean.softmax(1)[0].numpy(), atol=1e-4)


def test_mirroring_is_refused_where_the_bundle_did_not_train_it(tiny_bundle):
    with pytest.raises(UsageError, match="OPTION_NOT_OFFERED"):
        open_predictor(replace(open_bundle(tiny_bundle), mirror_axes=()), PredictOptions(tta=True))


def test_the_overlap_reaches_the_windows(tiny_bundle):
    assert predictor(tiny_bundle, overlap=0.25).model.inferer.overlap == 0.25


@pytest.mark.parametrize(
    ("option", "code"), [({"overlap": 1.0}, "SETTING_INVALID"), ({"device": "tpu"}, "NAME_UNKNOWN")]
)
def test_an_option_that_makes_no_sense_is_refused(option, code):
    with pytest.raises(UsageError, match=code):
        PredictOptions(**option)


def test_an_image_smaller_than_the_window_is_padded_and_restored(tiny_bundle, tmp_path):
    image, _ = ball(6, (5, 9, 3))
    assert predictor(tiny_bundle)(case_of(save_nifti(image, tmp_path / "a.nii.gz"))).labels.shape == (5, 9, 3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_single_non_finite_voxel_is_refused(tiny_bundle, tmp_path, bad):
    image, _ = ball(7)
    image[3, 4, 5] = bad
    with pytest.raises(ImageError, match="NONFINITE_VOXELS.*1 of 5760"):
        predictor(tiny_bundle)(case_of(save_nifti(image, tmp_path / "a.nii.gz")))


def test_a_time_series_is_a_channel_too_many(tiny_bundle, tmp_path):
    series = np.stack([ball(seed)[0] for seed in (1, 2)], axis=-1)
    with pytest.raises(ImageError, match="CHANNEL_COUNT.*2 channel"):
        predictor(tiny_bundle)(case_of(save_nifti(series, tmp_path / "a.nii.gz")))


def test_a_picture_is_no_volume(tiny_bundle, tmp_path):
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match="IMAGE_NOT_3D"):
        predictor(tiny_bundle)(case_of(tmp_path / "a.png"))


@pytest.fixture
def flat_bundle(tiny_settings, licence, tmp_path):
    """A bundle for colour pictures."""
    settings = replace(
        tiny_settings,
        name="picture_segmentation",
        patch_voxels=(16, 16),
        channels=("red", "green", "blue"),
        intensity={"kind": "unit"},
    )
    write_bundle(settings, tmp_path / "flat", licence)
    root = tmp_path / "flat" / settings.name
    (root / "models").mkdir()
    torch.manual_seed(4)
    network = build_network("unet", 2, 3, 2, unet_options={"filters": 4, "depth": 2})
    torch.save(network.state_dict(), root / "models" / "model.pt")
    return root


def test_a_colour_picture_goes_the_same_way(flat_bundle, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (23, 31, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    made = predictor(flat_bundle, probabilities=True)(case_of(tmp_path / "a.png"))
    assert made.labels.shape == (31, 23)
    assert made.probabilities.shape == (2, 31, 23)


def test_a_volume_is_no_picture(flat_bundle, tmp_path):
    path = save_nifti(ball(1)[0], tmp_path / "a.nii.gz")
    with pytest.raises(ImageError, match="IMAGE_NOT_2D.*#12"):
        predictor(flat_bundle)(case_of(path))


def test_a_network_that_gives_nan_makes_no_mask(tiny_bundle, tmp_path):
    image, _ = ball(8)
    run = predictor(tiny_bundle)
    with torch.no_grad():
        next(run.runtime.passes.network.parameters()).fill_(1e38)
    with pytest.raises(ImageError, match="OUTPUT_NONFINITE"):
        run(case_of(save_nifti(image, tmp_path / "a.nii.gz")))


def test_postprocessing_that_leaves_the_grid_is_refused(tiny_bundle, tmp_path):
    path = tiny_bundle / "configs" / "inference.json"
    config = json.loads(path.read_text())
    config["preprocessing"]["transforms"].insert(
        3, {"_target_": "Spacingd", "keys": "image", "pixdim": [2.0, 2.0, 2.0], "mode": "bilinear"}
    )
    steps = config["postprocessing"]["transforms"]
    config["postprocessing"]["transforms"] = [step for step in steps if step["_target_"] != "Invertd"]
    path.write_text(json.dumps(config))
    image, _ = ball(9)
    with pytest.raises(ImageError, match="OUTPUT_OFF_GRID"):
        predictor(tiny_bundle)(case_of(save_nifti(image, tmp_path / "a.nii.gz")))


def change_inference(bundle, change):
    path = bundle / "configs" / "inference.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def test_a_result_of_unknown_place_is_refused(tiny_bundle, tmp_path):
    """Without its affine, a mask that is mirrored cannot be told from one that is not."""
    opened = open_bundle(tiny_bundle)
    opened.postprocessing.transforms = (*opened.postprocessing.transforms, ToNumpyd("pred"))
    run = open_predictor(opened, PredictOptions(device="cpu"))
    with pytest.raises(ImageError, match="OUTPUT_OFF_GRID.*not known"):
        run(case_of(save_nifti(ball(1)[0], tmp_path / "a.nii.gz")))


def test_a_network_that_gives_a_list_is_refused(tiny_bundle, tmp_path):
    run = predictor(tiny_bundle)
    run.runtime.passes.network = lambda window: [window, window]
    with pytest.raises(ImageError, match="OUTPUT_NOT_ONE_TENSOR.*list"):
        run(case_of(save_nifti(ball(1)[0], tmp_path / "a.nii.gz")))


def test_preprocessing_must_load_first(tiny_bundle, tmp_path):
    change_inference(
        tiny_bundle,
        lambda config: config["preprocessing"]["transforms"].insert(0, {"_target_": "Identityd", "keys": "image"}),
    )
    with pytest.raises(ImageError, match="PREPROCESSING_NOT_LOADING"):
        predictor(tiny_bundle)(case_of(save_nifti(ball(1)[0], tmp_path / "a.nii.gz")))


def padded_ball(tmp_path, where=(4, 30, 8)):
    """A scan whose ball lies in a wide field of exact padding."""
    image = np.zeros((60, 64, 56), np.float32)
    inside, _ = ball(1, (20, 18, 16))
    image[tuple(slice(start, start + size) for start, size in zip(where, inside.shape, strict=True))] = inside
    return case_of(save_nifti(image, tmp_path / "padded.nii.gz"))


def windows_of(run, case):
    run.on_window = lambda _, done: counted.append(done)
    counted = []
    made = run(case)
    return made, counted[-1]


def test_padding_is_not_run_and_is_background(tiny_bundle, tmp_path, monkeypatch):
    case = padded_ball(tmp_path)
    monkeypatch.setattr(Predictor, "_is_background", lambda *_: True)
    cropped, few = windows_of(predictor(tiny_bundle, crop=True), case)
    _, many = windows_of(predictor(tiny_bundle), case)
    assert few < many
    outside = cropped.labels.copy()
    outside[:32, 22:56, :32] = 0
    assert cropped.labels.any()
    assert not outside.any()


@pytest.mark.parametrize(("bias", "code"), [((9.0, -9.0), "IMAGE_ALL_AIR"), ((-9.0, 9.0), "")])
def test_a_scan_of_nothing_is_empty_only_where_the_network_agrees(tiny_bundle, tmp_path, bias, code):
    run = predictor(tiny_bundle, crop=True)
    head = [each for each in run.runtime.passes.network.modules() if isinstance(each, torch.nn.Conv3d)][-1]
    with torch.no_grad():
        head.bias.copy_(torch.tensor(bias))
    made = run(case_of(save_nifti(np.full((40, 40, 40), 3.0, np.float32), tmp_path / "empty.nii.gz")))
    assert made.notes.partition(":")[0] == code
    assert made.labels.all() == (not code)


def test_a_mask_without_any_structure_is_said_to_be_empty(tiny_bundle, tmp_path):
    run = predictor(tiny_bundle)
    head = [each for each in run.runtime.passes.network.modules() if isinstance(each, torch.nn.Conv3d)][-1]
    with torch.no_grad():
        head.bias.copy_(torch.tensor((99.0, -99.0)))
    assert "MASK_EMPTY" in run(case_of(save_nifti(ball(1)[0], tmp_path / "a.nii.gz"))).notes
