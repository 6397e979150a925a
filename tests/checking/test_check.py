"""Each finding has data that bring it out; clean data bring out none."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import medseg
from medseg.checking import check_report
from medseg.data.dicom.series import write_ct_series
from medseg.errors import DatasetError, UsageError
from medseg.findings import CODES
from tests.checking.conftest import CASES, SHAPE, image_of, mask_of
from tests.checking.triggers import (
    TRIGGERS,
    brats,
    halves,
    moved,
    nearly_copied,
    of_one_patient,
    pictures,
    split,
    written,
)

OF_READERS = {
    "AXES_AMBIGUOUS",
    "CHANNELS_DIFFER",
    "DICOM_JUNK_SKIPPED",
    "GRID_MISMATCH",
    "LABEL_UNEXPECTED",
    "LIST_INVALID",
    "SLICES_DIFFER",
}
"""Codes that a check only compares with: readers and bundles bring them out."""


def codes(report):
    return {finding.code for finding in report.findings}


def test_clean_data_give_no_finding(scans):
    report = scans.check(split=written(scans.root.parent / "split.json", halves()))
    assert report.findings == ()
    assert report.exit_code == 0
    assert (report.summary.cases, report.summary.masks, report.summary.patients) == (CASES, CASES, CASES)


def codes_found_by_check():
    """The codes in medseg/checking that are not told by readers or by a bundle, and that stop no command."""
    text = "".join(path.read_text(encoding="utf8") for path in Path(check_report.__file__).parent.glob("*.py"))
    named = set(re.findall(r'"([A-Z0-9_]+)"', text)) & set(CODES)
    raised = set(re.findall(r'Error\(\s*"([A-Z0-9_]+)"', text))
    assert raised >= {"IMAGE_NOT_2D", "PAIRS_UNUSABLE", "NOT_FOUND"}
    return named - raised - OF_READERS


def test_every_rule_has_data_that_bring_it_out():
    assert set(TRIGGERS) == codes_found_by_check()


@pytest.mark.parametrize("code", list(TRIGGERS))
def test_each_finding_is_found_with_its_severity_and_remedy(code, scans):
    options = TRIGGERS[code](scans) or {}
    report = scans.check(**options)
    own = [finding for finding in report.findings if finding.code == code]
    assert own, codes(report)
    row = CODES[code]
    assert {(each.severity, each.remedy, each.is_fixable) for each in own} == {
        (row.severity, row.remedy, row.is_fixable)
    }
    assert report.exit_code == (1 if any(each.severity == "error" for each in report.findings) else 0)


@pytest.mark.parametrize(
    ("code", "others"),
    [
        ("GRID_NEAR", set()),
        ("GRID_REINDEXED", set()),
        ("LABEL_NEARLY_WHOLE", set()),
        ("LABEL_ONE_HOT", set()),
        ("MASK_EMPTY", set()),
        ("SHAPE_MISMATCH", set()),
        ("DUPLICATE_IMAGE", set()),
        ("NEAR_DUPLICATE_IMAGE", set()),
        ("SUFFIX_WRONG", set()),
        ("NONFINITE_VOXELS", set()),
        ("LABEL_OUTSIDE_BODY", set()),
        ("MASK_MISSING", set()),
        ("IMAGE_MISSING", set()),
    ],
)
def test_one_fault_gives_one_kind_of_finding(code, others, scans):
    assert codes(scans.check(**(TRIGGERS[code](scans) or {}))) == {code} | others


def test_everything_is_listed_in_one_run(scans):
    scans.image(0).write_bytes(b"no image")
    scans.set_label(1, mask_of(1)[:, :, :9])
    scans.set_label(2, mask_of(2).astype(np.float32) + 0.4)
    scans.label(3).unlink()
    scans.set_label(4, np.zeros(SHAPE, np.uint8))
    report = scans.check()
    assert {(finding.case, finding.code) for finding in report.findings} == {
        ("c0", "IMAGE_HEADER"),
        ("c1", "SHAPE_MISMATCH"),
        ("c2", "LABEL_NOT_INTEGER"),
        ("c3", "IMAGE_NOT_FOUND"),
        ("c4", "MASK_EMPTY"),
    }
    assert report.counts == {"error": 4, "warning": 1, "info": 0}
    assert [group.severity for group in report.groups] == ["error"] * 4 + ["warning"]


def test_a_mask_one_voxel_off_is_an_error_and_says_how_far(scans):
    scans.set_label(1, mask_of(1), moved(1))
    (finding,) = scans.check().findings
    assert (finding.code, finding.severity) == ("GRID_MISMATCH", "error")
    assert finding.problem.startswith("corners 1")


@pytest.mark.parametrize(("by", "code"), [(0.0009, None), (0.002, "GRID_NEAR"), (0.09, "GRID_NEAR")])
def test_how_near_is_near(by, code, scans):
    scans.set_label(1, mask_of(1), moved(by))
    assert codes(scans.check()) == ({code} if code else set())


def test_a_training_accepts_and_refuses_the_same_pairs(scans):
    from medseg.checking.usable_pairs import check_pairs
    from medseg.data.cases import open_dataset

    scans.set_label(1, mask_of(1), moved(1))
    scans.set_label(2, mask_of(2), moved(0.05))
    scans.set_label(3, mask_of(3) * np.float32(0.9999))
    refused = [(each.case, each.code) for each in check_pairs(open_dataset(scans.root), [0, 1, 2], 1)]
    assert refused == [("c1", "GRID_MISMATCH"), ("c3", "LABEL_NEARLY_WHOLE")]
    report = scans.check()
    assert refused == [(each.case, each.code) for each in report.findings if each.severity == "error"]


def test_a_bundle_says_which_labels_and_channels_are_expected(scans, tiny_bundle):
    scans.describe(labels=("background", "ball"))
    report = scans.check(bundle=tiny_bundle)
    assert [(each.case, each.code, each.severity) for each in report.findings] == [("", "LABEL_UNEXPECTED", "error")]
    assert (report.all_alike, report.exit_code) == (CASES, 1)
    for number in range(CASES):
        scans.set_label(number, (mask_of(number) > 0).astype(np.uint8))
    assert scans.check(bundle=tiny_bundle).findings == ()
    scans.set_image(1, np.stack([image_of(1), image_of(8)], axis=-1))
    assert "CHANNEL_COUNT" in codes(scans.check(bundle=tiny_bundle))


def test_a_case_that_fits_the_bundle_leaves_the_others_named(scans, tiny_bundle):
    scans.describe(labels=("background", "ball"))
    scans.set_label(3, (mask_of(3) > 0).astype(np.uint8))
    report = scans.check(bundle=tiny_bundle)
    assert [each.case for each in report.findings] == [f"c{n}" for n in range(CASES) if n != 3]
    assert report.all_alike == 0


def test_unreadable_cases_and_cases_without_a_mask_do_not_speak_for_the_bundle(scans, tiny_bundle):
    scans.undescribe()
    scans.image(0).write_bytes(b"no image")
    scans.label(1).unlink()
    report = scans.check(bundle=tiny_bundle)
    assert {(each.case, each.code) for each in report.findings} == {
        ("c0", "IMAGE_HEADER"),
        ("c1", "MASK_MISSING"),
        ("", "LABEL_UNEXPECTED"),
    }
    assert report.all_alike == CASES - 1  # The mask of the image that cannot be read is none of the bundle's either.


def test_masks_that_are_mostly_empty_are_no_warning(scans):
    for number in range(3):
        scans.set_label(number, np.zeros(SHAPE, np.uint8))
    assert {(each.code, each.severity) for each in scans.check().findings} == {("MASK_EMPTY", "info")}


def test_two_frames_of_one_patient_are_no_near_duplicates(scans):
    nearly_copied(scans)
    of_one_patient(scans)
    assert scans.check().findings == ()


def test_a_folder_of_images_alone_needs_no_masks(scans):
    report = medseg.check(scans.root / "images")
    assert report.findings == ()
    assert (report.summary.cases, report.summary.masks) == (CASES, 0)


def test_a_dicom_folder_gives_its_series(tmp_path):
    array = np.random.default_rng(0).integers(-1000, 900, (16, 16, 5)).astype(np.int16)
    for name in ("one", "two"):
        write_ct_series(array + len(name), np.diag([-1.5, -1.5, 3, 1]), tmp_path / "ct" / name, seed_uid=name)
    report = medseg.check(tmp_path / "ct")
    assert report.summary.cases == 2
    assert report.counts["error"] == 0


def test_a_wrong_description_is_told_and_the_layout_read_instead(scans):
    (scans.root / "dataset.json").write_text("{")
    report = scans.check()
    assert codes(report) == {"DATASET_JSON_INVALID"}
    assert report.summary.cases == CASES


def test_a_table_without_a_mask_and_with_a_missing_file_is_read_on(scans):
    scans.undescribe()
    table = scans.root / "dataset.csv"
    table.write_text(
        "image,label\nimages/c0.nii.gz,labels/c0.nii.gz\nimages/c1.nii.gz,\nimages/none.nii.gz,labels/c2.nii.gz\n"
    )
    assert [(each.case, each.code) for each in scans.check().findings] == [
        ("c1", "MASK_MISSING"),
        ("none", "IMAGE_NOT_FOUND"),
    ]


def test_nothing_to_check_is_an_error(tmp_path):
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DatasetError):
            medseg.check(place)


def test_an_image_beyond_the_budget_is_a_finding_for_its_case(scans):
    scans.set_image(1, np.tile(image_of(1), (1, 1, 40)))
    scans.set_label(1, np.tile(mask_of(1), (1, 1, 40)))
    report = scans.check(max_ram=3 * image_of(0).nbytes)
    assert {(each.case, each.code) for each in report.findings} == {("c1", "MEMORY_BUDGET")}
    assert (report.exit_code, report.summary.cases, report.summary.masks) == (1, CASES, CASES - 1)
    assert "MEMORY_BUDGET" not in codes(scans.check())


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"max_ram": 0}, "SIZE_INVALID"),
        ({"series": "CT"}, "SERIES_INVALID"),
        ({"straighten": True}, "FIX_MISSING"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, code, scans):
    with pytest.raises(UsageError) as refused:
        scans.check(**options)
    assert refused.value.code == code


def test_each_case_is_told_once(scans):
    told = []
    scans.check(on_case=lambda case, total: told.append((case, total)))
    assert told == [(f"c{n}", CASES) for n in range(CASES)]


def test_no_words_name_a_patient_or_the_place_of_the_folder(scans):
    pairs = [
        {"image": f"images/c{n}.nii.gz", "label": f"labels/c{n}.nii.gz", "group": "Doe^Jane"} for n in range(CASES)
    ]
    scans.describe(training=pairs)
    scans.label(3).unlink()
    scans.image(0).write_bytes(b"no image")
    options = split(**halves())(scans)
    told = json.dumps(scans.check(**options).to_record())
    assert "SPLIT_LEAK" in told
    assert "Doe" not in told
    assert str(Path(scans.root)) not in told


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


def test_pictures_are_no_data_for_a_bundle_of_volumes_whatever_their_masks_hold(scans, tiny_bundle):
    pictures(scans, [np.arange(1200).reshape(40, 30) % 256] * 2)
    groups = scans.check(bundle=tiny_bundle).groups
    assert (groups[0].code, groups[0].cases) == ("IMAGE_NOT_3D", ())
    (labels,) = (group for group in groups if group.code == "LABEL_UNEXPECTED")
    assert "and 242 more" in labels.findings[0].problem


def test_a_gap_makes_a_rare_label_stray_only_where_nothing_names_it(scans):
    TRIGGERS["LABEL_STRAY"](scans)
    assert "LABEL_RARE" not in codes(scans.check())
    pairs = [{"image": f"images/c{n}.nii.gz", "label": f"labels/c{n}.nii.gz"} for n in range(12)]
    scans.describe(training=pairs, labels={"0": "background", "1": "organ", "7": "tumour"})
    assert not {"LABEL_STRAY"} & codes(scans.check())
    assert "LABEL_RARE" in codes(scans.check())


def test_other_channels_than_the_bundle_takes_are_those_of_all_cases(scans, tiny_bundle):
    brats(lambda folder: None)(scans)
    report = scans.check(bundle=tiny_bundle)
    (finding,) = (each for each in report.findings if each.code in ("CHANNELS_DIFFER", "CHANNEL_COUNT"))
    assert finding.case == ""
    assert report.all_alike == 2
