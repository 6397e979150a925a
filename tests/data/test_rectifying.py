"""A sheared volume is brought onto perpendicular axes, and each voxel stays where it was."""

import numpy as np
import pytest

from medseg.data.rectifying import AIR_HU, is_sheared, rectified
from medseg.data.volume import Note, Volume


def tilted(shift_mm=2.0, shape=(6, 8, 5)):
    """Slices that move by some millimetres along the second axis, 2 mm wide, at each step of 4 mm."""
    affine = np.array([[1.5, 0, 0, 10], [0, 2.0, shift_mm, -20], [0, 0, 4, 30], [0, 0, 0, 1]])
    return Volume(np.random.default_rng(3).integers(-900, 900, shape).astype(np.int16), affine)


def test_shifts_of_whole_voxels_move_the_voxels_and_change_none():
    volume = tilted(2.0)
    straight = rectified(volume, AIR_HU)
    assert straight.array.shape == (6, 12, 5)
    for index in range(5):
        np.testing.assert_array_equal(straight.array[:, index : index + 8, index], volume.array[:, :, index])
    assert np.count_nonzero(straight.array == AIR_HU) == 6 * 4 * 5
    np.testing.assert_allclose(straight.affine, [[1.5, 0, 0, 10], [0, 2, 0, -20], [0, 0, 4, 30], [0, 0, 0, 1]])


@pytest.mark.parametrize("shift_mm", [-3.1, 0.7, 5.3])
def test_a_ramp_along_the_world_stays_a_ramp(shift_mm):
    volume = tilted(shift_mm)
    index = np.stack(np.meshgrid(*map(np.arange, volume.array.shape), indexing="ij"), -1)
    height = (index @ volume.affine[:3, :3].T + volume.affine[:3, 3]) @ [0.3, 0.5, 0.2]
    straight = rectified(Volume(height, volume.affine), np.nan)
    assert not is_sheared(straight.affine)
    index = np.stack(np.meshgrid(*map(np.arange, straight.array.shape), indexing="ij"), -1)
    expected = (index @ straight.affine[:3, :3].T + straight.affine[:3, 3]) @ [0.3, 0.5, 0.2]
    inside = np.isfinite(straight.array)
    assert inside.sum() >= 6 * 7 * 5
    np.testing.assert_allclose(straight.array[inside], expected[inside], atol=1e-9)


def test_a_voxel_keeps_its_volume():
    volume = tilted(0.9)
    assert rectified(volume).grid.voxel_volume_ml == pytest.approx(volume.grid.voxel_volume_ml)


def test_labels_stay_labels_and_the_background_is_0():
    volume = tilted(1.3)
    labels = Volume((volume.array > 0).astype(np.uint8) * 7, volume.affine)
    straight = rectified(labels, is_mask=True)
    assert straight.array.dtype == np.uint8
    assert set(np.unique(straight.array)) == {0, 7}


def test_channels_are_moved_alike():
    volume = tilted(2.0)
    both = Volume(np.stack([volume.array, volume.array + 1]), volume.affine, has_channels=True)
    np.testing.assert_array_equal(rectified(both, AIR_HU).array[0], rectified(volume, AIR_HU).array)


def test_the_notes_on_the_shear_give_way_to_one_on_the_resampling():
    volume = tilted()
    noted = Volume(volume.array, volume.affine, notes=(Note("GANTRY_TILT", ""), Note("DICOM_JUNK_SKIPPED", "")))
    assert [note.code for note in rectified(noted).notes] == ["DICOM_JUNK_SKIPPED", "GRID_RECTIFIED"]


def test_perpendicular_and_flat_images_are_returned_as_they_are():
    straight = Volume(np.zeros((2, 2, 2)), np.diag([1.0, 2, 3, 1]))
    flat = Volume(np.zeros((2, 2)), tilted().affine)
    assert rectified(straight) is straight
    assert rectified(flat) is flat
