"""A run read from its folder, and the row of a comparison that it becomes."""

import json
import math

import numpy as np
import pytest

from medseg.errors import DatasetError
from medseg.evaluation.compare.gather import gather
from medseg.evaluation.compare.rows import config_value, format_setting, make_row, make_slug, read_run
from tests.evaluation.run_folders import GOOD, POOR, TRUE, make_run


def test_a_row_has_means_over_cases_and_pooled_values(tmp_path):
    make_run(tmp_path / "good", GOOD, TRUE)
    (row,) = gather([tmp_path / "good"]).rows
    ball = row.of("ball").metrics
    assert ball["dice"].mean == pytest.approx((1 + 6 / 7) / 2)
    assert ball["dice"].sd == pytest.approx(np.std([1, 6 / 7], ddof=1))
    assert ball["dice"].pooled == pytest.approx(2 * 5 / (2 * 5 + 1))
    assert ball["iou"].pooled == pytest.approx(5 / 6)
    assert ball["precision"].mean == 1.0
    assert ball["recall"].mean == pytest.approx((1 + 3 / 4) / 2)
    assert row.of("foreground mean").metrics["dice"].mean == pytest.approx((1 + (6 / 7 + 1) / 2) / 2)
    assert row.of("all classes").metrics["accuracy"].mean == pytest.approx((10 / 10 + 9 / 10) / 2)
    assert row.of("all classes").metrics["accuracy"].pooled == pytest.approx(19 / 20)


def test_a_row_says_how_its_training_went(tmp_path):
    make_run(tmp_path / "good", GOOD, TRUE)
    (row,) = gather([tmp_path / "good"]).rows
    means = {key: mean for key, (mean, _) in row.training.items()}
    assert means == {"val_loss": 0.4, "epochs": 3, "best_epoch": 2, "seconds": 5.0, "parameters": 1234}


def test_a_log_without_validation_loss_leaves_a_gap(tmp_path):
    run = make_run(tmp_path / "one", GOOD, TRUE)
    (run / "logs" / "epochs.csv").write_text("epoch,loss,seconds\n1,0.5,\n")
    (row,) = gather([tmp_path]).rows
    assert math.isnan(row.training["val_loss"][0])
    assert row.training["seconds"][0] == 0
    assert "–" in gather([tmp_path]).to_text()


@pytest.mark.parametrize("name", ["scores_test/evaluation.json", "run.json", "logs/epochs.csv"])
def test_a_damaged_run_is_refused_with_its_folder(tmp_path, name):
    run = make_run(tmp_path / "one", GOOD, TRUE)
    (run / name).write_text("{")
    if name == "logs/epochs.csv":
        (run / name).write_text("epoch,seconds\none,two\n")
    with pytest.raises(DatasetError, match="RECORD_UNREADABLE.*one"):
        read_run(run, "test")


@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
@pytest.mark.parametrize("name", ["run.json", "configs/split.json", "scores_test/scored.json", "configs/train.json"])
def test_a_damaged_file_is_named(tmp_path, name, text):
    (make_run(tmp_path / "good", GOOD, TRUE) / name).write_text(text)
    with pytest.raises(DatasetError, match=f"RECORD_UNREADABLE.*{name}"):
        gather([tmp_path])


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"cases": 1}'])
def test_damaged_scores_are_told(tmp_path, text):
    (make_run(tmp_path / "good", GOOD, TRUE) / "scores_test" / "evaluation.json").write_text(text)
    with pytest.raises(DatasetError, match="RECORD_UNREADABLE"):
        gather([tmp_path])


def without_a_metric(content):
    del content["cases"][0]["scores"]["iou"]


def without_a_class(content):
    del content["cases"][0]


def without_a_table(content):
    del content["confusion"]["per_case"]["b"]


def with_a_smaller_table(content):
    content["confusion"]["per_case"]["b"] = [[1, 0], [0, 1]]


def with_a_ragged_table(content):
    content["confusion"]["per_case"]["b"] = [[1, 0], [0]]


def without_labels(content):
    del content["labels"]


def without_cases(content):
    content["cases"] = []


def with_words_for_numbers(content):
    content["cases"][0]["scores"]["dice"] = "high"


@pytest.mark.parametrize(
    "damage",
    [
        without_a_metric,
        without_a_class,
        without_a_table,
        with_a_smaller_table,
        with_a_ragged_table,
        without_labels,
        without_cases,
        with_words_for_numbers,
    ],
)
def test_scores_that_lack_something_are_refused_with_their_file(tmp_path, damage):
    path = make_run(tmp_path / "good", GOOD, TRUE) / "scores_test" / "evaluation.json"
    content = json.loads(path.read_text())
    damage(content)
    path.write_text(json.dumps(content))
    with pytest.raises(DatasetError) as caught:
        gather([tmp_path])
    assert (caught.value.code, caught.value.case) == ("RECORD_UNREADABLE", str(path))


@pytest.mark.parametrize(
    ("name", "key"),
    [("run.json", "bundle"), ("scores_test/scored.json", "groups"), ("scores_test/scored.json", "best_epoch")],
)
def test_a_record_that_lacks_a_key_is_named(tmp_path, name, key):
    path = make_run(tmp_path / "good", GOOD, TRUE) / name
    path.write_text(json.dumps({old: value for old, value in json.loads(path.read_text()).items() if old != key}))
    with pytest.raises(DatasetError) as caught:
        gather([tmp_path])
    assert (caught.value.code, caught.value.case) == ("RECORD_UNREADABLE", str(path))


def test_a_row_is_made_of_its_runs_alone(tmp_path):
    run = read_run(make_run(tmp_path / "good", GOOD, TRUE, network="vnet", learning_rate=0.1), "test")
    row = make_row("good", [run], ["learning_rate"], 1.5)
    assert (row.network, row.loss, row.varied, row.folds, row.rank) == (
        "vnet",
        "dice",
        {"learning_rate": "0.1"},
        1,
        1.5,
    )
    assert row.parts == {"vnet", "dice", "filters-16", "learning_rate-0.1"}
    assert [scores.name for scores in row.classes] == ["background", "ball", "stick", "foreground mean", "all classes"]


def test_a_run_of_one_fold_has_no_spread_over_folds(tmp_path):
    run = read_run(make_run(tmp_path / "poor", POOR, TRUE), "test")
    dice = make_row("poor", [run], [], 1.0).of("ball").metrics["dice"]
    assert dice.fold_mean == dice.mean
    assert math.isnan(dice.fold_sd)


def test_a_setting_is_what_was_changed_or_else_the_configuration_s(tmp_path):
    run = read_run(make_run(tmp_path / "good", GOOD, TRUE, seed=3), "test")
    keys = ("seed", "epochs", "network_options::filters", "network_options::depth", "epochs::deeper", "lacking")
    assert [format_setting(run, key) for key in keys] == ["3", "3", "16", "", "", ""]
    assert config_value(run.config, "network_options") == {"filters": 16}


@pytest.mark.parametrize(
    ("key", "value", "slug"),
    [
        ("network_options::filters", 16, "filters-16"),
        ("optimizer_name", "adam w", "optimizer_name-adam-w"),
        ("fractions", [0.5, 0.5], "fractions-0.5-0.5"),
        ("rate", -1e-3, "rate--0.001"),
        ("on", True, "on-true"),
        ("empty", "", "empty"),
    ],
)
def test_a_setting_is_a_part_of_a_row_s_name(key, value, slug):
    assert make_slug(key, value) == slug
