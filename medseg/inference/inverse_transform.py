"""The way from a network's grid back to an image's own, as one small matrix per axis.

Turning, cropping, padding and resampling along the axes, as MONAI's transforms record them, are each a sparse
matrix per axis, and so is their product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from numpy.typing import NDArray
from scipy import sparse

from medseg.geometry import orientation

OFF_AXIS = 1e-5
"""Entries off the diagonal above this mean that a resampling mixes axes."""


@dataclass(frozen=True)
class AxisChange:
    """One axis of an image's own grid, as weights on an axis of the network's grid.

    Args:
        source: The axis of the network's grid.
        weights: (voxels of the image, voxels of the network's grid), sparse.
    """

    source: int
    weights: sparse.csr_array


class Prepared(Protocol):
    """An image with what was done to it: MONAI's ``MetaTensor`` is one."""

    @property
    def shape(self) -> Sequence[int]:
        """(channels, …)."""

    @property
    def affine(self) -> Any:
        """4 by 4, voxel index to RAS+ mm."""

    @property
    def applied_operations(self) -> list[Any]:
        """Records of the operations, as MONAI writes them, in their order."""


def axis_changes(image: Prepared) -> tuple[AxisChange, ...] | None:
    """The way back from a preprocessed image's grid to its own, axis by axis.

    Args:
        image: (channels, …) with the operations that preprocessing applied.

    Returns:
        One change per axis of the image's own grid; None where an operation mixes axes or is not known.
    """
    changes: list[AxisChange] | None = [
        AxisChange(axis, sparse.eye_array(size, format="csr")) for axis, size in enumerate(image.shape[1:])
    ]
    affine = np.asarray(image.affine, dtype=float)
    for operation in reversed(_flat(image.applied_operations)):
        undo = _UNDO.get(str(operation["class"]))
        if undo is None or changes is None:
            return None
        changes, affine = undo(changes, operation, affine)
    return None if changes is None else tuple(changes)


Undone = tuple[list[AxisChange] | None, NDArray[np.float64]]


def _flat(operations: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Operations in the order in which they were applied, those made of two taken apart."""
    flat: list[Mapping[str, Any]] = []
    for operation in operations:
        extra = operation.get("extra_info") or {}
        inner = [extra[key] for key in ("crop_info", "pad_info") if key in extra]
        flat += [operation] if "cropped" in extra or not inner else []
        flat += inner
    return flat


def _undo_crop(changes: list[AxisChange], operation: Mapping[str, Any], affine: NDArray[np.float64]) -> Undone:
    cropped = np.asarray(operation["extra_info"]["cropped"]).reshape(-1, 2)
    undone = []
    for change, (before, after) in zip(changes, cropped, strict=True):
        size = change.weights.shape[1]
        empty = [sparse.csr_array((int(count), size)) for count in (before, after)]
        undone.append(AxisChange(change.source, sparse.vstack([empty[0], change.weights, empty[1]], format="csr")))
    return undone, moved(affine, -cropped[:, 0])


def _undo_pad(changes: list[AxisChange], operation: Mapping[str, Any], affine: NDArray[np.float64]) -> Undone:
    padded = np.asarray(operation["extra_info"]["padded"])
    if padded[0].any():
        return None, affine
    undone = [
        AxisChange(change.source, change.weights[int(before) : change.weights.shape[0] - int(after)])
        for change, (before, after) in zip(changes, padded[1:], strict=True)
    ]
    return undone, moved(affine, padded[1:, 0])


def _undo_turn(changes: list[AxisChange], operation: Mapping[str, Any], affine: NDArray[np.float64]) -> Undone:
    original = np.asarray(operation["extra_info"]["original_affine"], dtype=float)
    if len(changes) != 3:
        return None, original
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(orientation(original)))
    undone: list[AxisChange | None] = [None] * len(changes)
    for change, (axis, sign) in zip(changes, turn, strict=True):
        weights = change.weights if sign > 0 else change.weights[::-1]
        undone[int(axis)] = AxisChange(change.source, sparse.csr_array(weights))
    return [each for each in undone if each is not None], original


def _undo_resampling(changes: list[AxisChange], operation: Mapping[str, Any], affine: NDArray[np.float64]) -> Undone:
    extra, sizes = operation["extra_info"], operation["orig_size"]
    before, axes = np.asarray(extra["src_affine"], dtype=float), len(changes)
    step = np.linalg.solve(of_axes(affine, axes), of_axes(before, axes))
    linear = step[:axes, :axes]
    is_plain = extra["mode"] == "bilinear" and extra["padding_mode"] == "border"
    if not is_plain or np.abs(linear - np.diag(np.diag(linear))).max() > OFF_AXIS:
        return None, before
    undone = []
    for axis, (change, size) in enumerate(zip(changes, sizes, strict=True)):
        places = linear[axis, axis] * np.arange(int(size)) + step[axis, -1]
        undone.append(_resampled(change, places))
    return undone, before


def _undo_resize(changes: list[AxisChange], operation: Mapping[str, Any], affine: NDArray[np.float64]) -> Undone:
    extra = operation["extra_info"]
    if extra["mode"] not in ("bilinear", "trilinear") or extra["align_corners"] is True or extra["new_dim"]:
        return None, affine
    undone, step = [], np.eye(len(affine))
    for axis, (change, size) in enumerate(zip(changes, operation["orig_size"], strict=True)):
        scale = change.weights.shape[0] / int(size)
        step[axis, axis], step[axis, -1] = scale, (scale - 1) / 2
        undone.append(_resampled(change, scale * np.arange(int(size)) + step[axis, -1]))
    return undone, affine @ step


def _resampled(change: AxisChange, places: NDArray[np.float64]) -> AxisChange:
    """Linear interpolation at ``places``, in voxels of the grid that has been reached."""
    return AxisChange(change.source, sparse.csr_array(linear_weights(places, change.weights.shape[0]) @ change.weights))


def linear_weights(places: NDArray[np.floating], size: int) -> sparse.csr_array:
    """Linear interpolation as a matrix, (places, size); beyond the ends the last voxel counts.

    Args:
        places: In voxels, from 0 at the first one's centre.
        size: Voxels of the axis.
    """
    rows, last = len(places), size - 1
    places = np.clip(places, 0, last)
    low = np.minimum(places.astype(int), max(last - 1, 0))
    share = places - low
    high = np.minimum(low + 1, last)
    number = np.arange(rows)
    weights = sparse.csr_array(
        (np.concatenate([1 - share, share]), (np.tile(number, 2), np.concatenate([low, high]))), shape=(rows, size)
    )
    weights.eliminate_zeros()
    return weights


def of_axes(affine: NDArray[np.float64], axes: int) -> NDArray[np.float64]:
    """The part of a matrix from voxels to the world that concerns the first axes, with where they begin."""
    part = np.eye(axes + 1)
    part[:axes, :axes], part[:axes, -1] = affine[:axes, :axes], affine[:axes, -1]
    return part


def moved(affine: NDArray[np.float64], voxels: NDArray[np.integer]) -> NDArray[np.float64]:
    """The affine whose first voxel is ``voxels`` further along the axes."""
    shifted = affine.copy()
    axes = len(voxels)
    shifted[:-1, -1] += affine[:-1, :axes] @ voxels
    return shifted


_UNDO: dict[str, Callable[[list[AxisChange], Mapping[str, Any], NDArray[np.float64]], Undone]] = {
    "BorderPad": _undo_pad,
    "CenterSpatialCrop": _undo_crop,
    "CropForeground": _undo_crop,
    "DivisiblePad": _undo_pad,
    "Orientation": _undo_turn,
    "Pad": _undo_pad,
    "Resize": _undo_resize,
    "SpatialCrop": _undo_crop,
    "SpatialPad": _undo_pad,
    "SpatialResample": _undo_resampling,
}
