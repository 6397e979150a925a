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


@pytest.mark.parametrize("verb", ["predict", "evaluate", "train", "compare", "demo"])
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
    assert set(medseg.__all__) == {"MedsegError", "compare", "demo", "evaluate", "predict", "train"}
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
    assert "next: medseg predict" in printed.out


def test_a_setting_without_a_value_is_refused(tiny_bundle, ball_data, tmp_path, capsys):
    words = [tiny_bundle, "--data", ball_data, "--output", tmp_path / "run", "--set", "epochs"]
    assert main(["train", *map(str, words)]) == 2
    assert "SETTING_INVALID" in capsys.readouterr().err
