import nibabel as nib
import numpy as np
import pytest

from medseg.errors import GridError
from medseg.evaluation.figures.planes import Cut, build_scene, choose_cut, choose_planes, draw_cut, window_around
from medseg.geometry import Grid

SPACING = (1.0, 2.0, 3.0)
SHAPE = (6, 5, 4)


def corner_marked():
    """An image in RAS order whose right-front-head voxel is 1, and the rest 0; a mask in the middle."""
    image, mask = np.zeros(SHAPE), np.zeros(SHAPE, np.uint8)
    image[-1, -1, -1] = 1
    mask[2:4, 2, 2] = 1
    return image, mask


def stored_as(codes, *arrays):
    """Arrays in RAS order as a file of another orientation would store them, and the affine."""
    source = nib.orientations.axcodes2ornt("RAS")
    change = nib.orientations.ornt_transform(source, nib.orientations.axcodes2ornt(codes))
    affine = np.diag([*SPACING, 1.0]) @ nib.orientations.inv_ornt_aff(change, SHAPE)
    return [nib.orientations.apply_orientation(array, change) for array in arrays], affine


def test_views_are_radiological():
    image = np.zeros(SHAPE)
    image[-1] += 1  # the patient's right
    image[:, -1] += 2  # front
    image[:, :, -1] += 4  # head
    axial, coronal, sagittal = choose_planes(build_scene(image, None, np.zeros(SHAPE, int), SPACING))
    assert (axial.edges, coronal.edges, sagittal.edges) == ("RLAP", "RLSI", "APSI")
    assert axial.image[0, 0] == 3 and axial.image[-1, 0] == 1 and axial.image[0, -1] == 2
    assert coronal.image[0, 0] == 5 and coronal.image[-1, 0] == 1 and coronal.image[0, -1] == 4
    assert sagittal.image[0, 0] == 6 and sagittal.image[-1, 0] == 2 and sagittal.image[0, -1] == 4


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAR", "PIR", "ILA"])
def test_every_stored_orientation_gives_the_same_planes(codes):
    image, mask = corner_marked()
    expected = choose_planes(build_scene(image, mask, mask, SPACING))
    (image, mask), affine = stored_as(codes, image, mask)
    planes = choose_planes(build_scene(image, mask, mask, Grid(mask.shape, affine)))
    for plane, wanted in zip(planes, expected, strict=True):
        np.testing.assert_array_equal(plane.image, wanted.image)
        np.testing.assert_array_equal(plane.prediction, wanted.prediction)
        assert (plane.height_mm, plane.width_mm, plane.edges) == (wanted.height_mm, wanted.width_mm, wanted.edges)


def test_sizes_are_in_millimetres():
    axial, coronal, sagittal = choose_planes(build_scene(*[np.zeros(SHAPE, int)] * 3, SPACING))
    assert [(p.width_mm, p.height_mm) for p in (axial, coronal, sagittal)] == [(6, 10), (6, 12), (10, 12)]


def test_the_cut_shows_the_largest_area_and_is_numbered_as_stored():
    mask = np.zeros(SHAPE, int)
    mask[1:3, 1, 0] = 1
    mask[:, :, 3] = 1
    titles = [plane.title for plane in choose_planes(build_scene(mask, None, mask, SPACING))]
    assert titles[0] == "axial, slice 4 of 4"
    (stored,), affine = stored_as("RAI", mask)
    assert choose_planes(build_scene(stored, None, stored, affine))[0].title == "axial, slice 1 of 4"


def test_a_small_class_counts_as_much_as_a_large_one():
    mask = np.zeros((8, 8, 4), int)
    mask[:, :, 0] = 1
    mask[1:, :, 2] = 1
    mask[0, 0, 2] = 2
    assert choose_planes(build_scene(mask, None, mask, SPACING))[0].title == "axial, slice 3 of 4"


def test_without_any_label_the_middle_is_shown():
    titles = [plane.title for plane in choose_planes(build_scene(*[np.zeros(SHAPE, int)] * 3, SPACING))]
    assert titles == ["axial, slice 3 of 4", "coronal, slice 3 of 5", "sagittal, slice 4 of 6"]


@pytest.mark.parametrize("grid", [(1.0, 2.0), np.eye(4)], ids=["spacing", "affine of ones"])
def test_a_picture_is_one_plane_as_stored_without_letters(grid):
    picture = np.arange(12).reshape(4, 3)
    (plane,) = choose_planes(build_scene(picture, None, np.zeros((4, 3), int), grid))
    np.testing.assert_array_equal(plane.image, picture.T)
    assert (plane.edges, plane.title) == ("", "")
    assert plane.height_mm == 3 * (grid[1] if isinstance(grid, tuple) else 1)


def test_channels_come_first_and_three_of_a_picture_are_colours():
    mask = np.zeros((4, 3), int)
    (colours,) = choose_planes(build_scene(np.zeros((3, 4, 3)), None, mask, (1, 1)))
    (first,) = choose_planes(build_scene(np.stack([np.ones((4, 3)), np.zeros((4, 3))]), None, mask, (1, 1)))
    assert colours.image.shape == (3, 4, 3)
    assert first.image.shape == (3, 4) and first.image.all()


def test_one_slice_of_a_volume_is_one_plane():
    (plane,) = choose_planes(build_scene(*[np.zeros((5, 4, 1), int)] * 3, SPACING))
    assert plane.title == "axial"


def test_the_window_follows_the_region_around_the_masks():
    image, mask = np.full((60, 40, 40), -1000.0), np.zeros((60, 40, 40), int)
    image[:20] = np.linspace(0, 100, 20)[:, None, None]
    image[0, 0, 0] = np.nan
    mask[5:9, 20, 20] = 1
    low, high = window_around(build_scene(image, None, mask, SPACING))
    assert 0 <= low < high <= 100
    assert window_around(build_scene(np.zeros(SHAPE), None, np.zeros(SHAPE, int), SPACING)) == (0, 1)
    assert window_around(build_scene(np.full(SHAPE, np.nan), None, np.zeros(SHAPE, int), SPACING)) == (0, 1)


def test_arrays_of_different_shape_are_refused():
    with pytest.raises(GridError, match="SHAPE_MISMATCH"):
        build_scene(np.zeros((4, 4, 4)), None, np.zeros((4, 4, 5), int), SPACING)


def test_a_row_of_voxels_is_refused():
    with pytest.raises(GridError, match="PLANE_NONE"):
        choose_planes(build_scene(*[np.zeros((9, 1, 1), int)] * 3, SPACING))


def cut_of(shape, spacing, mask):
    return choose_cut(build_scene(np.zeros(shape), mask, mask, spacing))


def test_the_one_cut_lies_across_the_widest_spacing_through_the_most_of_every_class():
    mask = np.zeros(SHAPE, int)
    mask[1, 1, 1], mask[1:4, 3, 1], mask[1:3, 1, 3] = 1, 2, 1
    assert cut_of(SHAPE, (1, 1, 8), mask) == Cut("axial", 1)
    assert cut_of(SHAPE, (1, 8, 1), mask) == Cut("coronal", 1)
    assert cut_of(SHAPE, (8, 1, 1), mask) == Cut("sagittal", 1)


def test_slices_are_axial_where_no_spacing_is_clearly_the_widest():
    mask = np.zeros(SHAPE, int)
    assert cut_of(SHAPE, (1.02, 1, 1), mask).view == "axial"
    assert cut_of((6, 5), (1, 1), np.zeros((6, 5), int)) == Cut("axial", 0)


def test_a_single_slice_is_drawn_in_its_own_plane():
    assert cut_of((6, 1, 4), (1, 1, 9), np.zeros((6, 1, 4), int)).view == "coronal"


def test_a_cut_chosen_on_one_scene_shows_the_same_slice_of_another():
    image, mask = corner_marked()
    cut = choose_cut(build_scene(image, mask, mask, SPACING))
    plane = draw_cut(build_scene(image, mask, np.zeros_like(mask), SPACING), cut)
    assert plane.title == "axial, slice 3 of 4"
    assert plane.reference.sum() == 2 and plane.prediction.sum() == 0
