"""Voxels counted by the values of two masks, whatever the values are and however the arrays lie in memory."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.errors import GridError, LabelError
from medseg.evaluation.metrics import confusion_matrix
from medseg.evaluation.tabulation import Tabulation, tabulate
from tests.evaluation.mask_pairs import VALUES, mask_pairs


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
    monkeypatch.setattr("medseg.evaluation.tabulation.VOXELS_AT_ONCE", 20)
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
    with pytest.raises(LabelError, match=r"LABEL_UNKNOWN: mask \(prediction\): the mask holds \[7\]"):
        confusion_matrix(np.array([7, 1]), np.array([0, 1]), [0, 1])


def test_a_table_of_no_values_fills_zeros():
    assert not Tabulation((), (), np.zeros((0, 0), int)).to_confusion([0, 1]).any()
