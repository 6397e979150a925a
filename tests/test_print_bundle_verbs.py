"""What train, compare, verify and export print, and their exit codes."""

import csv

import pytest

from medseg.cli import main
from tests.evaluation.run_folders import make_run, mask

TRUE = {"a": mask(1, 1, 2, 2), "b": mask(1, 1, 1, 1, 2, 2)}


def test_run_folders_are_gathered_and_printed(tmp_path, capsys):
    make_run(tmp_path / "runs" / "one", TRUE, TRUE)
    make_run(tmp_path / "runs" / "two", TRUE, TRUE, loss="focal")
    assert main(["compare", str(tmp_path / "runs"), "--output", str(tmp_path / "out")]) == 0
    assert "2 rows of ball_segmentation: test part, 2 cases" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"comparison.{end}" for end in ("csv", "json", "html")
    }


def test_the_figures_of_each_run_are_drawn_into_folders_of_their_own(tmp_path, capsys):
    make_run(tmp_path / "runs" / "one", TRUE, TRUE)
    for fold in (1, 2):
        make_run(tmp_path / "runs" / "two" / f"fold{fold}", TRUE, TRUE)
    assert main(["compare", str(tmp_path / "runs"), "--figures", str(tmp_path / "figures")]) == 0
    drawn = {path.relative_to(tmp_path / "figures").as_posix() for path in (tmp_path / "figures").rglob("*.png")}
    names = ("epochs", "iou_histogram", "sample_curves", "sample_distributions")
    assert drawn == {f"{run}/{name}.png" for run in ("one", "two/fold1", "two/fold2") for name in names}
    told = capsys.readouterr().out
    assert "batch_losses left out" in told and "examples_test left out: RUN_NOT_FOUND" in told


def test_a_row_that_is_left_out_gives_exit_code_1(tmp_path, capsys):
    make_run(tmp_path / "one", TRUE, TRUE)
    make_run(tmp_path / "two", TRUE, TRUE, part="validation")
    assert main(["compare", str(tmp_path)]) == 1
    assert "RUN_UNSCORED" in capsys.readouterr().out


def test_a_dry_run_lists_the_runs_and_writes_nothing(tiny_bundle, ball_data, tmp_path, capsys):
    words = ["--bundle", tiny_bundle, "--data", ball_data, "--output", tmp_path / "out", "--network", "unet,res-unet"]
    words += ["--loss", "dice", "--vary", "learning_rate=0.1,1e-3", "--folds", 2, "--dry-run"]
    assert main(["compare", *map(str, words)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * 2 * 2 + 1
    assert lines[0].split() == ["missing", "unet_dice_learning_rate-0.1/fold1"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["--set", "seed=1", "--vary", "seed=1,2"],
        ["--network", "unet", "--set", "network_name=vnet"],
        ["--loss", "dice", "--vary", "loss_name=focal"],
        ["--epochs", "2", "--set", "epochs=3"],
    ],
)
def test_a_setting_given_with_two_options_is_refused(tiny_bundle, ball_data, tmp_path, words, capsys):
    places = ["--bundle", tiny_bundle, "--data", ball_data, "--output", tmp_path / "out"]
    assert main(["compare", *map(str, places), *words, "--dry-run"]) == 2
    assert "SETTING_INVALID" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], "NOTHING_TO_COMPARE"),
        (["--bundle", "b", "--data", "d"], "NOTHING_TO_COMPARE"),
        (["run", "--bundle", "b", "--data", "d", "--output", "o"], "NOTHING_TO_COMPARE"),
        (["run", "--network", "unet"], "SETTING_INVALID"),
        (["run", "--dry-run"], "SETTING_INVALID"),
    ],
)
def test_what_cannot_be_meant_is_refused(words, code, capsys):
    assert main(["compare", *words]) == 2
    assert code in capsys.readouterr().err


def test_train_prints_each_epoch_and_what_to_do_next(tiny_bundle, ball_data, tmp_path, capsys):
    words = [
        tiny_bundle,
        "--data",
        ball_data,
        "--output",
        tmp_path / "run",
        "--epochs",
        1,
        "--set",
        "learning_rate=0.1",
    ]
    assert main(["train", *map(str, words)]) == 0
    printed = capsys.readouterr()
    assert "epoch   1  loss" in printed.err
    assert "epoch 1 of 1, highest val_mean_dice" in printed.out
    assert "next: medseg predict" in printed.out


def test_train_says_what_the_weights_were_selected_by_and_notes_are_told_before_the_first_epoch(
    tiny_bundle, ball_data, tmp_path, capsys
):
    settings = ["--set", "select_by=val_loss", "--set", "optimizer_name=sgd"]
    words = ["train", tiny_bundle, "--data", ball_data, "--output", tmp_path / "run", "--epochs", 2, *settings]
    assert main([*map(str, words)]) == 0
    printed = capsys.readouterr()
    with (tmp_path / "run" / "logs" / "epochs.csv").open() as file:
        rows = list(csv.DictReader(file))
    best = min(rows, key=lambda row: float(row["val_loss"]))
    loss, dice = float(best["val_loss"]), float(best["val_mean_dice"])
    assert f"epoch {best['epoch']} of 2, lowest val_loss {loss:.4f}, val_mean_dice {dice:.4f}" in printed.out
    assert printed.err.index("note: LEARNING_RATE_KEPT") < printed.err.index("epoch   1")
    assert printed.err.count("LEARNING_RATE_KEPT") == 1
    assert "LEARNING_RATE_KEPT" not in printed.out


def test_quiet_training_tells_its_notes_at_the_end(tiny_bundle, ball_data, tmp_path, capsys):
    words = ["train", tiny_bundle, "--data", ball_data, "--output", tmp_path / "run", "--epochs", 1, "--quiet"]
    assert main([*map(str, words), "--set", "optimizer_name=sgd"]) == 0
    printed = capsys.readouterr()
    assert "note: LEARNING_RATE_KEPT" in printed.out
    assert printed.err == ""
