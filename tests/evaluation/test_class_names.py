"""Where the names of the classes come from, and what stands where nothing names them."""

import json

import numpy as np
import pytest

from medseg.errors import DatasetError
from medseg.evaluation.class_names import add_background, find_names, number_names, split_ignored
from medseg.evaluation.tabulation import tabulate


@pytest.fixture
def folders(tmp_path):
    """References and masks; the record beside the masks and the dataset.json say different things."""
    references, masks = tmp_path / "data" / "references", tmp_path / "masks"
    references.mkdir(parents=True)
    masks.mkdir()
    (masks / "predictions.json").write_text(json.dumps({"labels": {"1": "by the record"}}))
    return references, masks


def test_what_the_caller_says_comes_first_then_the_data_set_then_the_record(folders):
    references, masks = folders
    assert find_names(None, references, masks) == {0: "background", 1: "by the record"}
    (references.parent / "dataset.json").write_text(json.dumps({"labels": {"above": 1}}))
    assert find_names(None, references, masks) == {0: "background", 1: "above"}
    (references / "dataset.json").write_text(json.dumps({"labels": {"1": "inside"}}))
    assert find_names(None, references, masks) == {0: "background", 1: "inside"}
    assert find_names({2: "said"}, references, masks) == {0: "background", 2: "said"}


def test_a_mask_s_own_folder_is_searched_where_single_files_are_given(folders):
    references, masks = folders
    (references / "dataset.json").write_text(json.dumps({"labels": {"ball": 1}}))
    for place in (references / "a.nii.gz", references / "dataset.json"):
        assert find_names(None, place, masks / "a.nii.gz") == {0: "background", 1: "ball"}


@pytest.mark.parametrize(
    "labels", [None, {}, [], {"tumour": [1, 2]}, {"ball": True}, {"ball": 1.5}, {"ball": "one"}, {"ball": -1}]
)
def test_labels_that_name_no_single_values_are_passed_over(folders, labels):
    references, masks = folders
    (references / "dataset.json").write_text(json.dumps({"labels": labels}))
    (masks / "predictions.json").unlink()
    assert find_names(None, references, masks) is None


def test_a_description_that_cannot_be_read_is_refused(folders):
    references, masks = folders
    (references / "dataset.json").write_text("{")
    with pytest.raises(DatasetError, match=r"dataset\.json"):
        find_names(None, references, masks)


def test_the_background_is_value_0_unless_something_else_is_said():
    assert add_background({2: "b", 1: "a"}) == {0: "background", 1: "a", 2: "b"}
    assert add_background({0: "air"}) == {0: "air"}
    assert add_background({}) == {0: "background"}


def test_values_without_names_are_numbered():
    table = tabulate(np.array([0, 2, 7]), np.array([0, 2, 3]))
    assert number_names([table]) == {0: "background", 2: "class 2", 3: "class 3", 7: "class 7"}
    assert number_names([]) == {0: "background"}


@pytest.mark.parametrize(
    ("prediction", "reference", "values"), [(255, 1, [0, 1]), (255, 255, [0, 1]), (0, 0, [0]), (255, 2, [0, 2, 255])]
)
def test_255_is_the_one_class_of_a_mask_drawn_in_black_and_white(prediction, reference, values):
    table = tabulate(np.array([0, prediction]), np.array([0, reference]))
    assert list(number_names([table])) == values


def test_the_value_called_ignore_is_no_class():
    assert split_ignored({0: "background", 1: "ball", 9: "ignore"}) == ({0: "background", 1: "ball"}, 9)
    assert split_ignored({0: "background"}) == ({0: "background"}, None)
