"""Steps on an image's grid, as MONAI's transforms of the same names take them, in NumPy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from numpy.typing import NDArray
from scipy import ndimage, sparse

from medseg.inference.arrays import NumpyArrays
from medseg.inference.inverse_transform import OFF_AXIS, axis_changes, linear_weights, moved, of_axes
from medseg.inference.restore import Discretisation
from medseg.inference.steps.image import Image, chosen_size

Matrix = NDArray[np.float64]

AFFINE_TOLERANCE = 1e-3
"""MONAI's: spacings (mm) and matrix entries closer than this are the same."""


def orient(image: Image, axcodes: str | None) -> Image:
    """``Orientationd``: turn the axes to ``axcodes``; None takes the nearest to RAS."""
    source = io_orientation(image.affine)
    turn = source if axcodes is None else ornt_transform(source, axcodes2ornt(tuple(axcodes)))
    flipped = [axis + 1 for axis, sign in enumerate(turn[:, 1]) if sign < 0]
    order = [0, *(int(axis) + 1 for axis in np.argsort(turn[:, 0]))]
    array = np.flip(image.array, tuple(flipped)).transpose(order)
    affine = image.affine @ inv_ornt_aff(turn, image.size)
    return image.regridded(array, affine, "Orientation", {"original_affine": image.affine})


def resample(image: Image, pixdim: Sequence[float], diagonal: bool) -> Image:
    """``Spacingd``, linear: the grid with voxels of ``pixdim`` mm that begins where the image begins."""
    axes = len(image.size)
    before = of_axes(image.affine, axes)
    after = _zoomed(before, _spacing(before, pixdim), diagonal)
    size, after[:-1, -1] = _extent(image.size, before, after)
    step = np.linalg.solve(before, after).astype(np.float64)
    note: dict[str, Any] = {"src_affine": before, "mode": "bilinear", "padding_mode": "border"}
    if size == image.size and (_is_near(before, after) or _is_near(step, np.eye(axes + 1))):
        return image.regridded(image.array, image.affine, "SpatialResample", note)
    if np.abs(step[:-1, :-1] - np.diag(np.diag(step)[:-1])).max() > OFF_AXIS:
        channels = [sampled(channel, step, size) for channel in image.array]
        note["oblique_step"] = step
        return image.regridded(np.stack(channels), _after(image.affine, step), "SpatialResample", note)
    places = [np.arange(size[axis]) * float(step[axis, axis]) + float(step[axis, -1]) for axis in range(axes)]
    weights = [linear_weights(each, n) for each, n in zip(places, image.size, strict=True)]
    return image.regridded(applied(weights, image.array), _after(image.affine, step), "SpatialResample", note)


def resize(image: Image, spatial_size: Sequence[int]) -> Image:
    """``Resized``, linear, voxels as squares: 0 or less keeps an axis."""
    size = chosen_size(spatial_size, image.size)
    scales = [old / new for old, new in zip(image.size, size, strict=True)]
    step = np.diag([*scales, 1.0])
    step[:-1, -1] = [(each - 1) / 2 for each in scales]
    weights = [
        linear_weights(each * np.arange(new) + (each - 1) / 2, old)
        for each, new, old in zip(scales, size, image.size, strict=True)
    ]
    note = {"mode": "bilinear", "align_corners": "none", "new_dim": 0}
    return image.regridded(applied(weights, image.array), _after(image.affine, step), "Resize", note)


def crop(image: Image, start: Sequence[int], stop: Sequence[int | None]) -> Image:
    """``SpatialCropd``: from ``start`` to before ``stop`` (None: to the end) along the first axes."""
    rest = len(image.size) - len(start)
    ends = zip([*start, *[0] * rest], [*stop, *[None] * rest], image.size, strict=True)
    kept = [slice(first, last).indices(size)[:2] for first, last, size in ends]
    kept = [(first, max(first, last)) for first, last in kept]
    array = image.array[(slice(None), *(slice(*each) for each in kept))]
    cropped = [(first, size - last) for (first, last), size in zip(kept, image.size, strict=True)]
    affine = moved(image.affine, np.array([first for first, _ in kept]))
    return image.regridded(array, affine, "SpatialCrop", {"cropped": np.ravel(cropped).tolist()})


def crop_centre(image: Image, roi_size: Sequence[int] | int) -> Image:
    """``CenterSpatialCropd``."""
    wanted = chosen_size(roi_size, image.size)
    start = [max(size // 2 - new // 2, 0) for size, new in zip(image.size, wanted, strict=True)]
    return crop(image, start, [first + new for first, new in zip(start, wanted, strict=True)])


def pad(image: Image, spatial_size: Sequence[int] | int, method: str, mode: str, value: float) -> Image:
    """``SpatialPadd``: to at least ``spatial_size``.

    Args:
        image: The image.
        spatial_size: Voxels; 0 or less keeps an axis.
        method: ``symmetric`` or ``end``.
        mode: ``constant``, ``edge`` or ``reflect``.
        value: Of constant padding.
    """
    wanted = chosen_size(spatial_size, image.size)
    missing = [max(new - size, 0) for new, size in zip(wanted, image.size, strict=True)]
    amounts = [(each // 2, each - each // 2) if method == "symmetric" else (0, each) for each in missing]
    return pad_border(image, amounts, mode, value)


def pad_divisible(image: Image, k: Sequence[int] | int, method: str, mode: str, value: float) -> Image:
    """``DivisiblePadd``: to the next multiple of ``k``."""
    given = [k] * len(image.size) if isinstance(k, int) else k
    wanted = [-(-size // each) * each if each > 0 else size for size, each in zip(image.size, given, strict=True)]
    return pad(image, wanted, method, mode, value)


def pad_border(image: Image, amounts: Sequence[Sequence[int]], mode: str, value: float) -> Image:
    """``BorderPadd``: voxels before and after, for each axis."""
    options = {"constant_values": value} if mode == "constant" else {}
    widths = [(0, 0), *((int(before), int(after)) for before, after in amounts)]
    array = np.pad(image.array, widths, mode=mode, **options)  # type: ignore[call-overload]
    affine = moved(image.affine, -np.array([before for before, _ in widths[1:]]))
    return image.regridded(array, affine, "SpatialPad", {"padded": widths})


def crop_or_pad(image: Image, spatial_size: Sequence[int] | int, method: str, mode: str, value: float) -> Image:
    """``ResizeWithPadOrCropd``: cropped about the middle, then padded."""
    return pad(crop_centre(image, spatial_size), spatial_size, method, mode, value)


def crop_foreground(
    image: Image,
    channel_indices: Sequence[int] | None,
    margin: Sequence[int] | int,
    allow_smaller: bool,
    k_divisible: Sequence[int] | int,
    padding: Sequence[object],
) -> Image:
    """``CropForegroundd`` of values above 0.

    Args:
        image: The image.
        channel_indices: The channels that are looked at; None: all.
        margin: Voxels kept around.
        allow_smaller: Whether the margin ends with the image; else it is padded.
        k_divisible: The result's size is a multiple of this.
        padding: Mode and value.
    """
    axes = len(image.size)
    inside = (image.array if channel_indices is None else image.array[list(channel_indices)]).max(axis=0) > 0
    margins, multiples = ([each] * axes if isinstance(each, int) else list(each) for each in (margin, k_divisible))
    start, stop = [0] * axes, [0] * axes
    for axis in range(axes if inside.any() else 0):
        found = np.flatnonzero(inside.any(axis=tuple(other for other in range(axes) if other != axis)))
        start[axis], stop[axis] = int(found[0]) - margins[axis], int(found[-1]) + 1 + margins[axis]
        if allow_smaller:
            start[axis], stop[axis] = max(start[axis], 0), min(stop[axis], image.size[axis])
    for axis, k in enumerate(multiples):
        size = stop[axis] - start[axis]
        wanted = -(-size // k) * k if k > 0 else size
        start[axis] -= (wanted - size) // 2
        stop[axis] = start[axis] + wanted
    amounts = [(max(-a, 0), max(b - n, 0)) for a, b, n in zip(start, stop, image.size, strict=True)]
    mode, value = padding
    return pad_border(crop(image, [max(a, 0) for a in start], stop), amounts, str(mode), float(str(value)))


def sampled(values: NDArray[np.float32], step: Matrix, size: Sequence[int]) -> NDArray[np.float32]:
    """Linear interpolation on a grid whose axes are not those of the values; beyond the ends the last voxel counts.

    Args:
        values: (X, Y[, Z]).
        step: From the new voxels' indices to those of ``values``.
        size: Of the new grid.
    """
    options = {"output_shape": tuple(size), "order": 1, "mode": "nearest"}
    return ndimage.affine_transform(values, step[:-1, :-1], step[:-1, -1], **options)


def _after(affine: Matrix, step: Matrix) -> Matrix:
    """Where voxels lie that are ``step`` of the image's."""
    axes = len(step) - 1
    full = np.eye(4)
    full[:axes, :axes], full[:axes, 3] = step[:axes, :axes], step[:axes, -1]
    return affine @ full


def _lengths(affine: Matrix) -> Matrix:
    return np.linalg.norm(affine[:-1, :-1], axis=0)


def _spacing(affine: Matrix, pixdim: Sequence[float]) -> Matrix:
    """The wanted spacing in mm; the image's own where it is near, or where 0 or less is wanted."""
    own = _lengths(affine)
    given = [*pixdim, *[pixdim[-1]] * len(own)][: len(own)]
    wanted = np.where(np.array(given) > 0, given, own)
    return np.where(np.abs(own - wanted) <= AFFINE_TOLERANCE, own, wanted)


def _zoomed(affine: Matrix, spacing: Matrix, diagonal: bool) -> Matrix:
    """The axes of ``affine`` without shear at another spacing, from the origin."""
    if diagonal:
        return np.diag([*spacing, 1.0])
    axes = affine[:-1, :-1]
    stretch = np.linalg.cholesky(axes.T @ axes).T
    zoomed = np.eye(len(affine))
    zoomed[:-1, :-1] = axes @ np.linalg.inv(stretch) @ np.diag(np.sign(np.diag(stretch)) * spacing)
    return zoomed


def _extent(size: Sequence[int], before: Matrix, after: Matrix) -> tuple[tuple[int, ...], Matrix]:
    """How many voxels of ``after`` hold the image, and where the first one lies in the world."""
    corners = np.array(np.meshgrid(*[(0.0, n - 1.0) for n in size], indexing="ij")).reshape(len(size), -1)
    corners = np.vstack([corners, np.ones(corners.shape[1])])
    reached = (np.linalg.solve(after, before) @ corners)[:-1]
    wanted = np.round(np.ptp(reached, axis=1) + 1.0).astype(int)
    worlds = (before @ corners)[:-1]
    for corner, place in zip(reached.T, worlds.T, strict=True):
        if np.allclose((reached - corner[:, None]).min(axis=1), 0.0):
            return tuple(wanted.tolist()), place
    middle = before[:-1, :-1] @ (np.array(size) / 2) + before[:-1, -1] - after[:-1, :-1] @ (wanted / 2)
    return tuple(wanted.tolist()), middle


def _is_near(first: Matrix, second: Matrix) -> bool:
    return bool(np.allclose(first, second, atol=AFFINE_TOLERANCE))


def applied(weights: Sequence[sparse.csr_array], array: NDArray) -> NDArray[np.float32]:
    """A matrix along each spatial axis of (C, X, Y[, Z])."""
    for axis, matrix in enumerate(weights, start=1):
        if matrix.shape[0] == matrix.shape[1] and abs(matrix - sparse.eye_array(matrix.shape[0])).max() == 0:
            continue
        rows = np.moveaxis(array, axis, 0)
        product = matrix.astype(np.float32) @ rows.reshape(len(rows), -1)
        array = np.moveaxis(product.reshape(matrix.shape[0], *rows.shape[1:]), 0, axis)
    return np.ascontiguousarray(array, np.float32)


OBLIQUE = "oblique_step"
"""What the record of a resampling holds that mixes axes: from its voxels' indices to those before."""


@dataclass(frozen=True)
class _Stage:
    """A part of an image's way; see ``medseg.inference.inverse_transform.Prepared``."""

    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    applied_operations: list[Any]


def is_oblique(image: Image) -> bool:
    """Whether a step mixed the image's axes."""
    return any(OBLIQUE in operation["extra_info"] for operation in image.applied_operations)


def restore_oblique(
    logits: NDArray[np.float32], image: Image, how: Discretisation, keeps_probabilities: bool
) -> tuple[NDArray[np.integer], NDArray[np.float32] | None]:
    """Labels (X, Y[, Z]) on the image's own grid, and the probabilities (C, X, Y[, Z]) where they are kept.

    Args:
        logits: (C, …) on the network's grid, all of them.
        image: As the network took it.
        how: From scores to labels.
        keeps_probabilities: Whether they are wanted.
    """
    labels, best, kept = np.zeros((), np.uint16), np.zeros((), np.float32), []
    for label, score in enumerate(_scores(logits, image, how)):
        kept += [score] if keeps_probabilities else []
        if label:
            best = NumpyArrays().mark_higher(labels, label, score, best)
        else:
            labels, best = np.zeros(score.shape, np.uint16), score.copy()
    if how.threshold is not None:
        labels = (best >= how.threshold).astype(np.uint16)
    return labels, np.stack(kept) if kept else None


def _scores(logits: NDArray[np.float32], image: Image, how: Discretisation) -> Iterator[NDArray[np.float32]]:
    arrays = NumpyArrays()
    activated = arrays.softmax(logits) if how.activation == "softmax" else iter([arrays.sigmoid(logits[0])])
    return (_undo(scores, image) for scores in activated)


def _undo(scores: NDArray[np.float32], image: Image) -> NDArray[np.float32]:
    """Scores on the network's grid as they are on the image's own."""
    stage = _Stage(image.shape, image.affine, list(image.applied_operations))
    while True:
        operations = stage.applied_operations
        oblique = [number for number, each in enumerate(operations) if OBLIQUE in each["extra_info"]]
        first = oblique[-1] + 1 if oblique else 0
        changes = axis_changes(_Stage(stage.shape, stage.affine, operations[first:]))
        if changes is None:
            raise ValueError("an operation that has no way back")
        by_source = [change.weights for change in sorted(changes, key=lambda each: each.source)]
        scores = applied(by_source, scores[None])[0].transpose([change.source for change in changes])
        if not oblique:
            return scores
        record = operations[first - 1]
        scores = sampled(scores, np.linalg.inv(record["extra_info"][OBLIQUE]), record["orig_size"])
        stage = _Stage((1, *record["orig_size"]), record["extra_info"]["src_affine"], operations[: first - 1])
