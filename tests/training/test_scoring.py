import json
import shutil

import numpy as np
import pytest
from monai.bundle import ConfigParser
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, MapLabelValued

import medseg
from medseg.bundle.build import write_bundle
from medseg.bundle.settings import Settings
from medseg.data.read import read, read_mask
from medseg.data.transforms import AlignToImaged
from medseg.data.write import write
from medseg.errors import BundleError, DatasetError, ImageError, UsageError
from medseg.evaluation.runs import is_scored
from medseg.networks import build_network, count_parameters
from medseg.options import TrainOptions
from medseg.training.scoring import score_part
from tests.conftest import ball, save_nifti


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def run(tiny_bundle, ball_data, tmp_path, kept):
    """A trained run of its own for each test; trained once."""
    if not (kept / "run").exists():
        medseg.train(tiny_bundle, ball_data, kept / "run", options=TrainOptions(epochs=1))
    return shutil.copytree(kept / "run", tmp_path / "run")


def test_a_part_is_scored_as_predict_and_evaluate_score_it(run, ball_data, tmp_path):
    evaluation = score_part(run, ball_data, "test")
    split = json.loads((run / "configs" / "split.json").read_text())
    medseg.predict(run, ball_data / "images", tmp_path / "masks")
    whole = medseg.evaluate(tmp_path / "masks", ball_data / "labels", progress=False)
    expected = {(row.case, row.value): row.scores for row in whole.rows if row.case in split["test"]}
    found = {(row.case, row.value): row.scores for row in evaluation.rows}
    assert found.keys() == expected.keys()
    assert all(found[key] == pytest.approx(expected[key], nan_ok=True) for key in expected)


def scored_through_files(run, data, part, folder):
    """The scores by way of `predict` from a list and `evaluate` on references written as files."""
    config = json.loads((run / "configs" / "train.json").read_text())
    parser = ConfigParser(config)
    parser.update({"bundle_root": str(run), "dataset_dir": str(data), "part": part})
    records = parser.get_parsed_content("validate::dataset::data")
    rows = [f"{record['case_id']},{record['image']}" for record in records]
    folder.mkdir()
    (folder / "scans.csv").write_text("\n".join(["id,image", *rows]))
    predictions = medseg.predict(run, folder / "scans.csv", folder / "masks")
    kept = (LoadImaged, EnsureChannelFirstd, AlignToImaged, MapLabelValued)
    steps = [step for step in parser.get_parsed_content("validate::preprocessing").transforms if isinstance(step, kept)]
    mask_of = {done.case: done.mask for done in predictions.records}
    for record in records:
        sample = Compose(steps)({key: record[key] for key in ("image", "label")})
        array = np.asarray(sample["label"])[0].astype(np.uint8)
        write(
            array, np.asarray(sample["label"].affine, dtype=float), folder / "references" / mask_of[record["case_id"]]
        )
    return medseg.evaluate(folder / "masks", folder / "references", progress=False)


def assert_same(found, expected):
    assert repr(found.rows) == repr(expected.rows)
    assert repr(found.summaries) == repr(expected.summaries)
    assert found.confusions.keys() == expected.confusions.keys()
    assert all((found.confusions[case] == expected.confusions[case]).all() for case in expected.confusions)
    assert (found.labels, found.notes, found.missing) == (expected.labels, expected.notes, expected.missing)


def test_scores_are_those_by_way_of_written_references(run, ball_data, tmp_path):
    oblique = np.array([[0.7, -0.1, 0, 5], [0.1, 0.7, 0, -3], [0, 0, 1.25, 9], [0, 0, 0, 1]])
    for case in range(8):
        for kind in ("images", "labels"):
            path = ball_data / kind / f"ball_{case}.nii.gz"
            save_nifti(read(path).array, path, oblique)
    assert_same(score_part(run, ball_data, "test"), scored_through_files(run, ball_data, "test", tmp_path / "files"))


@pytest.mark.parametrize("suffix", [".png", ".nii.gz"])
def test_scores_of_pictures_and_flat_images_are_those_by_way_of_written_references(tmp_path, licence, suffix):
    settings = Settings(
        name="spot_segmentation",
        title="Spot",
        description="A spot.",
        intended_use="Tests.",
        modality="photograph",
        channels=("grey",),
        labels={0: "background", 1: "spot"},
        activation="sigmoid",
        data_source="made by the tests",
        patch_voxels=(16, 16),
        intensity={"kind": "unit"},
        network={"name": "unet", "filters": 2, "depth": 2},
    )
    write_bundle(settings, tmp_path, licence)
    data = tmp_path / "data"
    rng = np.random.default_rng(1)
    for case in range(6):
        label = np.zeros((20, 24), np.uint8)
        label[4 + case : 12, 5:15] = 1
        image = (label * 120 + rng.integers(0, 60, label.shape)).astype(np.uint8)
        for kind, array in (("images", image), ("labels", label * 255 if suffix == ".png" else label)):
            (data / kind).mkdir(parents=True, exist_ok=True)
            write(array, np.eye(4), data / kind / f"c{case}{suffix}")
    options = TrainOptions(epochs=1, settings={"fractions": [0.5, 0.2, 0.3]})
    medseg.train(tmp_path / settings.name, data, tmp_path / "run", options=options)
    found = score_part(tmp_path / "run", data, "test")
    assert found.rows
    assert_same(found, scored_through_files(tmp_path / "run", data, "test", tmp_path / "files"))


def test_a_reference_that_cannot_be_read_stops_the_scoring_with_its_case(run, ball_data):
    (case,) = json.loads((run / "configs" / "split.json").read_text())["test"][:1]
    (ball_data / "labels" / f"{case}.nii.gz").write_bytes(b"no image")
    with pytest.raises(ImageError, match=case):
        score_part(run, ball_data, "test")
    assert not is_scored(run, "test")


def test_the_folder_says_what_was_scored(run, ball_data):
    assert not is_scored(run, "validation")
    score_part(run, ball_data, "validation")
    assert is_scored(run, "validation")
    assert not is_scored(run, "test")
    scored = json.loads((run / "scores_validation" / "scored.json").read_text())
    network = build_network("unet", 3, 1, 2, unet_options={"filters": 4, "depth": 2})
    assert scored["parameters"] == count_parameters(network)
    assert scored["best_epoch"] == 1
    assert scored["groups"]["ball_3"] == "ball_3"
    assert len(list((run / "masks_validation").glob("*.nii.gz"))) == 2
    assert not list(run.glob(".references_*"))


def test_scores_of_other_weights_do_not_count(run, ball_data):
    score_part(run, ball_data, "test")
    with (run / "models" / "model.pt").open("ab") as file:
        file.write(b"changed")
    assert not is_scored(run, "test")


def test_what_an_interrupted_scoring_left_is_replaced(run, ball_data):
    first = score_part(run, ball_data, "test")
    (run / "scores_test" / "scored.json").unlink()
    (run / "masks_test" / "predictions.json").unlink()
    save_nifti(np.zeros((3, 3, 3), np.uint8), run / "masks_test" / "left_over.nii.gz")
    assert repr(score_part(run, ball_data, "test").rows) == repr(first.rows)
    assert not (run / "masks_test" / "left_over.nii.gz").exists()


def test_references_are_read_as_training_reads_them(run, ball_data):
    first = score_part(run, ball_data, "test")
    for case in range(8):
        mask = read_mask(ball_data / "labels" / f"ball_{case}.nii.gz").array
        save_nifti(mask[::-1] * 255, ball_data / "labels" / f"ball_{case}.nii.gz", flipped(mask.shape))
    assert repr(score_part(run, ball_data, "test").rows) == repr(first.rows)


def flipped(shape):
    affine = np.diag([-1.0, 1.0, 1.0, 1.0])
    affine[0, 3] = shape[0] - 1
    return affine


def test_a_case_that_fails_stops_the_scoring_with_its_name(run, ball_data):
    (case,) = json.loads((run / "configs" / "split.json").read_text())["test"][:1]
    image = ball(0)[0]
    image[0, 0, 0] = np.nan
    save_nifti(image, ball_data / "images" / f"{case}.nii.gz")
    with pytest.raises(ImageError, match=f"SCORING_FAILED.*{case}.*NONFINITE"):
        score_part(run, ball_data, "test")
    assert not is_scored(run, "test")


def test_a_part_that_is_none_or_empty_is_refused(run, ball_data):
    with pytest.raises(UsageError, match="NAME_UNKNOWN"):
        score_part(run, ball_data, "tset")
    path = run / "configs" / "split.json"
    split = json.loads(path.read_text())
    path.write_text(json.dumps({**split, "train": split["train"] + split["test"], "test": []}))
    with pytest.raises(DatasetError, match="PART_EMPTY"):
        score_part(run, ball_data, "test")


def test_a_damaged_configuration_is_named(run, ball_data):
    (run / "configs" / "train.json").write_text("{")
    with pytest.raises(BundleError, match="BUNDLE_UNREADABLE.*train.json"):
        score_part(run, ball_data, "test")
