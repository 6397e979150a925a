"""What predict, evaluate, check and demo print, and their exit codes."""

import json
import subprocess
import sys
import warnings

import nibabel
import numpy as np
import pydicom
import pytest

from medseg.cli import main
from medseg.data.splits import Split, write_split
from medseg.demonstration.synthetic_ct import write_ct_series
from tests.conftest import ball, save_nifti

KEYS = {
    "": {"schema", "medseg", "data", "summary", "counts", "all_alike", "series", "findings"},
    "summary": {
        *("layout", "cases", "patients", "masks", "shapes", "spacings_mm", "orientations", "channels", "labels"),
    },
    "counts": {"error", "warning", "info"},
}
"""A released schema keeps these."""


def check(*words):
    return main(["check", *map(str, words)])


@pytest.fixture
def broken(ball_data):
    """Eight cases, the labels of three of them spoilt."""
    for number in range(3):
        save_nifti(np.zeros((9, 9, 9), np.uint8), ball_data / "labels" / f"ball_{number}.nii.gz")
    return ball_data


def test_sound_data_give_exit_code_0(ball_data, capsys):
    assert check(ball_data) == 0
    told = capsys.readouterr().out
    assert "8 cases, 8 with masks" in told
    assert "SPACING_NOMINAL" in told


def test_errors_give_exit_code_1_and_are_grouped(broken, capsys):
    assert check(broken, "--quiet") == 1
    told = capsys.readouterr()
    assert told.out.count("SHAPE_MISMATCH") == 1
    assert "3 cases: ball_0, ball_1, ball_2" in told.out
    assert told.err == ""


def test_all_lists_every_case(broken, capsys):
    check(broken, "--all", "--quiet")
    told = capsys.readouterr().out
    assert [told.count(f"    ball_{number}: the mask has") for number in range(3)] == [1, 1, 1]


def test_the_record_has_the_keys_of_its_schema(broken, tmp_path, capsys):
    assert check(broken, "--json", tmp_path / "findings.json", "--quiet") == 1
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
        check(broken, "--json", tmp_path / name, "--quiet")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_a_corrected_copy_is_written_and_counted(ball_data, tmp_path, capsys):
    rounded = np.zeros((20, 18, 16), np.float32)
    rounded[5:9, 5:9, 5:9] = 0.9999
    save_nifti(rounded, ball_data / "labels" / "ball_1.nii.gz")
    assert check(ball_data, "--fix", tmp_path / "out", "--quiet") == 1
    assert "8 cases, 1 corrected, 0 left out" in capsys.readouterr().out
    assert check(tmp_path / "out", "--quiet") == 0


def test_a_split_that_divides_a_copy_is_an_error(ball_data, tmp_path, capsys):
    names = [f"ball_{number}" for number in range(8)]
    (tmp_path / "split.json").write_text(json.dumps({"train": names[:4], "validation": names[4:]}))
    assert check(ball_data, "--split", tmp_path / "split.json", "--quiet") == 0
    (ball_data / "images" / "ball_7.nii.gz").write_bytes((ball_data / "images" / "ball_0.nii.gz").read_bytes())
    assert check(ball_data, "--split", tmp_path / "split.json", "--quiet") == 1
    assert "DUPLICATE_LEAK" in capsys.readouterr().out


def test_a_bundle_is_held_against_the_data(ball_data, tiny_bundle, capsys):
    assert check(ball_data, "--bundle", tiny_bundle, "--quiet") == 0
    assert "label 1 (ball)" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "code"), [(["nowhere"], 3), (["nowhere", "--bundle", "none"], 4), ([], 2)])
def test_what_cannot_be_checked_has_its_own_exit_code(words, code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if words:
        assert check(*words) == code
    else:
        with pytest.raises(SystemExit) as stopped:
            check()
        assert stopped.value.code == code


def test_the_last_line_says_that_all_cases_fail_alike_and_whose_data_they_may_be(ball_data, tiny_bundle, capsys):
    for number in range(8):
        save_nifti(np.full((20, 18, 16), 3, np.uint8), ball_data / "labels" / f"ball_{number}.nii.gz")
    assert check(ball_data, "--bundle", tiny_bundle, "--quiet") == 1
    told = capsys.readouterr().out
    assert "all 8 cases fail alike" in told.splitlines()[-1]
    assert check(ball_data, "--quiet") == 0
    assert "alike" not in capsys.readouterr().out


def test_a_budget_turns_larger_files_into_findings(ball_data, capsys):
    assert check(ball_data, "--max-ram", "1K", "--quiet") == 1
    assert "MEMORY_BUDGET  8 cases" in capsys.readouterr().out
    assert check(ball_data, "--max-ram", "1M", "--quiet") == 0
    assert check(ball_data, "--max-ram", "much") == 2


@pytest.fixture
def two_series(tmp_path):
    """One folder with two series, numbered 3 and 4, of 5 and 6 slices; the second lacks a slice."""
    for number, slices in ((3, 5), (4, 6)):
        array = np.random.default_rng(number).integers(-1000, 900, (16, 16, slices)).astype(np.int16)
        paths = write_ct_series(array, np.diag([-1.5, -1.5, 3, 1]), tmp_path / "made", seed_uid=str(number))
        (tmp_path / "ct").mkdir(exist_ok=True)
        for path in paths:
            header = pydicom.dcmread(path)
            header.SeriesNumber = number
            header.save_as(tmp_path / "ct" / f"{number}_{path.name}")
            path.unlink()
    (tmp_path / "ct" / "4_slice0003.dcm").unlink()
    return tmp_path / "ct"


def test_one_of_several_series_is_chosen_by_what_the_inventory_says(two_series, tmp_path, capsys):
    assert check(two_series, "--quiet") == 1
    told = capsys.readouterr().out
    assert "DICOM_SEVERAL_SERIES" in told
    assert "(--series 3)" in told
    assert check(two_series, "--series", "3", "--quiet", "--json", tmp_path / "three.json") == 0
    capsys.readouterr()
    record = json.loads((tmp_path / "three.json").read_text())
    assert [(row["pick"], row["files"]) for row in record["series"]] == [("3", 5)]
    assert record["summary"]["shapes"][0]["most"] == [16, 16, 5]
    assert check(two_series, "--series", "4", "--quiet") == 1
    told = capsys.readouterr().out
    assert "DICOM_MISSING_SLICE" in told
    assert "(--series 3)" not in told
    assert check(two_series, "--series", "7", "--quiet") == 1
    assert "DICOM_SERIES_NOT_FOUND" in capsys.readouterr().out
    assert check(two_series, "--series", "three") == 2


def test_straightening_needs_a_copy_and_is_counted(ball_data, tmp_path, capsys):
    assert check(ball_data, "--straighten", "--quiet") == 2
    assert "--fix" in capsys.readouterr().err
    sheared = np.array([[1.0, 0, 0.2, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    for kind in ("images", "labels"):
        path = ball_data / kind / "ball_2.nii.gz"
        save_nifti(np.asarray(nibabel.load(path).dataobj), path, sheared)
    assert check(ball_data, "--fix", tmp_path / "kept", "--quiet") == 0
    assert "perpendicular" not in capsys.readouterr().out.splitlines()[-1]
    assert check(ball_data, "--fix", tmp_path / "out", "--straighten", "--quiet") == 0
    assert "1 resampled onto perpendicular axes" in capsys.readouterr().out
    assert check(tmp_path / "out", "--quiet") == 0
    assert "SHEARED_GRID" not in capsys.readouterr().out


def test_one_of_a_kind_is_told_as_one(ball_data, capsys):
    (ball_data / "images" / "ball_0.nii.gz").write_bytes(b"no image")
    check(ball_data, "--quiet")
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


def test_one_of_several_stacks_of_a_series_is_chosen(tmp_path, capsys):
    for number in (1, 2):
        array = np.random.default_rng(number).integers(-1000, 900, (16, 16, 5)).astype(np.int16)
        for path in write_ct_series(array, np.diag([-1.5, -1.5, 3, 1]), tmp_path / "made", seed_uid="same"):
            header = pydicom.dcmread(path)
            header.EchoTime = number
            header.SOPInstanceUID = f"{header.SOPInstanceUID[:50]}.{number}"
            header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
            (tmp_path / "ct").mkdir(exist_ok=True)
            header.save_as(tmp_path / "ct" / f"{number}_{path.name}")
    assert check(tmp_path / "ct", "--quiet") == 1
    assert "DICOM_SEVERAL_PHASES" in capsys.readouterr().out
    assert check(tmp_path / "ct", "--series", ":2", "--quiet") == 0
    told = capsys.readouterr().out
    assert "16 × 16 × 5" in told
    assert "DICOM_SEVERAL_PHASES" not in told
    assert "cannot be read" not in told
    assert check(tmp_path / "ct", "--series", ":3", "--quiet") == 1
    assert "DICOM_SERIES_NOT_FOUND" in capsys.readouterr().out


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


def scored(tmp_path, bundle, capsys):
    for case in ("a", "b"):
        for folder in ("masks", "references"):
            save_nifti(ball(1)[1], tmp_path / folder / f"{case}.nii.gz")
    words = [tmp_path / "masks", tmp_path / "references", "--held-out", bundle, "--output", tmp_path / "scores"]
    assert main(["evaluate", *map(str, words), "--quiet"]) == 0
    capsys.readouterr()
    rows = json.loads((tmp_path / "scores" / "evaluation.json").read_text())["cases"]
    return {row["case"]: row["part"] for row in rows}


def split(train, test):
    return Split((train,), (), (test,), 1, "by hand")


def test_the_held_out_cases_of_a_bundle_are_those_of_its_own_split(tmp_path, tiny_bundle, capsys):
    write_split(split("a", "b"), tiny_bundle / "configs" / "split.json")
    write_split(split("b", "a"), tiny_bundle / "configs" / "split_small.json")
    assert scored(tmp_path, tiny_bundle, capsys) == {"a": "train", "b": "test"}


def test_without_one_they_are_those_of_the_form_whose_weights_are_shipped(tmp_path, tiny_bundle, capsys):
    write_split(split("b", "a"), tiny_bundle / "configs" / "split_small.json")
    assert scored(tmp_path, tiny_bundle, capsys) == {"a": "test", "b": "train"}
