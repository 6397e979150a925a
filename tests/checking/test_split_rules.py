"""What a split must not divide, and images and masks that are there twice."""

import numpy as np
import pytest

from medseg.checking.dataset_rules import check_split, find_copies, map_parts
from medseg.data.cases.case import Case
from medseg.data.splits import Split
from tests.checking.conftest import SHAPE, image_of, mask_of, measured
from tests.checking.triggers import nearly_copied, of_one_patient, split


def test_two_frames_of_one_patient_are_no_near_duplicates(scans):
    nearly_copied(scans)
    of_one_patient(scans)
    assert scans.check().findings == ()


def test_of_several_copies_the_one_in_another_part_is_told(scans):
    for number in (1, 4):
        scans.set_image(number, image_of(0) + np.random.default_rng(number).integers(-1, 2, SHAPE).astype(np.int16))
    parts = {"train": ["c0", "c2"], "validation": ["c1", "c3", "c4", "c5"]}
    report = scans.check(**split(**parts)(scans))
    assert [(each.case, each.code) for each in report.findings] == [
        ("c1", "NEAR_DUPLICATE_LEAK"),
        ("c4", "NEAR_DUPLICATE_LEAK"),
    ]
    assert all("as c0;" in each.problem for each in report.findings)


def cases(**groups):
    return [Case(name, (name,), None, group) for name, group in groups.items()]


def split_of(train=(), validation=(), test=()):
    return Split(train, validation, test, None, "by hand")


def told(findings):
    return [(each.case, each.code) for each in findings]


def test_a_split_that_fits_gives_nothing():
    given = cases(a="p", b="p", c="q")
    assert told(check_split(split_of(train=("a", "b"), validation=("c",), test=()), given)) == []
    assert told(check_split(split_of(train=("a", "b", "x"), validation=("c",), test=()), given, ["x"])) == []


def test_a_divided_patient_is_told_once_with_all_its_cases():
    (leak,) = check_split(split_of(train=("a",), validation=("b",), test=("c",)), cases(a="p", b="p", c="q"))
    assert (leak.case, leak.code) == ("a", "SPLIT_LEAK")
    assert leak.problem.endswith("a in train, b in validation")


def test_cases_in_no_part_and_names_of_no_case_are_counted():
    partial = check_split(split_of(train=("a", "x", "y"), validation=(), test=()), cases(a="p", b="q"))
    assert [each.problem for each in partial] == ["1 case in no part: b", "2 names of no case here: x, y"]


def test_the_part_of_each_case():
    assert map_parts(None) == {}
    assert map_parts(split_of(train=("a",), validation=("b",), test=())) == {"a": "train", "b": "validation"}


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ({}, "DUPLICATE_IMAGE"),
        ({"a": "train", "b": "train"}, "DUPLICATE_IMAGE"),
        ({"a": "train"}, "DUPLICATE_IMAGE"),
        ({"a": "train", "b": "test"}, "DUPLICATE_LEAK"),
    ],
)
def test_the_same_image_twice_is_a_leak_only_where_a_split_divides_it(parts, code):
    both = [measured(image_of(1), name=name) for name in "ab"]
    assert told(find_copies(both, parts)) == [("b", code)]


def test_one_mask_of_two_images_is_told_and_an_empty_one_is_not():
    pair = [measured(image_of(n), mask_of(1), name=name) for n, name in enumerate("ab")]
    assert told(find_copies(pair, {})) == [("b", "DUPLICATE_LABEL")]
    empty = [measured(image_of(n), np.zeros(SHAPE, np.uint8), name=name) for n, name in enumerate("ab")]
    assert told(find_copies(empty, {})) == []


def test_other_images_and_none_give_nothing():
    assert told(find_copies([measured(image_of(n), name=str(n)) for n in range(4)], {})) == []
    assert told(find_copies([], {})) == []
