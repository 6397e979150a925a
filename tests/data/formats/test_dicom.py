"""DICOM as a format: told by its mark, read by what is imported only then."""

import numpy as np
import pytest

from medseg.data.dicom.sniff import looks_like_dicom
from medseg.data.formats.dicom import DICOM, holds_images, read_segments
from medseg.demonstration.synthetic_ct import write_ct_series
from medseg.errors import ImageError

VOXELS = np.arange(60, dtype=np.int16).reshape(5, 4, 3)
AFFINE = np.diag([-1.5, -2, 3, 1.0])


@pytest.fixture
def series(tmp_path):
    return write_ct_series(VOXELS, AFFINE, tmp_path / "ct", seed_uid="format")


def test_a_file_is_dicom_by_its_mark_whatever_its_name(series, tmp_path):
    renamed = series[0].rename(tmp_path / "slice.txt")
    (tmp_path / "text.dcm").write_text("no DICOM")
    assert looks_like_dicom(renamed)
    assert not looks_like_dicom(tmp_path / "text.dcm")
    assert not looks_like_dicom(tmp_path / "missing.dcm")


def test_a_folder_holds_images_where_one_file_is_an_image_or_too_damaged_to_tell(series, tmp_path):
    note = tmp_path / "note.txt"
    note.write_text("no DICOM")
    assert holds_images([note, series[2]])
    assert not holds_images([note])
    assert not holds_images([])
    series[0].write_bytes(series[0].read_bytes()[:140])
    assert holds_images([series[0]])
    assert holds_images([tmp_path / "missing.dcm"])


def test_the_table_of_contents_of_a_disc_is_no_image(series, tmp_path):
    assert not holds_images([series[0].rename(tmp_path / "DICOMDIR")])


def test_the_extent_is_that_of_the_volume_read(series):
    extent, volume = DICOM.extent(series[0].parent), DICOM.read(series[0].parent)
    np.testing.assert_array_equal(volume.array, VOXELS)
    assert (extent.shape, extent.channels, extent.stored_bytes) == (VOXELS.shape, 1, 2)
    np.testing.assert_allclose(extent.affine, volume.affine)
    assert DICOM.extent(series[0]).shape == (5, 4, 1)


def test_another_series_than_those_there_is_refused_by_reading_and_by_the_header(series):
    for call in (DICOM.read, DICOM.extent):
        with pytest.raises(ImageError, match="DICOM_SERIES_NOT_FOUND"):
            call(series[0].parent, "77")


def test_a_series_of_images_holds_no_segments(series):
    assert read_segments(series[0].parent) is None
    assert read_segments(series[0]) is None
