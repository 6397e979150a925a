"""Polygons filled by the centres of pixels."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path

from medseg.data.dicom.polygons import filled

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
