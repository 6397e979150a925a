"""The part of an image that a network has to see: the box around what is not air or padding, or around what was found.

The image is cut after its intensities were scaled, so the cut changes none of them. What lies outside the box is
background without being run, which is why a network that finds anything in air is run over the whole image.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from medseg.geometry import Grid
from medseg.inference.restore import AxisChange, narrow_to_axes
from medseg.inference.windows import Windows

AIR_HU = -980.0
"""Where the mean of a block of voxels is below, it is air; what lies between such blocks alone is cut off."""

BLOCK = 4
"""Voxels along each axis of such a block, so that noise counts for little."""

MARGIN = 8
"""Voxels kept around what is not air."""

EDGE_DECIMALS = 4
"""Where a box's edge lies nearer to a voxel's than so many decimals of a voxel tell, it lies there."""

Box = tuple[slice, ...]


def choose_region(
    image: NDArray[np.floating], windows: Windows, air: float | None, finds_nothing: Callable[[NDArray], bool]
) -> Box | None:
    """The box of an image that is run: all of it, unless less takes fewer windows and loses nothing.

    Args:
        image: (channels, X, Y[, Z]) as the network takes it.
        windows: The windows of the whole image.
        air: What ``find_air_value`` gives.
        finds_nothing: Whether a window filled with the values given, one per channel, is background throughout.

    Returns:
        None where there is nothing to run.
    """
    box = find_box(image, windows.roi, air)
    saves = box is None or len(place_windows(box, windows)) < len(windows)
    return box if saves and finds_nothing(find_outside_value(image, air)) else box_of_all(windows.image)


def box_of_all(size: Sequence[int]) -> Box:
    """The box that is all of an image with these voxels along each axis."""
    return tuple(slice(0, int(n)) for n in size)


def place_windows(box: Box, windows: Windows) -> Windows:
    """The windows of a box.

    Args:
        box: Part of the image.
        windows: The windows of the whole image.
    """
    return replace(windows, image=tuple(part.stop - part.start for part in box))


def find_box(image: NDArray[np.floating], window: Sequence[int], air: float | None) -> Box | None:
    """The smallest box, MARGIN voxels wider than what it holds, with all that is neither padding nor air.

    Args:
        image: (channels, X, Y[, Z]) as the network takes it.
        window: Voxels of a window, which the box is at least as large as, where the image is.
        air: What ``find_air_value`` gives; None: only what equals the first voxel throughout is left out.

    Returns:
        None where there is nothing to run.
    """
    scale = 1 if air is None else BLOCK
    first = image[(slice(None), *[slice(1)] * (image.ndim - 1))]
    differs = image != first if air is None else _average_blocks(image) > air
    occupied = bound_labels(np.any(differs, axis=0))
    if occupied is None:
        return None
    return tuple(
        _widen_to(max(0, part.start * scale - MARGIN), min(size, part.stop * scale + MARGIN), min(least, size), size)
        for part, size, least in zip(occupied, image.shape[1:], window, strict=True)
    )


def bound_labels(labels: NDArray[np.integer | np.bool_]) -> Box | None:
    """The smallest box with every voxel that is not 0; None where there is none."""
    box = []
    for axis in range(labels.ndim):
        others = tuple(other for other in range(labels.ndim) if other != axis)
        hit = np.flatnonzero(np.any(labels, axis=others))
        if not hit.size:
            return None
        box.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return tuple(box)


def map_box(target: Grid, box: Box, source: Grid, margin_mm: float) -> Box | None:
    """The smallest box of one grid that holds all within ``margin_mm`` of a box of another grid.

    Voxels count from edge to edge. All corners are taken through the world, so that either grid may be flipped, turned
    or sheared against the other. Slices without a third axis are taken to lie in one plane.

    Args:
        target: On which the box is wanted.
        box: Part of ``source``.
        source: Another grid in the same world.
        margin_mm: Width of the margin, 0 or more.

    Returns:
        None where it lies outside the grid.
    """
    axes = len(target.shape)
    step = np.linalg.solve(narrow_to_axes(target.affine, axes), narrow_to_axes(source.affine, axes))
    edges = itertools.product(*((part.start - 0.5, part.stop - 0.5) for part in box))
    corners = np.array([(*edge, 1.0) for edge in edges]) @ step[:axes].T
    # The farthest that a step of so many mm leads along each axis.
    margin = margin_mm * np.linalg.norm(np.linalg.inv(narrow_to_axes(target.affine, axes)[:axes, :axes]), axis=1)
    low, high = corners.min(axis=0) - margin, corners.max(axis=0) + margin
    # Rounded, for an edge that is met exactly must not cost a voxel.
    starts = np.floor(np.round(low + 0.5, EDGE_DECIMALS)).astype(int).clip(0)
    stops = np.minimum(np.ceil(np.round(high + 0.5, EDGE_DECIMALS)).astype(int), target.shape)
    if (starts >= stops).any():
        return None
    return tuple(slice(int(start), int(stop)) for start, stop in zip(starts, stops, strict=True))


def widen(box: Box, windows: Windows) -> Box:
    """The box, as large as the windows that it takes reach anyway, where the image is.

    Args:
        box: Part of the image.
        windows: The windows of the whole image.
    """
    reach = place_windows(box, windows).reach
    return tuple(
        _widen_to(part.start, part.stop, min(least, size), size)
        for part, least, size in zip(box, reach, windows.image, strict=True)
    )


def find_outside_value(image: NDArray[np.floating], air: float | None) -> NDArray[np.floating]:
    """What each channel holds outside the box: air's least value, or the first voxel's."""
    return image.reshape(len(image), -1)[:, 0] if air is None else image.min(axis=tuple(range(1, image.ndim)))


def restrict_to_box(changes: Sequence[AxisChange], box: Box) -> tuple[AxisChange, ...]:
    """The way back from a box of the network's grid; what lies outside has no weight."""
    return tuple(
        AxisChange(change.source, sparse.csr_array(change.weights[:, box[change.source]])) for change in changes
    )


def _average_blocks(image: NDArray[np.floating]) -> NDArray[np.floating]:
    means, voxels = image, np.ones(1)
    for axis, size in enumerate(image.shape[1:], 1):
        starts = np.arange(0, size, BLOCK)
        means = np.add.reduceat(means, starts, axis=axis)
        counts = np.minimum(BLOCK, size - starts)
        voxels = voxels[..., None] * counts
    return means / voxels


def _widen_to(start: int, stop: int, least: int, size: int) -> slice:
    """At least ``least`` voxels of ``size``, about the middle."""
    missing = max(0, least - (stop - start))
    start = min(max(0, start - missing // 2), size - max(least, stop - start))
    return slice(start, max(stop, start + least))
