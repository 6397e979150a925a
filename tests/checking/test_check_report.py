"""A report says the same as values, as a record and as text."""

import json

import numpy as np
import pytest

from medseg.checking.check_report import (
    FIRST_CASES,
    LONGEST_EXAMPLE,
    CheckReport,
    FixedCopy,
    SeriesRow,
    format_groups,
    format_report,
    group_findings,
    summarise,
)
from medseg.findings import CODES, WHOLE, Finding
from medseg.text import WIDTH
from tests.checking.conftest import image_of, mask_of, measured

MEASURED = [measured(image_of(n), mask_of(n), f"c{n}", group=f"p{n // 2}") for n in range(4)]


def report_of(*findings, statistics=MEASURED, **changes):
    summary = summarise("pairs", statistics)
    return CheckReport("scans", summary, findings, {0: "background", 1: "lower"}, **changes)


def near(case):
    return Finding(case, "GRID_NEAR", "0.05 voxels apart")


def test_a_data_set_in_a_few_numbers():
    summary = summarise("pairs", MEASURED)
    assert (summary.cases, summary.patients, summary.masks) == (4, 2, 4)
    assert summary.shapes == {3: ((14, 13, 12),) * 3}
    assert summary.spacings_mm == {3: ((1.5, 1.25, 2.0),) * 3}
    assert (summary.orientations, summary.channels) == ({"LPS": 4}, {1: 4})
    assert {value: masks for value, (masks, _) in summary.labels.items()} == {0: 4, 1: 4, 2: 4}
    assert sum(share for _, share in summary.labels.values()) == pytest.approx(1)


def test_an_empty_data_set_has_no_numbers():
    summary = summarise("images", [])
    assert (summary.cases, summary.shapes, summary.labels) == (0, {}, {})


def test_the_gravest_come_first_and_what_explains_others_before_them():
    findings = [near("a"), near("b"), Finding("a", "LABEL_ONE_HOT", "x"), Finding("b", "LABEL_ONE_HOT", "x")]
    findings += [Finding("c", "IMAGE_NOT_3D", "2D"), Finding("a", "SUFFIX_WRONG", "x"), Finding("a", "MASK_FULL", "x")]
    groups = group_findings(findings)
    codes = ["IMAGE_NOT_3D", "LABEL_ONE_HOT", "GRID_NEAR", "MASK_FULL", "SUFFIX_WRONG"]
    assert [group.code for group in groups] == codes
    assert groups[1].cases == ("a", "b")
    assert groups[2].remedy == CODES["GRID_NEAR"].remedy
    assert group_findings([]) == ()


def test_one_code_of_two_severities_makes_two_groups():
    groups = group_findings([Finding("a", "MASK_EMPTY", "x"), Finding("b", "MASK_EMPTY", "x", severity="info")])
    assert [(group.code, group.severity) for group in groups] == [("MASK_EMPTY", "warning"), ("MASK_EMPTY", "info")]


@pytest.mark.parametrize(
    ("cases", "told"),
    [
        ([WHOLE], "the data set"),
        (["a"], "a"),
        (["a", "a"], "a (2 times)"),
        (["a", "b"], "2 cases: a, b"),
        (list("abcde"), "5 cases: a, b, c and 2 more"),
    ],
)
def test_the_first_cases_are_named(cases, told):
    (group,) = group_findings(near(case) for case in cases)
    assert group.name_cases() == told
    assert len(group.cases[:FIRST_CASES]) <= 3


def test_an_example_is_no_list():
    (group,) = group_findings([Finding("a", "GRID_NEAR", "x" * 1000), Finding("b", "GRID_NEAR", "y")])
    code, what, remedy = format_groups([group], indent="")
    assert (code, remedy) == ("GRID_NEAR  2 cases: a, b", f"  do   {CODES['GRID_NEAR'].remedy}")
    assert what == f"  what a: {'x' * LONGEST_EXAMPLE} …"


def test_the_record_holds_every_finding_and_can_be_written_as_json():
    row = SeriesRow(1, "ct", "CT", 4, (8, 8, 4), (1.5, 1.5, 3.0), True, "5")
    record = json.loads(json.dumps(report_of(near("c1"), series=(row,), all_alike=2).to_record()))
    assert list(record) == ["schema", "medseg", "data", "summary", "counts", "all_alike", "series", "findings"]
    assert record["counts"] == {"error": 0, "warning": 1, "info": 0}
    assert record["findings"] == [
        {
            "code": "GRID_NEAR",
            "severity": "warning",
            "case": "c1",
            "what": "0.05 voxels apart",
            "remedy": CODES["GRID_NEAR"].remedy,
            "fixable": True,
        }
    ]
    assert record["series"][0]["pick"] == "5"
    assert record["summary"]["labels"][1] == {
        "value": 1,
        "name": "lower",
        "masks": 4,
        "share": pytest.approx(report_of().summary.labels[1][1]),
    }


@pytest.mark.parametrize(("severity", "exit_code"), [("error", 1), ("warning", 0), ("info", 0)])
def test_only_errors_make_an_exit_code(severity, exit_code):
    assert report_of(Finding("a", "GRID_NEAR", "x", severity=severity)).exit_code == exit_code
    assert report_of().exit_code == 0


def test_the_text_tells_the_data_set_the_findings_and_how_many():
    long = Finding(WHOLE, "SPACING_NOMINAL", " ".join(["all volumes have one spacing"] * 8))
    text = format_report(report_of(Finding("c1", "LABEL_ONE_HOT", "3 channels"), near("c0"), near("c2"), long))
    lines = text.splitlines()
    assert lines[0] == "scans: 4 cases of 2 patients, 4 with masks (pairs)"
    assert "  3D  14 × 13 × 12 voxels of 1.5 × 1.25 × 2 mm" in lines
    assert [line for line in lines if line in ("errors", "warnings", "good to know")] == [
        "errors",
        "warnings",
        "good to know",
    ]
    assert "    what c0: 0.05 voxels apart" in lines
    assert lines[-1] == "1 error, 2 warnings, 1 good to know"
    assert max(map(len, lines)) <= WIDTH


def test_every_case_is_told_where_all_are_asked_for():
    report = report_of(near("c0"), near("c2"))
    assert "         c2: 0.05 voxels apart" in format_report(report, lists_all=True).splitlines()
    assert "c2: 0.05" not in format_report(report)


def test_where_nothing_is_wrong_the_text_says_so():
    assert format_report(report_of()).endswith("\n\nnothing found")
    assert format_report(report_of(all_alike=4)).endswith("all 4 cases fail alike: is it another bundle's data?")


def test_series_and_a_copy_are_values_of_the_report(tmp_path):
    rows = tuple(SeriesRow(n, "ct", "CT", 1, None, None, n == 1) for n in range(1, 40))
    text = format_report(report_of(series=rows, copy=FixedCopy(tmp_path, 4, 1, 0)))
    assert "  series 1: CT, 1 file, several volumes, in ct" in text
    assert "  series 2: CT, 1 file, no volume, in ct, cannot be read" in text
    assert "  and 9 more series" in text


def test_several_sizes_are_told_as_least_median_and_most():
    many = [measured(np.resize(image_of(1), (n, 13, 12)), name=str(n)) for n in (10, 12, 20)]
    assert "  3D  10…12…20 × 13 × 12 voxels" in format_report(report_of(statistics=many))
