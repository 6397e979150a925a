"""What a bundle expects of a data set, and data that are another bundle's."""

import numpy as np
import pytest

from medseg.checking.expectations import UNFIT, count_image_axes, expect
from medseg.data.case import Case, Dataset, Labels
from medseg.findings import WHOLE
from tests.checking.conftest import CASES, codes, image_of, mask_of
from tests.checking.triggers import brats, pictures


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
