"""Each finding has data that bring it out; clean data bring out none."""

import re
from pathlib import Path

import numpy as np
import pytest

import medseg
from medseg.checking import check_report
from medseg.errors import DatasetError, UsageError
from medseg.findings import CODES
from tests.checking.conftest import CASES, SHAPE, codes, image_of, mask_of
from tests.checking.triggers import (
    TRIGGERS,
    halves,
    moved,
    written,
)

OF_READERS = {
    "AXES_AMBIGUOUS",
    "CHANNELS_DIFFER",
    "DICOM_JUNK_SKIPPED",
    "GRID_MISMATCH",
    "LABEL_UNEXPECTED",
    "LIST_INVALID",
    "SLICES_DIFFER",
}
"""Codes that a check only compares with: readers and bundles bring them out."""


def test_clean_data_give_no_finding(scans):
    report = scans.check(split=written(scans.root.parent / "split.json", halves()))
    assert report.findings == ()
    assert report.exit_code == 0
    assert (report.summary.cases, report.summary.masks, report.summary.patients) == (CASES, CASES, CASES)


def codes_found_by_check():
    """The codes in medseg/checking that are not told by readers or by a bundle, and that stop no command."""
    text = "".join(path.read_text(encoding="utf8") for path in Path(check_report.__file__).parent.glob("*.py"))
    named = set(re.findall(r'"([A-Z0-9_]+)"', text)) & set(CODES)
    raised = set(re.findall(r'Error\(\s*"([A-Z0-9_]+)"', text))
    assert raised >= {"IMAGE_NOT_2D", "PAIRS_UNUSABLE", "NOT_FOUND"}
    return named - raised - OF_READERS


def test_every_rule_has_data_that_bring_it_out():
    assert set(TRIGGERS) == codes_found_by_check()


@pytest.mark.parametrize("code", list(TRIGGERS))
def test_each_finding_is_found_with_its_severity_and_remedy(code, scans):
    options = TRIGGERS[code](scans) or {}
    report = scans.check(**options)
    own = [finding for finding in report.findings if finding.code == code]
    assert own, codes(report)
    row = CODES[code]
    assert {(each.severity, each.remedy, each.is_fixable) for each in own} == {
        (row.severity, row.remedy, row.is_fixable)
    }
    assert report.exit_code == (1 if any(each.severity == "error" for each in report.findings) else 0)


@pytest.mark.parametrize(
    ("code", "others"),
    [
        ("GRID_NEAR", set()),
        ("GRID_REINDEXED", set()),
        ("LABEL_NEARLY_WHOLE", set()),
        ("LABEL_ONE_HOT", set()),
        ("MASK_EMPTY", set()),
        ("SHAPE_MISMATCH", set()),
        ("DUPLICATE_IMAGE", set()),
        ("NEAR_DUPLICATE_IMAGE", set()),
        ("SUFFIX_WRONG", set()),
        ("NONFINITE_VOXELS", set()),
        ("LABEL_OUTSIDE_BODY", set()),
        ("MASK_MISSING", set()),
        ("IMAGE_MISSING", set()),
    ],
)
def test_one_fault_gives_one_kind_of_finding(code, others, scans):
    assert codes(scans.check(**(TRIGGERS[code](scans) or {}))) == {code} | others


def test_everything_is_listed_in_one_run(scans):
    scans.image(0).write_bytes(b"no image")
    scans.set_label(1, mask_of(1)[:, :, :9])
    scans.set_label(2, mask_of(2).astype(np.float32) + 0.4)
    scans.label(3).unlink()
    scans.set_label(4, np.zeros(SHAPE, np.uint8))
    report = scans.check()
    assert {(finding.case, finding.code) for finding in report.findings} == {
        ("c0", "IMAGE_HEADER"),
        ("c1", "SHAPE_MISMATCH"),
        ("c2", "LABEL_NOT_INTEGER"),
        ("c3", "IMAGE_NOT_FOUND"),
        ("c4", "MASK_EMPTY"),
    }
    assert report.counts == {"error": 4, "warning": 1, "info": 0}
    assert [group.severity for group in report.groups] == ["error"] * 4 + ["warning"]


def test_a_training_accepts_and_refuses_the_same_pairs(scans):
    from medseg.checking.usable_pairs import check_pairs
    from medseg.data.cases import open_dataset

    scans.set_label(1, mask_of(1), moved(1))
    scans.set_label(2, mask_of(2), moved(0.05))
    scans.set_label(3, mask_of(3) * np.float32(0.9999))
    refused = [(each.case, each.code) for each in check_pairs(open_dataset(scans.root), [0, 1, 2], 1)]
    assert refused == [("c1", "GRID_MISMATCH"), ("c3", "LABEL_NEARLY_WHOLE")]
    report = scans.check()
    assert refused == [(each.case, each.code) for each in report.findings if each.severity == "error"]


def test_nothing_to_check_is_an_error(tmp_path):
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DatasetError):
            medseg.check(place)


def test_an_image_beyond_the_budget_is_a_finding_for_its_case(scans):
    scans.set_image(1, np.tile(image_of(1), (1, 1, 40)))
    scans.set_label(1, np.tile(mask_of(1), (1, 1, 40)))
    report = scans.check(max_ram=3 * image_of(0).nbytes)
    assert {(each.case, each.code) for each in report.findings} == {("c1", "MEMORY_BUDGET")}
    assert (report.exit_code, report.summary.cases, report.summary.masks) == (1, CASES, CASES - 1)
    assert "MEMORY_BUDGET" not in codes(scans.check())


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"max_ram": 0}, "SIZE_INVALID"),
        ({"series": "CT"}, "SERIES_INVALID"),
        ({"straighten": True}, "FIX_MISSING"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, code, scans):
    with pytest.raises(UsageError) as refused:
        scans.check(**options)
    assert refused.value.code == code
