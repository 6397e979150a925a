"""Every transfer syntax of still images: what can be decoded here is read right, the others are refused by name."""

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    JPEG2000MC,
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from medseg.data.dicom.series import read_dicom, take_inventory
from medseg.errors import ImageError
from tests.dicom_folders import TRUTH, compress, edit, save, save_all, set_pixels, slices
from tests.dicom_jpeg import PREDICTORS, blank_high_throughput, lossless_jpeg, twelve_bit_jpeg
from tests.dicom_pixel_faults import big_endian

SMOOTH = np.rint(2048 + 1900 * np.sin(np.add.outer(np.arange(32) / 5, np.arange(40) / 7))).astype(int)
"""12 bits, (row, column)."""

NEEDS = {JPEGLSLossless: "jpeg_ls", JPEGLSNearLossless: "jpeg_ls", JPEG2000Lossless: "openjpeg", JPEG2000: "openjpeg"}


def streamed(folder, plane, stream, syntax, bits, **values):
    """One CT slice whose pixels, (row, column), are a ready-made stream."""
    data = edit(slices()[0], Rows=plane.shape[0], Columns=plane.shape[1], RescaleIntercept=-1024)
    set_pixels(data, plane, "<u2")
    edit(data, BitsStored=bits, HighBit=bits - 1, **values)
    data.PixelData = encapsulate([stream])
    data["PixelData"].VR = "OB"
    return save(data, folder / "slice.dcm", syntax)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_plain_and_deflated_pixels_are_those_that_were_stored(syntax, tmp_path):
    save_all(slices(), tmp_path, syntax)
    np.testing.assert_array_equal(read_dicom(tmp_path).array, TRUTH)


def test_big_endian_pixels_are_those_that_were_stored(tmp_path):
    big_endian(tmp_path)
    assert dcmread(tmp_path / "s1.dcm").file_meta.TransferSyntaxUID == ExplicitVRBigEndian
    np.testing.assert_array_equal(read_dicom(tmp_path).array, TRUTH)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless], ids=lambda syntax: syntax.keyword)
def test_what_is_compressed_without_loss_is_what_was_stored(syntax, tmp_path):
    pytest.importorskip(NEEDS.get(syntax, "pydicom"))
    for path in save_all(slices(), tmp_path):
        compress(path, syntax)
    np.testing.assert_array_equal(read_dicom(tmp_path).array, TRUTH)


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_lossless_jpeg_by_every_predictor_is_what_was_stored(predictor, tmp_path):
    plane = TRUTH[:, :, 0].T.astype(int) + 1024
    plane[0, 0], plane[3, 4], plane[3, 5] = 65535, 0, 32768
    syntax = JPEGLosslessSV1 if predictor == 1 else JPEGLossless
    path = streamed(tmp_path, plane, lossless_jpeg(plane, predictor), syntax, 16)
    np.testing.assert_array_equal(read_dicom(path).array[..., 0], plane.T - 1024)


@pytest.mark.parametrize("is_inverted", [False, True])
@pytest.mark.parametrize(("quantum", "off"), [(1, 2), (16, 24)])
def test_lossy_jpeg_of_12_bits_is_read_to_its_rounding(quantum, off, is_inverted, tmp_path):
    colours = {"PhotometricInterpretation": "MONOCHROME1"} if is_inverted else {}
    stream = twelve_bit_jpeg(SMOOTH, quantum)
    path = streamed(tmp_path, SMOOTH, stream, JPEGExtended12Bit, 12, LossyImageCompression="01", **colours)
    array = read_dicom(path).array[..., 0]
    assert np.abs(array - (SMOOTH.T - 1024)).max() <= off
    (series,) = take_inventory(tmp_path).series
    assert "DICOM_LOSSY" in {finding.code for finding in series.findings}


def test_lossy_jpeg_of_12_bits_in_flat_blocks_is_exact(tmp_path):
    plane = np.kron(np.arange(0, 4096, 64).reshape(8, 8), np.ones((8, 8), int))
    path = streamed(tmp_path, plane, twelve_bit_jpeg(plane), JPEGExtended12Bit, 12)
    np.testing.assert_array_equal(read_dicom(path).array[..., 0], plane.T - 1024)


def test_lossy_jpeg_of_12_bits_of_another_size_or_without_its_end_is_refused(tmp_path):
    stream = twelve_bit_jpeg(SMOOTH)
    for spoilt, code in ((twelve_bit_jpeg(SMOOTH[:24]), "DICOM_PIXELS"), (stream[:-40], "IMAGE_TRUNCATED")):
        path = streamed(tmp_path, SMOOTH, spoilt, JPEGExtended12Bit, 12)
        with pytest.raises(ImageError) as caught:
            read_dicom(path)
        assert caught.value.code == code


@pytest.mark.parametrize(
    ("syntax", "options", "off"),
    [(JPEGLSNearLossless, {"jls_error": 3}, 3), (JPEG2000, {"j2k_cr": [4]}, 60)],
    ids=["JPEGLSNearLossless", "JPEG2000"],
)
def test_what_is_compressed_with_loss_is_close_to_what_was_stored(syntax, options, off, tmp_path):
    pytest.importorskip(NEEDS[syntax])
    data = edit(slices()[0], Rows=SMOOTH.shape[0], Columns=SMOOTH.shape[1])
    set_pixels(data, SMOOTH, "<u2")
    path = save(edit(data, BitsStored=12, HighBit=11), tmp_path / "slice.dcm")
    data = dcmread(path)
    data.compress(syntax, generate_instance_uid=False, **options)
    data.save_as(path)
    off_by = np.abs(read_dicom(path).array[..., 0] - (SMOOTH.T - 1024)).max()
    assert 0 < off_by <= off


@pytest.mark.parametrize("syntax", [MPEG2MPML, JPEG2000MC], ids=lambda syntax: syntax.keyword)
def test_what_nothing_decodes_is_refused_by_its_name(syntax, tmp_path):
    with pytest.raises(ImageError) as caught:
        read_dicom(streamed(tmp_path, SMOOTH, bytes(64), syntax, 12))
    assert caught.value.code == "DICOM_NO_DECODER"
    assert syntax.name in caught.value.problem


@pytest.mark.parametrize("syntax", [HTJ2KLossless, HTJ2K], ids=lambda syntax: syntax.keyword)
def test_a_blank_high_throughput_stream_is_read(syntax, tmp_path):
    utils = pytest.importorskip("openjpeg.utils")
    plane = np.full((34, 36), 2048, np.uint16)
    stream = utils.encode_array(plane, bits_stored=12, photometric_interpretation=2, use_mct=False, codec_format=0)
    path = streamed(tmp_path, plane, blank_high_throughput(stream), syntax, 12)
    np.testing.assert_array_equal(read_dicom(path).array, np.full((36, 34, 1), 1024))


def test_a_high_throughput_stream_that_is_none_is_refused(tmp_path):
    with pytest.raises(ImageError) as caught:
        read_dicom(streamed(tmp_path, SMOOTH, bytes(64) + b"\xff\xd9", HTJ2K, 12))
    assert caught.value.code in ("DICOM_PIXELS", "DICOM_NO_DECODER")
