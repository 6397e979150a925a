"""The cuts of a volume that a reader should see, turned the way a radiologist looks at them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.errors import GridError
from medseg.geometry import Grid

VIEWS = {
    "axial": (2, 0, 1, "RLAP"),
    "coronal": (1, 0, 2, "RLSI"),
    "sagittal": (0, 1, 2, "APSI"),
}
"""Axis cut, axis drawn across, axis drawn down, and what lies left, right, above and below."""

CLEARLY_WIDER = 1.05
"""Slices are taken for thick where they lie this many times as far apart as voxels along the other axes."""

REGION_MARGIN_VOXELS = 10
WINDOW_PERCENTILES = (1.0, 99.0)


@dataclass(frozen=True)
class Plane:
    """One cut, ready to draw: rows from top to bottom, columns from left to right.

    Args:
        title: What it shows, such as ``axial, slice 12 of 40``; slices are counted from 1 as stored.
        image: (rows, columns), or (rows, columns, 3) for colours.
        reference: (rows, columns), None where there is none.
        prediction: (rows, columns).
        height_mm: Height of the whole cut.
        width_mm: Width of the whole cut.
        edges: Letters for left, right, top and bottom; empty where the orientation is not known.
    """

    title: str
    image: NDArray
    reference: NDArray | None
    prediction: NDArray
    height_mm: float
    width_mm: float
    edges: str


@dataclass(frozen=True)
class Scene:
    """An image and its masks as (X, Y, Z) volumes on one grid.

    Args:
        image: (X, Y, Z), or (X, Y, Z, 3) for colours.
        reference: (X, Y, Z), None where there is none.
        prediction: (X, Y, Z).
        spacing_mm: Distance of the voxels along each axis.
        is_flipped: Whether slices run against the stored order, along each axis.
        is_oriented: Whether the axes run to the right, the front and the head; else they are as stored.
    """

    image: NDArray
    reference: NDArray | None
    prediction: NDArray
    spacing_mm: tuple[float, ...]
    is_flipped: tuple[bool, ...]
    is_oriented: bool

    @property
    def masks(self) -> list[NDArray]:
        """The prediction, and the reference where there is one."""
        return [self.prediction] if self.reference is None else [self.prediction, self.reference]


@dataclass(frozen=True)
class Cut:
    """Where a scene is cut: a key of ``VIEWS``, and the index along that view's first axis in RAS order."""

    view: str
    index: int


def build_scene(
    image: NDArray, reference: NDArray | None, prediction: NDArray, grid: Grid | NDArray | Sequence[float]
) -> Scene:
    """Bring image and masks into RAS order, as views of the same voxels.

    Args:
        image: (X, Y[, Z]), or with channels first (C, X, Y[, Z]): three channels of a 2D image
            are its colours, of any others the first is taken.
        reference: (X, Y[, Z]) or None.
        prediction: (X, Y[, Z]).
        grid: The grid of the masks; or its 4 by 4 affine; or the spacing in mm of arrays in RAS order.
            A picture (2D with the spacing only, or an affine of ones) has no orientation.

    Raises:
        GridError: The shapes differ.
    """
    shape = prediction.shape
    image = _take_channel(image, len(shape))
    for name, array in (("image", image), ("reference", reference)):
        if array is not None and array.shape[: len(shape)] != shape:
            problem = f"{name} has {array.shape} voxels, prediction {shape}"
            raise GridError("SHAPE_MISMATCH", "overlay", problem, "give arrays of one grid")
    affine, is_oriented = _find_affine(grid, len(shape))
    letters = Grid((*shape, 1)[:3], affine).orientation if is_oriented else "RAS"
    axes = ["RLAPSI".index(letter) // 2 for letter in letters]
    order = tuple(axes.index(world) for world in range(3))
    flips = tuple(letters[axis] in "LPI" for axis in order)
    spacing_mm = Grid((1, 1, 1), affine).spacing_mm

    def turned(array: NDArray) -> NDArray:
        solid = array[:, :, None] if len(shape) == 2 else array
        solid = solid.transpose(*order, *range(3, solid.ndim))
        return solid[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]

    return Scene(
        turned(image),
        None if reference is None else turned(reference),
        turned(prediction),
        tuple(spacing_mm[axis] for axis in order),
        flips,
        is_oriented,
    )


def choose_planes(scene: Scene) -> list[Plane]:
    """One plane per view through the cut that shows the most of every class; the middle without any.

    A view that is one voxel thin in its own plane (any but one of a single slice) is left out.

    Raises:
        GridError: Fewer than two voxels along two of the axes.
    """
    return [draw_cut(scene, cut) for cut in _choose_cuts(scene)]


def choose_cut(scene: Scene) -> Cut:
    """The one cut that shows most: in the plane of the slices, through the most of every class.

    Slices lie across the axis with the widest spacing; where no spacing is clearly the widest, they are axial.

    Raises:
        GridError: Fewer than two voxels along two of the axes.
    """
    cuts = _choose_cuts(scene)
    widest = max(scene.spacing_mm[VIEWS[cut.view][0]] for cut in cuts)
    return next(cut for cut in cuts if scene.spacing_mm[VIEWS[cut.view][0]] * CLEARLY_WIDER >= widest)


def draw_cut(scene: Scene, cut: Cut) -> Plane:
    """The plane of ``scene`` at ``cut``, which may have been chosen on another scene of the same grid."""
    axis, across, down, edges = VIEWS[cut.view]
    return _make_plane(scene, cut.view, cut.index, (axis, across, down), edges)


def window_around(scene: Scene) -> tuple[float, float]:
    """Intensities to draw black and white: percentiles 1 and 99 in the box around the masks.

    Around the labels rather than over all, so that air and table do not flatten the contrast.
    Of an image without masks: over all of it. Of a constant image: its value and one more.
    """
    region = scene.image
    is_labelled = np.logical_or.reduce([mask != 0 for mask in scene.masks])
    if is_labelled.any():
        found = [np.flatnonzero(is_labelled.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
        box = [(int(along[0]), int(along[-1])) for along in found]
        region = region[tuple(slice(max(0, a - REGION_MARGIN_VOXELS), b + 1 + REGION_MARGIN_VOXELS) for a, b in box)]
    values = region[np.isfinite(region)]
    if not values.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(values, WINDOW_PERCENTILES))
    return low, high if high > low else low + 1


def _take_channel(image: NDArray, axes: int) -> NDArray:
    if image.ndim != axes + 1:
        return image
    return np.moveaxis(image, 0, -1) if axes == 2 and image.shape[0] == 3 else image[0]


def _find_affine(grid: Grid | NDArray | Sequence[float], axes: int) -> tuple[NDArray[np.float64], bool]:
    """The affine, and whether it says how the patient lies."""
    if not isinstance(grid, Grid) and np.ndim(grid) == 1:
        spacing = [float(mm) for mm in grid][:3]
        return np.diag([*spacing, *[1.0] * (4 - len(spacing))]), axes == 3
    affine = np.asarray(grid.affine if isinstance(grid, Grid) else grid, dtype=float)
    # Pictures come with an affine of ones, which says nothing about a patient.
    return affine, not np.array_equal(affine, np.eye(4))


def _measure_shares(masks: Sequence[NDArray]) -> list[NDArray[np.float64]]:
    """For each axis, the sum over masks and classes of a cut's area as a share of the class's largest cut."""
    shares = [np.zeros(n) for n in masks[0].shape]
    for mask, value in [(each, value) for each in masks for value in np.unique(each) if value != 0]:
        is_class = mask == value
        for axis in range(3):
            area = is_class.sum(axis=tuple(other for other in range(3) if other != axis))
            shares[axis] += area / area.max()
    return shares


def _choose_cuts(scene: Scene) -> list[Cut]:
    """The cut of each view that can be drawn."""
    shape = scene.prediction.shape
    shares = _measure_shares(scene.masks)
    cuts = []
    for view, (cut, across, down, _) in VIEWS.items():
        if shape[across] >= 2 and shape[down] >= 2:
            cuts.append(Cut(view, int(np.argmax(shares[cut])) if shares[cut].any() else shape[cut] // 2))
    if not cuts:
        problem = f"{shape} voxels hold no plane"
        raise GridError("PLANE_NONE", "overlay", problem)
    return cuts


def _make_plane(scene: Scene, name: str, index: int, axes: tuple[int, int, int], edges: str) -> Plane:
    cut, across, down = axes
    count = scene.prediction.shape[cut]

    def drawn(array: NDArray) -> NDArray:
        # The remaining axes are in rising order: transposed, rows run down and columns across.
        flat = np.swapaxes(np.take(array, index, axis=cut), 0, 1)
        return flat[::-1, ::-1] if scene.is_oriented else flat

    number = (count - index) if scene.is_flipped[cut] else index + 1
    view = name if scene.is_oriented else f"axes {across + 1} and {down + 1}"
    return Plane(
        f"{view}, slice {number} of {count}" if count > 1 else (name if scene.is_oriented else ""),
        drawn(scene.image),
        None if scene.reference is None else drawn(scene.reference),
        drawn(scene.prediction),
        scene.prediction.shape[down] * scene.spacing_mm[down],
        scene.prediction.shape[across] * scene.spacing_mm[across],
        edges if scene.is_oriented else "",
    )
