"""What a file is by its first bytes, told without pydicom."""

import subprocess
import sys

import pydicom
import pytest
from pydicom.uid import CTImageStorage

from medseg.data.dicom.sniff import (
    LABELMAP_CLASS,
    MASK_CLASSES,
    STRUCTURE_SET_CLASS,
    find_dicom_masks,
    find_mask_file,
    holds_mask,
    is_dicom_file,
    name_kind,
    read_storage_class,
)
from medseg.errors import ImageError

MARKED = b"\0" * 128 + b"DICM"


def drawn(path, uid=STRUCTURE_SET_CLASS):
    """A file of a storage class, with nothing but its meta information and this class."""
    data_set = pydicom.Dataset()
    data_set.SOPClassUID, data_set.SOPInstanceUID = uid, "1.2.3"
    data_set.file_meta = pydicom.dataset.FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    path.parent.mkdir(parents=True, exist_ok=True)
    data_set.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize(
    ("content", "expected"), [(MARKED, True), (MARKED + b"x", True), (MARKED[:-1], False), (b"", False)]
)
def test_a_file_is_dicom_by_the_mark_behind_its_preamble(tmp_path, content, expected):
    (tmp_path / "file").write_bytes(content)
    assert is_dicom_file(tmp_path / "file") is expected


def test_a_storage_class_is_told_and_a_file_without_one_has_none(tmp_path, series):
    whole = series.path(1).read_bytes()
    assert read_storage_class(series.path(1)) == CTImageStorage
    for name, content in {
        "text": b"text",
        "mark": MARKED,
        "cut": whole[:140],
        "odd length": whole[:138] + b"\x05\x00" + whole[140:],
    }.items():
        (tmp_path / name).write_bytes(content)
        assert read_storage_class(tmp_path / name) == ""
    assert read_storage_class(tmp_path) == read_storage_class(tmp_path / "nothing") == ""


@pytest.mark.parametrize(
    ("uid", "kind"),
    [
        (STRUCTURE_SET_CLASS, "RTSTRUCT"),
        (LABELMAP_CLASS, "SEG"),
        ("1.2.840.10008.5.1.4.1.1.66.1", "registration or surface"),
        ("1.2.840.10008.5.1.4.1.1.88.59", "key objects"),
        (CTImageStorage, "other"),
        ("", "other"),
    ],
)
def test_the_most_special_kind_that_fits_counts(uid, kind):
    assert name_kind(uid) == kind


@pytest.mark.parametrize("uid", MASK_CLASSES)
def test_a_path_names_the_mask_that_it_is_or_the_only_one_in_its_folder(tmp_path, series, uid):
    path = drawn(series.folder / "drawn", uid)
    drawn(series.folder / ".hidden", uid)
    assert holds_mask(path)
    assert not holds_mask(series.path(1))
    assert find_mask_file(path) == find_mask_file(series.folder) == path
    assert find_mask_file(series.path(1)) is None
    (tmp_path / "empty").mkdir()
    assert find_mask_file(tmp_path / "empty") is None


def test_several_masks_in_a_folder_name_none(tmp_path):
    for name in ("a", "b"):
        drawn(tmp_path / name)
    with pytest.raises(ImageError) as caught:
        find_mask_file(tmp_path)
    assert caught.value.code == "SEG_SEVERAL"
    assert "a, b" in caught.value.problem


def test_masks_are_found_at_any_depth_but_not_where_they_are_hidden(tmp_path):
    assert find_dicom_masks(tmp_path) == []
    found = [drawn(tmp_path / "a" / "b" / "x"), drawn(tmp_path / "c"), drawn(tmp_path / "a" / "y", LABELMAP_CLASS)]
    drawn(tmp_path / ".hidden" / "z")
    drawn(tmp_path / "a" / ".z")
    (tmp_path / "text").write_text("no mask")
    assert find_dicom_masks(tmp_path) == sorted(found)


def test_files_that_are_no_dicom_are_told_without_loading_pydicom(tmp_path):
    (tmp_path / "scan.nii").write_bytes(b"n+1" * 100)
    program = (
        "import sys; from pathlib import Path; from medseg.data.dicom.sniff import find_dicom_masks, find_mask_file; "
        "folder = Path(sys.argv[1]); assert not find_dicom_masks(folder) and find_mask_file(folder) is None; "
        "print(*(name for name in sys.modules if name in ('pydicom', 'highdicom', 'medseg.data.dicom.file')))"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
