"""What makes the files of a series one volume, rule by rule."""

import shutil

import numpy as np
import pydicom
import pytest

from medseg.data.dicom.file import read_file
from medseg.data.dicom.rules import INFORMATIVE, examine, list_errors
from medseg.data.dicom.series import read_dicom
from medseg.demonstration.synthetic_ct import write_ct_series
from medseg.errors import ImageError
from tests.dicom_folders import AFFINE, TRUTH, edit, save_all, slices, uid


def codes(volume):
    return [note.code for note in volume.notes]


def refusal(path):
    with pytest.raises(ImageError) as caught:
        read_dicom(path)
    assert caught.value.remedy
    return caught.value


def test_a_copy_of_a_slice_is_left_out_and_noted(series):
    shutil.copy(series.path(2), series.folder / "copy.dcm")
    volume = read_dicom(series.folder)
    np.testing.assert_array_equal(volume.array, series.array)
    assert codes(volume) == ["DICOM_DUPLICATE_FILE"]


class TestIrregular:
    def test_a_missing_slice_is_refused_between_its_neighbours(self, series):
        series.path(3).unlink()
        error = refusal(series.folder)
        assert error.code == "DICOM_MISSING_SLICE"
        assert "slice0002.dcm to slice0004.dcm" in error.problem

    def test_one_of_many_slices_missing_is_called_so(self, series):
        write_ct_series(np.repeat(series.array, 3, axis=2), series.affine, series.folder, seed_uid="tests")
        series.path(6).unlink()
        error = refusal(series.folder)
        assert error.code == "DICOM_MISSING_SLICE"
        assert "6 mm from slice0005.dcm to slice0007.dcm, 3 mm elsewhere" in error.problem

    @pytest.mark.parametrize(
        ("values", "code"),
        [
            ({"ImagePositionPatient": [-10, -20, 36]}, "DICOM_DUPLICATE_SLICE"),
            ({"ImagePositionPatient": [-10, -20, 33.4]}, "DICOM_IRREGULAR_SLICES"),
            ({"ImagePositionPatient": [-9, -20, 33]}, "DICOM_IRREGULAR_SLICES"),
            ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, "DICOM_MIXED_GEOMETRY"),
            ({"PixelSpacing": [2, 1.6]}, "DICOM_MIXED_GEOMETRY"),
            ({"SeriesInstanceUID": "1.2.3"}, "DICOM_SEVERAL_SERIES"),
            ({"PatientID": "someone else"}, "DICOM_SEVERAL_SERIES"),
            ({"ImagePositionPatient": None}, "DICOM_GEOMETRY"),
            ({"ImageOrientationPatient": None}, "DICOM_GEOMETRY"),
            ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "DICOM_GEOMETRY"),
            ({"ImageOrientationPatient": [2, 0, 0, 0, 2, 0]}, "DICOM_GEOMETRY"),
            ({"PixelSpacing": None}, "DICOM_GEOMETRY"),
            ({"PixelSpacing": [0, 0]}, "DICOM_GEOMETRY"),
            ({"PixelSpacing": [-2, 1.5]}, "DICOM_GEOMETRY"),
            ({"Rows": 4}, "DICOM_MIXED_GEOMETRY"),
            ({"PixelData": b"\0" * 10}, "IMAGE_TRUNCATED"),
            ({"PixelData": None}, "DICOM_PIXELS"),
            ({"BitsAllocated": 12}, "DICOM_PIXELS"),
            ({"ModalityLUTSequence": []}, "DICOM_RESCALE"),
            ({"SOPInstanceUID": "first"}, "DICOM_DUPLICATE_SLICE"),
            ({"NumberOfFrames": 100_000_000}, "DICOM_GEOMETRY"),
        ],
    )
    def test_one_wrong_slice_refuses_the_series(self, series, values, code):
        if values.get("SOPInstanceUID") == "first":
            values = {"SOPInstanceUID": pydicom.dcmread(series.path(1)).SOPInstanceUID}
        series.edit(2, **values)
        assert refusal(series.folder).code == code


class TestExamine:
    """Rules without reading a pixel: what is found, in order, and what of it is told."""

    def test_a_regular_series_has_its_grid_and_nothing_is_found(self, tmp_path):
        files = [read_file(path) for path in save_all(slices(), tmp_path)]
        examined = examine(files[::-1], tmp_path)
        assert examined.found == examined.notes == ()
        assert examined.shape == TRUTH.shape
        assert examined.spacing_mm == (1.5, 2.0, 3.0)
        np.testing.assert_allclose(examined.affine, AFFINE)
        assert [frame.path for frame in examined.frames] == [file.path for file in files]

    def test_everything_that_is_wrong_is_found_and_the_first_is_raised(self, tmp_path):
        data = slices()
        edit(data[1], PixelSpacing=[2, 1.6])
        edit(data[4], Modality="MR")
        examined = examine([read_file(path) for path in save_all(data, tmp_path)], tmp_path)
        assert [error.code for error in list_errors(examined.found)] == ["DICOM_MIXED_GEOMETRY", "DICOM_MIXED_VALUES"]
        assert examined.affine is None
        with pytest.raises(ImageError, match="DICOM_MIXED_GEOMETRY"):
            _ = examined.notes

    def test_what_is_only_worth_knowing_is_found_but_no_note(self, tmp_path):
        data = [edit(each, LossyImageCompression="01") for each in slices()]
        edit(data[2], FrameOfReferenceUID="1.2.3")
        examined = examine([read_file(path) for path in save_all(data, tmp_path)], tmp_path)
        assert {each.code for each in examined.found} == {"DICOM_LOSSY", "DICOM_FRAMES_OF_REFERENCE"}
        assert "DICOM_LOSSY" in INFORMATIVE
        assert [note.code for note in examined.notes] == ["DICOM_FRAMES_OF_REFERENCE"]

    def test_one_stack_of_several_is_held_against_the_rules_alone(self, tmp_path):
        data = [edit(each, EchoTime=4.6) for each in slices()]
        data += [edit(each, EchoTime=9.2, SOPInstanceUID=uid(f"late {n}")) for n, each in enumerate(slices())]
        files = [read_file(path) for path in save_all(data, tmp_path)]
        (error,) = list_errors(examine(files, tmp_path).found)
        assert error.code == "DICOM_SEVERAL_PHASES"
        assert "1: EchoTime 4.6 (6 slices); 2: EchoTime 9.2 (6 slices)" in error.problem
        second = examine(files, tmp_path, 2)
        assert list_errors(second.found) == []
        assert [frame.path for frame in second.frames] == [file.path for file in files[6:]]
        with pytest.raises(ImageError, match="DICOM_SERIES_NOT_FOUND"):
            examine(files, tmp_path, 3)
