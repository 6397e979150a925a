"""The planes of enhanced multi-frame files are those of the same slices one by one."""

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from medseg.data.dicom.series import read_dicom
from medseg.data.read import read
from medseg.errors import ImageError


def refusal(path):
    with pytest.raises(ImageError) as caught:
        read_dicom(path)
    assert caught.value.remedy
    return caught.value


def enhanced(series, order=(0, 1, 2, 3)):
    """The series as one multi-frame file, its frames in the given order."""
    slices = [pydicom.dcmread(series.path(number + 1)) for number in order]
    whole, shared, frames = slices[0], Dataset(), []
    measures, turn, values = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = whole.PixelSpacing, "3"
    turn.ImageOrientationPatient = whole.ImageOrientationPatient
    values.RescaleSlope, values.RescaleIntercept = "1", "-1024"
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [turn]
    shared.PixelValueTransformationSequence = [values]
    for one in slices:
        place, frame = Dataset(), Dataset()
        place.ImagePositionPatient = one.ImagePositionPatient
        frame.PlanePositionSequence = [place]
        frames.append(frame)
    pixels = b"".join(one.PixelData for one in slices)
    for keyword in [
        "PixelSpacing",
        "ImageOrientationPatient",
        "ImagePositionPatient",
        "RescaleSlope",
        "RescaleIntercept",
    ]:
        delattr(whole, keyword)
    whole.SharedFunctionalGroupsSequence, whole.PerFrameFunctionalGroupsSequence = [shared], frames
    whole.NumberOfFrames, whole.PixelData = len(slices), pixels
    whole.save_as(series.folder.parent / "enhanced.dcm")
    return series.folder.parent / "enhanced.dcm"


def test_the_frames_of_an_enhanced_file_are_the_same_volume(series):
    volume = read(enhanced(series, order=(2, 0, 3, 1)))
    np.testing.assert_array_equal(volume.array, series.array)
    np.testing.assert_allclose(volume.affine, series.affine)
    assert volume.notes == ()


def test_a_rescaling_outside_of_the_frames_groups_counts_where_these_have_none(series):
    path = enhanced(series)
    data_set = pydicom.dcmread(path)
    del data_set.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence
    data_set.RescaleSlope, data_set.RescaleIntercept = "1", "-1000"
    data_set.save_as(path)
    volume = read(path)
    np.testing.assert_array_equal(volume.array, series.array + 24)
    assert volume.notes == ()


def test_an_enhanced_file_that_describes_other_frames_than_it_claims_is_refused(series):
    path = enhanced(series)
    data_set = pydicom.dcmread(path)
    data_set.NumberOfFrames = 3
    data_set.save_as(path)
    assert refusal(path).code == "DICOM_GEOMETRY"


def test_a_frame_twice_in_an_enhanced_file_is_refused(series):
    error = refusal(enhanced(series, order=(0, 1, 1, 2)))
    assert error.code == "DICOM_DUPLICATE_SLICE"
    assert "enhanced.dcm frame 1 and enhanced.dcm frame 2" in error.problem
