"""A coarse bundle finds where to look; the fine one runs there alone, and the record says so."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from medseg import predict
from medseg.bundle.build import write_bundle
from medseg.bundle.config import read_form
from medseg.bundle.load import check_fits, open_bundle
from medseg.bundle.verify import verify
from medseg.cli import main
from medseg.data.cases.case import Case
from medseg.data.images import VolumeReader
from medseg.data.splits import Split
from medseg.errors import BundleError, UsageError
from medseg.inference.dry_run import dry_run, format_plans
from medseg.inference.export import describe, export
from medseg.inference.locator import open_locator
from medseg.inference.predict import open_predictor
from medseg.networks import build_network
from medseg.options import PredictOptions, TrainOptions
from medseg.training.run_folder import Start, begin
from tests.conftest import save_nifti

NETWORK = {"name": "unet", "filters": 2, "depth": 1, "norm": "none", "upsampling": "nearest"}
FLIPPED = np.array([[0, -1.0, 0, 30], [0, 0, 1.0, -20], [-1.0, 0, 0, 40], [0, 0, 0, 1]])
OBLIQUE = np.array([[0.94, -0.342, 0, 5], [0.342, 0.94, 0, -7], [0, 0, 1.2, 2], [0, 0, 0, 1.0]])
SHEARED = np.array([[1, 0, 0, 0], [0, 1, 0.2, 0], [0, 0, 1.0, 0], [0, 0, 0, 1]])


def brighter_than(threshold: float, axes: int = 3, channels: int = 1) -> dict[str, torch.Tensor]:
    """Weights that find the voxels whose first channel is above a threshold, and look at no neighbour."""
    options = {key: value for key, value in NETWORK.items() if key != "name"}
    weights = build_network("unet", axes, channels, 2, unet_options=options).state_dict()
    for name, values in weights.items():
        values.zero_()
        if values.ndim > 1 and "bottleneck" not in name and "head" not in name:
            taken = {0, values.shape[1] - NETWORK["filters"]} if "decoder" in name else {0}
            for channel in taken:
                values[(0, max(0, channel), *[1] * axes)] = 1
    weights["head.0.weight"][1, 0] = 1
    weights["head.0.bias"][0] = threshold
    return weights


@pytest.fixture
def make(tiny_settings, licence, tmp_path):
    """Writes a bundle that finds what is above a threshold."""

    def made(name, threshold=0.5, **changes):
        base = {"intensity": {"kind": "window", "low": 0, "high": 100}, "network": NETWORK, "overlap": 0.25}
        settings = replace(tiny_settings, name=f"{name}_segmentation", **{**base, **changes})
        write_bundle(settings, tmp_path / "bundles", licence)
        root = tmp_path / "bundles" / settings.name
        (root / "models").mkdir()
        weights = brighter_than(threshold, settings.spatial_dims, len(settings.channels))
        torch.save(weights, root / "models" / "model.pt")
        return root

    return made


@pytest.fixture
def fine(make):
    return make("fine")


@pytest.fixture
def coarse(make):
    return make("coarse", 0.8, spacing_mm=(3, 3, 3))


def scene(tmp_path, affine=None, name="scan.nii.gz"):
    """A bright block, and a dim one far from it that only the fine bundle takes for something."""
    image = np.random.default_rng(0).uniform(0, 20, (64, 48, 40)).astype(np.float32)
    image[8:20, 6:18, 8:20] = 100
    image[50:60, 38:44, 30:36] = 65
    path = save_nifti(image, tmp_path / "scans" / name, affine)
    return Case("scan", (str(path),), None, "scan"), image


def segmented(bundle, case, **options):
    return open_predictor(open_bundle(bundle), PredictOptions(device="cpu", backend="torch", **options))(case)


def set_key(bundle, **keys):
    path = bundle / "configs" / "inference.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


@pytest.mark.parametrize("affine", [None, FLIPPED, OBLIQUE], ids=["straight", "turned", "oblique"])
@pytest.mark.parametrize("spacing_mm", [None, (1.5, 1.5, 1.5)], ids=["own grid", "resampled"])
def test_inside_the_box_a_mask_is_that_of_the_whole_image_and_outside_it_is_background(
    make, coarse, tmp_path, affine, spacing_mm
):
    fine = make("fine", spacing_mm=spacing_mm)
    case, _ = scene(tmp_path, affine)
    whole, located = segmented(fine, case), segmented(fine, case, locator=coarse, locator_margin_mm=6)
    assert np.count_nonzero(whole.labels[40:]) > 0
    assert np.array_equal(located.labels[:30], whole.labels[:30])
    assert not located.labels[40:].any()
    assert located.notes.startswith("BOX_LOCATED: coarse_segmentation")
    assert whole.notes == ""


def test_a_sheared_scan_that_is_restored_whole_is_located_as_well(make, coarse, tmp_path):
    fine = make("fine", spacing_mm=(1.5, 1.5, 1.5))
    case, _ = scene(tmp_path, SHEARED)
    run = open_predictor(open_bundle(fine), PredictOptions(device="cpu", locator=coarse, locator_margin_mm=6))
    prepared = run.prepare(case)
    assert prepared.changes is None
    located, whole = run.segment(case, prepared), segmented(fine, case)
    assert np.array_equal(located.labels[:30], whole.labels[:30])
    assert not located.labels[40:].any()
    assert "BOX_LOCATED: coarse_segmentation" in located.notes


@pytest.mark.parametrize("is_exported", [False, True])
def test_a_sheared_scan_that_is_restored_whole_is_cropped_as_well(make, tmp_path, is_exported):
    fine = make("fine", spacing_mm=(1.5, 1.5, 1.5))
    bundle = export(fine, tmp_path / "exported", to="onnx").folder if is_exported else open_bundle(fine)
    image = np.zeros((64, 48, 40), np.float32)
    image[8:20, 6:18, 8:20] = 100
    case = Case("one", (str(save_nifti(image, tmp_path / "a.nii.gz", SHEARED)),), None, "one")
    found, counts = [], []
    for crop in (True, False):
        told = []
        options = PredictOptions(device="cpu", crop=crop)
        found.append(open_predictor(bundle, options, lambda _, done, told=told: told.append(done))(case).labels)
        counts.append(told[-1])
    assert np.array_equal(*found)
    assert found[0].any()
    assert counts[0] < counts[1]


def test_with_crop_as_well_the_air_is_left_out_where_nothing_is_located(fine, make, tmp_path):
    nothing = make("coarse", 1e6, spacing_mm=(3, 3, 3))
    image = np.zeros((64, 48, 40), np.float32)
    image[8:20, 6:18, 8:20] = 100
    case = Case("one", (str(save_nifti(image, tmp_path / "a.nii.gz")),), None, "one")
    made = segmented(fine, case, locator=nothing, crop=True)
    assert np.array_equal(made.labels, image > 50)
    assert made.notes.startswith("NOT_LOCATED")
    empty = Case("two", (str(save_nifti(image * 0, tmp_path / "b.nii.gz")),), None, "two")
    assert "IMAGE_ALL_AIR" in segmented(fine, empty, locator=nothing, crop=True).notes


def test_only_the_windows_of_the_box_are_run_and_the_note_counts_them(fine, coarse, tmp_path):
    case, _ = scene(tmp_path)
    told = []
    options = PredictOptions(device="cpu", locator=coarse, locator_margin_mm=0)
    located = open_predictor(open_bundle(fine), options, lambda case, done: told.append(done))(case)
    assert told[-1] == 1
    assert "1 of 60 windows" in located.notes
    assert "16×16×16 of 64×48×40 voxels" in located.notes


def test_the_box_reaches_as_far_as_the_margin(fine, coarse, tmp_path):
    case, image = scene(tmp_path)
    image[30:32, 6:18, 8:20] = 65
    save_nifti(image, tmp_path / "scans" / "scan.nii.gz")
    near, far = (segmented(fine, case, locator=coarse, locator_margin_mm=mm).labels for mm in (2, 14))
    assert not near[30:32].any()
    assert far[30:32, 6:18, 8:20].all()


def test_where_nothing_is_located_all_is_run_and_it_is_said(fine, make, tmp_path):
    nothing = make("coarse", 1e6, spacing_mm=(3, 3, 3))
    case, _ = scene(tmp_path)
    whole, located = segmented(fine, case), segmented(fine, case, locator=nothing)
    assert np.array_equal(located.labels, whole.labels)
    assert located.notes.startswith("NOT_LOCATED")


def test_all_is_run_where_the_box_takes_as_many_windows(fine, make, tmp_path):
    everything = make("coarse", -1.0, spacing_mm=(3, 3, 3))
    case, _ = scene(tmp_path)
    located = segmented(fine, case, locator=everything)
    assert np.array_equal(located.labels, segmented(fine, case).labels)
    assert located.notes.startswith("BOX_LOCATED")
    assert "all 60 windows" in located.notes


def test_the_locator_s_own_steps_on_labels_count(fine, make, tmp_path):
    both = make("both", 0.5, spacing_mm=(3, 3, 3))
    largest = make("largest", 0.5, spacing_mm=(3, 3, 3), keep_largest=True)
    case, _ = scene(tmp_path)
    assert segmented(fine, case, locator=both, locator_margin_mm=0).labels[40:].any()
    assert not segmented(fine, case, locator=largest, locator_margin_mm=0).labels[40:].any()


def test_slices_are_located(make, tmp_path):
    flat = {"patch_voxels": (16, 16), "slicewise": True, "mirror_axes": ()}
    fine, coarse = make("fine", **flat), make("coarse", 0.8, **flat)
    case, _ = scene(tmp_path)
    located = segmented(fine, case, locator=coarse, locator_margin_mm=2)
    assert np.array_equal(located.labels[:30], segmented(fine, case).labels[:30])
    assert not located.labels[40:].any()


def test_pictures_are_located(make, tmp_path):
    flat = {"patch_voxels": (16, 16), "mirror_axes": (0,)}
    fine, coarse = make("fine", **flat), make("coarse", 0.8, **flat)
    _, image = scene(tmp_path)
    path = save_nifti(image[:, :, 14].copy(), tmp_path / "flat.nii.gz")
    case = Case("flat", (str(path),), None, "flat")
    located = segmented(fine, case, locator=coarse, locator_margin_mm=2)
    assert np.array_equal(located.labels, segmented(fine, case).labels)
    assert located.labels.any()
    assert located.notes.startswith("BOX_LOCATED")


def test_a_file_is_read_once_where_both_bundles_read_alike(fine, coarse, tmp_path, monkeypatch):
    reads = []
    read = VolumeReader.read
    monkeypatch.setattr(VolumeReader, "read", lambda *args, **kwargs: reads.append(1) or read(*args, **kwargs))
    case, _ = scene(tmp_path)
    alike = segmented(fine, case, locator=coarse).labels
    assert len(reads) == 1
    config = json.loads((coarse / "configs" / "inference.json").read_text())
    config["preprocessing"]["transforms"][0]["ensure_channel_first"] = True
    del config["preprocessing"]["transforms"][1]
    set_key(coarse, preprocessing=config["preprocessing"])
    assert np.array_equal(segmented(fine, case, locator=coarse).labels, alike)
    assert len(reads) == 3


def test_what_the_fine_bundle_sees_is_untouched_by_the_locator(fine, make, tmp_path):
    coarse = make("coarse", 0.8, intensity={"kind": "z-score"})
    case, _ = scene(tmp_path)
    alone, beside = (
        open_predictor(open_bundle(fine), PredictOptions(device="cpu", locator=locator)).prepare(case).source["image"]
        for locator in (None, coarse)
    )
    assert torch.equal(alone.as_tensor(), beside.as_tensor())
    done = [[step["class"] for step in image.applied_operations] for image in (alone, beside)]
    assert done[0] == done[1]


@pytest.mark.parametrize(
    "changes",
    [{"channels": ("T1", "T2")}, {"patch_voxels": (16, 16), "spacing_mm": None}],
    ids=["channels", "axes"],
)
def test_a_locator_for_other_images_is_refused_when_it_is_opened(fine, make, changes):
    other = make("other", **{"spacing_mm": (3, 3, 3), **changes})
    with pytest.raises(BundleError) as refused:
        open_predictor(open_bundle(fine), PredictOptions(device="cpu", locator=other))
    assert refused.value.code == "LOCATOR_UNFIT"


def test_a_locator_for_hounsfield_units_is_for_bundles_of_these_alone(fine, coarse):
    bundle, locator = open_bundle(fine), open_bundle(coarse)
    check_fits(replace(locator, is_hounsfield=True), replace(bundle, is_hounsfield=True))
    with pytest.raises(BundleError) as refused:
        check_fits(replace(locator, is_hounsfield=not bundle.is_hounsfield), bundle)
    assert refused.value.code == "LOCATOR_UNFIT"


def test_a_bundle_without_windows_takes_no_locator(fine, coarse):
    set_key(fine, inferer={"_target_": "SimpleInferer"})
    with pytest.raises(BundleError) as refused:
        open_predictor(open_bundle(fine), PredictOptions(device="cpu", locator=coarse))
    assert refused.value.code == "LOCATOR_UNFIT"


def test_a_locator_may_take_its_image_whole(fine, coarse, tmp_path):
    case, _ = scene(tmp_path)
    windows = segmented(fine, case, locator=coarse)
    set_key(coarse, inferer={"_target_": "SimpleInferer"})
    padded = json.loads((coarse / "configs" / "inference.json").read_text())["preprocessing"]
    padded["transforms"].append({"_target_": "DivisiblePadd", "keys": "image", "k": 2})
    set_key(coarse, preprocessing=padded)
    assert np.array_equal(segmented(fine, case, locator=coarse).labels, windows.labels)


def test_a_locator_that_gives_no_labels_on_its_own_grid_is_refused(fine, coarse):
    set_key(coarse, postprocessing=[{"_target_": "Activationsd", "keys": "pred", "softmax": True}])
    with pytest.raises(BundleError) as refused:
        open_predictor(open_bundle(fine), PredictOptions(device="cpu", locator=coarse))
    assert refused.value.code == "LOCATOR_UNFIT"


def test_an_unknown_locator_is_refused(fine):
    with pytest.raises(BundleError) as refused:
        open_predictor(open_bundle(fine), PredictOptions(device="cpu", locator="nowhere"))
    assert refused.value.code == "BUNDLE_NOT_FOUND"


def test_a_locator_that_runs_code_is_refused_unless_it_is_allowed(fine, coarse):
    set_key(coarse, inferer={"_target_": "SlidingWindowInferer", "roi_size": "$[16] * 3", "overlap": 0.25})
    options = PredictOptions(device="cpu", locator=coarse)
    with pytest.raises(BundleError) as refused:
        open_locator(open_bundle(fine), options)
    assert refused.value.code == "BUNDLE_RUNS_CODE"
    assert open_locator(open_bundle(fine), options, ["BUNDLE_RUNS_CODE"])


def test_probabilities_of_what_is_not_run_are_refused(fine, coarse):
    with pytest.raises(UsageError) as refused:
        open_predictor(open_bundle(fine), PredictOptions(device="cpu", locator=coarse, probabilities=True))
    assert refused.value.code == "SETTING_INVALID"


@pytest.mark.parametrize("margin_mm", [-1.0, float("nan"), float("inf")])
def test_a_margin_that_is_none_is_refused(margin_mm):
    with pytest.raises(UsageError) as refused:
        PredictOptions(locator_margin_mm=margin_mm)
    assert refused.value.code == "SETTING_INVALID"


@pytest.fixture
def whole_bundle(fine, coarse):
    """A bundle that holds its locator."""
    shutil.move(coarse, fine / "locator")
    set_key(fine, locator="locator", locator_margin_mm=3)
    return fine


def test_a_bundle_brings_its_locator_and_the_options_overrule_it(whole_bundle, make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make("decoy", 1e6).rename(tmp_path / "locator")  # A folder of that name where the command runs is not meant.
    opened = open_bundle(whole_bundle)
    assert open_locator(opened, PredictOptions(locator="none")) is None
    own, wider = (open_locator(opened, PredictOptions(locator_margin_mm=mm)) for mm in (None, 50))
    assert (own.bundle.root, own.margin_mm, wider.margin_mm) == (whole_bundle / "locator", 3, 50)
    other = make("other", spacing_mm=(3, 3, 3))
    assert open_locator(opened, PredictOptions(locator=other)).bundle.root == other


def test_a_shipped_bundle_may_be_named(fine):
    set_key(fine, locator="hippocampus_mr_segmentation")
    assert open_locator(open_bundle(fine), PredictOptions()).bundle.name == "hippocampus_mr_segmentation"


@pytest.mark.parametrize(
    "keys",
    [
        {"locator": "$print(1)"},
        {"locator": "@network_def"},
        {"locator": 3},
        {"locator": ""},
        {"locator_margin_mm": -1},
        {"locator_margin_mm": "wide"},
        {"locator_margin_mm": True},
    ],
    ids=str,
)
def test_a_locator_is_named_in_plain_words(fine, keys):
    set_key(fine, **keys)
    for allow in ((), ("BUNDLE_RUNS_CODE",)):
        with pytest.raises(BundleError) as refused:
            open_bundle(fine, allow)
        assert refused.value.code == "BUNDLE_UNREADABLE"


@pytest.mark.parametrize(
    ("name", "code"),
    [("../coarse_segmentation", "BUNDLE_UNREADABLE"), (".", "BUNDLE_UNREADABLE"), ("absent", "BUNDLE_NOT_FOUND")],
)
def test_a_locator_lies_in_the_bundle(fine, coarse, name, code):
    set_key(fine, locator=name)
    with pytest.raises(BundleError) as refused:
        open_locator(open_bundle(fine), PredictOptions())
    assert refused.value.code == code
    assert code in {finding.code for finding in verify(fine) if not finding.is_note}
    assert open_locator(open_bundle(fine), PredictOptions(locator="none")) is None


def test_a_bundle_is_verified_with_its_locator(whole_bundle):
    assert not [finding for finding in verify(whole_bundle) if not finding.is_note]
    metadata = whole_bundle / "locator" / "configs" / "metadata.json"
    metadata.write_text(json.dumps({**json.loads(metadata.read_text()), "weights_sha256": "0" * 64}))
    assert "WEIGHTS_CHANGED" in {finding.code for finding in verify(whole_bundle)}


def test_verifying_finds_a_locator_for_other_images(fine, make):
    shutil.move(make("other", channels=("T1", "T2")), fine / "locator")
    set_key(fine, locator="locator")
    assert "LOCATOR_UNFIT" in {finding.code for finding in verify(fine)}


def test_the_record_tells_what_was_located_by_what(whole_bundle, tmp_path):
    scene(tmp_path)
    options = PredictOptions(device="cpu", locator_margin_mm=6)
    predict(whole_bundle, tmp_path / "scans", tmp_path / "masks", options=options)
    record = json.loads((tmp_path / "masks" / "predictions.json").read_text())
    (case,) = record["cases"]
    assert record["options"]["locator_margin_mm"] == 6
    assert case["error"] is None
    assert case["notes"].startswith(f"BOX_LOCATED: locator {open_bundle(whole_bundle / 'locator').version} (weights ")


def test_the_command_takes_a_locator(fine, coarse, tmp_path):
    scene(tmp_path)
    words = ["predict", str(fine), str(tmp_path / "scans"), str(tmp_path / "masks"), "--device", "cpu", "--quiet"]
    assert main([*words, "--locator", str(coarse), "--locator-margin", "6"]) == 0
    record = json.loads((tmp_path / "masks" / "predictions.json").read_text())
    assert record["cases"][0]["notes"].startswith("BOX_LOCATED")
    assert record["options"]["locator"] == str(coarse)
    assert main([*words, "--locator", "nowhere"]) == 4


def test_a_dry_run_says_that_its_windows_are_the_most(whole_bundle, tmp_path):
    scene(tmp_path)
    located = dry_run(whole_bundle, tmp_path / "scans", options=PredictOptions(device="cpu", backend="torch"))
    assert located.locator == "locator"
    assert [len(plan.windows) for plan in located.plans] == [60]
    assert "at most" in "\n".join(format_plans(located))
    assert "at most" not in "\n".join(format_plans(replace(located, locator=None)))


def test_a_bundle_with_a_locator_is_not_exported(whole_bundle):
    with pytest.raises(BundleError) as refused:
        describe(open_bundle(whole_bundle), "onnx")
    assert refused.value.code == "EXPORT_UNSUPPORTED"


def test_a_run_of_training_keeps_the_locator(whole_bundle, tmp_path):
    configs, split = read_form(whole_bundle, ""), Split(("a",), ("b",), ("c",), None, "by hand")
    (tmp_path / "run").mkdir()
    begin(whole_bundle, tmp_path / "run", configs, TrainOptions(), Start(tmp_path, split))
    shutil.copytree(whole_bundle / "models", tmp_path / "run" / "models", dirs_exist_ok=True)
    own = open_locator(open_bundle(tmp_path / "run"), PredictOptions())
    assert own.bundle.root == tmp_path / "run" / "locator"
