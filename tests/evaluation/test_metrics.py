import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import compute_dice, compute_iou
from sklearn import metrics as sk

from medseg.errors import GridError, LabelError
from medseg.evaluation.metrics import (
    COMPARED,
    EVALUATED,
    METRICS,
    POOLED,
    Tabulation,
    confusion_matrix,
    count,
    dice,
    iou,
    score,
    tabulate,
)
from tests.evaluation.mask_pairs import VALUES, mask_pairs


def scores_of(prediction, reference, values=VALUES):
    return score(confusion_matrix(prediction, reference, values))


def nan_equal(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12, equal_nan=True)


def test_every_metric_of_a_hand_counted_mask_is_exact():
    reference = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    prediction = np.array([1, 1, 1, 0, 1, 1, 0, 0, 0, 0])  # TP 3, FN 1, FP 2, TN 4
    got = {name: values[1] for name, values in scores_of(prediction, reference, [0, 1]).items()}
    expected = {
        "dice": 6 / 9,
        "iou": 3 / 6,
        "precision": 3 / 5,
        "recall": 3 / 4,
        "specificity": 4 / 6,
        "accuracy": 7 / 10,
        "mcc": (3 * 4 - 2 * 1) / np.sqrt(5 * 4 * 6 * 5),
        "prediction_ml": 0.005,
        "reference_ml": 0.004,
    }
    assert got == pytest.approx(expected)


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        pytest.param(
            [0, 0],
            [0, 0],
            {
                "dice": None,
                "iou": None,
                "precision": None,
                "recall": None,
                "specificity": 1,
                "accuracy": 1,
                "mcc": None,
            },
            id="both masks empty",
        ),
        pytest.param(
            [0, 1],
            [0, 0],
            {"dice": 0, "iou": 0, "precision": 0, "recall": None, "specificity": 0.5, "accuracy": 0.5, "mcc": None},
            id="reference empty",
        ),
        pytest.param(
            [0, 0],
            [0, 1],
            {"dice": 0, "iou": 0, "precision": None, "recall": 0, "specificity": 1, "accuracy": 0.5, "mcc": None},
            id="prediction empty",
        ),
        pytest.param(
            [1, 1],
            [1, 1],
            {"dice": 1, "iou": 1, "precision": 1, "recall": 1, "specificity": None, "accuracy": 1, "mcc": None},
            id="both masks full",
        ),
    ],
)
def test_empty_and_full_masks_follow_the_policy(prediction, reference, expected):
    got = scores_of(np.array(prediction), np.array(reference), [0, 1])
    assert set(expected) == set(METRICS)
    for name, value in expected.items():
        nan_equal(got[name][1], np.nan if value is None else value)


def test_arrays_without_voxels_give_nan_everywhere():
    got = scores_of(np.zeros((0, 3), int), np.zeros((0, 3), int))
    assert all(np.isnan(got[name]).all() for name in METRICS)


@settings(max_examples=60, deadline=None)
@given(mask_pairs())
def test_scores_equal_scikit_learns(masks):
    prediction, reference = masks
    got = scores_of(prediction, reference)
    flat = reference.ravel(), prediction.ravel()
    options = {"labels": VALUES, "average": None, "zero_division": np.nan}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of every class that is absent
        np.testing.assert_array_equal(
            confusion_matrix(prediction, reference, VALUES), sk.confusion_matrix(*flat, labels=VALUES)
        )
        nan_equal(got["precision"], sk.precision_score(*flat, **options))
        nan_equal(got["recall"], sk.recall_score(*flat, **options))
        nan_equal(got["dice"], sk.f1_score(*flat, **options))
        defined = ~np.isnan(got["iou"])
        nan_equal(got["iou"][defined], sk.jaccard_score(*flat, labels=VALUES, average=None, zero_division=0)[defined])
        for value in VALUES:
            one = [side == value for side in flat]
            assert got["accuracy"][value] == pytest.approx(sk.accuracy_score(*one))
            ours = got["mcc"][value]  # scikit-learn calls an undefined correlation 0
            assert (0 if np.isnan(ours) else ours) == pytest.approx(sk.matthews_corrcoef(*one))
            nan_equal(got["specificity"][value], sk.recall_score(*one, pos_label=False, zero_division=np.nan))


@settings(max_examples=40, deadline=None)
@given(mask_pairs())
def test_dice_and_iou_equal_monais_except_that_an_extra_structure_counts(masks):
    prediction, reference = (torch.tensor(np.stack([mask == v for v in VALUES])[None]).float() for mask in masks)
    got = scores_of(*masks)
    axes = (0, *range(2, reference.ndim))
    in_reference = reference.sum(axis=axes).numpy() > 0
    in_either = (reference + prediction).sum(axis=axes).numpy() > 0
    for name, monai_metric in (("dice", compute_dice), ("iou", compute_iou)):
        ignoring = monai_metric(prediction, reference, ignore_empty=True)[0].numpy()
        counting = monai_metric(prediction, reference, ignore_empty=False)[0].numpy()
        np.testing.assert_allclose(got[name][in_reference], ignoring[in_reference], rtol=1e-5)
        np.testing.assert_allclose(got[name][in_either], counting[in_either], rtol=1e-5)
        assert np.isnan(got[name][~in_either]).all()


@settings(max_examples=60, deadline=None)
@given(mask_pairs())
def test_dice_is_symmetric_and_iou_follows_from_it(masks):
    prediction, reference = masks
    there, back = (
        count(confusion_matrix(*pair, VALUES)) for pair in ((prediction, reference), (reference, prediction))
    )
    nan_equal(dice(there), dice(back))
    nan_equal(iou(there), dice(there) / (2 - dice(there)))


@settings(max_examples=40, deadline=None)
@given(mask_pairs(), st.permutations(VALUES))
def test_relabelling_both_masks_moves_the_scores_along(masks, order):
    relabel = np.array(order)
    before, after = scores_of(*masks), scores_of(relabel[masks[0]], relabel[masks[1]])
    for name in METRICS:
        nan_equal(after[name][relabel], before[name])


def test_voxels_without_a_prediction_are_misses_and_nothing_else():
    counts = count(np.array([[4, 0, 0], [0, 0, 6]]))
    assert counts.false_negative.tolist() == [0, 6]
    assert counts.false_positive.tolist() == [0, 0]
    assert counts.true_negative.tolist() == [6, 4]


def test_huge_pooled_counts_do_not_overflow():
    got = score(np.array([[10**12, 10**10], [10**10, 10**12]]))
    assert got["mcc"][1] == pytest.approx(
        sk.matthews_corrcoef([0, 0, 1, 1], [0, 1, 1, 0], sample_weight=[100, 1, 100, 1])
    )


def test_the_page_of_concepts_has_a_row_for_every_metric():
    concepts = Path(__file__).parents[2] / "docs" / "concepts.md"
    _, _, table = concepts.read_text(encoding="utf-8").partition("| metric | is |\n| --- | --- |\n")
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in table.split("\n\n")[0].splitlines()]
    assert rows == [(metric.title, metric.formula) for metric in METRICS.values()]


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_every_metric_is_explained_and_fits_its_column(metric):
    assert "nan" in metric.measure.__doc__
    assert len(metric.column.title) <= metric.column.width >= len(metric.format(-0.5)) - 1
    assert metric.format(float("nan")) == "–"
    assert metric.label or metric.title


def test_the_tables_show_metrics_that_there_are_and_dice_first():
    for names in (EVALUATED, COMPARED, POOLED):
        assert set(names) <= set(METRICS)
        assert names[0] == "dice"


@settings(max_examples=40, deadline=None)
@given(mask_pairs(), st.sampled_from(["C", "F", "strided"]), st.sampled_from([np.int16, np.uint16, np.int64]))
def test_storage_order_and_type_do_not_matter(masks, order, dtype):
    prediction, reference = masks
    stored = prediction.astype(dtype)
    stored = np.repeat(stored, 2, axis=0)[::2] if order == "strided" else np.asarray(stored, order=order)
    np.testing.assert_array_equal(
        confusion_matrix(stored, np.asfortranarray(reference), VALUES), confusion_matrix(prediction, reference, VALUES)
    )


def test_counting_in_steps_gives_the_same_table(monkeypatch):
    rng = np.random.default_rng(0)
    prediction, reference = rng.integers(0, 4, (2, 7, 5, 3))
    whole = tabulate(prediction, reference).voxels
    monkeypatch.setattr("medseg.evaluation.metrics.VOXELS_AT_ONCE", 20)
    np.testing.assert_array_equal(tabulate(prediction, reference).voxels, whole)


def test_large_and_negative_values_are_tabulated():
    table = tabulate(np.array([-5, 70000, 70000]), np.array([7, 7, 70000]))
    assert (table.reference_values, table.prediction_values) == ((7, 70000), (-5, 70000))
    assert table.voxels.tolist() == [[1, 1], [0, 1]]


def test_booleans_count_as_0_and_1():
    assert tabulate(np.array([True, False]), np.array([1, 1])).voxels.tolist() == [[1, 1]]


def test_ignored_reference_voxels_leave_the_table():
    table = tabulate(np.array([0, 1, 2]), np.array([0, 1, 9])).without_reference(9)
    assert (table.reference_values, table.prediction_values) == ((0, 1), (0, 1))
    assert table.voxels.tolist() == [[1, 0], [0, 1]]


def test_masks_of_different_shape_are_refused():
    with pytest.raises(GridError, match="SHAPE_MISMATCH"):
        tabulate(np.zeros((2, 3), int), np.zeros((3, 2), int))


def test_fractions_are_refused():
    with pytest.raises(LabelError, match="LABEL_NOT_INTEGER"):
        tabulate(np.zeros(3), np.zeros(3, int))


def test_an_image_given_as_mask_is_refused():
    with pytest.raises(LabelError, match="LABEL_TOO_MANY"):
        tabulate(np.arange(3000), np.zeros(3000, int))


def test_a_value_without_a_label_is_refused_and_named():
    with pytest.raises(LabelError, match=r"LABEL_UNEXPECTED: mask \(prediction\): the mask holds \[7\]"):
        confusion_matrix(np.array([7, 1]), np.array([0, 1]), [0, 1])


def test_a_table_of_no_values_fills_zeros():
    assert not Tabulation((), (), np.zeros((0, 0), int)).to_confusion([0, 1]).any()
