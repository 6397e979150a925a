"""Where voxels lie in the world: spacing, orientation, grids that agree or not.

World coordinates are RAS+ in millimetres (x to the right, y to the front, z up), as
in NIfTI. An affine is a 4 by 4 matrix from voxel index (i, j, k, 1) to world.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.errors import GridError

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From DICOM's and ITK's world to that of NIfTI and of this package, and back: its own inverse (PS3.3 C.7.6.2.1.1)."""

SAME_GRID_VOXELS = 1e-3
"""Corners closer than this are the same grid; header rounding stays below it."""

NEAR_GRID_VOXELS = 0.1
"""Corners of an image and its mask closer than this are taken for the same grid, with a note: a rounded header."""


@dataclass(frozen=True)
class Grid:
    """The lattice on which an image's voxels lie.

    Args:
        shape: Voxels along each spatial axis, (X, Y) or (X, Y, Z).
        affine: 4 by 4, voxel index to RAS+ millimetres.
    """

    shape: tuple[int, ...]
    affine: NDArray[np.float64]

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Distance between neighbouring voxel centres along each spatial axis, in mm."""
        return spacing_mm(self.affine)[: len(self.shape)]

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in millilitres (for 2D, with the third column's spacing)."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    @property
    def orientation(self) -> str:
        """The direction in which each axis points, such as ``RAS`` or ``LPS``."""
        return orientation(self.affine)[: len(self.shape)]


def spacing_mm(affine: NDArray[np.float64]) -> tuple[float, float, float]:
    """Lengths of the three columns of ``affine``, in mm."""
    x, y, z = np.linalg.norm(np.asarray(affine, dtype=float)[:3, :3], axis=0)
    return float(x), float(y), float(z)


def orientation(affine: NDArray[np.float64]) -> str:
    """The world direction nearest to each voxel axis, three letters of RLAPSI.

    >>> orientation(np.diag([-1.0, -1.0, 2.0, 1.0]))
    'LPS'
    """
    directions = np.asarray(affine, dtype=float)[:3, :3] / np.asarray(spacing_mm(affine))
    letters, free = ["?", "?", "?"], [0, 1, 2]
    for axis in np.argsort(-np.abs(directions).max(axis=0)):
        world = max(free, key=lambda row: abs(directions[row, axis]))
        free.remove(world)
        letters[axis] = ("RAS" if directions[world, axis] > 0 else "LPI")[world]
    return "".join(letters)


def corner_distance_voxels(first: Grid, second: Grid) -> float:
    """The largest distance between corresponding corners of two grids, in voxels.

    Measured in units of the smaller spacing; infinite where the shapes differ.
    """
    if first.shape != second.shape:
        return float("inf")
    ranges = [(0, n - 1) for n in first.shape] + [(0, 0)] * (3 - len(first.shape))
    corners = np.array([(*corner, 1) for corner in np.array(np.meshgrid(*ranges)).T.reshape(-1, 3)], dtype=float)
    apart = corners @ (first.affine - second.affine)[:3].T
    smallest_mm = min(first.spacing_mm + second.spacing_mm)
    return float(np.linalg.norm(apart, axis=1).max() / smallest_mm)


def is_same_grid(first: Grid, second: Grid) -> bool:
    """Whether two grids agree to within header rounding (0.001 voxel at the corners)."""
    return corner_distance_voxels(first, second) <= SAME_GRID_VOXELS


def reindex(array: NDArray, source: Grid, target: Grid, case: object) -> NDArray:
    """``array`` on ``source``'s grid, its axes flipped and swapped to lie on ``target``'s.

    Exact: voxels move, none is interpolated.

    Args:
        array: Of shape ``source.shape``.
        source: The grid of ``array``.
        target: The grid wanted.
        case: Named in the error.

    Raises:
        GridError: The two grids do not hold the same voxels.
    """
    if is_same_grid(source, target):
        return array
    if len(source.shape) == 3 and len(target.shape) == 3:
        permutation, signs = _axis_changes(source, target)
        flipped = array.transpose(permutation)[tuple(slice(None, None, int(sign)) for sign in signs)]
        if flipped.shape == target.shape and is_same_grid(_changed(source, permutation, signs), target):
            return flipped
    raise GridError(
        "GRID_MISMATCH",
        case,
        f"grid {_described(source)} does not hold the voxels of {_described(target)}",
        "resample one onto the other's grid, or export the mask from the image that it was drawn on",
    )


def _axis_changes(source: Grid, target: Grid) -> tuple[list[int], list[int]]:
    """For each target axis, the source axis that runs along it and whether it runs the same way."""
    index_change = np.linalg.inv(source.affine) @ target.affine
    turn = index_change[:3, :3]
    permutation = [int(axis) for axis in np.abs(turn).argmax(axis=0)]
    if sorted(permutation) != [0, 1, 2]:
        return [0, 1, 2], [1, 1, 1]
    return permutation, [1 if turn[row, column] > 0 else -1 for column, row in enumerate(permutation)]


def _changed(grid: Grid, permutation: list[int], signs: list[int]) -> Grid:
    affine = np.eye(4)
    affine[:, 3] = grid.affine[:, 3]
    for column, (axis, sign) in enumerate(zip(permutation, signs, strict=True)):
        affine[:, column] = grid.affine[:, axis] * sign
        if sign < 0:
            affine[:, 3] += grid.affine[:, axis] * (grid.shape[axis] - 1)
    return Grid(tuple(grid.shape[axis] for axis in permutation), affine)


def _described(grid: Grid) -> str:
    size = "×".join(str(n) for n in grid.shape)
    spacing = "×".join(f"{mm:.4g}" for mm in grid.spacing_mm)
    origin = ", ".join(f"{mm:.4g}" for mm in grid.affine[:3, 3])
    return f"{size} voxels of {spacing} mm ({grid.orientation}, first voxel at {origin} mm)"
