import ast
import subprocess
import sys
from pathlib import Path

import pytest

import medseg
from medseg.cli import main, read_choices, read_settings, read_size
from medseg.errors import UsageError


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


def test_only_the_command_line_prints():
    def prints(path):
        calls = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))) if isinstance(node, ast.Call))
        return any(isinstance(call.func, ast.Name) and call.func.id == "print" for call in calls)

    package = Path(medseg.__file__).parent
    found = {path.relative_to(package).as_posix() for path in package.rglob("*.py") if prints(path)}
    assert found == {"cli.py", "print_scan_verbs.py", "print_bundle_verbs.py"}


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


def test_settings_are_read_as_numbers_lists_and_text():
    pairs = ["a=1e-3", "b=-2.5E4", "c=[1e-1, 2]", "d=unet", "e='1e-3'", "f=1e", "g=a=b"]
    expected = {"a": 0.001, "b": -25000.0, "c": [0.1, 2], "d": "unet", "e": "1e-3", "f": "1e", "g": "a=b"}
    assert read_settings(pairs) == expected


def test_several_values_are_parted_by_commas_outside_brackets():
    pairs = ["a=1,2e-1", "b=sgd, adam", "c=[0.5, 0.5],[0.9, 0.1]", "d=7"]
    expected = {"a": (1, 0.2), "b": ("sgd", "adam"), "c": ([0.5, 0.5], [0.9, 0.1]), "d": (7,)}
    assert read_choices(pairs) == expected


def test_nothing_gives_nothing():
    assert read_settings([]) == {}
    assert read_choices([]) == {}


def test_a_key_is_given_once():
    for read in (read_settings, read_choices):
        with pytest.raises(UsageError, match="SETTING_INVALID: seed"):
            read(["seed=1", "epochs=2", "seed=1"])


@pytest.mark.parametrize("pair", ["seed=", "seed= "])
def test_a_choice_of_nothing_is_refused(pair):
    with pytest.raises(UsageError, match="SETTING_INVALID: seed"):
        read_choices([pair])


@pytest.mark.parametrize("pair", ["fractions=[0.5, 0.5", "epochs"])
def test_what_is_no_key_with_a_value_is_refused(pair):
    for read in (read_settings, read_choices):
        with pytest.raises(UsageError, match="SETTING_INVALID"):
            read([pair])


@pytest.mark.parametrize(
    ("text", "size"),
    [("100", 100), ("2k", 2048), ("1.5M", 3 << 19), (" 4 G ", 1 << 32), ("4GiB", 1 << 32), (".5T", 1 << 39)],
)
def test_sizes_are_read_in_powers_of_1024(text, size):
    assert read_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "0", "-1", "4X", "4 G G", "nan", "1e9"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(UsageError, match="SETTING_INVALID"):
        read_size(text)
