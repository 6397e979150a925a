import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.data.mask_steps import mask_reading


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
