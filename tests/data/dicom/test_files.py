"""Which files of a folder are the series: the rest is noted, refused or passed over."""

import shutil
import zlib

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, generate_uid

from medseg.data.dicom.series import read_dicom
from medseg.data.dicom.synthetic_ct import write_ct_series
from medseg.data.images import find_images
from medseg.errors import ImageError


def codes(volume):
    return [note.code for note in volume.notes]


def refusal(path):
    with pytest.raises(ImageError) as caught:
        read_dicom(path)
    assert caught.value.remedy
    return caught.value


def test_files_that_are_no_dicom_are_left_out_and_noted_by_name(series):
    (series.folder / "notes.txt").write_text("notes")
    (series.folder / "empty.dcm").write_bytes(b"")
    (series.folder / ".DS_Store").write_bytes(b"hidden")
    volume = read_dicom(series.folder)
    np.testing.assert_array_equal(volume.array, series.array)
    assert codes(volume) == ["DICOM_JUNK_SKIPPED"]
    assert "empty.dcm, notes.txt" in volume.notes[0].text


def test_an_empty_file_named_like_the_slices_is_a_lost_slice(series):
    series.path(5).write_bytes(b"")
    error = refusal(series.folder)
    assert (error.code, error.case) == ("DICOM_UNREADABLE", str(series.path(5)))


def test_objects_without_an_image_are_left_out_and_noted(series):
    series.edit(1, series.folder / "report.dcm", Rows=None, PixelData=None, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")
    assert codes(read_dicom(series.folder)) == ["DICOM_NON_IMAGE_SKIPPED"]


def test_a_copy_of_a_slice_is_left_out_and_noted(series):
    shutil.copy(series.path(2), series.folder / "copy.dcm")
    volume = read_dicom(series.folder)
    np.testing.assert_array_equal(volume.array, series.array)
    assert codes(volume) == ["DICOM_DUPLICATE_FILE"]


def test_a_preamble_that_is_a_program_is_noted(series):
    path = series.path(1)
    path.write_bytes(b"\x7fELF" + path.read_bytes()[4:])
    assert codes(read_dicom(series.folder)) == ["DICOM_PREAMBLE"]


def test_a_folder_without_any_image_is_refused(tmp_path):
    assert refusal(tmp_path).code == "DICOM_NO_IMAGE"


def test_folders_below_a_dicomdir_are_searched(series, tmp_path):
    disc = make_disc(series, tmp_path, ["ST0", "SE0", "IM0"])
    np.testing.assert_array_equal(read_dicom(disc).array, series.array)


def test_a_dicomdir_that_points_outside_is_refused(series, tmp_path):
    assert refusal(make_disc(series, tmp_path, ["..", "..", "secret"])).code == "DICOM_DIRECTORY"


def test_find_images_gives_the_folder_of_a_series_and_not_its_files(series, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("nothing")
    write_ct_series(series.array, series.affine, tmp_path / "a" / "b", seed_uid="second")
    assert find_images(tmp_path) == [tmp_path / "a" / "b", series.folder]


def test_find_images_passes_over_objects_that_are_no_image(series):
    series.edit_all(Rows=None, PixelData=None)
    assert find_images(series.folder) == []


def make_disc(series, tmp_path, referenced):
    disc = tmp_path / "disc"
    (disc / "ST0").mkdir(parents=True)
    series.folder.rename(disc / "ST0" / "SE0")
    directory, record = Dataset(), Dataset()
    record.ReferencedFileID = referenced
    directory.DirectoryRecordSequence = Sequence([record])
    directory.SOPClassUID, directory.SOPInstanceUID = "1.2.840.10008.1.3.10", generate_uid()
    directory.file_meta = pydicom.dataset.FileMetaDataset()
    directory.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    directory.save_as(disc / "DICOMDIR", enforce_file_format=True)
    return disc


def test_the_series_of_a_folder_are_listed_without_naming_patients(series):
    series.edit(2, PatientID="MRN-12345", PatientName="Somebody^Real")
    error = refusal(series.folder)
    assert error.code == "DICOM_SEVERAL_SERIES"
    assert "CT 6×5, 3 slices" in error.problem
    assert "(such as slice0002.dcm)" in error.problem
    assert "MRN" not in str(error)
    assert "Somebody" not in str(error)


@pytest.mark.parametrize("keep", [0, 100, 131, 140, 400, -1])
def test_a_cut_file_is_refused(series, keep):
    path = series.path(2)
    path.write_bytes(path.read_bytes()[:keep])
    assert refusal(series.folder).code in (
        "DICOM_UNREADABLE",
        "IMAGE_TRUNCATED",
        "DICOM_NO_IMAGE",
        "DICOM_IRREGULAR_SLICES",
    )


def test_a_deflated_file_that_inflates_without_end_is_refused_in_blocks(series):
    path = series.path(2)
    data_set = pydicom.dcmread(path)
    data_set.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data_set.save_as(path)
    raw = path.read_bytes()
    group_bytes = int.from_bytes(raw[140:144], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = packer.compress(bytes(80 << 20)) + packer.flush()
    path.write_bytes(raw[: 144 + group_bytes] + bomb)
    assert refusal(path).code == "IMAGE_TOO_LARGE"
