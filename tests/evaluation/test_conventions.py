"""The sentences below the tables say what the metrics do."""

import numpy as np
import pytest

from medseg.evaluation.conventions import MISSING_POLICY, explain_comparison, explain_evaluation
from medseg.evaluation.metrics import METRICS, Counts

ZERO = {"missing": "zero"}


def test_the_first_sentence_names_the_metrics_that_an_empty_class_has_no_value_of():
    counts = Counts(*(np.array([voxels]) for voxels in (0.0, 0.0, 0.0, 9.0)))
    undefined = [metric.title for metric in METRICS.values() if np.isnan(metric.measure(counts)[0])]
    first = explain_evaluation(ZERO)[0]
    assert [title for title in (metric.title for metric in METRICS.values()) if title in first] == undefined
    assert first == (
        "A class empty in both masks has no Dice, IoU, precision, recall or MCC: "
        "nan, left out of means and counted apart."
    )


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


def test_a_comparison_says_what_its_tests_count_and_what_folds_and_validation_mean():
    plain = explain_comparison("case", "test", has_folds=False)
    assert any("each case counts once" in sentence for sentence in plain)
    assert not any("folds share" in sentence for sentence in plain)
    folded = explain_comparison("patient", "validation", has_folds=True)
    assert any("cases of one patient are averaged first" in sentence for sentence in folded)
    assert folded[-2].startswith("The folds share training cases") and folded[-1].startswith("The validation part")
    assert not any("{" in sentence for sentence in (*plain, *folded))
