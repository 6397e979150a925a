import csv
import subprocess
import sys
from pathlib import Path

import pytest

import medseg
from medseg.cli import main


def run(*words):
    return subprocess.run([sys.executable, "-m", "medseg", *map(str, words)], capture_output=True, text=True)


def test_help_and_import_need_neither_torch_nor_monai():
    code = (
        "import sys, medseg, medseg.cli\n"
        "try: medseg.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'monai', 'numpy', 'nibabel', 'SimpleITK', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("verb", ["predict", "evaluate", "train", "compare", "check", "demo"])
def test_every_verb_has_help_with_an_example_and_a_function_of_its_name(verb, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([verb, "--help"])
    assert stopped.value.code == 0
    assert f"example:\n  medseg {verb}" in capsys.readouterr().out
    assert callable(getattr(medseg, verb))


def test_no_module_takes_the_name_of_a_function():
    """Importing `medseg.demo`, were it a module, would put it in the place of `medseg.demo()`."""
    modules = {path.stem for path in Path(medseg.__file__).parent.iterdir()}
    assert not modules & set(medseg.__all__)


def test_the_public_names_are_these():
    assert set(medseg.__all__) == {"MedsegError", "check", "compare", "demo", "evaluate", "export", "predict", "train"}
    with pytest.raises(AttributeError):
        medseg.nothing  # noqa: B018


def test_an_error_is_printed_with_its_code_and_remedy_and_sets_the_exit_code(tmp_path, capsys):
    assert main(["predict", "nobundle", str(tmp_path), str(tmp_path / "out")]) == 4
    told = capsys.readouterr().err
    assert "BUNDLE_NOT_FOUND" in told
    assert "phantom_ct_segmentation" in told


def test_a_wrong_command_line_is_exit_code_2():
    assert run("predict").returncode == 2


def test_predict_and_evaluate_print_what_came_out(tiny_bundle, ball_data, tmp_path, capsys):
    masks = tmp_path / "masks"
    assert main(["predict", str(tiny_bundle), str(ball_data / "images"), str(masks), "--device", "cpu"]) == 0
    printed = capsys.readouterr()
    assert "8 of 8 masks" in printed.out
    assert "[8/8] ball_7: ball_7.nii.gz" in printed.err
    page = tmp_path / "page.html"
    words = [masks, ball_data / "labels", "--output", tmp_path / "scores", "--report", page]
    assert main(["evaluate", *map(str, words), "--images", str(ball_data / "images")]) == 0
    assert "foreground mean" in capsys.readouterr().out
    assert (tmp_path / "scores" / "cases.csv").is_file()
    assert page.read_text(encoding="utf8").count("data:image/png") >= 3


def test_a_failed_case_is_named_and_gives_exit_code_1(tiny_bundle, ball_data, tmp_path, capsys):
    (ball_data / "images" / "ball_3.nii.gz").write_bytes(b"")
    assert main(["predict", str(tiny_bundle), str(ball_data / "images"), str(tmp_path / "m"), "--quiet"]) == 1
    told = capsys.readouterr()
    assert "7 of 8 masks" in told.out
    assert "failed: ball_3: " in told.err


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


def test_a_setting_without_a_value_is_refused(tiny_bundle, ball_data, tmp_path, capsys):
    words = [tiny_bundle, "--data", ball_data, "--output", tmp_path / "run", "--set", "epochs"]
    assert main(["train", *map(str, words)]) == 2
    assert "SETTING_INVALID" in capsys.readouterr().err


OPTIONS = [
    (["train", "b", "--data", "d", "--epoch", "3"], "--epochs"),
    (["train", "--epoch=3"], "--epochs"),
    (["evaluate", "m", "r", "--held", "s"], "--held-out"),
    (["predict", "b", "i", "o", "--devise", "cpu"], "--device"),
    (["compare", "--bundel", "b"], "--bundle"),
    (["bundle", "verify", "b", "--quite"], "--quiet"),
]


@pytest.mark.parametrize(("words", "meant"), OPTIONS, ids=[words[0] for words, _ in OPTIONS])
def test_an_option_is_written_out_and_a_near_one_is_named(words, meant, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    assert f"did you mean {meant}?" in capsys.readouterr().err


def test_what_stands_behind_two_dashes_is_no_option(tmp_path, capsys):
    assert main(["evaluate", "--quiet", "--", str(tmp_path / "--epoch"), str(tmp_path)]) == 3
    assert "INPUT_MISSING" in capsys.readouterr().err


def test_an_option_of_a_verb_below_another_is_taken(tiny_bundle, capsys):
    assert main(["bundle", "verify", str(tiny_bundle), "--quiet"]) in (0, 4)
    assert str(tiny_bundle) in capsys.readouterr().out
