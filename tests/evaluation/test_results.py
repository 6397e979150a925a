"""What an evaluation says of itself: its exit code, its worst cases and its text, to the letter."""

import math
from dataclasses import replace

import numpy as np
import pytest

from medseg.evaluation.metrics import METRICS, VOLUMES
from medseg.evaluation.results import Evaluation, Finding
from medseg.evaluation.summaries import Row, summarise

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
