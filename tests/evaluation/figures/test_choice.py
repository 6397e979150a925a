import math

import numpy as np
import pytest

from medseg.evaluation.figures.choice import chosen, foreground_dice, ranked, spread, spread_by_scores
from medseg.evaluation.figures.files import ExampleFiles
from medseg.evaluation.metrics import METRICS
from medseg.evaluation.tables import Row


def ranking(count):
    return [(f"case{index}", 1 - index / 100) for index in range(count)]


def kinds(count, each):
    return [(kind, case) for kind, case, _ in chosen(ranking(count), each)]


def test_the_best_the_middle_and_the_worst_are_chosen():
    assert kinds(9, 1) == [("best", "case0"), ("in between", "case4"), ("worst", "case8")]
    assert [case for _, case in kinds(11, 2)] == ["case0", "case1", "case5", "case6", "case9", "case10"]


@pytest.mark.parametrize("count", range(12))
def test_no_case_is_chosen_twice_and_few_cases_are_all_chosen(count):
    cases = [case for _, case in kinds(count, 3)]
    assert len(cases) == len(set(cases)) == (count if count <= 3 else 3 * (min(count, 9) // 3))


def test_one_case_is_the_best_and_two_are_best_and_worst():
    assert kinds(1, 3) == [("best", "case0")]
    assert kinds(2, 3) == [("best", "case0"), ("worst", "case1")]


def row(case, dice, value=1, status="scored"):
    return Row(case, "", value, "", status, dict.fromkeys(METRICS, dice))


def test_cases_are_ranked_by_the_mean_over_the_foreground_where_all_files_are_there():
    rows = [row("a", 0.4), row("a", 0.8, value=2), row("b", 0.7), row("b", math.nan, value=2), row("a", 0.0, value=0)]
    rows += [row("lost", 0.9), row("no mask", 0.0, status="missing"), row("empty", math.nan)]
    paths = dict.fromkeys(["a", "b", "no mask", "empty"], "file")
    files = ExampleFiles(paths, paths, (paths,))
    assert ranked(rows, files) == [("b", 0.7), ("a", pytest.approx(0.6))]
    assert ranked([], files) == []


def test_dice_is_the_mean_over_the_classes_that_are_there():
    truth = np.array([[1, 1, 2, 0]])
    assert foreground_dice(truth, truth, {0: "", 1: "", 2: "", 3: ""}) == 1
    assert foreground_dice(np.array([[1, 0, 0, 9]]), truth, {}) == pytest.approx((2 / 3 + 0 + 0) / 3)
    assert math.isnan(foreground_dice(truth * 0, truth * 0, {1: ""}))


class Shelf(ExampleFiles):
    """Cases whose masks are known by their number: the n-th of nine has n voxels right."""

    def read_masks(self, case):
        truth, mask = np.zeros((9, 1), int), np.zeros((9, 1), int)
        truth[:9], mask[: int(case)] = 1, 1
        return truth, (mask, truth), None


def test_cases_are_spread_from_the_highest_to_the_lowest_dice():
    paths = {str(number): "file" for number in range(1, 10)}
    files = Shelf(paths, paths, (paths, paths))
    assert spread(files, {1: ""}, 3) == ["9", "5", "1"]
    assert sorted(spread(files, {1: ""}, 50)) == sorted(paths)
    assert spread(Shelf({}, {}, ({},)), {}, 3) == []


def test_by_scores_cases_are_spread_alike_without_a_look_at_the_masks():
    paths = {str(number): "no such file" for number in range(1, 10)}
    files = ExampleFiles(paths, paths, (paths, paths))
    rising = [row(case, int(case) / 9) for case in paths]
    falling = [row(case, 1 - int(case) / 90) for case in paths]
    assert spread_by_scores([rising, rising], files, 3) == ["9", "5", "1"]
    assert spread_by_scores([rising, falling], files, 2) == ["9", "1"]
    assert spread_by_scores([rising, rising[:4]], files, 9) == ["4", "3", "2", "1"]
    assert spread_by_scores([rising, []], files, 3) == []
