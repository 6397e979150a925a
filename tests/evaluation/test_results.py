"""What an evaluation says of itself: its exit code, its worst cases and its text, to the letter."""

import math
from dataclasses import replace

import numpy as np
import pytest

from medseg.errors import DatasetError, InputError
from medseg.evaluation.metrics import METRICS, VOLUMES, Counts
from medseg.evaluation.results import (
    CASE_COLUMNS,
    MISSING_POLICY,
    Evaluation,
    explain_evaluation,
    read_cases,
    write_tables,
)
from medseg.evaluation.summaries import Row, summarise
from medseg.findings import Finding

LABELS = {0: "background", 1: "ball"}
ERROR = Finding("b", "GRID_MISMATCH", "they differ")


def row(case="a", dice=0.5, value=1, status="scored", part=""):
    scores = dict.fromkeys([*METRICS, *VOLUMES], dice)
    return Row(case, part, value, LABELS[value], status, scores)


def evaluation(rows=(), errors=(), notes=(), missing=(), unmatched=(), **settings):
    confusions = {row.case: np.array([[6, 1, 0], [1, 2, 0]]) for row in rows}
    summaries = summarise([row(), row(value=0)], {"a": np.array([[6, 1, 0], [1, 2, 0]])}, LABELS, "all") if rows else []
    settings = {"masks": "m", "references": "r", "missing": "zero", **settings}
    return Evaluation(
        LABELS, tuple(rows), tuple(summaries), confusions, tuple(errors), tuple(notes), missing, unmatched, settings
    )


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (evaluation([row()]), 0),
        (evaluation([row()], errors=[ERROR]), 1),
        (evaluation(errors=[ERROR]), 3),
        (evaluation([row()], missing=("b",)), 1),
        (evaluation([row()], unmatched=("b",)), 0),
        (evaluation(), 0),
    ],
)
def test_the_exit_code_says_whether_every_case_could_be_judged(found, code):
    assert found.exit_code == code


def test_a_mask_left_out_knowingly_is_no_failure():
    found = evaluation([row()], missing=("b",))
    assert replace(found, settings={**found.settings, "missing": "skip"}).exit_code == 0


def test_the_worst_are_the_lowest_of_the_masks_that_are_there():
    rows = [row("a", 0.9), row("b", 0.1), row("c", math.nan), row("d", 0.0, status="missing"), row("e", 0.0, value=0)]
    assert [found.case for found in evaluation(rows).worst()] == ["b", "a"]
    assert [found.case for found in evaluation(rows).worst(1)] == ["b"]
    assert [found.case for found in evaluation(rows, background="a class as well").worst()] == ["e", "b", "a"]
    assert evaluation().worst() == []


def test_the_text_has_the_table_to_the_letter():
    lines = evaluation([row(), row(value=0)]).to_text().splitlines()
    assert lines[:10] == [
        "masks       m",
        "references  r",
        "cases       1 scored, 0 without a mask (scored 0), 0 errors, 0 masks without a reference",
        "",
        "All cases (1)                     " + "─" * 14 + " mean over cases " + "─" * 15 + "  ── pooled ──",
        "class                     n empty   Dice ± sd    (median)    IoU  prec.  recall   Dice    IoU",
        "background                1     0  0.500 ± –     (0.500)   0.500  0.500   0.500  0.857  0.750",
        "ball                      1     0  0.500 ± –     (0.500)   0.500  0.500   0.500  0.667  0.500",
        "foreground mean                    0.500                   0.500  0.500   0.500  0.667  0.500",
        "",
    ]
    assert lines[10:12] == ["Lowest Dice (of masks that are there)", "  0.500  ball                    a"]


def test_notes_of_one_code_are_one_paragraph_that_names_the_first_cases():
    notes = [Finding(case, "GRID_NEAR", f"of {case}") for case in "abcde"]
    text = evaluation([row()], errors=[ERROR], notes=notes).to_text()
    assert "- GRID_NEAR × 5 (a, b, c, …): of a\n" in text
    assert "Errors: 1 cases are in no number above\n- b: GRID_MISMATCH: they differ\n" in text


def test_slices_are_called_so():
    found = evaluation([row("a#001")], slices="along axis 2")
    assert found.unit == "slices" and found.counted.startswith("1 slices scored")
    assert "All slices (1)" in found.to_text()


SETTINGS = {"masks": "m", "references": "r", "missing": "zero"}


def file_row(case="a", value=1, dice=0.25, status="scored"):
    scores = dict.fromkeys([*METRICS, "prediction_ml", "reference_ml"], math.nan) | {"dice": dice, "reference_ml": 2.5}
    return Row(case, "test", value, f"class {value}", status, scores)


def written(rows, folder):
    write_tables(Evaluation({}, tuple(rows), (), {}, (), (), (), (), SETTINGS), folder)
    return folder


def test_rows_are_read_back_as_they_were(tmp_path):
    rows = [file_row('a, "b"\nc', 0), file_row("=1+1", 3, math.nan, "missing"), file_row("site/ä#007", 2, -0.125)]
    back = read_cases(written(rows, tmp_path / "scores"))
    for ours, wanted in zip(back, rows, strict=True):
        assert replace(ours, scores={}) == replace(wanted, scores={})
        assert list(ours.scores) == list(wanted.scores)
        np.testing.assert_equal(dict(ours.scores), dict(wanted.scores))


def test_writing_what_was_read_gives_the_same_file(tmp_path):
    first = written([file_row(dice=1 / 3), file_row("b", dice=math.nan)], tmp_path / "first") / "cases.csv"
    again = written(read_cases(first), tmp_path / "again") / "cases.csv"
    assert again.read_bytes() == first.read_bytes()


def test_a_table_without_rows_gives_none(tmp_path):
    assert read_cases(written([], tmp_path)) == []


def test_a_file_that_is_not_there_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="INPUT_MISSING"):
        read_cases(tmp_path / "absent.csv")


@pytest.mark.parametrize(
    "text",
    [
        "image,label\na,b\n",
        ",".join(CASE_COLUMNS) + "\na,,1,x,scored,0.5\n",
        ",".join(CASE_COLUMNS) + "\na,,one,x,scored" + ",0.5" * (len(CASE_COLUMNS) - 5) + "\n",
        ",".join(CASE_COLUMNS) + "\na,,1,x,scored" + ",0.5" * (len(CASE_COLUMNS) - 4) + "\n",
        ",".join(CASE_COLUMNS) + '\n"a,,1,x\n',
        "",
    ],
    ids=["other columns", "a line cut off", "a word for a number", "a cell too many", "an open quote", "no header"],
)
def test_what_is_no_table_of_cases_is_refused(tmp_path, text):
    (tmp_path / "cases.csv").write_text(text)
    with pytest.raises(DatasetError, match="RECORD_UNREADABLE"):
        read_cases(tmp_path / "cases.csv")


ZERO = {"missing": "zero"}


def test_the_first_sentence_names_the_metrics_that_an_empty_class_has_no_value_of():
    counts = Counts(*(np.array([voxels]) for voxels in (0.0, 0.0, 0.0, 9.0)))
    undefined = [metric.title for metric in METRICS.values() if np.isnan(metric.measure(counts)[0])]
    first = explain_evaluation(ZERO)[0]
    assert [title for title in (metric.title for metric in METRICS.values()) if title in first] == undefined
    assert first.startswith(f"A class empty in both masks has no {', '.join(undefined[:-1])} or {undefined[-1]}: nan, ")


@pytest.mark.parametrize(
    ("title", "counts"),
    [
        ("precision", (0, 0, 3, 9)),  # true positives, false positives, false negatives, true negatives
        ("recall", (0, 3, 0, 9)),
        ("specificity", (3, 0, 3, 0)),
        ("MCC", (0, 0, 3, 9)),
        ("MCC", (3, 0, 3, 0)),
        ("MCC", (0, 3, 0, 9)),
        ("MCC", (3, 3, 0, 0)),
    ],
)
def test_a_metric_has_no_value_where_its_clause_says_so(title, counts):
    (metric,) = (metric for metric in METRICS.values() if metric.title == title)
    assert metric.undefined
    assert np.isnan(metric.measure(Counts(*(np.array([float(voxels)]) for voxels in counts)))[0])
    assert f"{metric.title.lower()} " in explain_evaluation(ZERO)[2].lower()


def test_slices_and_the_background_have_sentences_of_their_own():
    plain = explain_evaluation(ZERO)
    sliced = explain_evaluation({**ZERO, "slices": "along axis 2"})
    assert sliced[0].startswith("Every slice is a case.") and sliced[2:] == plain[2:]
    assert explain_evaluation({**ZERO, "background": "a class as well"})[-2].startswith("The mean with background")


@pytest.mark.parametrize("missing", MISSING_POLICY)
def test_the_last_sentence_says_what_a_missing_mask_counts(missing):
    assert explain_evaluation({"missing": missing})[-1] == MISSING_POLICY[missing]
