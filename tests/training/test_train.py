import csv
import json
import shutil

import numpy as np
import pytest
import torch
import yaml

import medseg
from medseg.bundle.config import read_form
from medseg.bundle.verify import verify
from medseg.data.cases import open_dataset
from medseg.data.splits import Split, read_split, write_split
from medseg.errors import BundleError, DatasetError, LockedError, OutputError, UsageError
from medseg.files import LOCK_NAME, hold
from medseg.inference.predict import predict
from medseg.options import TrainOptions
from medseg.training.log import LOG_COLUMNS
from medseg.training.train import check_start
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


class Stop(KeyboardInterrupt):
    """As Ctrl-C would end a run."""


def stopped_at(epoch):
    def stop(record):
        if record["epoch"] == epoch:
            raise Stop

    return stop


def same(one, other):
    """Whether two states hold equal tensors and numbers."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


VARIANTS = {
    "adamw": {},
    "sgd, plateau, averaged": {
        "optimizer_name": "sgd",
        "momentum": 0.9,
        "schedule_name": "plateau",
        "average_decay": 0.9,
        "select_by": "val_loss",
    },
    "accumulated, clipped, cosine": {
        "accumulation_steps": 2,
        "batch_size": 1,
        "clip_norm": 0.5,
        "schedule_name": "cosine",
        "network_options": {"filters": 4, "depth": 2, "norm": "batch"},
    },
    "ended early": {"patience": 1, "min_delta": 10.0},
}


def test_the_same_seed_gives_the_same_weights(tiny_bundle, ball_data, tmp_path):
    dropout = {"network_options": {"filters": 4, "depth": 2, "dropout": 0.3}}
    changes = {"a": {}, "b": {}, "unhurried": {"train::dataloader::ahead": 0}, "other": {"seed": 7}}
    runs = {
        name: medseg.train(
            tiny_bundle, ball_data, tmp_path / name, options=TrainOptions(epochs=2, settings={**dropout, **change})
        )
        for name, change in changes.items()
    }
    found = {name: weights(run.folder) for name, run in runs.items()}
    assert same(found["a"], found["b"])
    # Whether batches are made ahead changes nothing: not the cases' order, their patches or what dropout leaves out.
    assert same(found["a"], found["unhurried"])
    assert not same(found["a"], found["other"])


def test_the_allocator_is_told_before_the_first_step(tiny_bundle, ball_data, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr("medseg.allocator.keep_freed_memory", lambda: told.append("allocator"))
    options = TrainOptions(epochs=1)
    medseg.train(
        tiny_bundle, ball_data, tmp_path / "run", options=options, on_step=lambda step, length: told.append(step)
    )
    assert told == ["allocator", 1, 2]


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_a_resumed_training_gives_the_uninterrupted_one_s_weights(tiny_bundle, ball_data, tmp_path, settings):
    options = TrainOptions(epochs=3, settings=settings)
    medseg.train(tiny_bundle, ball_data, tmp_path / "whole", options=options)
    with pytest.raises(Stop):
        medseg.train(tiny_bundle, ball_data, tmp_path / "parts", options=options, on_epoch=stopped_at(2))
    run = medseg.train(tiny_bundle, ball_data, tmp_path / "parts", options=TrainOptions(resume=True))
    assert run.epochs == (2 if "patience" in settings else 3)
    for name in ("model", "checkpoint"):
        whole, parts = (
            torch.load(tmp_path / run / "models" / f"{name}.pt", weights_only=True) for run in ("whole", "parts")
        )
        assert same(whole, parts), name
    plain = [[{**row, "seconds": ""} for row in log(tmp_path / name)] for name in ("whole", "parts")]
    assert plain[0] == plain[1]
    batches = [(tmp_path / name / "logs" / "batches.csv").read_text() for name in ("whole", "parts")]
    assert batches[0] == batches[1]


def test_a_training_killed_within_an_epoch_repeats_that_epoch(tiny_bundle, ball_data, tmp_path):
    options = TrainOptions(epochs=3)
    medseg.train(tiny_bundle, ball_data, tmp_path / "whole", options=options)

    def stop(step, length):
        if step == length + 1:
            raise Stop

    with pytest.raises(Stop):
        medseg.train(tiny_bundle, ball_data, tmp_path / "parts", options=options, on_step=stop)
    medseg.train(tiny_bundle, ball_data, tmp_path / "parts", options=TrainOptions(resume=True))
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert [row["epoch"] for row in log(tmp_path / "parts")] == ["1", "2", "3"]


def test_a_training_that_ended_before_its_first_checkpoint_begins_again(tiny_bundle, ball_data, tmp_path):
    options = TrainOptions(epochs=2, settings={"learning_rate": 0.02})
    medseg.train(tiny_bundle, ball_data, tmp_path / "whole", options=options)
    with pytest.raises(Stop):
        medseg.train(tiny_bundle, ball_data, tmp_path / "parts", options=options, on_epoch=stopped_at(1))
    (tmp_path / "parts" / "models" / "checkpoint.pt").unlink()  # as where it died after its first validation
    with pytest.raises(OutputError, match="OUTPUT_EXISTS.*--resume"):
        medseg.train(tiny_bundle, ball_data, tmp_path / "parts", options=options)
    run = medseg.train(tiny_bundle, ball_data, tmp_path / "parts", options=TrainOptions(resume=True))
    assert run.epochs == 2
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert [row["epoch"] for row in log(tmp_path / "parts")] == ["1", "2"]


def test_a_training_whose_configuration_was_changed_by_hand_is_not_resumed(tiny_bundle, ball_data, tmp_path):
    medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=TrainOptions(epochs=1))
    path = tmp_path / "run" / "configs" / "train.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "weight_decay": 0.5}))
    before = content(tmp_path / "run")
    with pytest.raises(UsageError, match=r"RESUME_SETTING.*weight_decay"):
        medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=TrainOptions(epochs=2, resume=True))
    assert content(tmp_path / "run") == before


def test_the_log_has_what_was_measured_in_each_epoch(tiny_bundle, ball_data, tmp_path):
    medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=TrainOptions(epochs=1))
    row = log(tmp_path / "run")[0]
    assert tuple(row) == LOG_COLUMNS
    assert all(float(row[name]) >= 0 for name in ("loss", "val_loss", "train_mean_dice", "val_mean_dice", "seconds"))
    with (tmp_path / "run" / "logs" / "batches.csv").open() as file:
        batches = list(csv.DictReader(file))
    for part, name in (("train", "loss"), ("validation", "val_loss")):
        losses = [float(row["loss"]) for row in batches if row["part"] == part]
        assert len(losses) == 2
        assert np.mean(losses) == pytest.approx(float(row[name]), rel=1e-5)


def form(bundle, name, **files):
    for file, changes in files.items():
        (bundle / "configs" / f"{file}_{name}.json").write_text(json.dumps(changes))


def test_a_form_is_laid_over_the_bundle_before_other_changes(tiny_bundle, ball_data, tmp_path):
    smaller = {"network_options": {"filters": 2, "depth": 2}}
    form(
        tiny_bundle,
        "small",
        train={**smaller, "epochs": 3, "batch_size": 1, "train::inferer::is_enabled": False},
        inference=smaller,
        metadata={"version": "9.9.9"},
    )
    form(tiny_bundle, "other", train={"epochs": 7})
    options = TrainOptions(form="small", settings={"batch_size": 4, "epochs": 1})
    medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=options)
    configs = tmp_path / "run" / "configs"
    train, inference, metadata = (
        json.loads((configs / f"{name}.json").read_text()) for name in ("train", "inference", "metadata")
    )
    assert (train["epochs"], train["batch_size"], train["train"]["inferer"]["is_enabled"]) == (1, 4, False)
    assert train["network_options"] == inference["network_options"] == smaller["network_options"]
    assert metadata["version"] == "9.9.9"
    assert not list(configs.glob("*_small.json")) + list(configs.glob("*_other.json"))
    assert json.loads((tmp_path / "run" / "run.json").read_text())["form"] == "small"
    assert weights(tmp_path / "run").keys() == weights(tiny_bundle).keys()
    assert predict(tmp_path / "run", ball_data / "images", tmp_path / "masks").exit_code == 0


def test_an_unknown_form_is_refused_with_those_that_there_are(tiny_bundle, ball_data, tmp_path):
    form(tiny_bundle, "volumetric", inference={"amp": False})
    with pytest.raises(UsageError, match="NAME_UNKNOWN.*volumetric"):
        medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=TrainOptions(form="large"))
    assert not (tmp_path / "run").exists()


def to_yaml(path):
    path.with_suffix(".yaml").write_text(yaml.safe_dump(json.loads(path.read_text()), sort_keys=False))
    path.unlink()


def test_a_form_in_yaml_over_a_bundle_in_yaml_is_sound_and_trained_and_predicted_with(tiny_bundle, ball_data, tmp_path):
    form(tiny_bundle, "small", train={"epochs": 1, "batch_size": 1}, inference={"mirror_axes": []})
    for path in [*(tiny_bundle / "configs").glob("*_small.json"), tiny_bundle / "configs" / "train.json"]:
        to_yaml(path)
    assert [finding for finding in verify(tiny_bundle) if not finding.is_note] == []
    medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=TrainOptions(form="small"))
    configs = tmp_path / "run" / "configs"
    assert json.loads((configs / "train.json").read_text())["batch_size"] == 1
    assert json.loads((configs / "inference.json").read_text())["mirror_axes"] == []
    assert not list(configs.glob("*.y*ml"))
    assert predict(tmp_path / "run", ball_data / "images", tmp_path / "masks").exit_code == 0


def test_what_json_cannot_hold_is_refused_before_the_folder_is_made(tiny_bundle, ball_data, tmp_path):
    (tiny_bundle / "configs" / "train_dated.yaml").write_text("epochs: 1\nnote: 2026-01-01\n")
    with pytest.raises(BundleError, match="BUNDLE_UNREADABLE.*note: .*date is not JSON"):
        medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=TrainOptions(form="dated"))
    assert not (tmp_path / "run").exists()


def test_a_split_that_is_given_is_trained_on(tiny_bundle, ball_data, tmp_path):
    ids = tuple(f"ball_{case}" for case in range(8))
    split = Split(ids[2:5], ids[5:7], (*ids[:2], ids[7]), 4, "by the test")
    medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=TrainOptions(epochs=1, split=split))
    written = read_split(tmp_path / "run" / "configs" / "split.json")
    assert (written.train, written.validation, set(written.test)) == (ids[2:5], ids[5:7], set(split.test))


def test_a_split_file_named_in_the_settings_is_the_one_that_the_run_records(tiny_bundle, ball_data, tmp_path):
    ids = tuple(f"ball_{case}" for case in range(8))
    named = write_split(Split(ids[:3], ids[3:5], ids[5:], None, "by hand"), tmp_path / "named.json")
    options = TrainOptions(settings={"split_file": str(named)})
    assert (
        check_start(tiny_bundle, tmp_path / "run", open_dataset(ball_data), read_form(tiny_bundle, None), options).train
        == ids[:3]
    )


def test_sizes_of_the_parts_may_be_a_ratio(tiny_bundle, ball_data, tmp_path):
    options = TrainOptions(settings={"fractions": "6:1:1"})
    split = check_start(tiny_bundle, tmp_path / "run", open_dataset(ball_data), read_form(tiny_bundle, None), options)
    assert (len(split.train), len(split.validation), len(split.test)) == (6, 1, 1)


@pytest.mark.parametrize("ids", [("ball_0", "ball_1"), ("other_0", "other_1")])
def test_a_split_that_does_not_name_the_data_set_s_cases_is_refused(tiny_bundle, ball_data, tmp_path, ids):
    options = TrainOptions(split=Split(ids[:1], ids[1:], (), None, "by the test"))
    with pytest.raises(DatasetError, match="SPLIT_PARTIAL"):
        medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("begun", [{"new_split": True}, {"form": "small"}, {"split": Split(("a",), ("b",), (), 1, "")}])
def test_what_a_run_began_with_is_not_given_again_when_it_is_resumed(begun):
    with pytest.raises(UsageError, match=f"RESUME_SETTING: {next(iter(begun))}"):
        TrainOptions(resume=True, **begun)


def test_a_given_split_and_a_new_one_go_against_each_other():
    with pytest.raises(UsageError, match="SETTING_INVALID: new_split"):
        TrainOptions(split=Split(("a",), ("b",), (), None, ""), new_split=True)


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
    with pytest.raises(OutputError, match="OUTPUT_EXISTS.*resume"):
        medseg.train(tiny_bundle, ball_data, tmp_path / "run")


def test_there_must_be_something_to_resume(tiny_bundle, ball_data, tmp_path):
    with pytest.raises(BundleError, match="NOTHING_TO_RESUME"):
        medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=TrainOptions(resume=True))


def test_a_data_set_with_other_labels_is_refused(tiny_bundle, ball_data, tmp_path):
    (ball_data / "imagesTr").mkdir()
    description = {
        "labels": {"0": "background", "1": "a", "2": "b"},
        "training": [{key: f"{key}s/ball_{n}.nii.gz" for key in ("image", "label")} for n in range(8)],
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
    with pytest.raises(DatasetError, match=r"(?s)GRID_MISMATCH.*ball_0"):
        medseg.train(tiny_bundle, ball_data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


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
    with pytest.raises(DatasetError, match="(?s)LABEL_UNEXPECTED.*ball_0.*7"):
        medseg.train(tiny_bundle, ball_data, tmp_path / "run")


def test_a_new_split_can_be_asked_for_where_the_bundle_s_own_does_not_fit(tiny_bundle, ball_data, tmp_path):
    own = Split(("ball_0", "other"), ("ball_1",), (), None, "by hand")
    write_split(own, tiny_bundle / "configs" / "split.json")
    with pytest.raises(DatasetError, match="SPLIT_PARTIAL.*--new-split"):
        medseg.train(tiny_bundle, ball_data, tmp_path / "refused", options=TrainOptions(epochs=1))
    medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=TrainOptions(epochs=1, new_split=True))
    assert len(read_split(tmp_path / "run" / "configs" / "split.json").ids) == 8


@pytest.fixture
def small_form(tiny_bundle):
    """A form with a split of its own; returns what writes that."""
    (tiny_bundle / "configs" / "train_small.json").write_text("{}")
    return lambda *parts: write_split(Split(*parts, None, "by hand"), tiny_bundle / "configs" / "split_small.json")


def test_the_split_of_a_form_is_the_one_that_is_trained_on(tiny_bundle, ball_data, tmp_path, small_form):
    ids = tuple(f"ball_{case}" for case in range(8))
    small_form(ids[4:], ids[2:4], ids[:2])
    write_split(Split(ids[:4], ids[4:6], ids[6:], None, "by hand"), tiny_bundle / "configs" / "split.json")
    for form, test in (("small", ids[:2]), (None, ids[6:])):
        configs, options = read_form(tiny_bundle, form), TrainOptions(form=form)
        split = check_start(tiny_bundle, tmp_path / "run", open_dataset(ball_data), configs, options)
        assert split.test == test


@pytest.mark.parametrize("others", [("more",), ()])
def test_a_form_s_split_with_some_of_the_cases_is_refused(tiny_bundle, ball_data, tmp_path, small_form, others):
    small_form(("ball_0", *others), ("ball_1",), ("ball_2",))
    with pytest.raises(DatasetError, match="SPLIT_PARTIAL.*--new-split"):
        medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=TrainOptions(epochs=1, form="small"))
    assert not (tmp_path / "run").exists()
    options = TrainOptions(form="small", new_split=True)
    configs = read_form(tiny_bundle, "small")
    assert len(check_start(tiny_bundle, tmp_path / "run", open_dataset(ball_data), configs, options).ids) == 8


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
        with pytest.raises(OutputError, match="OUTPUT_EXISTS"):
            medseg.train(tiny_bundle, ball_data, output)
        assert content(output) == before


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_that_another_run_holds_is_not_changed(tiny_bundle, ball_data, tmp_path, resume):
    if resume:
        medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=TrainOptions(epochs=1))
    with hold(tmp_path / "run"):
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
    options = TrainOptions(settings={"train::trainer": {"_target_": "builtins.dict"}})
    with pytest.raises(BundleError, match="TRAINING_FAILED.*AttributeError"):
        medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=options)


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


@pytest.mark.parametrize("options", [{"epochs": 0}, {"settings": {"epochs": 2.5}}, {"settings": {"epochs": "x"}}])
def test_a_training_of_no_epochs_is_refused(options):
    with pytest.raises(UsageError, match="SETTING_INVALID: epochs"):
        TrainOptions(**options)


@pytest.mark.parametrize("resume", [False, True])
def test_a_value_of_the_wrong_kind_is_refused_before_anything_is_written(tiny_bundle, ball_data, tmp_path, resume):
    if resume:
        medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=TrainOptions(epochs=1))
    before = content(tmp_path / "run")
    options = TrainOptions(settings={"num_workers": "few"}, resume=resume)
    with pytest.raises(UsageError, match="SETTING_INVALID: num_workers"):
        medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=options)
    assert content(tmp_path / "run") == before
    assert (tmp_path / "run").exists() == resume


def test_weights_of_a_run_are_where_those_of_a_bundle_are(tiny_bundle, ball_data, tmp_path):
    path = tiny_bundle / "configs" / "train.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "ckpt_dir": "$@bundle_root + '/trained'"}))
    run = medseg.train(tiny_bundle, ball_data, tmp_path / "run", options=TrainOptions(epochs=1))
    assert (run.folder / "models" / "model.pt").is_file()
