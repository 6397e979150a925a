"""Masks go beside their record, one file each, and over nothing that is not theirs."""

import json

import pytest

from medseg.data.cases.case import Case
from medseg.errors import OutputError, UsageError
from medseg.inference.outputs import (
    RECORD_NAME,
    check_dicom,
    check_labels,
    check_outside,
    choose_targets,
    path_below,
    path_beside,
    read_earlier_masks,
    write_record,
)
from medseg.options import DICOM_SEG

LABELS = {"0": "background", "1": "ball"}


def case_of(path, name="one"):
    return Case(id=name, images=(str(path),), label=None, group=name)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("a.nii.gz", "one.nii.gz"),
        ("a.nii", "one.nii"),
        ("a.mha", "one.mha"),
        ("a.jpg", "one.png"),
        ("a.nii.gz#3", "one.png"),
        ("a.nii.gz#t3", "one.nii.gz"),
        ("series", "one.nii.gz"),
    ],
)
def test_a_mask_has_its_image_s_format_where_that_holds_masks(tmp_path, image, mask):
    targets = choose_targets([case_of(tmp_path / "in" / image)], tmp_path / "out", "image")
    assert path_below(targets["one"], tmp_path / "out") == mask


def test_a_dicom_seg_is_a_dicom_file_with_its_probabilities_beside_it(tmp_path):
    target = choose_targets([case_of(tmp_path / "series")], tmp_path / "out", DICOM_SEG)["one"]
    assert target.name == "one.dcm"
    assert path_beside(target, "probabilities").name == "one_probabilities.nii.gz"
    assert path_beside(tmp_path / "one.png", "probabilities").name == "one_probabilities.npz"


def test_files_that_are_not_of_an_earlier_prediction_are_kept(tmp_path):
    (tmp_path / "one.nii.gz").write_bytes(b"mine")
    with pytest.raises(OutputError, match="OUTPUT_EXISTS"):
        choose_targets([case_of("elsewhere/a.nii.gz")], tmp_path, "image")
    write_record(tmp_path, {"labels": LABELS}, [{"case": "one", "mask": "one.nii.gz"}], [])
    assert choose_targets([case_of("elsewhere/a.nii.gz")], tmp_path, "image")["one"].name == "one.nii.gz"


def test_two_masks_that_differ_in_capitals_alone_would_be_one_file(tmp_path):
    cases = [case_of("x/a.nii", "Lung"), case_of("y/a.nii", "lung")]
    with pytest.raises(OutputError, match="OUTPUT_COLLISION"):
        choose_targets(cases, tmp_path, "image")


def test_masks_among_the_images_are_refused(tmp_path):
    with pytest.raises(OutputError, match="OUTPUT_INSIDE_INPUT"):
        check_outside(tmp_path / "masks", tmp_path)
    check_outside(tmp_path / "masks", tmp_path / "images")


def test_earlier_masks_stay_in_the_record_while_their_files_do(tmp_path):
    assert read_earlier_masks(tmp_path) == {}
    (tmp_path / "kept.nii").write_bytes(b"")
    earlier = [{"case": name, "mask": f"{name}.nii", "labels": LABELS, "medseg": "0"} for name in ("kept", "gone")]
    write_record(tmp_path, {"labels": LABELS, "medseg": "1"}, [{"case": "new", "mask": "new.nii"}], earlier)
    content = json.loads((tmp_path / RECORD_NAME).read_text())
    assert content["cases"] == [{"case": "kept", "mask": "kept.nii", "medseg": "0"}, {"case": "new", "mask": "new.nii"}]
    assert read_earlier_masks(tmp_path)["kept.nii"]["labels"] == LABELS


def test_a_record_that_is_none_is_an_error(tmp_path):
    (tmp_path / RECORD_NAME).write_text("{")
    with pytest.raises(OutputError, match="OUTPUT_RECORD_UNREADABLE"):
        read_earlier_masks(tmp_path)


def test_masks_of_other_labels_may_not_stay(tmp_path):
    (tmp_path / "a.nii").write_bytes(b"")
    earlier = {"a.nii": {"labels": {"0": "background", "1": "lung"}}}
    with pytest.raises(OutputError, match="OUTPUT_EXISTS"):
        check_labels(earlier, tmp_path, set(), LABELS)
    check_labels(earlier, tmp_path, {"a.nii"}, LABELS)


def test_what_is_no_dicom_series_gets_no_dicom_seg(tmp_path):
    (tmp_path / "series").mkdir()
    check_dicom([case_of(tmp_path / "series")])
    (tmp_path / "a.nii").write_bytes(b"no DICOM")
    with pytest.raises(UsageError, match="FORMAT_NEEDS_DICOM"):
        check_dicom([case_of(tmp_path / "a.nii")])
