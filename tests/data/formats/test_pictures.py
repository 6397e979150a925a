"""PNG, JPEG and TIFF: width first, colours as channels, pages as the third axis."""

import numpy as np
import pytest
from PIL import Image

from medseg.data.formats.pictures import read_picture, read_picture_labels
from medseg.errors import ImageError

GREY = np.arange(35, dtype=np.uint8).reshape(7, 5)  # height 7, width 5, as Pillow has it
COLOUR = np.random.default_rng(0).integers(0, 255, (7, 5, 3)).astype(np.uint8)


def saved(tmp_path, array, name, mode=None, **options):
    path = tmp_path / name
    Image.fromarray(array, mode).save(path, **options)
    return path


def codes(volume):
    return [note.code for note in volume.notes]


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp"])
@pytest.mark.parametrize("array", [GREY, COLOUR], ids=["grey", "colour"])
def test_pixels_are_those_saved_width_first_channels_before(tmp_path, name, array):
    volume = read_picture(saved(tmp_path, array, name))
    np.testing.assert_array_equal(volume.array, array.T if array is GREY else array.transpose(2, 1, 0))
    assert volume.has_channels == (array is COLOUR)
    assert volume.grid.shape == (5, 7)
    np.testing.assert_array_equal(volume.affine, np.eye(4))


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bit_grey_keeps_its_values(tmp_path, name):
    array = GREY.astype(np.uint16) * 1800
    volume = read_picture(saved(tmp_path, array, name))
    assert volume.array.dtype == np.uint16
    np.testing.assert_array_equal(volume.array, array.T)


def test_16_bit_colour_keeps_its_values(tmp_path):
    import SimpleITK

    array = COLOUR.astype(np.uint16) * 250
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array, isVector=True), str(tmp_path / "a.png"))
    volume = read_picture(tmp_path / "a.png")
    assert volume.array.dtype == np.uint16
    np.testing.assert_array_equal(volume.array, array.transpose(2, 1, 0))


def test_float_tiff_keeps_its_values(tmp_path):
    array = GREY.astype(np.float32) / 3
    np.testing.assert_array_equal(read_picture(saved(tmp_path, array, "a.tif")).array, array.T)


def test_one_bit_pictures_are_0_and_1(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(GREY > 9).save(path)
    volume = read_picture(path)
    assert volume.array.dtype == np.uint8
    np.testing.assert_array_equal(volume.array, (GREY > 9).T)


def test_a_jpeg_is_read_as_pillow_decodes_it(tmp_path):
    path = saved(tmp_path, COLOUR, "a.jpg")
    np.testing.assert_array_equal(read_picture(path).array, np.asarray(Image.open(path)).transpose(2, 1, 0))


def test_pages_are_the_third_axis_in_their_order(tmp_path):
    pages = [Image.fromarray(GREY + number) for number in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    volume = read_picture(tmp_path / "a.tif")
    np.testing.assert_array_equal(volume.array, np.stack([GREY.T + number for number in range(3)], axis=-1))
    np.testing.assert_array_equal(read_picture(tmp_path / "a.tif", 2).array, GREY.T + 2)


def test_colour_pages_are_channels_then_width_height_pages(tmp_path):
    pages = [Image.fromarray(COLOUR), Image.fromarray(COLOUR[::-1].copy())]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    volume = read_picture(tmp_path / "a.tif")
    assert volume.array.shape == (3, 5, 7, 2)
    np.testing.assert_array_equal(volume.array[..., 1], COLOUR[::-1].transpose(2, 1, 0))


def test_pages_of_unequal_size_are_refused(tmp_path):
    pages = [Image.fromarray(GREY), Image.fromarray(GREY[:3].copy())]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(ImageError, match="IMAGE_PAGES_DIFFER"):
        read_picture(tmp_path / "a.tif")


def test_transparency_is_left_out_and_noted(tmp_path):
    rgba = np.concatenate([COLOUR, np.full((7, 5, 1), 200, np.uint8)], axis=-1)
    volume = read_picture(saved(tmp_path, rgba, "a.png"))
    np.testing.assert_array_equal(volume.array, COLOUR.transpose(2, 1, 0))
    assert codes(volume) == ["ALPHA_IGNORED"]


def test_a_palette_is_colours_in_an_image_and_indices_in_a_mask(tmp_path):
    picture = Image.fromarray(GREY % 2, mode="P")
    picture.putpalette([0, 0, 0, 250, 20, 30])
    picture.save(tmp_path / "a.png")
    colours, labels = read_picture(tmp_path / "a.png"), read_picture_labels(tmp_path / "a.png")
    np.testing.assert_array_equal(colours.array[:, 1, 0], [250, 20, 30])
    np.testing.assert_array_equal(labels.array, GREY.T % 2)


def test_a_camera_s_orientation_tag_is_noted_and_not_applied(tmp_path):
    tags = Image.Exif()
    tags[274] = 6
    volume = read_picture(saved(tmp_path, GREY, "a.jpg", exif=tags))
    assert volume.array.shape == (5, 7)
    assert codes(volume) == ["EXIF_ORIENTATION"]


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
def test_a_cut_picture_is_refused(tmp_path, name, share):
    array = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    path = saved(tmp_path, array, name)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ImageError) as caught:
        read_picture(path)
    assert caught.value.code in ("IMAGE_CORRUPT", "IMAGE_HEADER")


def test_a_png_with_one_changed_byte_of_pixels_is_refused(tmp_path):
    path = saved(tmp_path, np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8), "a.png")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(ImageError, match="IMAGE_CORRUPT"):
        read_picture(path)


def test_a_picture_that_claims_a_billion_pixels_is_refused_unread(tmp_path):
    import struct
    import zlib

    path = saved(tmp_path, GREY, "a.png")
    data = bytearray(path.read_bytes())
    struct.pack_into(">2I", data, 16, 40000, 40000)
    struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
    path.write_bytes(data)
    with pytest.raises(ImageError, match="IMAGE_TOO_LARGE"):
        read_picture(path)


def test_a_page_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ImageError, match=r"SLICE_NOT_FOUND.*page 1 of 1"):
        read_picture(saved(tmp_path, GREY, "a.png"), 1)
