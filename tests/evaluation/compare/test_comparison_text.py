"""The tables of a comparison, to the letter and within a terminal."""

import math

import pytest

from medseg.evaluation.compare.comparison_text import format_beside, format_comparison, group_beside, make_headline
from medseg.evaluation.compare.gather import gather
from medseg.evaluation.compare.published import Beside, Published
from tests.evaluation.run_folders import GOOD, POOR, TRUE, make_run


@pytest.fixture
def comparison(tmp_path):
    make_run(tmp_path / "good", GOOD, TRUE)
    make_run(tmp_path / "poor", POOR, TRUE, loss="focal")
    return gather([tmp_path])


def test_the_first_line_says_what_was_compared(comparison):
    assert make_headline(comparison) == "2 rows of ball_segmentation: test part, 2 cases"
    assert comparison.to_text() == format_comparison(comparison)


def test_rows_runs_and_classes_have_their_tables(comparison):
    lines = format_comparison(comparison).splitlines()
    assert lines[1:13] == [
        "",
        "Foreground mean                   ──────────── mean over cases ────────────  ─── folds ───  pooled",
        "row                          rank  Dice ± sd        IoU  prec.  recall   acc.  Dice ± sd        Dice",
        "good                         1.00  0.964 ± 0.051  0.938  1.000   0.938  0.975  0.964 ± –       0.955",
        "poor                         2.00  0.667 ± 0.000  0.500  1.000   0.500  0.875  0.667 ± –       0.667",
        "",
        "Training (mean of runs)      runs  val. loss ± sd     epochs    best       time    parameters",
        "good                            1  0.4000 ± –              3       2       0:05         1,234",
        "poor                            1  0.4000 ± –              3       2       0:05         1,234",
        "",
        "background                               ──────────── mean over cases ────────────  ── pooled ──",
        "row                             n empty  Dice ± sd        IoU  prec.  recall   acc.   Dice    IoU",
    ]


def test_a_pair_of_rows_has_its_difference_interval_and_chance(comparison):
    lines = format_comparison(comparison).splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("Paired tests"))
    assert lines[start] == f"{'Paired tests (Dice)':57}    n  median difference       p (Holm)"
    assert lines[start + 1] == "foreground mean"
    assert lines[start + 2] == f"{'  good − poor':57}    2  +0.298 [+0.262, +0.333]    0.500"


def test_published_numbers_have_their_decimals_and_differences():
    beside = Beside(Published("unet", "ball", "dice", 0.9), "unet", "ball", 0.875, 0.95)
    assert format_beside(beside) == ("0.9000", "0.8750", "-0.0250", "0.9500", "+0.0500")
    epochs = Beside(Published("unet", "", "epochs", 86), "unet", "", 3.0, math.nan)
    assert format_beside(epochs) == ("86", "3", "-83", "–", "–")


def test_published_numbers_are_grouped_by_both_rows(comparison):
    assert group_beside(comparison) == []


def test_no_line_is_wider_than_a_hundred_columns(tmp_path):
    for row in ("attention-res-unet_unified-focal_filters-64_depth-4", "unet_" + "x" * 60):
        make_run(tmp_path / row, GOOD, TRUE, network="attention-res-unet", **{"a::b": row, "seed": 3})
    make_run(tmp_path / "third", POOR, TRUE)
    lines = gather([tmp_path]).to_text().splitlines()
    assert max(map(len, lines)) <= 100
