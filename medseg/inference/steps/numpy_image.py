"""An image on its way to a network, and steps on its values and its grid, as MONAI's transforms take them, in NumPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from numpy.typing import NDArray
from scipy import ndimage, sparse

from medseg.data.formats.pictures import is_grey
from medseg.inference.arrays import NumpyArrays
from medseg.inference.restore import OFF_AXIS, Banded, linear_weights, narrow_to_axes, shift_affine


@dataclass(frozen=True)
class Image:
    """Voxels, where they lie, and the operations that brought them there.

    ``medseg.inference.restore.axis_changes`` reads the operations, recorded as MONAI's transforms do.

    Args:
        array: (C, X, Y[, Z]) float32.
        affine: 4 by 4, voxel index to RAS+ mm.
        applied_operations: The operations, in their order.
    """

    array: NDArray[np.float32]
    affine: NDArray[np.float64]
    applied_operations: list[Any] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, X, Y[, Z])."""
        return self.array.shape

    @property
    def size(self) -> tuple[int, ...]:
        """Voxels along each spatial axis."""
        return self.array.shape[1:]

    def valued(self, array: NDArray) -> Image:
        """Other values on the same grid."""
        return replace(self, array=array.astype(np.float32, copy=False))

    def regridded(
        self, array: NDArray, affine: NDArray[np.float64], operation: str, extra_info: Mapping[str, Any]
    ) -> Image:
        """The image after an operation on its grid.

        Args:
            array: What the operation gave.
            affine: Where it lies.
            operation: The class of MONAI's transform.
            extra_info: What its inverse needs.
        """
        record = {"class": operation, "orig_size": self.size, "extra_info": dict(extra_info)}
        return Image(array, affine, [*self.applied_operations, record])


def choose_size(wanted: Sequence[int] | int, size: Sequence[int]) -> tuple[int, ...]:
    """``wanted`` along each axis; where it is 0 or less, the image's own.

    >>> chosen_size([16, -1], (20, 30)), chosen_size(8, (20, 30))
    ((16, 30), (8, 8))
    """
    given = [wanted] * len(size) if isinstance(wanted, int) else list(wanted)
    return tuple(int(new) if new > 0 else int(old) for new, old in zip(given, size, strict=True))


Factors = Sequence[float] | float | None


def keep_one_grey(image: Image) -> Image:
    """``medseg.data.transforms.GreyToOneChanneld``: one channel of a grey picture saved as colours."""
    return image.valued(image.array[:1]) if is_grey(image.array) else image


def normalize(image: Image, subtrahend: Factors, divisor: Factors, nonzero: bool, channel_wise: bool) -> Image:
    """``NormalizeIntensityd``: less the mean, over the standard deviation.

    Args:
        image: The image.
        subtrahend: What is subtracted in place of the mean; one per channel where ``channel_wise``.
        divisor: What is divided by in place of the standard deviation.
        nonzero: Whether voxels of 0 are left out and left alone.
        channel_wise: Whether each channel has its own.
    """
    parts = list(image.array) if channel_wise else [image.array]
    means, deviations = _each(subtrahend, len(parts)), _each(divisor, len(parts))
    done = [_normalized(*each, nonzero) for each in zip(parts, means, deviations, strict=True)]
    return image.valued(np.stack(done) if channel_wise else done[0])


def scale(image: Image, minv: float | None, maxv: float | None, factor: float | None, channel_wise: bool) -> Image:
    """``ScaleIntensityd``: lowest and highest value become ``minv`` and ``maxv``; without these, × (1 + factor)."""
    if minv is None and maxv is None:
        return image if factor is None else image.valued(image.array * np.float32(1 + factor))
    parts = list(image.array) if channel_wise else [image.array]
    done = [_rescaled(part, minv, maxv) for part in parts]
    return image.valued(np.stack(done) if channel_wise else done[0])


def scale_range(
    image: Image, a_min: float, a_max: float, b_min: float | None, b_max: float | None, clip: bool
) -> Image:
    """``ScaleIntensityRanged``: ``a_min`` becomes ``b_min``, ``a_max`` becomes ``b_max``."""
    return image.valued(_ranged(image.array, (a_min, a_max), (b_min, b_max), clip))


def scale_percentiles(
    image: Image,
    percentiles: Sequence[float],
    target: Sequence[float | None],
    clip: bool,
    relative: bool,
    channel_wise: bool,
) -> Image:
    """``ScaleIntensityRangePercentilesd``.

    Args:
        image: The image.
        percentiles: Lower and upper, from 0 to 100.
        target: What the values there become.
        clip: Whether values beyond become the target's ends.
        relative: Whether the target's own percentiles are meant.
        channel_wise: Whether each channel has its own percentiles.
    """
    low, high = target
    if relative and low is not None and high is not None:
        low, high = ((high - low) * each / 100 + low for each in percentiles)
    parts = list(image.array) if channel_wise else [image.array]
    sources = [np.percentile(part, percentiles).tolist() for part in parts]
    done = [_ranged(part, (a, b), (low, high), clip) for part, (a, b) in zip(parts, sources, strict=True)]
    return image.valued(np.stack(done) if channel_wise else done[0])


def _each(value: Factors, count: int) -> list[float | None]:
    return list(value) if isinstance(value, Sequence) else [value] * count


def _normalized(part: NDArray, mean: float | None, deviation: float | None, nonzero: bool) -> NDArray:
    where = part != 0 if nonzero else np.ones(part.shape, bool)
    if not where.any():
        return part
    values = part[where] if nonzero else part
    subtrahend = np.float32(values.mean(dtype=np.float64) if mean is None else mean)
    divisor = np.float32(values.std(dtype=np.float64) if deviation is None else deviation) or np.float32(1)
    return np.where(where, (part - subtrahend) / divisor, part) if nonzero else (part - subtrahend) / divisor


def _rescaled(part: NDArray, minv: float | None, maxv: float | None) -> NDArray:
    low, high = part.min(), part.max()
    if low == high:
        return part if minv is None else part * np.float32(minv)
    share = (part - low) / (high - low)
    return share if minv is None or maxv is None else share * np.float32(maxv - minv) + np.float32(minv)


def _ranged(
    part: NDArray, source: tuple[float, float], target: tuple[float | None, float | None], clip: bool
) -> NDArray:
    (first, last), (low, high) = source, target
    if last == first:
        return part - np.float32(first) + np.float32(low or 0)
    part = (part - np.float32(first)) / np.float32(last - first)
    if low is not None and high is not None:
        part = part * np.float32(high - low) + np.float32(low)
    return np.clip(part, low, high) if clip and (low is not None or high is not None) else part


Matrix = NDArray[np.float64]

OBLIQUE = "oblique_step"
"""What the record of a resampling holds that mixes axes: from its voxels' indices to those before."""

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
    before = narrow_to_axes(image.affine, axes)
    after = _zoomed(before, _spacing(before, pixdim), diagonal)
    size, after[:-1, -1] = _extent(image.size, before, after)
    step = np.linalg.solve(before, after).astype(np.float64)
    note: dict[str, Any] = {"src_affine": before, "mode": "bilinear", "padding_mode": "border"}
    if size == image.size and (_is_near(before, after) or _is_near(step, np.eye(axes + 1))):
        return image.regridded(image.array, image.affine, "SpatialResample", note)
    if np.abs(step[:-1, :-1] - np.diag(np.diag(step)[:-1])).max() > OFF_AXIS:
        channels = [sample(channel, step, size) for channel in image.array]
        note[OBLIQUE] = step
        return image.regridded(np.stack(channels), _after(image.affine, step), "SpatialResample", note)
    places = [np.arange(size[axis]) * float(step[axis, axis]) + float(step[axis, -1]) for axis in range(axes)]
    weights = [linear_weights(each, n) for each, n in zip(places, image.size, strict=True)]
    return image.regridded(multiply(weights, image.array), _after(image.affine, step), "SpatialResample", note)


def resize(image: Image, spatial_size: Sequence[int]) -> Image:
    """``Resized``, linear, voxels as squares: 0 or less keeps an axis."""
    size = choose_size(spatial_size, image.size)
    scales = [old / new for old, new in zip(image.size, size, strict=True)]
    step = np.diag([*scales, 1.0])
    step[:-1, -1] = [(each - 1) / 2 for each in scales]
    weights = [
        linear_weights(each * np.arange(new) + (each - 1) / 2, old)
        for each, new, old in zip(scales, size, image.size, strict=True)
    ]
    note = {"mode": "bilinear", "align_corners": "none", "new_dim": 0}
    return image.regridded(multiply(weights, image.array), _after(image.affine, step), "Resize", note)


def crop(image: Image, start: Sequence[int], stop: Sequence[int | None]) -> Image:
    """``SpatialCropd``: from ``start`` to before ``stop`` (None: to the end) along the first axes."""
    rest = len(image.size) - len(start)
    ends = zip([*start, *[0] * rest], [*stop, *[None] * rest], image.size, strict=True)
    kept = [slice(first, last).indices(size)[:2] for first, last, size in ends]
    kept = [(first, max(first, last)) for first, last in kept]
    array = image.array[(slice(None), *(slice(*each) for each in kept))]
    cropped = [(first, size - last) for (first, last), size in zip(kept, image.size, strict=True)]
    affine = shift_affine(image.affine, np.array([first for first, _ in kept]))
    return image.regridded(array, affine, "SpatialCrop", {"cropped": np.ravel(cropped).tolist()})


def crop_centre(image: Image, roi_size: Sequence[int] | int) -> Image:
    """``CenterSpatialCropd``."""
    wanted = choose_size(roi_size, image.size)
    start = [max(size // 2 - new // 2, 0) for size, new in zip(image.size, wanted, strict=True)]
    return crop(image, start, [first + new for first, new in zip(start, wanted, strict=True)])


def pad(image: Image, spatial_size: Sequence[int] | int, method: str, mode: str, value: float) -> Image:
    """``SpatialPadd``: to at least ``spatial_size``.

    Args:
        image: The image.
        spatial_size: Voxels; 0 or less keeps an axis.
        method: ``symmetric`` or ``end``.
        mode: ``constant``, ``edge`` or ``reflect``.
        value: Value of constant padding.
    """
    wanted = choose_size(spatial_size, image.size)
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
    affine = shift_affine(image.affine, -np.array([before for before, _ in widths[1:]]))
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


def sample(values: NDArray[np.float32], step: Matrix, size: Sequence[int]) -> NDArray[np.float32]:
    """Linear interpolation on a grid whose axes are not those of the values; beyond the ends the last voxel counts.

    Args:
        values: (X, Y[, Z]).
        step: From the new voxels' indices to those of ``values``.
        size: Size of the new grid.
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


def multiply(weights: Sequence[sparse.csr_array], array: NDArray) -> NDArray[np.float32]:
    """The product with a matrix along each spatial axis of (C, X, Y[, Z]), channel by channel."""
    matrices = [Banded(matrix) for matrix in weights]
    channels = []
    for channel in array:
        product = channel
        for axis, matrix in enumerate(matrices):
            product = matrix.apply(NumpyArrays(), product, axis, range(matrix.rows), 0)
        channels.append(product)
    return np.ascontiguousarray(np.stack(channels), np.float32)
