"""Pixels are decoded only where they can be what the header claims."""

import numpy as np
import pydicom
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import ExplicitVRLittleEndian, JPEGLosslessSV1

from medseg.data.dicom.pixels import coded_size
from medseg.data.dicom.series import read_dicom, write_ct_series
from medseg.errors import ImageError, MedsegError

AFFINE = np.diag([-1.5, -2, 3, 1])
HOUNSFIELD = np.arange(30, dtype=np.int16).reshape(6, 5, 1)


def refusal(path):
    with pytest.raises(ImageError) as caught:
        read_dicom(path)
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (bytes.fromhex("ffd8 ffc4 0004 0000 ffc3 000b 10 0018 0014 01"), (24, 20)),
        (bytes.fromhex("ffd8 fff7 000b 10 0018 0014 01"), (24, 20)),
        (bytes.fromhex("ff4f ff51 0029 0000 00000014 00000018 00000000 00000000"), (24, 20)),
        (bytes.fromhex("ffd8 ffda 000b 10 0018 0014 01"), None),
        (b"\x01\0\0\0" * 20, None),
        (b"", None),
    ],
    ids=["lossless", "ls", "2000", "no size", "rle", "empty"],
)
def test_the_size_that_a_compressed_stream_states_is_found(stream, expected):
    assert coded_size(stream) == expected


def test_a_size_that_the_pixels_cannot_fill_is_refused_before_it_is_allocated(series):
    series.edit_all(Rows=65535, Columns=65535)
    assert refusal(series.folder).code == "IMAGE_TRUNCATED"


def test_an_unknown_transfer_syntax_is_refused(series):
    path, known = series.path(2), ExplicitVRLittleEndian.encode()
    path.write_bytes(path.read_bytes().replace(known + b"\0", known[:-1] + b"9\0"))
    assert refusal(series.folder).code == "DICOM_NO_DECODER"


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_file_is_read_or_refused_with_a_code(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    (path,) = write_ct_series(HOUNSFIELD[:, :, :1], AFFINE, folder, seed_uid="damaged")
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(128, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    try:
        volume = read_dicom(path)
    except MedsegError as error:
        assert error.code.isupper()
    else:
        assert np.isfinite(volume.affine).all()


def compress_losslessly(path, folder):
    """Store a slice as JPEG Lossless, which pydicom itself cannot decode, through GDCM."""
    data_set = pydicom.dcmread(path)
    writer = SimpleITK.ImageFileWriter()
    writer.SetFileName(str(folder / "packed.dcm"))
    writer.SetUseCompression(True)
    writer.SetCompressor("JPEG")
    writer.Execute(SimpleITK.GetImageFromArray(data_set.pixel_array[None]))
    packed = pydicom.dcmread(folder / "packed.dcm")
    data_set.file_meta.TransferSyntaxUID = packed.file_meta.TransferSyntaxUID
    data_set.PixelData = packed.PixelData
    data_set["PixelData"].VR = "OB"
    data_set.save_as(path)


def test_lossless_jpeg_is_decoded_without_being_rescaled_twice_or_inverted(series, tmp_path):
    series.edit_all(PhotometricInterpretation="MONOCHROME1")
    for number in (1, 2, 3, 4):
        compress_losslessly(series.path(number), tmp_path)
    assert pydicom.dcmread(series.path(1)).file_meta.TransferSyntaxUID == JPEGLosslessSV1
    np.testing.assert_array_equal(read_dicom(series.folder).array, series.array)


def test_lossless_jpeg_without_its_end_is_refused(series, tmp_path):
    compress_losslessly(series.path(2), tmp_path)
    data_set = pydicom.dcmread(series.path(2))
    (frame,) = generate_frames(data_set.PixelData, number_of_frames=1)
    data_set.PixelData = encapsulate([frame[:-12]])
    data_set.save_as(series.path(2))
    assert refusal(series.folder).code == "IMAGE_TRUNCATED"


def test_a_stream_of_another_size_than_the_header_s_is_refused(series, tmp_path):
    compress_losslessly(series.path(2), tmp_path)
    series.edit(2, Rows=6, Columns=5)
    assert refusal(series.path(2)).code == "DICOM_PIXELS"
