"""Filling polygons on a lattice: a voxel counts where its centre lies inside."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Box = tuple[slice, slice]


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


def nested(polygons: Sequence[NDArray[np.float64]], columns: int, rows: int) -> tuple[NDArray[np.bool_], int]:
    """The pixels that outlines enclose which lie inside or beside one another: outer edges, holes, islands in holes.

    As ``filled``, but where edges touch, what they share by less than two pixels' width is given to the smaller
    outline, which is painted or cut out as a whole: neighbours are joined, and a hole keeps its size. The same
    outline twice, from another start or the other way round, counts once.

    Args:
        polygons: As for ``filled``.
        columns: Width of the lattice.
        rows: Height of the lattice.

    Returns:
        (rows, columns), and how many pixels two outlines share that partly overlap, 0 where all is clear:
        then neither is a hole of the other. Two other outlines of the very same pixels overlap as well, for
        they could be a thin wall or one thing drawn twice.
    """
    inside = np.zeros((rows, columns), dtype=bool)
    depth = np.zeros((rows, columns), dtype=np.intp)
    seen: set[bytes] = set()
    for corners in sorted(_once(polygons), key=_area, reverse=True):
        box = _box(corners, columns, rows)
        origin = np.array([box[1].start, box[0].start])
        mask = filled([corners - origin], box[1].stop - box[1].start, box[0].stop - box[0].start)
        if not mask.any():
            continue
        around = np.bincount(depth[box][mask])
        own = int(around.argmax())
        elsewhere = mask & (depth[box] != own)
        pixels = _digest(mask, box)
        if _is_wide(elsewhere):
            return inside, int(np.count_nonzero(mask & (depth[box] > around.nonzero()[0][0])))
        if pixels in seen and _is_wide(mask):
            return inside, int(np.count_nonzero(mask))
        seen.add(pixels)
        inside[box][mask] = own % 2 == 0
        depth[box][mask] = own + 1
    return inside, 0


def _once(polygons: Iterable[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """The polygons, each set of edges once."""
    return list({_edges(corners).tobytes(): corners for corners in polygons}.values())


def _edges(corners: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Edges of some length without order or direction, (n, 2), column + row·i; without -0."""
    starts = corners[:, 0] + 1j * corners[:, 1] + 0.0
    edges = np.sort(np.stack([starts, np.roll(starts, -1)], axis=1), axis=1)
    return np.unique(edges[edges[:, 0] != edges[:, 1]], axis=0)


def _area(corners: NDArray[np.float64]) -> float:
    """Twice the area that the corners enclose."""
    across, down = (corners - corners[:1]).T
    return abs(float(across @ np.roll(down, -1) - down @ np.roll(across, -1)))


def _box(corners: NDArray[np.float64], columns: int, rows: int) -> Box:
    """Rows and columns of the lattice that hold the corners."""
    low, high = np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0)) + 1
    (left, top), (right, bottom) = (np.clip(each, 0, (columns, rows)).astype(int).tolist() for each in (low, high))
    return slice(top, bottom), slice(left, right)


def _digest(mask: NDArray[np.bool_], box: Box) -> bytes:
    """What stands for the pixels of a mask, wherever its box ends."""
    at_rows, at_columns = mask.nonzero()
    return hashlib.sha256(np.stack([at_rows + box[0].start, at_columns + box[1].start]).tobytes()).digest()


def _is_wide(mask: NDArray[np.bool_]) -> bool:
    """Whether two by two pixels lie in it together, which a strip less than a pixel wide never holds."""
    return bool((mask[1:, 1:] & mask[1:, :-1] & mask[:-1, 1:] & mask[:-1, :-1]).any())


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
