import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from medseg.evaluation.compare.paired_tests import (
    average_ranks,
    calculate_signed_rank_p,
    compare_pairs,
    correct_by_holm,
    estimate_median_interval,
)

chances = st.lists(st.floats(0, 1), min_size=1, max_size=8)


def scored(*values):
    return {f"case{index}": value for index, value in enumerate(values)}


def test_a_row_that_is_better_in_all_of_five_units_has_the_smallest_p_that_five_can_give():
    (test,) = compare_pairs("Dice", {"a": scored(0.9, 0.8, 0.7, 0.6, 0.5), "b": scored(0.8, 0.6, 0.4, 0.2, 0.0)})
    assert (test.first, test.second, test.n) == ("a", "b", 5)
    assert test.p == test.p_holm == pytest.approx(2 / 2**5)
    assert test.median_difference == pytest.approx(0.3)
    assert 0.1 <= test.low <= 0.3 <= test.high <= 0.5


def test_the_p_is_scipy_s_for_many_differences():
    generator = np.random.default_rng(0)
    first, second = generator.random(40), generator.random(40)
    (test,) = compare_pairs("Dice", {"a": scored(*first), "b": scored(*second)})
    assert test.p == pytest.approx(stats.wilcoxon(np.round(first - second, 12)).pvalue)


def test_rows_the_other_way_round_give_the_same_p_and_the_opposite_difference():
    generator = np.random.default_rng(1)
    rows = {"a": scored(*generator.random(15)), "b": scored(*generator.random(15))}
    (there,), (back,) = compare_pairs("Dice", rows), compare_pairs("Dice", dict(reversed(rows.items())))
    assert there.p == pytest.approx(back.p)
    assert there.median_difference == pytest.approx(-back.median_difference)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=0.05)


def test_units_are_paired_by_name_and_those_without_a_score_in_both_are_left_out():
    first = {"x": 0.5, "y": 0.7, "z": math.nan}
    second = {"z": 0.1, "y": 0.6, "x": 0.4, "w": 0.9}
    (test,) = compare_pairs("Dice", {"a": first, "b": second})
    assert test.n == 2
    assert test.median_difference == pytest.approx(0.1)


def test_rows_that_agree_everywhere_differ_by_nothing():
    (test,) = compare_pairs("Dice", {"a": scored(0.5, 0.6, 0.7), "b": scored(0.5, 0.6, 0.7)})
    assert (test.median_difference, test.low, test.high, test.p) == (0.0, 0.0, 0.0, 1.0)


def test_without_a_common_unit_there_is_no_number():
    (test,) = compare_pairs("Dice", {"a": {"x": 1.0}, "b": {"y": 1.0}})
    assert test.n == 0
    assert all(math.isnan(value) for value in (test.median_difference, test.low, test.high, test.p, test.p_holm))


def test_equal_steps_count_as_ties_in_spite_of_rounding():
    exact = calculate_signed_rank_p(np.array([0.1, 0.1, 0.1, -0.1]))
    (test,) = compare_pairs("Dice", {"a": scored(0.9, 0.8, 0.7, 0.2), "b": scored(0.8, 0.7, 0.6, 0.3)})
    assert test.p == pytest.approx(exact)


def test_one_row_alone_is_compared_with_nothing():
    assert compare_pairs("Dice", {"a": scored(0.5)}) == []


@given(chances)
def test_holm_s_correction_is_the_textbook_s(values):
    order = sorted(range(len(values)), key=lambda index: values[index])
    steps = [min(1.0, (len(values) - rank) * values[index]) for rank, index in enumerate(order)]
    expected = {index: max(steps[: rank + 1]) for rank, index in enumerate(order)}
    assert correct_by_holm(values) == [expected[index] for index in range(len(values))]


def test_holm_s_correction_counts_no_nan():
    corrected = correct_by_holm([0.02, math.nan, 0.5])
    assert corrected[0] == pytest.approx(0.04)
    assert math.isnan(corrected[1])
    assert corrected[2] == pytest.approx(0.5)


def test_the_interval_is_the_same_each_time_and_narrows_with_more_units():
    few, many = np.random.default_rng(2).normal(0.1, 1, 10), np.random.default_rng(2).normal(0.1, 1, 1000)
    assert estimate_median_interval(few) == estimate_median_interval(few.copy())
    low, high = estimate_median_interval(many)
    assert low < np.median(many) < high
    assert high - low < np.diff(estimate_median_interval(few))[0] / 3
    assert math.isnan(estimate_median_interval(few[:1])[0])


def test_ranks_are_averaged_over_units_and_ties_share_them():
    rows = {"a": scored(0.9, 0.5, 0.7), "b": scored(0.8, 0.5, 0.9), "c": scored(0.1, 0.4, math.nan)}
    assert average_ranks(rows) == {"a": pytest.approx(1.25), "b": pytest.approx(1.75), "c": 3.0}


def test_without_a_unit_that_every_row_has_there_is_no_rank():
    assert all(math.isnan(rank) for rank in average_ranks({"a": {"x": 1.0}, "b": {"x": math.nan}}).values())
