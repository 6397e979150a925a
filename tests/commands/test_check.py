"""`medseg check` on the command line."""

import json
import subprocess
import sys
import warnings

import numpy as np
import pydicom
import pytest

from medseg.cli import main
from medseg.data.dicom.series import write_ct_series
from tests.conftest import save_nifti

KEYS = {
    "": {"schema", "medseg", "data", "summary", "counts", "series", "findings"},
    "summary": {
        *("layout", "cases", "patients", "masks", "shapes", "spacings_mm", "orientations", "channels", "labels"),
    },
    "counts": {"error", "warning", "info"},
}
"""A released schema keeps these."""


def run(*words):
    return main(["check", *map(str, words)])


@pytest.fixture
def broken(ball_data):
    """Eight cases, the labels of three of them spoilt."""
    for number in range(3):
        save_nifti(np.zeros((9, 9, 9), np.uint8), ball_data / "labels" / f"ball_{number}.nii.gz")
    return ball_data


def test_sound_data_give_exit_code_0(ball_data, capsys):
    assert run(ball_data) == 0
    told = capsys.readouterr().out
    assert "8 cases, 8 with masks" in told
    assert "SPACING_NOMINAL" in told


def test_errors_give_exit_code_1_and_are_grouped(broken, capsys):
    assert run(broken, "--quiet") == 1
    told = capsys.readouterr()
    assert told.out.count("SHAPE_MISMATCH") == 1
    assert "3 cases: ball_0, ball_1, ball_2" in told.out
    assert told.err == ""


def test_all_lists_every_case(broken, capsys):
    run(broken, "--all", "--quiet")
    told = capsys.readouterr().out
    assert [told.count(f"    ball_{number}: the mask has") for number in range(3)] == [1, 1, 1]


def test_the_record_has_the_keys_of_its_schema(broken, tmp_path, capsys):
    assert run(broken, "--json", tmp_path / "findings.json", "--quiet") == 1
    record = json.loads((tmp_path / "findings.json").read_text())
    assert record["schema"] == 1
    assert {name: set(record[name] if name else record) for name in KEYS} == KEYS
    assert all(set(each) == {"value", "name", "masks", "share"} for each in record["summary"]["labels"])
    assert all(set(each) == {"axes", "least", "median", "most"} for each in record["summary"]["shapes"])
    keys = {"code", "severity", "case", "what", "remedy", "fixable"}
    assert all(set(each) == keys for each in record["findings"])
    assert record["counts"]["error"] == 3
    assert str(tmp_path) not in json.dumps(record)


def test_the_same_data_give_the_same_record(broken, tmp_path, capsys):
    for name in ("a.json", "b.json"):
        run(broken, "--json", tmp_path / name, "--quiet")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_a_corrected_copy_is_written_and_counted(ball_data, tmp_path, capsys):
    rounded = np.zeros((20, 18, 16), np.float32)
    rounded[5:9, 5:9, 5:9] = 0.9999
    save_nifti(rounded, ball_data / "labels" / "ball_1.nii.gz")
    assert run(ball_data, "--fix", tmp_path / "out", "--quiet") == 1
    assert "8 cases, 1 corrected, 0 left out" in capsys.readouterr().out
    assert run(tmp_path / "out", "--quiet") == 0


def test_a_split_that_divides_a_copy_is_an_error(ball_data, tmp_path, capsys):
    names = [f"ball_{number}" for number in range(8)]
    (tmp_path / "split.json").write_text(json.dumps({"train": names[:4], "validation": names[4:]}))
    assert run(ball_data, "--split", tmp_path / "split.json", "--quiet") == 0
    (ball_data / "images" / "ball_7.nii.gz").write_bytes((ball_data / "images" / "ball_0.nii.gz").read_bytes())
    assert run(ball_data, "--split", tmp_path / "split.json", "--quiet") == 1
    assert "DUPLICATE_LEAK" in capsys.readouterr().out


def test_a_bundle_is_held_against_the_data(ball_data, tiny_bundle, capsys):
    assert run(ball_data, "--bundle", tiny_bundle, "--quiet") == 0
    assert "label 1 (ball)" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "code"), [(["nowhere"], 3), (["nowhere", "--bundle", "none"], 4), ([], 2)])
def test_what_cannot_be_checked_has_its_own_exit_code(words, code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if words:
        assert run(*words) == code
    else:
        with pytest.raises(SystemExit) as stopped:
            run()
        assert stopped.value.code == code


def test_one_of_a_kind_is_told_as_one(ball_data, capsys):
    (ball_data / "images" / "ball_0.nii.gz").write_bytes(b"no image")
    run(ball_data, "--quiet")
    assert capsys.readouterr().out.splitlines()[-1].startswith("1 error, ")


def test_no_identifier_of_a_header_reaches_the_terminal(tmp_path):
    write_ct_series(np.zeros((8, 8, 3), np.int16), np.diag([-1.5, -1.5, 3, 1]), tmp_path / "ct", seed_uid="one")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in sorted((tmp_path / "ct").iterdir()):
            header = pydicom.dcmread(path)
            header.add_new("PatientBirthDate", "DA", "not-a-date-4711")
            header.add_new("SeriesInstanceUID", "UI", "1.2.DOE-4711")
            header.add_new("AccessionNumber", "SH", "DOE-4711-LONGER-THAN-SIXTEEN")
            header.save_as(path)
    words = ["check", str(tmp_path / "ct"), "--quiet"]
    code = f"import sys; from medseg.cli import main; sys.exit(main({words!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert "1 case" in done.stdout
    assert done.stderr == ""
