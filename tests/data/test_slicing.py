"""What a path names within a file: slices, pages, frames; and paths that lead to nothing."""

import os

import numpy as np
import pytest

from medseg.data.read import read, read_mask
from medseg.data.write import write
from medseg.errors import ImageError

AFFINE = np.array([[-1.5, 0, 0, 10], [0, -2, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1.0]])

AFFINE = np.array([[-1.5, 0, 0, 10], [0, -2, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1.0]])
VOXELS = np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4)
PICTURE = np.arange(30, dtype=np.uint8).reshape(6, 5)
WRITTEN = [".nii", ".nii.gz", ".nrrd", ".mha", ".npz"]
CINE = np.arange(3 * 6 * 5 * 4, dtype=np.int16).reshape(3, 6, 5, 4)


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
