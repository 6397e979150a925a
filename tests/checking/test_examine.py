"""The whole examination of a data set: every case once, and the series of DICOM folders."""

import json
from pathlib import Path

import numpy as np
import pytest

import medseg
from medseg.checking.examine import examine, list_series
from medseg.checking.read_case import Expected
from medseg.data.cases.case import Case
from medseg.demonstration.synthetic_ct import write_ct_series
from medseg.errors import DatasetError
from medseg.findings import Finding
from tests.checking.conftest import CASES
from tests.checking.triggers import halves, split


def test_a_folder_of_images_alone_needs_no_masks(scans):
    report = medseg.check(scans.root / "images")
    assert report.findings == ()
    assert (report.summary.cases, report.summary.masks) == (CASES, 0)


def test_a_dicom_folder_gives_its_series(tmp_path):
    array = np.random.default_rng(0).integers(-1000, 900, (16, 16, 5)).astype(np.int16)
    for name in ("one", "two"):
        write_ct_series(array + len(name), np.diag([-1.5, -1.5, 3, 1]), tmp_path / "ct" / name, seed_uid=name)
    report = medseg.check(tmp_path / "ct")
    assert report.summary.cases == 2
    assert report.counts["error"] == 0


def test_each_case_is_told_once(scans):
    told = []
    scans.check(on_case=lambda case, total: told.append((case, total)))
    assert told == [(f"c{n}", CASES) for n in range(CASES)]


def test_no_words_name_a_patient_or_the_place_of_the_folder(scans):
    pairs = [
        {"image": f"images/c{n}.nii.gz", "label": f"labels/c{n}.nii.gz", "group": "Doe^Jane"} for n in range(CASES)
    ]
    scans.describe(training=pairs)
    scans.label(3).unlink()
    scans.image(0).write_bytes(b"no image")
    options = split(**halves())(scans)
    told = json.dumps(scans.check(**options).to_record())
    assert "SPLIT_LEAK" in told
    assert "Doe" not in told
    assert str(Path(scans.root)) not in told


def of_any(dataset):
    return dataset, Expected(), []


def test_what_is_known_already_stands_among_the_findings(scans):
    known = Finding("", "CHANNELS_DIFFER", "other channels", severity="error")
    examined = examine(scans.root, lambda dataset: (dataset, Expected(), [known]))
    assert examined.report.findings == (known,)
    assert examined.unreadable == frozenset()


def test_cases_with_a_file_that_cannot_be_read_are_named(scans):
    scans.image(1).write_bytes(b"no image")
    scans.label(2).write_bytes(b"no mask")
    examined = examine(scans.root, of_any)
    assert examined.unreadable == {"c1", "c2"}
    assert examined.report.summary.cases == CASES


def test_a_folder_without_a_case_is_refused(tmp_path):
    with pytest.raises(DatasetError):
        examine(tmp_path, of_any)


@pytest.fixture
def two_series(tmp_path):
    array = np.random.default_rng(0).integers(-1000, 900, (8, 8, 4)).astype(np.int16)
    for name in ("one", "two"):
        write_ct_series(array, np.diag([-1.5, -1.5, 3, 1]), tmp_path / "ct" / name, seed_uid=name)
    return tmp_path / "ct"


def test_series_are_listed_with_their_folder_and_size(two_series):
    cases = [Case(name, (str(two_series / name),), None, name) for name in ("one", "two")]
    rows, findings = list_series(two_series, cases, [])
    assert [(row.number, row.folder, row.modality, row.files, row.shape, row.pick) for row in rows] == [
        (1, "one", "CT", 4, (8, 8, 4), ""),
        (2, "two", "CT", 4, (8, 8, 4), ""),
    ]
    assert all(row.is_readable and row.spacing_mm == pytest.approx((1.5, 1.5, 3)) for row in rows)
    assert not [each for each in findings if each.is_error]


def test_what_reading_told_is_not_told_again(two_series):
    (two_series / "one" / "notes.txt").write_text("no DICOM")
    cases = [Case(name, (str(two_series / name),), None, name) for name in ("one", "two")]
    (junk,) = list_series(two_series, cases, [])[1]
    assert (junk.code, junk.severity) == ("DICOM_JUNK_SKIPPED", "warning")
    assert list_series(two_series, cases, [Finding(junk.case, junk.code, "told")])[1] == ()


def test_files_of_other_formats_are_no_series(scans):
    cases = [Case("c0", (str(scans.image(0)),), None, "c0")]
    assert list_series(scans.root, cases, []) == ((), ())
