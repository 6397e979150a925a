"""A sheared volume is brought onto perpendicular axes, and each voxel stays where it was."""

import numpy as np
import pytest

from medseg.data.deshear import deshear, is_sheared, make_perpendicular
from medseg.data.formats.payload import memory_budget
from medseg.data.volume import Volume
from medseg.errors import ImageError
from medseg.findings import make_note


def tilted(shift_mm=2.0, shape=(6, 8, 5)):
    """Slices that move by some millimetres along the second axis, 2 mm wide, at each step of 4 mm."""
    affine = np.array([[1.5, 0, 0, 10], [0, 2.0, shift_mm, -20], [0, 0, 4, 30], [0, 0, 0, 1]])
    return Volume(np.random.default_rng(3).integers(-900, 900, shape).astype(np.int16), affine)


def test_shifts_of_whole_voxels_move_the_voxels_and_change_none():
    volume = tilted(2.0)
    straight = deshear(volume)
    assert straight.array.shape == (6, 12, 5)
    for index in range(5):
        np.testing.assert_array_equal(straight.array[:, index : index + 8, index], volume.array[:, :, index])
    smallest = volume.array.min()
    assert np.count_nonzero(straight.array == smallest) == 6 * 4 * 5 + np.count_nonzero(volume.array == smallest)
    np.testing.assert_allclose(straight.affine, [[1.5, 0, 0, 10], [0, 2, 0, -20], [0, 0, 4, 30], [0, 0, 0, 1]])


@pytest.mark.parametrize("shift_mm", [-3.1, 0.7, 5.3])
def test_a_ramp_along_the_world_stays_a_ramp(shift_mm):
    volume = tilted(shift_mm)
    height = places(volume.grid) @ [0.3, 0.5, 0.2] + 100
    straight = deshear(Volume(height, volume.affine))
    assert not is_sheared(straight.affine)
    stored = (places(straight.grid) - volume.affine[:3, 3]) @ np.linalg.inv(volume.affine[:3, :3]).T
    is_inside = ((stored > -1e-9) & (stored < np.array(volume.array.shape) - 1 + 1e-9)).all(axis=-1)
    assert is_inside.sum() >= 6 * 7 * 5
    expected = places(straight.grid) @ [0.3, 0.5, 0.2] + 100
    np.testing.assert_allclose(straight.array[is_inside], expected[is_inside], atol=1e-9)
    is_outside = ((stored < -0.5 - 1e-9) | (stored > np.array(volume.array.shape) - 0.5 + 1e-9)).any(axis=-1)
    assert (straight.array[is_outside] == height.min()).all()


def places(grid):
    """Where the voxels of a grid lie, (X, Y, Z, 3)."""
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    return index @ grid.affine[:3, :3].T + grid.affine[:3, 3]


@pytest.mark.parametrize("seed", range(4))
def test_no_plane_of_the_edge_is_lost_to_rounding(seed):
    """Turned and shifted by whole voxels: every stored voxel is there again, however the affine is rounded."""
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    volume = tilted(2.0)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn @ volume.affine[:3, :3], [91.3, -17.7, 33.1]
    volume = Volume(volume.array, affine.astype(np.float32).astype(float))
    straight = deshear(volume)
    assert straight.array.shape == (6, 12, 5)
    for index in range(5):
        stored = volume.array[:, :, index]
        np.testing.assert_allclose(straight.array[:, index : index + 8, index], stored, atol=1)


def test_the_background_is_the_smallest_finite_value():
    volume = tilted(2.0)
    values = volume.array.astype(np.float32)
    values[0, 0, 0] = np.nan
    straight = deshear(Volume(values, volume.affine))
    assert straight.array[0, -1, 0] == np.nanmin(values)


def test_the_perpendicular_grid_holds_every_stored_voxel():
    grid = tilted(0.7).grid
    straight = make_perpendicular(grid)
    inside = (places(grid) - straight.affine[:3, 3]) @ np.linalg.inv(straight.affine[:3, :3]).T
    assert (inside > -1e-9).all()
    assert (inside < np.array(straight.shape) - 1 + 1e-9).all()
    assert make_perpendicular(straight) is straight


def test_a_voxel_keeps_its_volume():
    volume = tilted(0.9)
    assert deshear(volume).grid.voxel_volume_ml == pytest.approx(volume.grid.voxel_volume_ml)


def test_labels_stay_labels_and_the_background_is_0():
    volume = tilted(1.3)
    labels = Volume((volume.array > 0).astype(np.uint8) * 7, volume.affine)
    straight = deshear(labels, is_mask=True)
    assert straight.array.dtype == np.uint8
    assert set(np.unique(straight.array)) == {0, 7}


def test_channels_are_moved_alike():
    volume = tilted(2.0)
    both = Volume(np.stack([volume.array, volume.array + 1]), volume.affine, has_channels=True)
    np.testing.assert_array_equal(deshear(both).array[0], deshear(volume).array)
    np.testing.assert_array_equal(deshear(both).array[1], deshear(volume).array + 1)


def test_the_notes_on_the_shear_give_way_to_one_on_the_resampling():
    volume = tilted()
    noted = Volume(
        volume.array, volume.affine, notes=(make_note("GANTRY_TILT", ""), make_note("DICOM_JUNK_SKIPPED", ""))
    )
    assert [note.code for note in deshear(noted).notes] == ["DICOM_JUNK_SKIPPED", "GRID_RECTIFIED"]


def test_perpendicular_and_flat_images_are_returned_as_they_are():
    straight = Volume(np.zeros((2, 2, 2)), np.diag([1.0, 2, 3, 1]))
    flat = Volume(np.zeros((2, 2)), tilted().affine)
    assert deshear(straight) is straight
    assert deshear(flat) is flat


def test_nearly_parallel_axes_do_not_fill_the_memory():
    affine = np.diag([1.0, 1, 1e-3, 1])
    affine[0, 2] = 1.0
    with memory_budget(1 << 20), pytest.raises(ImageError) as refused:
        deshear(Volume(np.zeros((20, 20, 400), np.uint8), affine), "scan")
    assert (refused.value.code, refused.value.case) == ("MEMORY_BUDGET", "scan")
