"""Reading images of every format, and masks."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from medseg.data.formats.table import FORMATS
from medseg.data.image_files import image_stem
from medseg.data.read import read, read_mask
from medseg.data.write import write
from medseg.errors import ImageError, LabelError, MedsegError

AFFINE = np.array([[-1.5, 0, 0, 10], [0, -2, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1.0]])
VOXELS = np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4)
PICTURE = np.arange(30, dtype=np.uint8).reshape(6, 5)
WRITTEN = [".nii", ".nii.gz", ".nrrd", ".mha", ".npz"]
CINE = np.arange(3 * 6 * 5 * 4, dtype=np.int16).reshape(3, 6, 5, 4)


def codes(volume):
    return [note.code for note in volume.notes]


def save_grey(path, array):
    Image.fromarray(np.ascontiguousarray(np.asarray(array, np.uint8).T)).save(path)
    return path


@pytest.mark.parametrize("suffix", [suffix for reader in FORMATS for suffix in reader.suffixes])
@pytest.mark.parametrize("content", [b"", b"\0" * 400, b"NRRD0004\n\n", b"NDims = 3\n" * 50], ids=len)
def test_every_reader_refuses_nonsense_with_a_code_and_the_file(tmp_path, suffix, content):
    path = tmp_path / f"image{suffix}"
    path.write_bytes(content)
    with pytest.raises(ImageError) as caught:
        read(path)
    assert str(path) in caught.value.case
    assert caught.value.problem
    assert caught.value.remedy


def test_a_page_of_a_tiff_is_read_alone(tmp_path):
    path = write(VOXELS.astype(np.uint8), np.eye(4), tmp_path / "pages.tif")
    np.testing.assert_array_equal(read(f"{path}#2").array, VOXELS[:, :, 2])


def test_an_unknown_suffix_is_refused_with_the_known_ones(tmp_path):
    path = tmp_path / "image.xyz"
    path.write_bytes(b"data")
    with pytest.raises(ImageError, match=r"FORMAT_UNKNOWN.*\.nii\.gz"):
        read(path)


def test_suffixes_are_known_in_capitals_too(tmp_path):
    path = write(VOXELS, AFFINE, tmp_path / "image.nii.gz").rename(tmp_path / "IMAGE.NII.GZ")
    np.testing.assert_array_equal(read(path).array, VOXELS)
    assert image_stem(path) == "IMAGE"


def test_reading_a_nifti_imports_neither_torch_nor_what_reads_dicom(tmp_path):
    path = write(VOXELS, AFFINE, tmp_path / "a.nii.gz")
    program = f"import sys; from medseg.data import read, write; read.read({str(path)!r}); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    assert "medseg.data.formats.nifti" in loaded
    # nibabel itself imports pydicom where it is installed.
    assert not {"torch", "monai", "highdicom"} & set(loaded)
    assert {name for name in loaded if name.startswith("medseg.data.dicom.")} <= {"medseg.data.dicom.sniff"}


class TestMasks:
    @pytest.mark.parametrize("suffix", WRITTEN)
    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
    def test_whole_labels_are_read_as_integers(self, tmp_path, suffix, dtype):
        mask = (VOXELS % 4).astype(dtype)
        volume = read_mask(write(mask, AFFINE, tmp_path / f"mask{suffix}"), {0, 1, 2, 3})
        np.testing.assert_array_equal(volume.array, mask)
        assert np.issubdtype(volume.array.dtype, np.integer)
        assert volume.notes == ()

    @pytest.mark.parametrize(
        ("value", "code"),
        [(0.9999, "LABEL_NOT_INTEGER"), (np.nan, "LABEL_NOT_INTEGER"), (np.inf, "LABEL_NOT_INTEGER")],
    )
    def test_a_value_that_is_no_whole_number_is_refused(self, tmp_path, value, code):
        mask = np.zeros((4, 4, 4), np.float32)
        mask[1, 1, 1] = value
        with pytest.raises(LabelError, match=code):
            read_mask(write(mask, AFFINE, tmp_path / "mask.nii.gz"))

    def test_a_negative_label_is_refused(self, tmp_path):
        with pytest.raises(LabelError, match=r"LABEL_NEGATIVE.*-60"):
            read_mask(write(VOXELS - 60, AFFINE, tmp_path / "mask.nii.gz"))

    def test_an_unexpected_label_is_refused_by_value(self, tmp_path):
        mask = np.where(VOXELS == 7, 7, VOXELS % 3)
        with pytest.raises(LabelError, match=r"LABEL_UNEXPECTED.*labels 7 are not among 0, 1, 2"):
            read_mask(write(mask, AFFINE, tmp_path / "mask.nii.gz"), {0, 1, 2})

    def test_without_expected_labels_any_whole_ones_pass(self, tmp_path):
        path = write((VOXELS * 255 // 119).astype(np.uint8), AFFINE, tmp_path / "mask.nii.gz")
        assert read_mask(path).array.max() == 255

    def test_a_one_hot_mask_is_refused(self, tmp_path):
        one_hot = np.stack([VOXELS % 2 == 0, VOXELS % 2 == 1])
        path = write(one_hot, AFFINE, tmp_path / "mask.nii.gz", has_channels=True)
        with pytest.raises(LabelError, match=r"LABEL_CHANNELS.*2 channels"):
            read_mask(path)

    @pytest.mark.parametrize("suffix", [".png", ".nii.gz"])
    def test_white_is_one_where_labels_are_0_and_1(self, tmp_path, suffix):
        mask = PICTURE > 12
        volume = read_mask(write(mask * np.uint8(255), np.eye(4), tmp_path / f"mask{suffix}"), {0, 1})
        np.testing.assert_array_equal(volume.array, mask)
        assert codes(volume) == ["LABEL_MAPPED"]

    def test_white_is_not_one_where_there_are_more_labels(self, tmp_path):
        path = write((PICTURE > 12) * np.uint8(255), np.eye(4), tmp_path / "mask.png")
        with pytest.raises(LabelError, match="LABEL_UNEXPECTED"):
            read_mask(path, {0, 1, 2})

    def test_an_all_black_picture_is_an_empty_mask(self, tmp_path):
        volume = read_mask(write(np.zeros((6, 5), np.uint8), np.eye(4), tmp_path / "mask.png"), {0, 1})
        assert not volume.array.any()
        assert volume.notes == ()

    def test_grey_edges_of_a_picture_are_cut_at_half_of_255_and_noted(self, tmp_path):
        grey = np.array([[0, 3, 127], [255, 250, 128]]).repeat([60, 30, 1], axis=1)
        volume = read_mask(save_grey(tmp_path / "mask.png", grey), {0, 1})
        np.testing.assert_array_equal(volume.array, np.array([[0, 0, 0], [1, 1, 1]]).repeat([60, 30, 1], axis=1))
        assert codes(volume) == ["LABEL_THRESHOLDED"]
        assert "127.5" in volume.notes[0].problem

    def test_a_lossy_mask_equals_the_one_it_was_made_from(self, tmp_path):
        mask = np.zeros((64, 48), bool)
        mask[16:40, 8:32] = True
        volume = read_mask(save_grey(tmp_path / "mask.jpg", mask * 255), {0, 1})
        np.testing.assert_array_equal(volume.array, mask)

    @pytest.mark.parametrize(
        "array",
        [np.array([[0, 100], [200, 254]]), np.tile([0, 100, 255, 255], (9, 1)), np.arange(256).reshape(16, 16)],
        ids=["no white", "an area of grey", "a picture"],
    )
    def test_grey_that_is_no_soft_edge_is_refused(self, tmp_path, array):
        with pytest.raises(LabelError, match="LABEL_UNEXPECTED"):
            read_mask(save_grey(tmp_path / "mask.png", array), {0, 1})

    def test_grey_in_a_volume_is_refused(self, tmp_path):
        mask = np.zeros((4, 4, 4), np.uint8)
        mask[0, 0, :3] = 128, 200, 255
        with pytest.raises(LabelError, match="LABEL_UNEXPECTED"):
            read_mask(write(mask, AFFINE, tmp_path / "mask.nii.gz"), {0, 1})

    def test_a_colour_mask_whose_channels_agree_is_one_channel(self, tmp_path):
        path = write(np.stack([PICTURE % 3] * 3), np.eye(4), tmp_path / "mask.png", has_channels=True)
        volume = read_mask(path, {0, 1, 2})
        np.testing.assert_array_equal(volume.array, PICTURE % 3)
        assert not volume.has_channels

    def test_a_colour_mask_whose_channels_differ_is_refused(self, tmp_path):
        path = write(np.stack([PICTURE, PICTURE, PICTURE + 1]), np.eye(4), tmp_path / "mask.png", has_channels=True)
        with pytest.raises(LabelError, match="LABEL_CHANNELS"):
            read_mask(path)

    def test_a_palette_mask_gives_its_indices(self, tmp_path):
        picture = Image.fromarray((PICTURE % 3).T.copy(), mode="P")
        picture.putpalette([0, 0, 0, 250, 10, 10, 10, 10, 250])
        picture.save(tmp_path / "mask.png")
        np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", {0, 1, 2}).array, PICTURE % 3)

    def test_a_page_of_a_stack_of_masks_is_read_alone(self, tmp_path):
        mask = (VOXELS % 2 * 255).astype(np.uint8)
        path = write(mask, np.eye(4), tmp_path / "masks.tif")
        np.testing.assert_array_equal(read_mask(f"{path}#1", {0, 1}).array, VOXELS[:, :, 1] % 2)

    def test_a_label_error_is_an_image_error_that_names_the_file(self, tmp_path):
        path = write(VOXELS - 60, AFFINE, tmp_path / "mask.nii.gz")
        with pytest.raises(MedsegError) as caught:
            read_mask(path)
        assert isinstance(caught.value, ImageError)
        assert caught.value.case == str(path)


@pytest.mark.parametrize("suffix", WRITTEN)
def test_a_slice_is_the_plane_of_that_index_and_starts_where_it_lies(tmp_path, suffix):
    path = write(VOXELS, AFFINE, tmp_path / f"image{suffix}")
    volume = read(f"{path}#3")
    np.testing.assert_array_equal(volume.array, VOXELS[:, :, 3])
    np.testing.assert_allclose(volume.affine @ [1, 2, 0, 1], AFFINE @ [1, 2, 3, 1], atol=1e-5)
    assert volume.grid.shape == (6, 5)


@pytest.mark.parametrize("suffix", [".nii.gz", ".tif"])
def test_a_slice_beyond_the_last_is_refused(tmp_path, suffix):
    path = write(VOXELS.astype(np.uint8), AFFINE, tmp_path / f"image{suffix}")
    with pytest.raises(ImageError, match=r"SLICE_NOT_FOUND.* 4 of 4"):
        read(f"{path}#4")


def test_a_2d_image_is_its_own_slice_zero(tmp_path):
    path = write(PICTURE, np.eye(4), tmp_path / "image.png")
    np.testing.assert_array_equal(read(f"{path}#0").array, PICTURE)


def test_a_file_whose_real_name_ends_like_a_slice_is_read_whole(tmp_path):
    path = write(VOXELS, AFFINE, tmp_path / "image.nii")
    real = path.rename(tmp_path / "image.nii#1")
    with pytest.raises(ImageError, match="FORMAT_UNKNOWN"):
        read(real)


def test_slices_of_channels_keep_their_channels(tmp_path):
    path = write(np.stack([VOXELS, VOXELS + 1]), AFFINE, tmp_path / "image.nii.gz", has_channels=True)
    volume = read(f"{path}#1")
    assert volume.has_channels
    np.testing.assert_array_equal(volume.array, np.stack([VOXELS, VOXELS + 1])[..., 1])


@pytest.mark.parametrize("name", ["missing.nii.gz", "missing.nii.gz#2", "a\0b.nii", "x" * 300 + ".nii"])
def test_a_path_that_leads_to_nothing_is_refused(tmp_path, name):
    with pytest.raises(ImageError, match="IMAGE_NOT_FOUND"):
        read(f"{tmp_path}/{name}")


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "image.nii")
    with pytest.raises(ImageError, match=r"IMAGE_NOT_FOUND.*neither a file nor a folder"):
        read(tmp_path / "image.nii")


def test_a_frame_of_a_4d_nifti_is_a_3d_image_on_the_same_grid(tmp_path):
    path = write(CINE, AFFINE, tmp_path / "cine.nii.gz", has_channels=True)
    for index in range(3):
        frame = read(f"{path}#t{index}")
        assert not frame.has_channels
        np.testing.assert_array_equal(frame.array, CINE[index])
        np.testing.assert_allclose(frame.affine, AFFINE, atol=1e-5)
    np.testing.assert_array_equal(read_mask(f"{path}#t2").array, CINE[2])


def test_a_3d_nifti_has_one_frame(tmp_path):
    path = write(CINE[1], AFFINE, tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read(f"{path}#t0").array, CINE[1])


@pytest.mark.parametrize(("name", "index"), [("cine.nii.gz", 3), ("single.nii.gz", 1), ("a.png", 0), ("c.nrrd", 0)])
def test_a_frame_that_is_not_there_is_refused(tmp_path, name, index):
    write(CINE, AFFINE, tmp_path / "cine.nii.gz", has_channels=True)
    write(CINE, AFFINE, tmp_path / "c.nrrd", has_channels=True)
    write(CINE[0], AFFINE, tmp_path / "single.nii.gz")
    write(CINE[0, :, :, 0].astype(np.uint8), np.eye(4), tmp_path / "a.png")
    with pytest.raises(ImageError, match="FRAME_NOT_FOUND"):
        read(f"{tmp_path / name}#t{index}")


def test_a_file_whose_real_name_ends_like_a_frame_comes_first(tmp_path):
    path = write(CINE[0], AFFINE, tmp_path / "a.nii").rename(tmp_path / "a#t1.nii")
    np.testing.assert_array_equal(read(path).array, CINE[0])
