"""What shows only beside the other cases: outliers, mixtures, rare labels, and label maps among the images."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import medseg
from medseg.checking.dataset_rules import (
    FEWEST_CASES,
    MOST_OUTLIERS,
    apply_dataset_rules,
    drop_unlabelled_masks,
    take_white_as_one,
)
from medseg.checking.read_case import Expected
from medseg.data.cases.case import Case
from medseg.findings import WHOLE, Finding
from tests.checking.conftest import AFFINE, SHAPE, codes, image_of, mask_of, measured, save
from tests.checking.triggers import TRIGGERS


def told(folder):
    return {(each.case, each.code) for each in medseg.check(folder).findings}


def large(number):
    """At least 4096 voxels, from which on grey levels are counted."""
    return np.kron(image_of(number), np.ones((2, 2, 2), np.int16)), np.kron(
        mask_of(number), np.ones((2, 2, 2), np.uint8)
    )


@pytest.mark.parametrize("name", ["ct_lungs", "lungs", "ct-airways", "seg"])
def test_a_label_map_on_the_grid_of_a_volume_is_one_warning_whatever_its_name(name, tmp_path):
    image, mask = large(1)
    save(image, tmp_path / "ct.nii.gz")
    save(mask, tmp_path / f"{name}.nii.gz")
    report = medseg.check(tmp_path)
    assert [(each.case, each.code, each.severity) for each in report.findings] == [(name, "LOOKS_LIKE_MASK", "warning")]
    assert "ct" in report.findings[0].problem
    assert report.summary.orientations == {"LPS": 1}


def test_many_labels_in_patches_are_a_label_map_and_noise_of_as_many_values_is_none(tmp_path):
    image, _ = large(1)
    patches = np.kron(np.arange(7 * 7 * 6).reshape(7, 7, 6) % 100, np.ones((4, 4, 4)))[:28, :26, :24].astype(np.uint8)
    save(image, tmp_path / "ct.nii.gz")
    save(patches, tmp_path / "total.nii.gz")
    save(np.random.default_rng(0).integers(0, 100, image.shape).astype(np.uint8), tmp_path / "eight_bit.nii.gz")
    assert told(tmp_path) == {("total", "LOOKS_LIKE_MASK")}


def test_a_volume_of_few_values_elsewhere_or_below_0_is_an_image(tmp_path):
    image, mask = large(1)
    moved = AFFINE.copy()
    moved[0, 3] += 30
    save(image, tmp_path / "ct.nii.gz")
    save(mask, tmp_path / "ct_elsewhere.nii.gz", moved)
    save(large(2)[1].astype(np.int16) - 1, tmp_path / "ct_below.nii.gz")
    save(large(3)[1] * np.float32(0.5), tmp_path / "ct_half.nii.gz")
    assert told(tmp_path) == {(name, "FEW_GREY_LEVELS") for name in ("ct_elsewhere", "ct_below", "ct_half")}


def test_a_folder_of_masks_alone_holds_no_image_that_they_could_be_of(tmp_path):
    for number in range(2):
        save(large(number)[1], tmp_path / f"m{number}_seg.nii.gz")
    assert "LOOKS_LIKE_MASK" not in {code for _, code in told(tmp_path)}


@pytest.mark.parametrize(
    ("name", "is_mask"), [("frog_outline", True), ("toad_mask", True), ("frog2", False), ("x", False)]
)
def test_a_picture_needs_a_name_since_all_of_one_size_are_on_one_grid(name, is_mask, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (80, 70), dtype=np.uint8)
    drawn = np.zeros((80, 70), np.uint8)
    drawn[20:40, 20:50] = 255
    Image.fromarray(noise).save(tmp_path / "frog.png")
    Image.fromarray(drawn).save(tmp_path / f"{name}.png")
    assert (name, "LOOKS_LIKE_MASK") in told(tmp_path) or not is_mask
    assert (name, "FEW_GREY_LEVELS") in told(tmp_path) or is_mask


def test_a_file_that_is_some_images_mask_already_is_none(scans):
    scans.undescribe()
    assert scans.check().findings == ()


def test_masks_that_are_mostly_empty_are_no_warning(scans):
    for number in range(3):
        scans.set_label(number, np.zeros(SHAPE, np.uint8))
    assert {(each.code, each.severity) for each in scans.check().findings} == {("MASK_EMPTY", "info")}


def test_a_gap_makes_a_rare_label_stray_only_where_nothing_names_it(scans):
    TRIGGERS["LABEL_STRAY"](scans)
    assert "LABEL_RARE" not in codes(scans.check())
    pairs = [{"image": f"images/c{n}.nii.gz", "label": f"labels/c{n}.nii.gz"} for n in range(12)]
    scans.describe(training=pairs, labels={"0": "background", "1": "organ", "7": "tumour"})
    assert not {"LABEL_STRAY"} & codes(scans.check())
    assert "LABEL_RARE" in codes(scans.check())


def ruled(statistics, **expected):
    return [(each.case, each.code) for each in apply_dataset_rules(statistics, Expected(**expected))]


def alike(count, **changes):
    return [measured(image_of(n), mask_of(n), f"c{n}", **changes) for n in range(count)]


def test_cases_that_are_alike_give_nothing():
    assert ruled(alike(6)) == []
    assert ruled([]) == []


def test_too_few_cases_say_nothing_of_what_is_usual():
    far = measured(image_of(9), mask_of(9), "far", affine=AFFINE @ np.diag([1, 1, 4, 1]))
    assert ruled([*alike(FEWEST_CASES - 2), far]) == []
    assert ruled([*alike(FEWEST_CASES - 1), far]) == [("far", "SPACING_OUTLIER")]


def test_where_a_quarter_lies_off_that_is_told_once():
    far = [measured(image_of(9 + n), None, f"far{n}", affine=AFFINE @ np.diag([1, 1, 4, 1])) for n in range(3)]
    assert ruled([*alike(8), *far]) == [(WHOLE, "SPACING_OUTLIER")]
    assert ruled([*alike(9), *far]) == [(f"far{n}", "SPACING_OUTLIER") for n in range(3)]
    assert MOST_OUTLIERS == 0.25


def test_axes_are_compared_along_the_body_however_they_are_stored():
    turned = measured(image_of(9).transpose(2, 1, 0), None, "turned", affine=AFFINE[:, [2, 1, 0, 3]])
    assert ruled([*alike(6), turned]) == [(WHOLE, "ORIENTATION_MIXED")]


def test_labels_that_are_named_and_in_no_mask_are_told_unless_they_are_to_be_ignored():
    names = ((0, "background"), (1, "lower"), (2, "upper"), (3, "side"), (4, "ignore"))
    (told,) = apply_dataset_rules(alike(6), Expected({0, 1, 2, 3, 4}, names=names))
    assert (told.code, told.problem) == ("LABEL_ABSENT", "no mask holds label 3 (side)")


def white(name="white", value=255):
    return measured(image_of(1), (mask_of(1) > 0).astype(np.uint8) * value, name)


def test_white_is_1_only_where_nothing_else_is_a_label():
    def told_values(statistics, **expected):
        return [set(each.mask.voxels) for each in take_white_as_one(statistics, Expected(**expected))]

    assert told_values([stored(white())]) == [{0, 1}]
    assert told_values([stored(white())], values={0, 255}) == [{0, 255}]
    assert told_values([stored(white()), stored(white("other", 2))]) == [{0, 255}, {0, 2}]


def stored(kept):
    """The same with the values of its mask as they were stored."""
    return replace(kept, mask=replace(kept.mask, stored_values=frozenset(kept.mask.voxels)))


def test_255_beside_other_labels_is_told_with_them():
    (told,) = apply_dataset_rules([stored(white()), stored(white("other", 2))], Expected())
    assert (told.case, told.code, told.problem) == ("white", "LABEL_IGNORE_255", "value 255 stands beside 2")


def test_an_image_that_is_dropped_as_a_mask_takes_what_was_untrue_of_it_along():
    image, mask = large(1)
    statistics = [measured(image, name="ct"), measured(mask, name="ct_lungs")]
    cases = [Case(each.case, (each.case,), None, each.case) for each in statistics]
    untrue, true = (
        Finding("ct_lungs", "FEW_GREY_LEVELS", "3 different values"),
        Finding("ct_lungs", "SUFFIX_WRONG", "x"),
    )
    kept, findings = drop_unlabelled_masks(cases, statistics, [untrue, true])
    assert [each.image is None for each in kept] == [False, True]
    assert [each.code for each in findings] == ["SUFFIX_WRONG", "LOOKS_LIKE_MASK"]
    labelled = [replace(case, label="drawn") for case in cases]
    assert drop_unlabelled_masks(labelled, statistics, [untrue]) == (statistics, [untrue])
