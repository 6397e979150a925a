"""Filling polygons on a lattice: a voxel counts where its centre lies inside."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def filled(polygons: Iterable[NDArray[np.float64]], columns: int, rows: int) -> NDArray[np.bool_]:
    """The pixels whose centres an odd number of polygons' outlines enclose (even-odd rule).

    A polygon inside another is a hole, and one inside the hole is filled again; an outline that
    touches itself along a line (a keyhole) encloses what it seems to. A centre exactly on an
    outline belongs to the pixels right of or below it, so that neighbours share no pixel.

    Args:
        polygons: Corners (n, 2) as column and row; pixel centres are whole numbers. The last corner
            is joined to the first. Fewer than three corners enclose nothing.
        columns: Width of the lattice.
        rows: Height of the lattice.

    Returns:
        (rows, columns). What lies outside the lattice is cut off.

    >>> filled([np.array([(0.5, 0.5), (2.5, 0.5), (2.5, 1.5), (0.5, 1.5)])], 4, 3).astype(int).tolist()
    [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    """
    # Each crossing of an edge with a row's centre line turns all pixels to its right inside out.
    turns = np.zeros((rows, columns + 1), dtype=np.uint8)
    for corners in polygons:
        at_rows, at_columns = _crossings(corners, rows)
        first = np.clip(np.ceil(at_columns), 0, columns).astype(np.intp)
        np.bitwise_xor.at(turns, (at_rows, first), np.uint8(1))
    return np.bitwise_xor.accumulate(turns[:, :columns], axis=1).astype(bool)


def _crossings(corners: NDArray[np.float64], rows: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Where a polygon's edges cross the rows' centre lines: rows and columns; an edge owns its upper end only."""
    starts, ends = corners, np.roll(corners, -1, axis=0)
    is_down = starts[:, 1] <= ends[:, 1]
    upper = np.where(is_down[:, None], starts, ends)
    lower = np.where(is_down[:, None], ends, starts)
    first = np.clip(np.ceil(upper[:, 1]), 0, rows).astype(np.intp)
    counts = np.clip(np.ceil(lower[:, 1]), 0, rows).astype(np.intp) - first
    edges = np.repeat(np.arange(len(corners)), counts)
    within = np.arange(len(edges)) - np.repeat(np.cumsum(counts) - counts, counts)
    at_rows = first[edges] + within
    slopes = (lower[:, 0] - upper[:, 0])[edges] / (lower[:, 1] - upper[:, 1])[edges]
    return at_rows, upper[edges, 0] + (at_rows - upper[edges, 1]) * slopes
