import math

import pytest

from medseg.errors import InputError, UsageError
from medseg.evaluation.figures.score_plots import sample_curves, sample_distributions, score_box_plot, score_histogram
from medseg.evaluation.metrics import METRICS
from medseg.evaluation.summaries import Row

FIGURES = (score_histogram, sample_curves, sample_distributions)


def row(case, dice, part="", value=1, status="scored"):
    scores = {**dict.fromkeys(METRICS, dice), "accuracy": 0.99, "prediction_ml": 1.0, "reference_ml": 1.0}
    return Row(case, part, value, f"class {value}", status, scores)


@pytest.fixture
def two_parts():
    """Three cases to train, two to test; the values are their numbers, the background is always right."""
    cases = [("c10", 0.1, "train"), ("c2", 0.2, "train"), ("c1", math.nan, "train"), ("t1", 0.6, "test")]
    rows = [row(case, dice, part) for case, dice, part in cases] + [row("t2", 0.0, "test", status="missing")]
    return rows + [row(each.case, 1.0, each.part, value=0) for each in rows]


def bars(axes):
    return [patch.get_height() for patch in axes.patches]


def drawn(axes):
    return [line.get_ydata() for line in axes.lines]


def test_a_histogram_holds_every_defined_score_of_its_class():
    rows = [row(f"c{n}", n / 10 + 0.01, value=value) for n in range(10) for value in (0, 1, 2)] + [row("e", math.nan)]
    first, second = score_histogram(rows).axes
    assert first.get_title() == "class 1 (n = 10, 1 not defined)"
    assert second.get_title() == "class 2 (n = 10)"
    assert bars(first) == [1, 0] * 10
    assert first.patches[0].get_facecolor() != second.patches[0].get_facecolor()


def test_a_perfect_and_a_failed_case_are_in_the_outer_bars():
    (axes,) = score_histogram([row("a", 1.0), row("b", 0.0)]).axes
    assert bars(axes)[0] == bars(axes)[-1] == 1


def test_parts_stand_beside_each_other_with_training_first(two_parts):
    for figure in (score_histogram(two_parts), sample_curves(two_parts)):
        titles = [axes.get_title() for axes in figure.axes]
        assert "train (n = " in titles[0] and "test (n = 2, 1 without a mask)" in titles[1]
    assert score_histogram(two_parts).axes[0].get_subplotspec().colspan.start == 0
    assert score_histogram(two_parts).axes[1].get_subplotspec().colspan.start == 1


def test_curves_follow_the_cases_in_the_order_of_their_names(two_parts):
    train, test = sample_curves(two_parts, ("dice", "accuracy")).axes
    assert math.isnan(drawn(train)[0][0]) and list(drawn(train)[0][1:]) == [0.2, 0.1]
    assert list(drawn(train)[1]) == [0.99] * 3
    assert list(drawn(test)[0]) == [0.6, 0.0]


def test_of_several_classes_the_mean_of_those_with_a_value_is_drawn():
    rows = [row("a", 0.5), row("a", 0.7, value=2), row("b", 0.4), row("b", math.nan, value=2)]
    figure = sample_curves(rows, ("dice",))
    assert list(drawn(figure.axes[0])[0]) == pytest.approx([0.6, 0.4])
    assert "2 foreground classes" in figure.get_suptitle()


def test_distributions_have_a_row_per_metric_on_one_scale(two_parts):
    figure = sample_distributions(two_parts, ("dice", "accuracy"))
    dice_train, dice_test, accuracy_train, accuracy_test = figure.axes
    assert (sum(bars(dice_train)), sum(bars(dice_test))) == (2, 2)
    assert dice_train.get_xlim() == dice_test.get_xlim() == (0, 1)
    assert accuracy_train.get_xlim() == accuracy_test.get_xlim() == (0.99, 1)
    assert sum(bars(accuracy_train)) == 3


def test_scores_below_zero_are_drawn_too():
    (axes,) = score_histogram([row("a", -0.5), row("b", 0.5)], "mcc").axes
    assert sum(bars(axes)) == 2 and axes.get_xlim() == (-1, 1)


@pytest.mark.parametrize("figure_of", FIGURES)
def test_scores_of_nothing_give_no_panel(figure_of):
    assert not figure_of([]).axes


@pytest.mark.parametrize("figure_of", FIGURES)
def test_scores_are_read_from_the_table_that_evaluation_writes(figure_of, two_parts, tmp_path):
    from medseg.evaluation.results import CASE_COLUMNS

    cells = [[e.case, e.part, e.value, e.name, e.status, *(e.scores[n] for n in CASE_COLUMNS[5:])] for e in two_parts]
    text = "\n".join(",".join(map(str, line)) for line in [CASE_COLUMNS, *cells]) + "\n"
    (tmp_path / "cases.csv").write_text(text)
    read, given = figure_of(tmp_path), figure_of(two_parts)
    assert [axes.get_title() for axes in read.axes] == [axes.get_title() for axes in given.axes]
    with pytest.raises(InputError):
        figure_of(tmp_path / "nothing.csv")


def test_a_metric_that_is_none_is_refused(two_parts):
    with pytest.raises(UsageError) as caught:
        score_histogram(two_parts, "jaccard")
    assert caught.value.code == "NAME_UNKNOWN"
    with pytest.raises(UsageError):
        sample_curves(two_parts, ("dice", "dsc"))


def test_a_single_case_stands_at_its_number():
    (axes,) = sample_curves([row("a", 0.5)]).axes
    low, high = axes.get_xlim()
    assert [value for value in axes.get_xticks() if low <= value <= high] == [1]


def test_the_box_plot_shows_quartiles_and_counts_without_nan():
    figure = score_box_plot({"liver": [0.5, 0.6, 0.7, 0.8, 0.9, math.nan], "spleen": [math.nan]})
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["liver  (n = 5)", "spleen  (n = 0)"]
    (box,) = axes.patches
    assert (box.get_x(), box.get_width()) == pytest.approx((0.6, 0.2))
    (points,) = (c for c in axes.collections if len(c.get_offsets()) == 5)
    assert sorted(points.get_offsets()[:, 0]) == [0.5, 0.6, 0.7, 0.8, 0.9]


def test_a_box_plot_of_nothing_is_empty():
    assert not score_box_plot({}).axes[0].patches
