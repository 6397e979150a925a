"""From the rows of cases to one summary per class: means, pooled values and empty truth, counted by hand."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.evaluation.metrics import METRICS, score
from medseg.evaluation.summaries import (
    EMPTY_TRUTH,
    EVERY_CLASS,
    FOREGROUND,
    Row,
    average,
    deviate,
    measure_spread,
    summarise,
)

LABELS = {0: "background", 1: "ball", 2: "stick"}


def case(name, *table, status="scored"):
    """Rows and confusion of one case; the table's last column are voxels without a mask."""
    confusion = np.array(table)
    scores = score(confusion)
    rows = [
        Row(name, "", value, label, status, {metric: float(values[value]) for metric, values in scores.items()})
        for value, label in LABELS.items()
    ]
    return rows, confusion


def summarised(*cases, with_background=False):
    names = [rows[0].case for rows, _ in cases]
    rows = [row for rows, _ in cases for row in rows]
    confusions = dict(zip(names, (confusion for _, confusion in cases), strict=True))
    return summarise(rows, confusions, LABELS, "all", with_background)


FULL = case("full", [4, 0, 0, 0], [1, 3, 0, 0], [0, 0, 2, 0])
HALF = case("half", [6, 2, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0])


def test_a_class_has_the_mean_over_its_cases_and_the_value_of_all_voxels():
    ball = summarised(FULL, HALF)[1]
    dices = [2 * 3 / (2 * 3 + 1), 2 * 2 / (2 * 2 + 2)]
    assert (ball.name, ball.cases, ball.missing) == ("ball", 2, 0)
    dice = ball.metrics["dice"]
    assert (dice.n, dice.mean, dice.sd) == (2, pytest.approx(sum(dices) / 2), pytest.approx(statistics.stdev(dices)))
    assert (dice.least, dice.most) == (min(dices), max(dices))
    assert dice.pooled == pytest.approx(2 * 5 / (2 * 5 + 1 + 2))
    assert set(ball.metrics) == set(METRICS)


def test_a_case_without_the_class_is_in_no_mean_and_counted_apart():
    stick = summarised(FULL, HALF)[2]
    assert (stick.metrics["dice"].n, stick.metrics["dice"].mean) == (1, 1.0)
    assert (stick.empty_truth, stick.empty, stick.false_positive_voxels) == (1, 1, 0)


def test_the_foreground_mean_is_that_of_the_classes_and_has_no_spread():
    _, ball, stick, mean = summarised(FULL, HALF)
    dice = mean.metrics["dice"]
    assert (mean.name, mean.value, dice.n) == (FOREGROUND, None, 2)
    assert dice.mean == pytest.approx((ball.metrics["dice"].mean + stick.metrics["dice"].mean) / 2)
    assert dice.pooled == pytest.approx((ball.metrics["dice"].pooled + stick.metrics["dice"].pooled) / 2)
    assert math.isnan(dice.sd) and math.isnan(dice.median)


def test_the_mean_with_background_is_there_where_it_is_asked_for():
    *_, foreground, every = summarised(FULL, with_background=True)
    assert (foreground.name, every.name) == (FOREGROUND, EVERY_CLASS)
    assert every.metrics["dice"].mean == pytest.approx(
        statistics.fmean(summary.metrics["dice"].mean for summary in summarised(FULL)[:3])
    )


def test_a_mask_that_is_missing_is_counted_and_its_voxels_are_found_nowhere():
    rows, confusion = case("lost", [0, 0, 0, 5], [0, 0, 0, 3], [0, 0, 0, 0], status="missing")
    _, ball, stick, _ = summarised(FULL, (rows, confusion))
    assert (ball.missing, stick.missing, stick.empty_truth_missing, stick.empty) == (1, 1, 1, 0)
    assert ball.metrics["recall"].pooled == pytest.approx(3 / 7)


def test_a_slice_with_empty_truth_is_in_no_number_of_its_class():
    rows, confusion = case("slice", [5, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], status=EMPTY_TRUTH)
    _, ball, *_ = summarised(FULL, (rows, confusion))
    assert (ball.metrics["dice"].n, ball.metrics["dice"].pooled) == (1, pytest.approx(6 / 7))
    assert (ball.empty_truth, ball.empty, ball.false_positive_voxels) == (1, 0, 1)


def test_without_rows_there_is_no_summary_and_without_foreground_no_mean():
    assert summarise([], {}, LABELS, "all") == []
    rows, confusion = FULL
    (only,) = summarise(rows[:1], {"full": confusion[:1, [0, 3]]}, {0: "background"}, "all")
    assert only.name == "background"


@given(st.lists(st.floats(-1, 1) | st.just(math.nan), max_size=12))
def test_a_spread_leaves_out_what_is_not_defined(values):
    known = [value for value in values if not math.isnan(value)]
    spread = measure_spread(values, 0.5)
    assert (spread.n, spread.pooled) == (len(known), 0.5)
    assert math.isnan(spread.mean) == (not known)
    assert math.isnan(spread.sd) == (len(known) < 2)
    if known:
        assert (spread.least, spread.most) == (min(known), max(known))
        assert spread.least <= spread.median <= spread.most
        assert spread.mean == pytest.approx(float(np.mean(known)))


def test_an_average_leaves_out_what_is_not_defined():
    assert average([0.5, math.nan, 1.0]) == 0.75
    assert math.isnan(average([math.nan])) and math.isnan(average([]))
    assert math.isnan(deviate([0.5, math.nan]))
    assert deviate([0.5, math.nan, 1.0]) == statistics.stdev([0.5, 1.0])
