"""Polygons filled by the centres of pixels."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path

from medseg.data.dicom.rtstruct import filled, nested

SIZE = (9, 7)
CORNER = st.tuples(st.floats(-2, 10), st.floats(-2, 8))


def inside(polygon, columns, rows):
    """matplotlib's answer for pixel centres, by the same even-odd rule for polygons that do not cross themselves."""
    column, row = np.meshgrid(np.arange(columns), np.arange(rows))
    return Path(polygon).contains_points(np.stack([column.ravel(), row.ravel()], axis=1)).reshape(rows, columns)


def square(low, high):
    return np.array([(low, low), (high, low), (high, high), (low, high)], dtype=float)


def test_a_pixel_counts_where_its_centre_lies_inside():
    mask = filled([square(0.4, 2.6)], 5, 4)
    expected = np.zeros((4, 5), dtype=bool)
    expected[1:3, 1:3] = True
    np.testing.assert_array_equal(mask, expected)


def test_no_polygon_and_one_without_area_enclose_nothing():
    assert not filled([], 4, 3).any()
    assert not filled([np.array([(1.0, 1.0)]), np.array([(0.0, 0.0), (3.0, 2.0)])], 4, 3).any()
    assert filled([], 4, 3).shape == (3, 4)


def test_a_polygon_in_another_is_a_hole_and_one_in_the_hole_is_filled():
    mask = filled([square(0.5, 7.5), square(1.5, 6.5), square(2.5, 5.5)], 9, 9)
    assert [int(value) for value in mask[4]] == [0, 1, 0, 1, 1, 1, 0, 1, 0]


def test_a_keyhole_is_the_ring_that_it_seems():
    outer, inner = square(0.5, 7.5), square(2.5, 5.5)
    keyhole = np.vstack([outer, outer[:1], inner[::-1], inner[-1:]])
    np.testing.assert_array_equal(filled([keyhole], 9, 9), filled([outer, inner], 9, 9))


def test_neighbours_that_share_an_edge_through_centres_share_no_pixel():
    left = np.array([(0.0, 0.0), (3.0, 0.0), (3.0, 3.0), (0.0, 3.0)])
    right = left + np.array([3.0, 0.0])
    both = filled([left], 9, 5).astype(int) + filled([right], 9, 5)
    assert both.max() == 1
    assert both.sum() == 18


def test_what_lies_outside_the_lattice_is_cut_off():
    assert filled([square(-100, 100)], 4, 3).all()
    assert not filled([square(20, 30)], 4, 3).any()


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
    mask, expected = filled([polygon], *SIZE), inside(polygon, *SIZE)
    np.testing.assert_array_equal(mask[is_clear], expected[is_clear])


def box(left, top, right, bottom):
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], dtype=float)


def joined(*polygons, size=(24, 20)):
    mask, clashing = nested(polygons, *size)
    assert clashing == 0
    return mask


class TestNested:
    def test_nothing_and_a_single_outline_are_as_filled(self):
        assert not joined().any()
        np.testing.assert_array_equal(joined(box(1.5, 2.5, 9.5, 8.5)), filled([box(1.5, 2.5, 9.5, 8.5)], 24, 20))

    @settings(max_examples=60, deadline=None)
    @given(st.permutations(range(5)))
    def test_rings_and_islands_in_any_order_are_filled_by_the_even_odd_rule(self, order):
        outlines = [box(0.5, 0.5, 14.5, 14.5), box(2.5, 2.5, 12.5, 12.5), box(4.5, 4.5, 8.5, 8.5)]
        outlines += [box(9.5, 5.5, 11.5, 8.5), box(16.5, 2.5, 19.5, 9.5)]
        np.testing.assert_array_equal(joined(*(outlines[index] for index in order)), filled(outlines, 24, 20))

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
        _, clashing = nested([box(1.5, 1.5, 10.5, 12.5), box(6.5, 4.5, 16.5, 9.5)], 24, 20)
        assert clashing == 4 * 5
        _, clashing = nested([box(1.5, 1.5, 10.5, 12.5), box(8.5, 1.5, 16.5, 12.5)], 24, 20)
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
        _, clashing = nested([box(1.4, 1.4, 10.6, 12.6), box(1.6, 1.6, 10.4, 12.4)], 24, 20)
        assert clashing == 9 * 11
        spike = np.vstack([box(1.4, 1.4, 10.6, 12.6), [(1.4, 1.9), (-0.9, 1.5)]])
        assert nested([box(1.5, 1.5, 10.5, 12.5), spike], 24, 20)[1] == 9 * 11

    def test_a_wall_of_one_pixel_is_a_ring(self):
        assert joined(box(1.5, 1.5, 10.5, 12.5), box(2.5, 2.5, 9.5, 11.5)).sum() == 9 * 11 - 7 * 9

    def test_outlines_beyond_the_lattice_are_cut_off(self):
        assert joined(box(-9, -9, 40, 40), box(30, 30, 50, 50), box(-20, 3.5, -9, 6.5)).all()
