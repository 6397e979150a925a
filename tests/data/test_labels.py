"""Label values found, converted and compared with the ones expected."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from medseg.data.labels import COUNTED_UP_TO, convert_labels, is_white_only, label_values, mask_reading, shrink_integers
from medseg.errors import LabelError

SHAPES = arrays.array_shapes(min_dims=1, max_dims=3, max_side=6)


@given(arrays.arrays(np.int32, SHAPES, elements=st.integers(0, 300)))
def test_label_values_are_those_of_unique(array):
    assert label_values(array) == np.unique(array).tolist()


def test_labels_too_large_to_count_are_found_too():
    assert label_values(np.array([[COUNTED_UP_TO + 5, 0], [7, 7]])) == [0, 7, COUNTED_UP_TO + 5]


def test_an_array_without_voxels_has_no_labels():
    assert label_values(np.zeros((0, 3), np.uint8)) == []


@given(arrays.arrays(np.float64, SHAPES, elements=st.integers(0, 70000).map(float)))
def test_whole_floats_become_equal_integers(array):
    labels = convert_labels(array, "case")
    assert np.issubdtype(labels.dtype, np.integer)
    np.testing.assert_array_equal(labels, array)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([0, 255], np.uint8),
        ([0, 256], np.int16),
        ([-1, 3], np.int16),
        ([0, 60000], np.uint16),
        ([0, 70000], np.int32),
        ([0, 3e9], np.uint32),
        ([0, 5e9], np.int64),
        ([], np.uint8),
    ],
)
def test_the_smallest_type_that_holds_the_values_is_chosen(values, dtype):
    assert shrink_integers(np.array(values, dtype=float), "case").dtype == dtype


def test_a_label_beyond_64_bits_is_refused():
    with pytest.raises(LabelError, match="LABEL_NOT_INTEGER"):
        convert_labels(np.array([0.0, 1e30]), "case")


def test_booleans_are_labels_0_and_1():
    labels = convert_labels(np.array([True, False]), "case")
    assert labels.dtype == np.uint8
    assert labels.tolist() == [1, 0]


def reader(*values, keys="label"):
    return {"_target_": "LoadImaged", "keys": keys, "values": list(values)}


def mapping(pairs, target="MapLabelValued"):
    return {"_target_": target, "keys": ["label"], "orig_labels": list(pairs), "target_labels": list(pairs.values())}


def test_the_reader_s_values_and_the_mapping_are_found_among_other_steps():
    steps = [{"_target_": "LoadImaged", "keys": "image"}, reader(0, 1, 2, 4), "$expression", mapping({4: 3})]
    found = mask_reading(steps)
    assert found.values == (0, 1, 2, 4)
    assert found.renamed == {4: 3}
    assert found.reaching == {0, 1, 2, 3}


def test_values_of_a_step_for_images_are_not_those_of_masks():
    assert mask_reading([reader(7, 8, keys="image")]).values is None


@pytest.mark.parametrize("steps", [None, [], "@steps", {"a": 1}, [None, 3], [reader(keys=None)]])
def test_steps_that_say_nothing_read_masks_as_they_are(steps):
    found = mask_reading(steps)
    assert (found.values, found.renamed, found.reaching) == (None, {}, None)


def test_references_in_place_of_lists_say_nothing():
    step = {"_target_": "monai.transforms.MapLabelValued", "keys": "label", "orig_labels": "@old", "target_labels": [1]}
    assert mask_reading([step]).renamed == {}


tables = st.dictionaries(st.integers(0, 6), st.integers(0, 6), max_size=5)


@given(tables, tables)
def test_two_mappings_are_one_after_the_other(first, second):
    found = mask_reading([reader(*range(7)), mapping(first), mapping(second, "monai.transforms.MapLabelValued")])
    expected = {value: second.get(first.get(value, value), first.get(value, value)) for value in range(7)}
    assert {value: found.renamed.get(value, value) for value in range(7)} == expected
    assert found.reaching == set(expected.values())


@pytest.mark.parametrize(
    ("values", "is_white"), [((0, 255), True), ((255,), True), ((0,), False), ((), False), ((0, 1, 255), False)]
)
def test_white_only_is_255_and_nothing_else_but_0(values, is_white):
    assert is_white_only(values) is is_white
