"""Each finding has data that bring it out; clean data bring out none."""

import json
import re
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest

import medseg
from medseg.checking import check_report
from medseg.checking.check import UNFIT, count_image_axes, expect, quiet_pydicom
from medseg.data.cases.case import Case, Dataset, Labels
from medseg.demonstration.synthetic_ct import write_ct_series
from medseg.errors import BundleError, DatasetError, UsageError
from medseg.findings import CODES, WHOLE
from tests.checking.conftest import CASES, SHAPE, codes, image_of, mask_of
from tests.checking.triggers import (
    TRIGGERS,
    brats,
    halves,
    moved,
    pictures,
    written,
)

OF_READERS_AND_BUNDLES = {
    "AXES_AMBIGUOUS",
    "CHANNEL_COUNT",
    "CHANNELS_DIFFER",
    "DICOM_JUNK_SKIPPED",
    "GRID_MISMATCH",
    "IMAGE_NOT_2D",
    "IMAGE_NOT_3D",
    "LABEL_UNEXPECTED",
    "LIST_INVALID",
    "SLICES_DIFFER",
}
"""Codes that a check only compares with, or that tell what does not fit a bundle."""


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
    assert raised >= {"OUTPUT_EXISTS", "PAIRS_UNUSABLE", "NOT_FOUND"}
    return named - raised - OF_READERS_AND_BUNDLES


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
        ({"max_ram": 0}, "SETTING_INVALID"),
        ({"series": "CT"}, "SETTING_INVALID"),
        ({"straighten": True}, "SETTING_MISSING"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, code, scans):
    with pytest.raises(UsageError) as refused:
        scans.check(**options)
    assert refused.value.code == code


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


def test_pictures_are_no_data_for_a_bundle_of_volumes_whatever_their_masks_hold(scans, tiny_bundle):
    pictures(scans, [np.arange(1200).reshape(40, 30) % 256] * 2)
    groups = scans.check(bundle=tiny_bundle).groups
    assert (groups[0].code, groups[0].cases) == ("IMAGE_NOT_3D", ())
    (labels,) = (group for group in groups if group.code == "LABEL_UNEXPECTED")
    assert "and 242 more" in labels.findings[0].problem


def test_other_channels_than_the_bundle_takes_are_those_of_all_cases(scans, tiny_bundle):
    brats(lambda folder: None)(scans)
    report = scans.check(bundle=tiny_bundle)
    (finding,) = (each for each in report.findings if each.code in ("CHANNELS_DIFFER", "CHANNEL_COUNT"))
    assert finding.case == ""
    assert report.all_alike == 2


def test_a_bundle_s_configuration_with_a_key_that_has_no_place_is_refused(scans, tiny_bundle):
    path = tiny_bundle / "configs" / "train.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "nowhere::channel_names": ["CT"]}))
    with pytest.raises(BundleError) as refused:
        scans.check(bundle=tiny_bundle)
    assert (refused.value.code, refused.value.case) == ("BUNDLE_UNREADABLE", str(path))
    assert "nowhere::channel_names" in refused.value.problem


def test_what_a_bundle_expects_is_read_without_monai_whatever_forms_it_has():
    code = "import sys, medseg.checking.check as it; it._read_configs('acdc_mr_segmentation'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "medseg.bundle.config" in loaded
    assert not {"monai", "torch"} & set(loaded)


def metadata(axes, channels=1, labels=None):
    shape = {} if axes is None else {"spatial_shape": ["*"] * axes}
    image = {"num_channels": channels, "modality": "CT", **shape}
    return {"network_data_format": {"inputs": {"image": image}}, "labels": labels or {}}


@pytest.mark.parametrize(
    ("inferer", "axes", "expected"),
    [
        ({}, 2, 2),
        ({}, 3, 3),
        ({"_target_": "SlidingWindowInferer"}, 2, 2),
        ({"_target_": "monai.inferers.SliceInferer"}, 2, 3),
        ("@windows", 2, 3),
        ("$import os", 3, 3),
        ({}, None, None),
    ],
)
def test_slices_are_cut_from_volumes_and_all_else_is_as_the_metadata_say(inferer, axes, expected):
    train = {"validate": {"inferer": inferer}, "windows": {"_target_": "SliceInferer"}}
    assert count_image_axes(train, metadata(axes)) == expected


def data_set(channels=("MR",), names=None):
    case = Case("a", ("a.nii.gz",), "a_mask.nii.gz", "a")
    return Dataset("root", (case,), Labels(names or {}), channels, "given")


def test_without_a_bundle_the_description_says_what_is_expected():
    given = data_set(("CT",), {0: "background", 1: "liver"})
    dataset, expected, findings = expect(given, None)
    assert (dataset, findings) == (given, [])
    assert (expected.values, expected.channels, expected.modality) == ({0, 1}, 1, "CT")
    assert (expected.segments, expected.axes) == ({1: ("liver",)}, None)
    assert expect(data_set(()), None)[1].values is None
    assert expect(data_set(()), None)[1].channels is None


def test_a_bundle_names_its_labels_and_says_which_channels_do_not_fit():
    train = {"channel_names": ["T1", "T2"], "validate": {"inferer": {}, "preprocessing": {"transforms": []}}}
    dataset, expected, findings = expect(data_set(), {"train": train, "metadata": metadata(3, 2)})
    assert (expected.channels, expected.axes, expected.modality) == (2, 3, "CT")
    assert dataset.cases == data_set().cases
    assert [(each.case, each.code) for each in findings] == [(WHOLE, "CHANNELS_DIFFER")]
    assert findings[0].code in UNFIT


@pytest.fixture
def odd_headers(tmp_path):
    write_ct_series(np.zeros((8, 8, 3), np.int16), np.diag([-1.5, -1.5, 3, 1]), tmp_path / "ct", seed_uid="one")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in sorted((tmp_path / "ct").iterdir()):
            header = pydicom.dcmread(path)
            header.add_new("PatientBirthDate", "DA", "not-a-date-4711")
            header.add_new("SeriesInstanceUID", "UI", "1.2.DOE-4711")
            header.save_as(path)
    return tmp_path / "ct"


def heard(action):
    """The messages of warnings while ``action`` runs."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        action()
    return [str(each.message) for each in caught]


def test_no_identifier_reaches_a_warning(odd_headers, tmp_path):
    assert any("4711" in text for text in heard(lambda: str(pydicom.dcmread(next(odd_headers.iterdir())))))
    assert heard(lambda: medseg.check(odd_headers)) == []
    assert heard(lambda: medseg.check(odd_headers, fix=tmp_path / "out")) == []


def test_filters_are_as_before_after_a_check_and_after_a_refusal(odd_headers, tmp_path):
    before = list(warnings.filters)
    medseg.check(odd_headers)
    with pytest.raises(DatasetError):
        medseg.check(tmp_path / "nowhere")
    assert list(warnings.filters) == before


def test_checks_that_overlap_in_threads_share_one_filter_and_leave_none_behind():
    before = list(warnings.filters)
    inside, leave = threading.Event(), threading.Event()

    def first():
        with quiet_pydicom():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(10)
    with quiet_pydicom():
        leave.set()
        thread.join(10)
        assert len(warnings.filters) == len(before) + 1
    assert list(warnings.filters) == before


def test_warnings_of_others_are_shown():
    with quiet_pydicom():
        assert heard(lambda: warnings.warn("mine", stacklevel=1)) == ["mine"]
