"""Writing: what is read back equals what was meant, or no file appears."""

import errno
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from medseg.data import write as writing
from medseg.data.formats.table import WRITTEN
from medseg.data.read import read
from medseg.data.volume import Volume
from medseg.data.write import write
from medseg.errors import OutputError, UsageError

AFFINE = np.array([[-1.5, 0.2, 0, 10], [-0.15, -2, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1.0]])
VOXELS = np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4) - 60
VOLUME_SUFFIXES = [suffix for suffix, writer in WRITTEN.items() if not writer.is_picture]
DTYPES = ["?", "u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"]


def visible(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("suffix", VOLUME_SUFFIXES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("has_channels", [False, True], ids=["plain", "channels"])
def test_every_type_comes_back_equal_on_the_same_grid(tmp_path, suffix, dtype, has_channels):
    array = (np.stack([VOXELS, VOXELS + 1]) if has_channels else VOXELS) % 100
    path = write(array.astype(dtype), AFFINE, tmp_path / f"a{suffix}", has_channels=has_channels)
    volume = read(path)
    np.testing.assert_array_equal(volume.array, array.astype(dtype))
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-5)
    assert volume.has_channels == has_channels


@settings(max_examples=40, deadline=None)
@given(
    arrays.arrays(np.int64, st.tuples(*[st.integers(1, 4)] * 3), elements=st.integers(-(2**62), 2**62)),
    st.sampled_from(VOLUME_SUFFIXES),
)
def test_any_integers_come_back_equal(tmp_path_factory, array, suffix):
    path = write(array, np.eye(4), tmp_path_factory.mktemp("written") / f"a{suffix}")
    np.testing.assert_array_equal(read(path).array, array)


@pytest.mark.parametrize("suffix", VOLUME_SUFFIXES)
def test_not_a_number_comes_back(tmp_path, suffix):
    array = VOXELS.astype(np.float32)
    array[0, 0, :2] = np.nan, np.inf
    np.testing.assert_array_equal(read(write(array, AFFINE, tmp_path / f"a{suffix}")).array, array)


@pytest.mark.parametrize("suffix", [*WRITTEN])
def test_the_same_call_gives_the_same_bytes(tmp_path, suffix):
    array = (VOXELS[:, :, 0] % 7).astype(np.uint8)
    first, second = (write(array, np.eye(4), tmp_path / name / f"a{suffix}") for name in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()


def test_wide_labels_are_stored_as_uint8_and_intensities_as_they_are(tmp_path):
    labels = write(np.abs(VOXELS).astype(np.int64), AFFINE, tmp_path / "labels.nii.gz")
    hounsfield = write(VOXELS, AFFINE, tmp_path / "ct.nii.gz")
    assert nib.load(labels).get_data_dtype() == np.uint8
    assert nib.load(hounsfield).get_data_dtype() == np.int16


def test_nifti_gives_both_forms_alike_and_its_unit(tmp_path):
    orthogonal = np.diag([-1.5, 2, 3, 1])
    header = nib.load(write(VOXELS, orthogonal, tmp_path / "a.nii")).header
    (qform, qform_code), (sform, sform_code) = header.get_qform(coded=True), header.get_sform(coded=True)
    np.testing.assert_allclose(qform, sform, atol=1e-6)
    assert (qform_code, sform_code) == (1, 1)
    assert header.get_xyzt_units()[0] == "mm"


def test_a_sheared_grid_is_kept_by_nifti_through_the_sform_alone(tmp_path):
    sheared = AFFINE.copy()
    sheared[0, 2] = 1.3
    volume = read(write(VOXELS, sheared, tmp_path / "a.nii.gz"))
    np.testing.assert_allclose(volume.affine, sheared, atol=1e-5)
    assert [note.code for note in volume.notes] == ["SHEARED_GRID"]


def test_a_grid_that_the_format_cannot_hold_is_refused_and_leaves_no_file(tmp_path):
    tilted = np.array([[1, 0, 0, 5], [0, 0, -1, 5], [0, 1, 0, 5], [0, 0, 0, 1.0]])
    with pytest.raises(OutputError, match="OUTPUT_NOT_VERIFIED"):
        write(VOXELS[:, :, 0], tilted + np.diag([0, 0.5, 0, 0]), tmp_path / "a.mha")
    assert visible(tmp_path) == []


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pictures_come_back_equal(tmp_path, suffix, dtype):
    array = np.arange(30).reshape(6, 5).astype(dtype) * 7
    np.testing.assert_array_equal(read(write(array, np.eye(4), tmp_path / f"a{suffix}")).array, array)


def test_colour_and_pages_come_back_equal(tmp_path):
    colour = np.arange(90, dtype=np.uint8).reshape(3, 6, 5)
    pages = np.arange(120, dtype=np.uint8).reshape(6, 5, 4)
    stored = read(write(colour, np.eye(4), tmp_path / "a.png", has_channels=True))
    np.testing.assert_array_equal(stored.array, colour)
    np.testing.assert_array_equal(read(write(pages, np.eye(4), tmp_path / "a.tif")).array, pages)


@pytest.mark.parametrize("name", ["a.jpg", "a.hdr", "a.mhd", "a.dcm", "a", "a.txt"])
def test_a_format_that_is_not_written_is_refused_with_those_that_are(tmp_path, name):
    with pytest.raises(UsageError, match=r"FORMAT_UNKNOWN.*\.nii\.gz"):
        write(VOXELS, AFFINE, tmp_path / name)


@pytest.mark.parametrize(
    ("array", "name", "options"),
    [
        (VOXELS.astype(complex), "a.nii", {}),
        (np.zeros((0, 3, 3)), "a.nii", {}),
        (np.zeros(3), "a.nii", {}),
        (np.zeros((2, 2, 2, 2)), "a.nii", {}),
        (np.zeros((2, 3, 3)), "a.nii", {"has_channels": True}),
        (VOXELS, "a.png", {}),
        (VOXELS[:, :, 0].astype(np.float32), "a.png", {}),
        (VOXELS[:, :, 0], "a.tif", {}),
    ],
)
def test_an_array_that_the_format_cannot_hold_is_refused_by_the_target_s_name(tmp_path, array, name, options):
    with pytest.raises(UsageError) as caught:
        write(array, np.eye(4), tmp_path / name, **options)
    assert caught.value.code == "FORMAT_UNFIT"
    assert caught.value.case == str(tmp_path / name)


def test_missing_folders_are_made(tmp_path):
    assert write(VOXELS, AFFINE, tmp_path / "b" / "c" / "a.nii.gz").exists()


def test_a_folder_that_is_a_file_cannot_be_written_into(tmp_path):
    (tmp_path / "b").write_text("here")
    with pytest.raises(OutputError, match="OUTPUT_UNWRITABLE"):
        write(VOXELS, AFFINE, tmp_path / "b" / "a.nii.gz")


def test_a_target_that_is_a_folder_is_left_alone(tmp_path):
    (tmp_path / "a.nii.gz").mkdir()
    with pytest.raises(OutputError, match="OUTPUT_UNWRITABLE"):
        write(VOXELS, AFFINE, tmp_path / "a.nii.gz")
    assert visible(tmp_path) == []


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".npz"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, suffix):
    path = write(VOXELS, AFFINE, tmp_path / f"a{suffix}")
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writing.os, "fsync", full)
    with pytest.raises(OutputError, match=r"OUTPUT_UNWRITABLE.*No space left"):
        write(VOXELS + 1, AFFINE, path)
    assert path.read_bytes() == before
    assert visible(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", VOLUME_SUFFIXES)
def test_a_writer_that_loses_bytes_in_silence_is_found_out(tmp_path, monkeypatch, suffix):
    honest = WRITTEN[suffix]

    def lossy(volume, path):
        honest.write(volume, path)
        Path(path).write_bytes(Path(path).read_bytes()[:-9])

    monkeypatch.setitem(WRITTEN, suffix, replace(honest, write=lossy))
    with pytest.raises(OutputError, match="OUTPUT_NOT_VERIFIED"):
        write(VOXELS, AFFINE, tmp_path / f"a{suffix}")
    assert visible(tmp_path) == []


def test_a_writer_that_changes_a_voxel_or_the_grid_is_found_out(tmp_path, monkeypatch):
    honest = WRITTEN[".nii"]
    for change in (
        lambda volume: Volume(volume.array + 1, volume.affine),
        lambda volume: Volume(volume.array, volume.affine @ np.diag([1.01, 1, 1, 1])),
    ):
        changed = replace(honest, write=lambda v, p, c=change: honest.write(c(v), p))
        monkeypatch.setitem(WRITTEN, ".nii", changed)
        with pytest.raises(OutputError, match="OUTPUT_NOT_VERIFIED"):
            write(VOXELS, AFFINE, tmp_path / "a.nii")
    assert visible(tmp_path) == []
