"""Pixels are decoded only where they can be what the header claims."""

import io

import numpy as np
import pydicom
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit, JPEGLosslessSV1

from medseg.data.dicom.pixels import read_coded_size
from medseg.data.dicom.series import read_dicom, take_inventory
from medseg.demonstration.synthetic_ct import write_ct_series
from medseg.errors import ImageError, MedsegError
from tests.dicom_folders import edit, save, set_pixels, slices

AFFINE = np.diag([-1.5, -2, 3, 1])
HOUNSFIELD = np.arange(30, dtype=np.int16).reshape(6, 5, 1)


def refusal(path):
    with pytest.raises(ImageError) as caught:
        read_dicom(path)
    assert caught.value.remedy
    return caught.value


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


def picture(folder, array, syntax=None, stream=None, **values):
    """One X-ray of these pixels, (row, column[, colour]); a compressed one where a stream is given."""
    data = edit(slices()[0], Modality="XC", ImagePositionPatient=None, ImageOrientationPatient=None)
    edit(data, RescaleSlope=None, RescaleIntercept=None, Rows=array.shape[0], Columns=array.shape[1])
    set_pixels(data, array, array.dtype.str)
    edit(data, **values)
    if stream:
        data.PixelData = encapsulate([stream])
        data["PixelData"].VR = "OB"
    return save(data, folder / "x.dcm", *([syntax] if syntax else []))


def test_jpeg_of_8_bits_is_decoded_as_pillow_does(tmp_path):
    array = (np.add.outer(np.arange(24), np.arange(32)) * 4).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "JPEG", quality=95)
    path = picture(tmp_path, array, JPEGBaseline8Bit, stream.getvalue(), LossyImageCompression="01")
    np.testing.assert_array_equal(read_dicom(path).array, np.asarray(Image.open(stream)).T)
    (series,) = take_inventory(tmp_path).series
    assert "DICOM_LOSSY" in {finding.code for finding in series.findings}


def test_colours_by_a_palette_are_resolved(tmp_path):
    red, green, blue = np.random.default_rng(0).integers(0, 256, (3, 256)).astype(np.uint8)
    indices = np.random.default_rng(1).integers(0, 256, (6, 8)).astype(np.uint8)
    path = picture(tmp_path, indices, PhotometricInterpretation="PALETTE COLOR")
    data = pydicom.dcmread(path)
    for name, table in (("Red", red), ("Green", green), ("Blue", blue)):
        data.add_new(f"{name}PaletteColorLookupTableDescriptor", "US", [256, 0, 8])
        data.add_new(f"{name}PaletteColorLookupTableData", "OW", table.tobytes())
    data.save_as(path)
    volume = read_dicom(path)
    assert volume.has_channels
    np.testing.assert_array_equal(volume.array, np.stack([red, green, blue])[:, indices].transpose(0, 2, 1))


def test_luminance_and_chrominance_become_red_green_and_blue(tmp_path):
    grey = np.full((4, 6, 3), 128, np.uint8)
    grey[..., 0] = np.arange(24).reshape(4, 6) * 10
    colours = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "PhotometricInterpretation": "YBR_FULL"}
    volume = read_dicom(picture(tmp_path, grey, **colours))
    np.testing.assert_array_equal(volume.array, np.stack([grey[..., 0].T] * 3))
    assert "COLOUR_CONVERTED" in {note.code for note in volume.notes}


def test_colours_stored_plane_by_plane_are_put_together(tmp_path):
    planes = np.random.default_rng(2).integers(0, 256, (3, 4, 6)).astype(np.uint8)
    data = edit(slices()[0], Modality="XC", ImagePositionPatient=None, ImageOrientationPatient=None)
    set_pixels(edit(data, RescaleSlope=None, RescaleIntercept=None, Rows=4, Columns=6), planes, "u1")
    edit(data, SamplesPerPixel=3, PlanarConfiguration=1, PhotometricInterpretation="RGB")
    np.testing.assert_array_equal(read_dicom(save(data, tmp_path / "x.dcm")).array, planes.transpose(0, 2, 1))


def test_a_large_intercept_is_added_exactly(tmp_path):
    stored = np.arange(30_000, 60_000, 1000, dtype=np.uint16).reshape(5, 6)
    path = picture(tmp_path, stored, RescaleSlope=1, RescaleIntercept=-40_000)
    array = read_dicom(path).array
    assert array.dtype == np.int16
    np.testing.assert_array_equal(array, stored.T.astype(int) - 40_000)


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
    assert read_coded_size(stream) == expected
