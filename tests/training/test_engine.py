import csv
import json
import shutil

import numpy as np
import pytest
import torch

import medseg
from medseg.data.splits import Split, read_split, write_split
from medseg.errors import BundleError, DatasetError, GridError, LabelError, LockedError, OutputError, UsageError
from medseg.files import LOCK_NAME, held
from medseg.inference.cohort import predict
from medseg.training.engine import TrainOptions
from tests.conftest import ball, save_nifti


def weights(run):
    return torch.load(run / "models" / "model.pt", weights_only=True)


def log(run):
    with (run / "logs" / "epochs.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_training_makes_a_bundle_that_predicts(tiny_bundle, ball_data, tmp_path):
    seen, steps = [], []
    run = medseg.train(
        tiny_bundle,
        ball_data,
        tmp_path / "run",
        options=TrainOptions(epochs=6),
        on_epoch=seen.append,
        on_step=lambda step, length: steps.append((step, length)),
    )
    assert [record["epoch"] for record in seen] == [1, 2, 3, 4, 5, 6]
    assert steps[-1] == (12, 2)
    assert seen[-1]["loss"] < seen[0]["loss"]
    assert run.best_dice == max(float(row["val_mean_dice"]) for row in log(run.folder))  # rounded alike
    assert predict(run.folder, ball_data / "images", tmp_path / "masks").exit_code == 0
    assert not torch.equal(*(next(iter(weights(place).values())) for place in (tiny_bundle, run.folder)))


def test_the_shipped_bundle_is_not_touched(tiny_bundle, ball_data, tmp_path):
    before = {path: path.read_bytes() for path in tiny_bundle.rglob("*") if path.is_file()}
    medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=TrainOptions(epochs=1))
    assert {path: path.read_bytes() for path in tiny_bundle.rglob("*") if path.is_file()} == before


def test_changes_are_written_into_training_and_prediction(tiny_bundle, ball_data, tmp_path):
    options = TrainOptions(epochs=1, network="res-unet", loss="dice-focal", settings={"train::trainer::max_epochs": 1})
    medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=options)
    train, inference = (
        json.loads((tmp_path / "run" / "configs" / f"{n}.json").read_text()) for n in ("train", "inference")
    )
    assert (train["network_name"], train["loss_name"], train["epochs"]) == ("res-unet", "dice-focal", 1)
    assert inference["network_name"] == "res-unet"
    assert "loss_name" not in inference


def test_the_split_is_recorded_and_used(tiny_bundle, ball_data, tmp_path):
    medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=TrainOptions(epochs=1))
    split = read_split(tmp_path / "run" / "configs" / "split.json")
    assert (len(split.train), len(split.validation), len(split.test)) == (4, 2, 2)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["cases"] == {"train": 4, "validation": 2, "test": 2}


def test_a_resumed_training_gives_the_uninterrupted_one_s_weights(tiny_bundle, ball_data, tmp_path):
    medseg.train(tiny_bundle, ball_data, tmp_path / "whole", options=TrainOptions(epochs=4))

    class Stop(KeyboardInterrupt):
        pass

    def stop_after_two(record):
        if record["epoch"] == 3:
            raise Stop

    with pytest.raises(Stop):
        medseg.train(
            tiny_bundle, ball_data, tmp_path / "parts", options=TrainOptions(epochs=4), on_epoch=stop_after_two
        )
    run = medseg.train(tiny_bundle, ball_data, tmp_path / "parts", options=TrainOptions(resume=True))
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert run.epochs == 4
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    last = [torch.load(tmp_path / n / "models" / "checkpoint.pt", weights_only=True) for n in ("whole", "parts")]
    assert all(torch.equal(last[0]["network"][key], last[1]["network"][key]) for key in last[0]["network"])


def test_resuming_never_overwrites_better_weights(tiny_bundle, ball_data, tmp_path):
    medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=TrainOptions(epochs=1))
    path = tmp_path / "run" / "models" / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    state["best_metric"] = 2.0
    torch.save(state, path)
    before = weights(tmp_path / "run")
    medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=TrainOptions(epochs=2, resume=True))
    assert all(torch.equal(before[key], value) for key, value in weights(tmp_path / "run").items())


def test_a_mistyped_setting_is_refused_with_the_nearest(tiny_bundle, ball_data, tmp_path):
    options = TrainOptions(settings={"lerning_rate": 0.1})
    with pytest.raises(UsageError, match=r"SETTING_UNKNOWN.*did you mean learning_rate"):
        medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=options)
    assert not (tmp_path / "run").exists()


def test_a_mistyped_nested_setting_is_refused(tiny_bundle, ball_data, tmp_path):
    options = TrainOptions(settings={"train::trainer::max_epoch": 1})
    with pytest.raises(UsageError, match="did you mean max_epochs"):
        medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=options)


@pytest.mark.parametrize(("options", "code"), [({"network": "res-unnet"}, "res-unet"), ({"loss": "dise"}, "dice")])
def test_an_unknown_network_or_loss_names_the_nearest(tiny_bundle, ball_data, tmp_path, options, code):
    with pytest.raises(UsageError, match=f"UNKNOWN.*{code}"):
        medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=TrainOptions(**options))


def test_a_run_is_never_overwritten(tiny_bundle, ball_data, tmp_path):
    medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=TrainOptions(epochs=1))
    with pytest.raises(OutputError, match="RUN_EXISTS.*resume"):
        medseg.train(tiny_bundle, ball_data, tmp_path / "run")


def test_there_must_be_something_to_resume(tiny_bundle, ball_data, tmp_path):
    with pytest.raises(BundleError, match="NOTHING_TO_RESUME"):
        medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=TrainOptions(resume=True))


def test_a_data_set_with_other_labels_is_refused(tiny_bundle, ball_data, tmp_path):
    (ball_data / "imagesTr").mkdir()
    description = {
        "labels": {"0": "background", "1": "a", "2": "b"},
        "training": [{"image": "images/ball_0.nii.gz", "label": "labels/ball_0.nii.gz"}],
    }
    (ball_data / "dataset.json").write_text(json.dumps(description))
    with pytest.raises(DatasetError, match="LABELS_DIFFER"):
        medseg.train(tiny_bundle, ball_data, tmp_path / "run")


def test_a_bundle_without_training_says_so(tiny_bundle, ball_data, tmp_path):
    shutil.move(tiny_bundle / "configs" / "train.json", tmp_path / "train.json")
    with pytest.raises(BundleError, match=r"BUNDLE_INCOMPLETE.*train\.json"):
        medseg.train(tiny_bundle, ball_data, tmp_path / "run")


def test_a_label_on_another_grid_stops_the_training_with_its_name(tiny_bundle, ball_data, tmp_path):
    mask = ball(3)[1]
    for case in range(8):
        save_nifti(mask, ball_data / "labels" / f"ball_{case}.nii.gz", np.diag([2.0, 1.0, 1.0, 1.0]))
    with pytest.raises(GridError, match=r"GRID_MISMATCH.*ball_\d\.nii\.gz"):
        medseg.train(tiny_bundle, ball_data, tmp_path / "run")


def test_masks_of_0_and_255_are_taken_as_0_and_1(tiny_bundle, ball_data, tmp_path):
    for case in range(8):
        save_nifti(ball(case)[1] * 255, ball_data / "labels" / f"ball_{case}.nii.gz")
    mapped = medseg.train(tiny_bundle, ball_data, tmp_path / "mapped", options=TrainOptions(epochs=1))
    for case in range(8):
        save_nifti(ball(case)[1], ball_data / "labels" / f"ball_{case}.nii.gz")
    plain = medseg.train(tiny_bundle, ball_data, tmp_path / "plain", options=TrainOptions(epochs=1))
    assert all(torch.equal(weights(mapped.folder)[key], value) for key, value in weights(plain.folder).items())


def test_a_label_that_the_bundle_does_not_have_stops_the_training(tiny_bundle, ball_data, tmp_path):
    for case in range(8):
        save_nifti(ball(case)[1] * 7, ball_data / "labels" / f"ball_{case}.nii.gz")
    with pytest.raises(LabelError, match="LABEL_UNEXPECTED.*7"):
        medseg.train(tiny_bundle, ball_data, tmp_path / "run")


def test_a_new_split_can_be_asked_for_where_the_bundle_s_own_does_not_fit(tiny_bundle, ball_data, tmp_path):
    own = Split(("ball_0", "other"), ("ball_1",), (), None, "by hand")
    write_split(own, tiny_bundle / "configs" / "split.json")
    with pytest.raises(DatasetError, match="SPLIT_PARTIAL.*--new-split"):
        medseg.train(tiny_bundle, ball_data, tmp_path / "refused", options=TrainOptions(epochs=1))
    medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=TrainOptions(epochs=1, new_split=True))
    assert len(read_split(tmp_path / "run" / "configs" / "split.json").ids) == 8


def test_a_run_does_not_boast_with_its_bundle_s_scores(tiny_bundle, ball_data, tmp_path):
    path = tiny_bundle / "configs" / "metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eval_metrics": {"ball": 0.99}}))
    medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=TrainOptions(epochs=1, loss="dice"))
    metadata = json.loads((tmp_path / "run" / "configs" / "metadata.json").read_text())
    assert metadata["eval_metrics"] == {}
    card = (tmp_path / "run" / "docs" / "README.md").read_text()
    assert "Trained by medseg" in card
    assert "- loss_name: dice" in card


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != LOCK_NAME}


def test_a_bundle_is_never_trained_into_itself_or_another(tiny_bundle, ball_data, tmp_path):
    other = shutil.copytree(tiny_bundle, tmp_path / "other")
    (tiny_bundle / "models" / "model.pt").unlink()
    for output in (tiny_bundle, other):
        before = content(output)
        with pytest.raises(OutputError, match="RUN_EXISTS"):
            medseg.train(tiny_bundle, ball_data, output)
        assert content(output) == before


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_that_another_run_holds_is_not_changed(tiny_bundle, ball_data, tmp_path, resume):
    if resume:
        medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=TrainOptions(epochs=1))
    with held(tmp_path / "run"):
        before = content(tmp_path / "run")
        with pytest.raises(LockedError, match="OUTPUT_LOCKED"):
            medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=TrainOptions(epochs=2, resume=resume))
        assert content(tmp_path / "run") == before


@pytest.mark.parametrize(
    ("settings", "code"), [({"learning_rate": 0.5}, "RESUME_SETTING"), ({"lerning_rate": 0.5}, "SETTING_UNKNOWN")]
)
def test_a_resumed_run_keeps_its_settings(tiny_bundle, ball_data, tmp_path, settings, code):
    medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=TrainOptions(epochs=1))
    before = content(tmp_path / "run")
    options = TrainOptions(epochs=2, settings=settings, resume=True)
    with pytest.raises(UsageError, match=code):
        medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=options)
    assert content(tmp_path / "run") == before


def test_more_epochs_and_settings_said_again_are_recorded_when_resuming(tiny_bundle, ball_data, tmp_path):
    first = TrainOptions(epochs=1, loss="dice")
    medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=first)
    again = TrainOptions(epochs=2, loss="dice", resume=True)
    assert medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=again).epochs == 2
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["overrides"] == {"epochs": 2, "loss_name": "dice"}
    assert record["bundle"] == tiny_bundle.name


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("inference", None),
        ("metadata", None),
        ("metadata", "network_data_format"),
        *(("train", key) for key in ("epochs", "seed", "fractions", "checkpoints")),
    ],
)
def test_an_incomplete_bundle_is_refused_by_what_it_lacks(tiny_bundle, ball_data, tmp_path, name, key):
    path = tiny_bundle / "configs" / f"{name}.json"
    config = json.loads(path.read_text())
    path.unlink()
    if key:
        path.write_text(json.dumps({other: value for other, value in config.items() if other != key}))
    with pytest.raises(BundleError, match=f"BUNDLE_INCOMPLETE.*{name}.json.*{key or ''}"):
        medseg.train(tiny_bundle, ball_data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_configuration_whose_trainer_is_none_is_told_with_a_code(tiny_bundle, ball_data, tmp_path):
    options = TrainOptions(settings={"train::trainer": 5})
    with pytest.raises(BundleError, match="TRAINING_FAILED.*AttributeError"):
        medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=options, on_epoch=print)


def test_a_training_without_a_validated_epoch_says_so(tiny_bundle, ball_data, tmp_path):
    options = TrainOptions(epochs=1, settings={"val_interval": 5})
    with pytest.raises(BundleError, match="NOT_VALIDATED.*val_interval"):
        medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=options)


def test_only_licence_configurations_and_pages_are_copied(tiny_bundle, ball_data, tmp_path):
    for name in ("data", "predictions"):
        (tiny_bundle / name).mkdir()
        (tiny_bundle / name / "a.txt").write_text("large")
    medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=TrainOptions(epochs=1))
    names = {path.name for path in (tmp_path / "run").iterdir()} - {LOCK_NAME}
    assert names == {"LICENSE", "configs", "docs", "logs", "models", "run.json"}


def test_a_start_after_a_failed_one_draws_its_own_split(tiny_bundle, ball_data, tmp_path):
    (tmp_path / "run" / "configs").mkdir(parents=True)
    ids = tuple(f"ball_{case}" for case in range(8))
    write_split(Split(ids[:1], ids[1:2], ids[2:], None, "left"), tmp_path / "run" / "configs" / "split.json")
    medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=TrainOptions(epochs=1))
    assert len(read_split(tmp_path / "run" / "configs" / "split.json").train) == 4


def test_a_training_of_no_epochs_is_refused():
    with pytest.raises(UsageError, match="SETTING_INVALID: epochs"):
        TrainOptions(epochs=0)
