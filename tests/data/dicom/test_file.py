"""One DICOM file: whether it is an image of a series, and what is refused before its pixels are looked at."""

import zlib

import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medseg.data.dicom.series import read_dicom
from medseg.data.image_files import find_images
from medseg.demonstration.synthetic_ct import write_ct_series
from medseg.errors import ImageError


def codes(volume):
    return [note.code for note in volume.notes]


def refusal(path):
    with pytest.raises(ImageError) as caught:
        read_dicom(path)
    assert caught.value.remedy
    return caught.value


def test_find_images_gives_the_folder_of_a_series_and_not_its_files(series, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("nothing")
    write_ct_series(series.array, series.affine, tmp_path / "a" / "b", seed_uid="second")
    assert find_images(tmp_path) == [tmp_path / "a" / "b", series.folder]


def test_find_images_passes_over_objects_that_are_no_image(series):
    series.edit_all(Rows=None, PixelData=None)
    assert find_images(series.folder) == []


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
