"""NRRD and MetaImage: equal to SimpleITK where that is right, refused where it is silent."""

import numpy as np
import pytest
import SimpleITK

from medseg.data.formats.itk import read_metaimage, read_nrrd
from medseg.errors import ImageError

VOXELS = np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4) - 60
READ = {".nrrd": read_nrrd, ".nhdr": read_nrrd, ".mha": read_metaimage, ".mhd": read_metaimage}
LPS_TO_RAS = np.diag([-1.0, -1, 1, 1])


def saved(path, array=VOXELS, compress=True, is_vector=False):
    """``array`` (X, Y, Z) written by SimpleITK on an oblique grid, and its RAS affine."""
    order = (2, 1, 0, 3) if is_vector else tuple(range(array.ndim))[::-1]
    image = SimpleITK.GetImageFromArray(array.transpose(order), isVector=is_vector)
    cos, sin = np.cos(0.3), np.sin(0.3)
    direction = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, -1]])[: image.GetDimension(), : image.GetDimension()]
    image.SetSpacing([1.5, 2, 3][: image.GetDimension()])
    image.SetOrigin([10, -20, 30][: image.GetDimension()])
    image.SetDirection(direction.ravel())
    SimpleITK.WriteImage(image, str(path), useCompression=compress)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, -1]]) * [1.5, 2, 3]
    affine[:3, 3] = 10, -20, 30
    return path, LPS_TO_RAS @ affine


@pytest.mark.parametrize("suffix", READ)
@pytest.mark.parametrize("compress", [True, False], ids=["packed", "raw"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_voxels_type_and_affine_are_those_that_were_saved(tmp_path, suffix, compress, dtype):
    array = (VOXELS % 100).astype(dtype)
    path, affine = saved(tmp_path / f"a{suffix}", array, compress)
    volume = READ[suffix](path)
    np.testing.assert_array_equal(volume.array, array)
    assert volume.array.dtype == np.dtype(dtype)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-9)
    assert volume.notes == ()


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_several_values_per_voxel_are_channels_first(tmp_path, suffix):
    array = np.stack([VOXELS, VOXELS + 7], axis=-1)
    volume = READ[suffix](saved(tmp_path / f"a{suffix}", array, is_vector=True)[0])
    assert volume.has_channels
    np.testing.assert_array_equal(volume.array, np.moveaxis(array, -1, 0))


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_2d_images_are_2d(tmp_path, suffix):
    volume = READ[suffix](saved(tmp_path / f"a{suffix}", VOXELS[:, :, 0])[0])
    np.testing.assert_array_equal(volume.array, VOXELS[:, :, 0])
    assert volume.grid.spacing_mm == pytest.approx((1.5, 2))


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
@pytest.mark.parametrize("compress", [True, False], ids=["packed", "raw"])
@pytest.mark.parametrize("lost", [1, 20, 100])
def test_a_cut_file_which_simpleitk_may_read_is_refused(tmp_path, suffix, compress, lost):
    path, _ = saved(tmp_path / f"a{suffix}", compress=compress)
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(ImageError, match="IMAGE_TRUNCATED"):
        READ[suffix](path)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_a_changed_byte_of_packed_voxels_is_refused(tmp_path, suffix):
    path, _ = saved(tmp_path / f"a{suffix}")
    data = bytearray(path.read_bytes())
    data[-12] ^= 1
    path.write_bytes(data)
    with pytest.raises(ImageError, match="IMAGE_CORRUPT"):
        READ[suffix](path)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_bytes_after_the_voxels_are_noted(tmp_path, suffix):
    path, _ = saved(tmp_path / f"a{suffix}", compress=False)
    path.write_bytes(path.read_bytes() + b"rest")
    assert [note.code for note in READ[suffix](path).notes] == ["TRAILING_DATA"]


def changed(path, old, new):
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))
    return path


@pytest.mark.parametrize(
    ("suffix", "old", "new", "code"),
    [
        (".nrrd", b"sizes: 6 5 4", b"sizes: 6 5 400000000", "IMAGE_TRUNCATED"),
        (".nrrd", b"sizes: 6 5 4", b"sizes: 6 5 -4", "IMAGE_HEADER"),
        (".nrrd", b"sizes: 6 5 4", b"sizes: 6 5", "IMAGE_HEADER"),
        (".nrrd", b"type: short", b"type: block", "IMAGE_DTYPE"),
        (".nrrd", b"encoding: raw", b"encoding: txt", "IMAGE_DTYPE"),
        (".nrrd", b"NRRD", b"NARD", "IMAGE_HEADER"),
        (".nrrd", b"space origin: (10,", b"space origin: (nan,", "IMAGE_HEADER"),
        (".mha", b"DimSize = 6 5 4", b"DimSize = 6 5 4000000000", "IMAGE_TRUNCATED"),
        (".mha", b"DimSize = 6 5 4", b"DimSize = 6 x 4", "IMAGE_HEADER"),
        (".mha", b"NDims = 3", b"NDims = 2", "IMAGE_HEADER"),
        (".mha", b"MET_SHORT", b"MET_OTHER", "IMAGE_DTYPE"),
        (".mha", b"ElementSpacing = 1.5 2 3", b"ElementSpacing = 1.5 2 300", "IMAGE_GRID"),
        (".mha", b"ElementDataFile = LOCAL", b"ElementDataFile = LIST", "IMAGE_DATA_FILE"),
        (".mhd", b"ElementDataFile = a.raw", b"ElementDataFile = ../a.raw", "IMAGE_DATA_FILE"),
        (".mhd", b"ElementDataFile = a.raw", b"ElementDataFile = b.raw", "IMAGE_DATA_FILE"),
        (".nhdr", b"data file: a.raw", b"data file: /a.raw", "IMAGE_DATA_FILE"),
    ],
)
def test_a_header_that_cannot_be_true_is_refused(tmp_path, suffix, old, new, code):
    path, _ = saved(tmp_path / f"a{suffix}", compress=False)
    with pytest.raises(ImageError) as caught:
        READ[suffix](changed(path, old, new))
    assert caught.value.code == code


def test_a_big_endian_nrrd_is_read(tmp_path):
    path, _ = saved(tmp_path / "a.nrrd", compress=False)
    data = path.read_bytes()
    swapped = VOXELS.T.astype(">i2").tobytes()
    path.write_bytes(data[: -len(swapped)].replace(b"endian: little", b"endian: big") + swapped)
    np.testing.assert_array_equal(read_nrrd(path).array, VOXELS)


def test_an_nrrd_list_axis_wherever_it_stands_becomes_channels(tmp_path):
    stored = np.arange(6 * 5 * 4 * 2, dtype=np.uint8).reshape(6, 5, 4, 2)
    header = (
        "NRRD0004\ntype: unsigned char\ndimension: 4\nspace: left-posterior-superior\nsizes: 2 6 5 4\n"
        "space directions: none (1.5,0,0) (0,2,0) (0,0,3)\nkinds: list domain domain domain\n"
        "encoding: raw\nspace origin: (0,0,0)\n\n"
    )
    path = tmp_path / "a.nrrd"
    path.write_bytes(header.encode() + np.moveaxis(stored, -1, 0).tobytes(order="F"))
    volume = read_nrrd(path)
    np.testing.assert_array_equal(volume.array, np.moveaxis(stored, -1, 0))
    np.testing.assert_allclose(volume.affine, np.diag([-1.5, -2, 3, 1]))


def test_an_nrrd_without_a_space_is_noted(tmp_path):
    header = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 3 4\nspacings: 1 2 3\nencoding: raw\n\n"
    path = tmp_path / "a.nrrd"
    path.write_bytes(header.encode() + bytes(24))
    assert [note.code for note in read_nrrd(path).notes] == ["NO_ORIENTATION"]
