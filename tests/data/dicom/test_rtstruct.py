"""RT Structure Sets in: contours filled on the slices of their series, and what is refused."""

import shutil

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline

from medseg.data.dicom import rtstruct
from medseg.data.dicom.rtstruct import fill_nested, fill_polygons
from medseg.data.dicom.source import read_source
from medseg.data.read import read, read_mask
from medseg.demonstration.synthetic_ct import write_ct_series
from medseg.errors import ImageError, LabelError
from tests.dicom_segs import contour_mm, make_structures

SHAPE = (24, 20, 6)
SQUARE = [(3.6, 2.6), (10.4, 2.6), (10.4, 8.4), (3.6, 8.4)]
ACROSS = [(7.6, 4.6), (14.4, 4.6), (14.4, 8.4), (7.6, 8.4)]
HOLE = [(5.6, 4.6), (8.4, 4.6), (8.4, 6.4), (5.6, 6.4)]


@pytest.fixture(params=["axial", "oblique"])
def ct(request, tmp_path):
    affine = np.diag([-1.5, -2.0, 3.0, 1.0])
    if request.param == "oblique":
        turn = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])
        affine[:3, :3] = turn @ np.diag([0.7, 0.9, 2.5])
    affine[:3, 3] = [11, -7, 40]
    write_ct_series(np.zeros(SHAPE, np.int16), affine, tmp_path / "ct", seed_uid="contours")
    return tmp_path / "ct"


def codes_of(volume):
    return [note.code for note in volume.notes]


def drawn(ct, path, outlines, **changes):
    """Structures by (number, name), outlines by slice in voxels of the series' grid."""
    affine = read(ct).affine
    made = {key: [contour_mm(affine, corners, place) for place, corners in each] for key, each in outlines.items()}
    return make_structures(ct, path, made, **changes)


def refusal(path, kind=ImageError, **options):
    with pytest.raises(kind) as caught:
        read_mask(path, **options)
    assert caught.value.remedy
    return caught.value


def changed(path, change):
    data_set = pydicom.dcmread(path)
    change(data_set)
    data_set.save_as(path)
    return path


def retyped(data_set, *types):
    """Geometric types given to the contours in turn."""
    found = [contour for item in data_set.ROIContourSequence for contour in item.ContourSequence]
    for index, contour in enumerate(found):
        contour.ContourGeometricType = types[index % len(types)]


class TestWhole:
    def test_a_voxel_counts_where_its_centre_lies_inside(self, ct, tmp_path):
        path = drawn(ct, tmp_path / "rt.dcm", {(1, "lung"): [(2, SQUARE), (3, SQUARE)]})
        volume = read_mask(path)
        expected = np.zeros(SHAPE, np.uint8)
        expected[4:11, 3:9, 2:4] = 1
        np.testing.assert_array_equal(volume.array, expected)
        np.testing.assert_allclose(volume.affine, read(ct).affine)
        assert volume.notes == ()

    def test_a_second_contour_is_a_hole_and_a_keyhole_the_same(self, ct, tmp_path):
        apart = read_mask(drawn(ct, tmp_path / "rt.dcm", {(1, "ring"): [(2, SQUARE), (2, HOLE)]}))
        joined = [*SQUARE, SQUARE[0], *HOLE[::-1], HOLE[-1]]
        keyhole = read_mask(drawn(ct, tmp_path / "key.dcm", {(1, "ring"): [(2, joined)]}))
        expected = np.zeros(SHAPE, np.uint8)
        expected[4:11, 3:9, 2] = 1
        expected[6:9, 5:7, 2] = 0
        np.testing.assert_array_equal(apart.array, expected)
        np.testing.assert_array_equal(keyhole.array, expected)

    def test_neighbours_that_share_a_strip_narrower_than_a_voxel_are_joined(self, ct, tmp_path):
        beside = [(9.6, 2.6), (14.4, 2.6), (14.4, 8.4), (9.6, 8.4)]
        volume = read_mask(drawn(ct, tmp_path / "rt.dcm", {(1, "lung"): [(2, SQUARE), (2, beside)]}))
        expected = np.zeros(SHAPE, np.uint8)
        expected[4:15, 3:9, 2] = 1
        np.testing.assert_array_equal(volume.array, expected)

    def test_an_outline_stored_twice_is_no_hole_wherever_it_begins(self, ct, tmp_path):
        again = SQUARE[2:] + SQUARE[:2]
        volume = read_mask(drawn(ct, tmp_path / "rt.dcm", {(1, "lung"): [(2, SQUARE), (2, again), (2, SQUARE[::-1])]}))
        assert np.count_nonzero(volume.array) == 42

    def test_contours_that_are_to_be_combined_by_exclusive_or_are(self, ct, tmp_path):
        path = drawn(ct, tmp_path / "rt.dcm", {(1, "lung"): [(2, SQUARE), (2, ACROSS)]})
        volume = read_mask(changed(path, lambda d: retyped(d, "CLOSEDPLANAR_XOR")))
        expected = np.zeros(SHAPE, np.uint8)
        expected[4:11, 3:9, 2] = 1
        expected[8:15, 5:9, 2] ^= 1
        np.testing.assert_array_equal(volume.array, expected)

    def test_structures_are_labels_by_number_or_by_name(self, ct, tmp_path):
        far = [(column + 9, row + 9) for column, row in SQUARE]
        path = drawn(ct, tmp_path / "rt.dcm", {(4, "Heart"): [(1, SQUARE)], (7, "Lungs"): [(1, far)]})
        assert set(np.unique(read_mask(path).array)) == {0, 4, 7}
        volume = read_mask(path, [0, 1], {0: ("background",), 1: ("lungs",)})
        assert np.count_nonzero(volume.array) == 42
        assert volume.array[14, 14, 1] == 1
        assert codes_of(volume) == ["SEGMENTS_LEFT_OUT"]

    def test_no_contour_is_an_empty_mask_and_tiny_ones_are_noted(self, ct, tmp_path):
        assert not read_mask(drawn(ct, tmp_path / "rt.dcm", {(1, "none"): []})).array.any()
        dot = [(4.2, 4.2), (4.8, 4.2), (4.8, 4.8)]
        volume = read_mask(drawn(ct, tmp_path / "dot.dcm", {(1, "dot"): [(1, dot), (1, dot[:1])]}))
        assert not volume.array.any()
        assert codes_of(volume) == ["STRUCTURE_EMPTY"]

    def test_slices_without_a_contour_stay_empty_and_are_noted(self, ct, tmp_path):
        volume = read_mask(drawn(ct, tmp_path / "rt.dcm", {(1, "lung"): [(1, SQUARE), (4, SQUARE)]}))
        assert [int(plane.any()) for plane in volume.array.transpose(2, 0, 1)] == [0, 1, 0, 0, 1, 0]
        assert codes_of(volume) == ["CONTOUR_GAPS"]

    def test_a_folder_with_one_structure_set_names_it(self, ct, tmp_path):
        drawn(ct, ct / "rt", {(1, "lung"): [(2, SQUARE)]})
        assert np.count_nonzero(read_mask(ct).array) == 42


class TestSpoilt:
    def test_without_its_series_the_error_names_the_series(self, ct, tmp_path):
        path = drawn(ct, tmp_path / "rt.dcm", {(1, "lung"): [(2, SQUARE)]})
        uid = pydicom.dcmread(next(ct.iterdir())).SeriesInstanceUID
        far = tmp_path / "somewhere" / "else"
        far.mkdir(parents=True)
        error = refusal(shutil.copy(path, far))
        assert error.code == "SERIES_MISSING"
        assert uid in error.problem

    def test_structures_that_overlap_are_named(self, ct, tmp_path):
        path = drawn(ct, tmp_path / "rt.dcm", {(1, "left"): [(2, SQUARE)], (2, "right"): [(2, HOLE)]})
        error = refusal(path, LabelError)
        assert error.code == "LABEL_OVERLAP"
        assert "left" in error.problem
        assert "right" in error.problem

    @pytest.mark.parametrize("types", [["CLOSED_PLANAR"], ["CLOSED_PLANAR", "CLOSEDPLANAR_XOR"]])
    def test_contours_of_one_structure_that_partly_overlap_are_refused_with_structure_and_slice(
        self, ct, tmp_path, types
    ):
        path = drawn(ct, tmp_path / "rt.dcm", {(4, "lung"): [(1, SQUARE), (2, SQUARE), (2, ACROSS)]})
        error = refusal(changed(path, lambda d: retyped(d, *types)))
        assert error.code == "CONTOUR_OVERLAP"
        for piece in ("lung", read_source(ct).frames[2].name, "12 voxels"):
            assert piece in error.problem

    def test_a_contour_between_slices_or_across_them_is_refused(self, ct, tmp_path):
        affine = read(ct).affine
        between = contour_mm(affine, SQUARE, 2.5)
        across = contour_mm(affine, SQUARE, 2)
        across[0] = contour_mm(affine, SQUARE[:1], 3)[0]
        for points in (between, across):
            path = make_structures(ct, tmp_path / "rt.dcm", {(1, "lung"): [points]})
            assert refusal(path).code == "CONTOUR_OFF_SLICE"

    @pytest.mark.filterwarnings("ignore:Invalid value for VR DS")
    @pytest.mark.parametrize(
        "change",
        [
            lambda contour: setattr(contour, "ContourGeometricType", "OPEN_PLANAR"),
            lambda contour: delattr(contour, "ContourGeometricType"),
            lambda contour: setattr(contour, "NumberOfContourPoints", 3),
            lambda contour: contour.add_new(0x30060050, "DS", [1, 2, 3, 4]),
            lambda contour: contour.add_new(0x30060050, "DS", None),
            lambda contour: contour.add_new(0x30060050, "UN", b"1\\2\\NaN\\4\\5\\6\\7\\8\\9\\10\\11\\12"),
        ],
    )
    def test_contours_that_enclose_nothing_certain_are_refused(self, ct, tmp_path, change):
        path = drawn(ct, tmp_path / "rt.dcm", {(1, "lung"): [(2, SQUARE)]})
        changed(path, lambda data_set: change(data_set.ROIContourSequence[0].ContourSequence[0]))
        assert refusal(path).code == "CONTOUR_INVALID"

    def test_text_in_place_of_numbers_is_refused(self, ct, tmp_path):
        path = drawn(ct, tmp_path / "rt.dcm", {(1, "lung"): [(2, SQUARE)]})
        whole = path.read_bytes()
        start = whole.index(b"\\", whole.index(b"CLOSED_PLANAR"))
        path.write_bytes(whole[: start + 1] + b"x" + whole[start + 2 :])
        assert refusal(path).code == "DICOM_UNREADABLE"

    def test_a_structure_that_is_not_wanted_may_be_open(self, ct, tmp_path):
        path = drawn(ct, tmp_path / "rt.dcm", {(1, "lung"): [(2, SQUARE)], (2, "marker"): [(2, HOLE)]})
        item = "ContourGeometricType"
        changed(path, lambda d: setattr(d.ROIContourSequence[1].ContourSequence[0], item, "POINT"))
        assert refusal(path).code == "CONTOUR_INVALID"
        assert np.count_nonzero(read_mask(path, names={1: ("lung",)}).array) == 42

    def test_another_frame_of_reference_is_refused(self, ct, tmp_path):
        path = drawn(ct, tmp_path / "rt.dcm", {(1, "lung"): [(2, SQUARE)]})
        changed(path, lambda d: setattr(d.StructureSetROISequence[0], "ReferencedFrameOfReferenceUID", "1.2.3"))
        assert refusal(path).code == "FRAME_OF_REFERENCE_DIFFERS"

    @pytest.mark.parametrize("is_delimited", [True, False])
    def test_a_file_cut_anywhere_is_refused(self, ct, tmp_path, is_delimited):
        path = drawn(ct, tmp_path / "rt.dcm", {(1, "lung"): [(place, SQUARE) for place in range(6)]})

        def delimit(data_set):
            data_set["ROIContourSequence"].is_undefined_length = is_delimited
            for item in data_set.ROIContourSequence:
                item["ContourSequence"].is_undefined_length = is_delimited

        whole = changed(path, delimit).read_bytes()
        assert np.count_nonzero(read_mask(path).array) == 6 * 42
        for count in range(len(whole) - 1, 200, -37):
            path.write_bytes(whole[:count])
            refusal(path)

    def test_too_many_points_are_refused_before_they_are_decoded(self, ct, tmp_path, monkeypatch):
        path = drawn(ct, tmp_path / "rt.dcm", {(1, "lung"): [(2, SQUARE), (3, SQUARE)]})
        monkeypatch.setattr(rtstruct, "MOST_CONTOUR_POINTS", 8)
        assert np.count_nonzero(read_mask(path).array) == 2 * 42
        monkeypatch.setattr(rtstruct, "MOST_CONTOUR_POINTS", 7)
        monkeypatch.setattr(rtstruct, "_read_points_mm", lambda *parts: pytest.fail("a point was decoded"))
        assert refusal(path).code == "CONTOUR_INVALID"


SIZE = (9, 7)


CORNER = st.tuples(st.floats(-2, 10), st.floats(-2, 8))


def inside(polygon, columns, rows):
    """matplotlib's answer for pixel centres, by the same even-odd rule for polygons that do not cross themselves."""
    column, row = np.meshgrid(np.arange(columns), np.arange(rows))
    return Outline(polygon).contains_points(np.stack([column.ravel(), row.ravel()], axis=1)).reshape(rows, columns)


def square(low, high):
    return np.array([(low, low), (high, low), (high, high), (low, high)], dtype=float)


def test_a_pixel_counts_where_its_centre_lies_inside():
    mask = fill_polygons([square(0.4, 2.6)], 5, 4)
    expected = np.zeros((4, 5), dtype=bool)
    expected[1:3, 1:3] = True
    np.testing.assert_array_equal(mask, expected)


def test_no_polygon_and_one_without_area_enclose_nothing():
    assert not fill_polygons([], 4, 3).any()
    assert not fill_polygons([np.array([(1.0, 1.0)]), np.array([(0.0, 0.0), (3.0, 2.0)])], 4, 3).any()
    assert fill_polygons([], 4, 3).shape == (3, 4)


def test_a_polygon_in_another_is_a_hole_and_one_in_the_hole_is_filled():
    mask = fill_polygons([square(0.5, 7.5), square(1.5, 6.5), square(2.5, 5.5)], 9, 9)
    assert [int(value) for value in mask[4]] == [0, 1, 0, 1, 1, 1, 0, 1, 0]


def test_a_keyhole_is_the_ring_that_it_seems():
    outer, inner = square(0.5, 7.5), square(2.5, 5.5)
    keyhole = np.vstack([outer, outer[:1], inner[::-1], inner[-1:]])
    np.testing.assert_array_equal(fill_polygons([keyhole], 9, 9), fill_polygons([outer, inner], 9, 9))


def test_neighbours_that_share_an_edge_through_centres_share_no_pixel():
    left = np.array([(0.0, 0.0), (3.0, 0.0), (3.0, 3.0), (0.0, 3.0)])
    right = left + np.array([3.0, 0.0])
    both = fill_polygons([left], 9, 5).astype(int) + fill_polygons([right], 9, 5)
    assert both.max() == 1
    assert both.sum() == 18


def test_what_lies_outside_the_lattice_is_cut_off():
    assert fill_polygons([square(-100, 100)], 4, 3).all()
    assert not fill_polygons([square(20, 30)], 4, 3).any()


@settings(max_examples=200, deadline=None)
@given(st.lists(CORNER, min_size=3, max_size=3))
def test_triangles_are_filled_as_matplotlib_fills_them(corners):
    polygon = np.array(corners) + np.array([0.01234, 0.0217])  # No centre lies on an edge of round numbers.
    edges = np.roll(polygon, -1, axis=0) - polygon
    column, row = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    centres = np.stack([column.ravel(), row.ravel()], axis=1)
    lengths = np.maximum(np.linalg.norm(edges, axis=1), 1e-12)
    apart = centres[:, None] - polygon[None]
    off = np.abs(edges[:, 0] * apart[..., 1] - edges[:, 1] * apart[..., 0]) / lengths
    is_clear = (off.min(axis=1) > 1e-6).reshape(SIZE[1], SIZE[0])
    mask, expected = fill_polygons([polygon], *SIZE), inside(polygon, *SIZE)
    np.testing.assert_array_equal(mask[is_clear], expected[is_clear])


def box(left, top, right, bottom):
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], dtype=float)


def joined(*polygons, size=(24, 20)):
    mask, clashing = fill_nested(polygons, *size)
    assert clashing == 0
    return mask


class TestNested:
    def test_nothing_and_a_single_outline_are_as_filled(self):
        assert not joined().any()
        np.testing.assert_array_equal(joined(box(1.5, 2.5, 9.5, 8.5)), fill_polygons([box(1.5, 2.5, 9.5, 8.5)], 24, 20))

    @settings(max_examples=60, deadline=None)
    @given(st.permutations(range(5)))
    def test_rings_and_islands_in_any_order_are_filled_by_the_even_odd_rule(self, order):
        outlines = [box(0.5, 0.5, 14.5, 14.5), box(2.5, 2.5, 12.5, 12.5), box(4.5, 4.5, 8.5, 8.5)]
        outlines += [box(9.5, 5.5, 11.5, 8.5), box(16.5, 2.5, 19.5, 9.5)]
        np.testing.assert_array_equal(joined(*(outlines[index] for index in order)), fill_polygons(outlines, 24, 20))

    def test_outlines_that_touch_along_an_edge_are_joined_and_lose_nothing(self):
        left, right = box(1.5, 1.5, 8.5, 12.5), box(7.6, 1.5, 15.5, 12.5)
        expected = np.zeros((20, 24), dtype=bool)
        expected[2:13, 2:16] = True
        np.testing.assert_array_equal(joined(left, right), expected)

    def test_a_hole_that_reaches_a_pixel_over_the_edge_is_a_hole(self):
        mask = joined(box(1.5, 1.5, 12.5, 12.5), box(7.5, 4.5, 13.4, 9.5))
        expected = np.zeros((20, 24), dtype=bool)
        expected[2:13, 2:13] = True
        expected[5:10, 8:14] = False
        np.testing.assert_array_equal(mask, expected)

    def test_outlines_that_partly_overlap_are_told_by_their_pixels(self):
        _, clashing = fill_nested([box(1.5, 1.5, 10.5, 12.5), box(6.5, 4.5, 16.5, 9.5)], 24, 20)
        assert clashing == 4 * 5
        _, clashing = fill_nested([box(1.5, 1.5, 10.5, 12.5), box(8.5, 1.5, 16.5, 12.5)], 24, 20)
        assert clashing == 2 * 11

    def test_the_same_outline_from_another_corner_or_the_other_way_round_is_no_hole(self):
        outline = box(1.5, 1.5, 10.5, 12.5)
        for again in (outline, np.roll(outline, 2, axis=0), outline[::-1], np.vstack([outline, outline[:1]])):
            np.testing.assert_array_equal(joined(outline, again), joined(outline))

    def test_an_outline_that_joins_the_same_corners_in_another_order_is_another(self):
        outline = box(1.5, 1.5, 10.5, 12.5)
        crossed = outline[[0, 2, 1, 3]]
        assert joined(outline, crossed).sum() == joined(outline).sum() - joined(crossed).sum() > 0

    def test_two_outlines_of_the_same_pixels_are_neither_a_ring_nor_a_disc(self):
        _, clashing = fill_nested([box(1.4, 1.4, 10.6, 12.6), box(1.6, 1.6, 10.4, 12.4)], 24, 20)
        assert clashing == 9 * 11
        spike = np.vstack([box(1.4, 1.4, 10.6, 12.6), [(1.4, 1.9), (-0.9, 1.5)]])
        assert fill_nested([box(1.5, 1.5, 10.5, 12.5), spike], 24, 20)[1] == 9 * 11

    def test_a_wall_of_one_pixel_is_a_ring(self):
        assert joined(box(1.5, 1.5, 10.5, 12.5), box(2.5, 2.5, 9.5, 11.5)).sum() == 9 * 11 - 7 * 9

    def test_outlines_beyond_the_lattice_are_cut_off(self):
        assert joined(box(-9, -9, 40, 40), box(30, 30, 50, 50), box(-20, 3.5, -9, 6.5)).all()
