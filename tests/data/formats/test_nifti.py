"""Strict NIfTI: good files equal nibabel's reading, bad ones are refused or noted."""

import gzip
import struct

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.data.formats.nifti import read_nifti, refuse_pair
from medseg.errors import ImageError, MedsegError

AFFINE = np.array([[-1.5, 0, 0, 10], [0, -2, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1.0]])
VOXELS = np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4) - 60
NIFTI1 = {
    "size": (0, "i"),
    "dim": (40, "8h"),
    "datatype": (70, "h"),
    "bitpix": (72, "h"),
    "pixdim": (76, "8f"),
    "vox_offset": (108, "f"),
    "slope": (112, "f"),
    "inter": (116, "f"),
    "units": (123, "b"),
    "qform": (252, "h"),
    "sform": (254, "h"),
    "quatern": (256, "3f"),
    "qoffset": (268, "3f"),
    "srow_x": (280, "4f"),
    "magic": (344, "4s"),
}
"""Where the NIfTI-1 header keeps each field, and its form for ``struct``."""


def nifti_bytes(array=VOXELS, affine=AFFINE, kind=nib.Nifti1Image, **fields):
    """A one-file NIfTI image, some header fields overwritten."""
    image = kind(array, affine, dtype=array.dtype)
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    data = bytearray(image.to_bytes())
    for name, value in fields.items():
        offset, form = NIFTI1[name]
        struct.pack_into(f"<{form}", data, offset, *(value if isinstance(value, tuple) else (value,)))
    return bytes(data)


@pytest.fixture
def saved(tmp_path):
    def save(data, name="image.nii"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return save


def codes(volume):
    return [note.code for note in volume.notes]


@pytest.mark.parametrize("name", ["image.nii", "image.nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize(
    "dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", ">i2", ">f4"], ids=lambda text: text
)
def test_voxels_type_and_affine_are_those_that_were_saved(saved, name, kind, dtype):
    array = (VOXELS % 100).astype(dtype)
    volume = read_nifti(saved(nifti_bytes(array, kind=kind), name))
    np.testing.assert_array_equal(volume.array, array)
    assert volume.array.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_allclose(volume.affine, AFFINE)
    assert volume.notes == ()


def test_a_big_endian_header_is_read(saved):
    header = nib.Nifti1Header(endianness=">")
    data = nib.Nifti1Image(VOXELS, AFFINE, header).to_bytes()
    assert data[:4] == b"\x00\x00\x01\x5c"
    np.testing.assert_array_equal(read_nifti(saved(data)).array, VOXELS)


def test_a_header_extension_is_passed_over(saved):
    image = nib.Nifti1Image(VOXELS, AFFINE)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 5000))
    np.testing.assert_array_equal(read_nifti(saved(image.to_bytes(), "image.nii.gz")).array, VOXELS)


@pytest.mark.parametrize("keep", [0, 3, 200, 351, 352, 400, -1])
@pytest.mark.parametrize("name", ["image.nii", "image.nii.gz"])
def test_a_file_cut_anywhere_is_refused(tmp_path, name, keep):
    data = nifti_bytes()
    path = tmp_path / name
    path.write_bytes((gzip.compress(data) if name.endswith(".gz") else data)[: keep if keep < 180 else min(keep, 180)])
    with pytest.raises(ImageError, match="IMAGE_TRUNCATED"):
        read_nifti(path)


@pytest.mark.parametrize("keep", [348, 352, 400, -1])
def test_a_whole_gzip_stream_of_too_few_voxels_is_refused(saved, keep):
    with pytest.raises(ImageError, match="IMAGE_TRUNCATED"):
        read_nifti(saved(nifti_bytes()[:keep], "image.nii.gz"))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_single_damaged_byte_changes_a_voxel_of_a_compressed_file(tmp_path_factory, data):
    stored = bytearray(gzip.compress(nifti_bytes(), mtime=0))
    place = data.draw(st.integers(0, len(stored) - 1))
    stored[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "image.nii.gz"
    path.write_bytes(stored)
    try:
        volume = read_nifti(path)
    except MedsegError:
        return
    np.testing.assert_array_equal(volume.array, VOXELS)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_header_is_read_or_refused_with_a_code(tmp_path_factory, data):
    stored = bytearray(nifti_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        stored[data.draw(st.integers(0, 351))] = data.draw(st.sampled_from([0, 1, 127, 128, 255]))
    path = tmp_path_factory.mktemp("damaged") / "image.nii"
    path.write_bytes(stored)
    try:
        volume = read_nifti(path)
    except MedsegError as error:
        assert error.code.isupper()
        assert error.remedy
    else:
        assert np.isfinite(volume.affine).all()


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"dim": (3, 6, -5, 4, 1, 1, 1, 1)}, "IMAGE_HEADER"),
        ({"dim": (3, 6, 0, 4, 1, 1, 1, 1)}, "IMAGE_HEADER"),
        ({"dim": (9, 6, 5, 4, 1, 1, 1, 1)}, "IMAGE_HEADER"),
        ({"dim": (3, 30000, 30000, 30000, 1, 1, 1, 1)}, "IMAGE_TRUNCATED"),
        ({"dim": (1, 120, 1, 1, 1, 1, 1, 1)}, "IMAGE_NOT_3D"),
        ({"dim": (5, 6, 5, 2, 1, 2, 1, 1)}, "IMAGE_NOT_3D"),
        ({"magic": b"ni1\0"}, "IMAGE_HEADER"),
        ({"size": 349}, "IMAGE_HEADER"),
        ({"vox_offset": -100.0}, "IMAGE_HEADER"),
        ({"vox_offset": 348.0}, "IMAGE_HEADER"),
        ({"vox_offset": 352.5}, "IMAGE_HEADER"),
        ({"vox_offset": float("nan")}, "IMAGE_HEADER"),
        ({"vox_offset": 1e12}, "IMAGE_TRUNCATED"),
        ({"datatype": 32}, "IMAGE_DTYPE"),
        ({"datatype": 128}, "IMAGE_DTYPE"),
        ({"datatype": 999}, "IMAGE_DTYPE"),
        ({"slope": float("inf")}, "IMAGE_SCALING"),
        ({"slope": float("nan")}, "IMAGE_SCALING"),
        ({"slope": 1.0, "inter": float("inf")}, "IMAGE_SCALING"),
        ({"srow_x": (float("nan"), 0.0, 0.0, 0.0)}, "IMAGE_GRID"),
        ({"srow_x": (0.0, 0.0, 0.0, 0.0)}, "IMAGE_GRID"),
        ({"srow_x": (-150.0, 0.0, 0.0, 0.0)}, "IMAGE_GRID"),
        ({"sform": 0, "pixdim": (1.0, 0.0, 2.0, 3.0, 1.0, 1.0, 1.0, 1.0)}, "IMAGE_GRID"),
        ({"sform": 0, "pixdim": (1.0, -1.5, 2.0, 3.0, 1.0, 1.0, 1.0, 1.0)}, "IMAGE_GRID"),
        ({"sform": 0, "pixdim": (1.0, float("nan"), 2.0, 3.0, 1.0, 1.0, 1.0, 1.0)}, "IMAGE_GRID"),
        ({"sform": 0, "quatern": (1.0, 1.0, 1.0)}, "IMAGE_GRID"),
        ({"sform": 0, "qform": 0, "pixdim": (1.0, 0.0, 2.0, 3.0, 1.0, 1.0, 1.0, 1.0)}, "IMAGE_GRID"),
    ],
)
@pytest.mark.parametrize("name", ["image.nii", "image.nii.gz"])
def test_a_header_that_cannot_be_true_is_refused_with_the_file_named(saved, name, fields, code):
    path = saved(nifti_bytes(**fields), name)
    with pytest.raises(ImageError) as caught:
        read_nifti(path)
    assert caught.value.code == code
    assert caught.value.case == str(path)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"bitpix": 32}, "BITPIX_DIFFERS"),
        ({"units": 3}, "UNITS_NOT_MM"),
        ({"qoffset": (40.0, 20.0, 30.0)}, "FORMS_DIFFER"),
        ({"quatern": (3.0, 3.0, 3.0)}, "QFORM_INVALID"),
        ({"qform": 0, "pixdim": (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)}, "FORMS_DIFFER"),
        ({"srow_x": (-1.5, 0.8, 0.0, 10.0)}, "SHEARED_GRID"),
        ({"sform": 0, "qform": 0}, "NO_ORIENTATION"),
    ],
)
def test_an_odd_header_is_read_as_nibabel_does_and_noted(saved, fields, code):
    path = saved(nifti_bytes(**fields))
    volume = read_nifti(path)
    assert code in codes(volume)
    np.testing.assert_array_equal(volume.array, VOXELS)
    np.testing.assert_allclose(volume.affine, nib.load(path).affine)


def test_without_an_sform_the_qform_places_the_voxels(saved):
    volume = read_nifti(saved(nifti_bytes(sform=0)))
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-5)
    assert volume.notes == ()


def test_bytes_after_the_voxels_are_noted(saved, tmp_path):
    assert codes(read_nifti(saved(nifti_bytes() + b"rest"))) == ["TRAILING_DATA"]
    path = tmp_path / "image.nii.gz"
    path.write_bytes(gzip.compress(nifti_bytes()) + b"rest")
    assert codes(read_nifti(path)) == ["TRAILING_DATA"]


def test_a_header_that_claims_a_bomb_is_refused_before_anything_is_inflated(tmp_path):
    path = tmp_path / "image.nii.gz"
    data = nifti_bytes(np.zeros((2, 2, 2), np.int16), dim=(3, 1200, 1200, 1200, 1, 1, 1, 1))
    path.write_bytes(gzip.compress(data) + b"\0" * (7 << 19))
    with pytest.raises(ImageError, match="IMAGE_TOO_LARGE"):
        read_nifti(path)


def test_text_named_as_an_image_is_refused(tmp_path):
    path = tmp_path / "image.nii.gz"
    path.write_text("this is a text file, and long enough to be a header" * 20)
    with pytest.raises(ImageError, match="IMAGE_HEADER"):
        read_nifti(path)


def test_a_slope_of_zero_means_no_scaling_whatever_the_intercept(saved):
    volume = read_nifti(saved(nifti_bytes(slope=0.0, inter=5.0)))
    np.testing.assert_array_equal(volume.array, VOXELS)
    assert volume.array.dtype == np.int16


def test_a_whole_intercept_keeps_integers_and_widens_them_only_where_needed(saved):
    near = read_nifti(saved(nifti_bytes(slope=1.0, inter=-1024.0)))
    far = read_nifti(saved(nifti_bytes(slope=1.0, inter=40000.0)))
    assert (near.array.dtype, far.array.dtype) == (np.int16, np.int32)
    np.testing.assert_array_equal(near.array, VOXELS.astype(int) - 1024)
    np.testing.assert_array_equal(far.array, VOXELS.astype(int) + 40000)


def test_other_scaling_gives_float32_equal_to_nibabel(saved):
    path = saved(nifti_bytes(slope=0.1, inter=-3.7))
    volume = read_nifti(path)
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array, nib.load(path).get_fdata().astype(np.float32))


def test_voxels_that_are_not_finite_are_counted(saved):
    array = VOXELS.astype(np.float32)
    array[0, 0, :3] = np.nan, np.inf, -np.inf
    (note,) = read_nifti(saved(nifti_bytes(array))).notes
    assert note.code == "NONFINITE_VOXELS"
    assert note.problem.startswith("3 of 120 ")


def test_values_beyond_float32_are_noted(saved):
    huge, wide = VOXELS.astype(np.float32), VOXELS.astype(np.int64)
    huge[0, 0, 0], wide[0, 0, 0] = 3e38, 2**53 + 1
    assert codes(read_nifti(saved(nifti_bytes(huge)))) == ["HUGE_VALUES"]
    volume = read_nifti(saved(nifti_bytes(wide)))
    assert codes(volume) == ["INTEGER_BEYOND_FLOAT32"]
    assert volume.array[0, 0, 0] == 2**53 + 1


@pytest.mark.parametrize(
    ("shape", "expected", "has_channels"),
    [
        ((6, 5), (6, 5), False),
        ((6, 5, 1), (6, 5, 1), False),
        ((6, 5, 4, 1), (6, 5, 4), False),
        ((6, 5, 4, 1, 1), (6, 5, 4), False),
        ((6, 5, 2, 3), (3, 6, 5, 2), True),
        ((6, 5, 1, 3), (3, 6, 5, 1), True),
    ],
)
def test_a_fourth_axis_becomes_channels_and_singletons_beyond_the_third_go(saved, shape, expected, has_channels):
    array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    volume = read_nifti(saved(nifti_bytes(array)))
    assert volume.array.shape == expected
    assert volume.has_channels == has_channels
    if has_channels:
        np.testing.assert_array_equal(volume.array, np.moveaxis(array, -1, 0))


def test_the_two_file_form_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(ImageError, match=r"IMAGE_PAIR.*convert it to one file, such as old\.nii\.gz"):
        refuse_pair(tmp_path / "old.hdr")
