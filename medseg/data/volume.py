"""A volume as it was read: voxels, where they lie, and what was odd about the file; or its extent by the header."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ImageError
from medseg.findings import Finding, make_note
from medseg.geometry import Grid, shear_cosine, size_text, spacing_mm

PARSER_ERRORS: tuple[type[Exception], ...] = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BufferError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What nibabel, pydicom, Pillow and SimpleITK are known to raise on broken files."""

WIDEST_SPACING_MM = 50.0
"""Neighbouring voxels farther apart than this are a header fault, not a scan."""

LEAST_SHEAR = 1e-3
"""Cosine between two voxel axes below which they count as perpendicular."""

LARGEST_SQUARE_SAFE = 1e18
"""Above this a value's square, and so a standard deviation, overflows float32."""


@dataclass(frozen=True)
class Volume:
    """Voxels and the grid they lie on.

    Args:
        array: (X, Y) or (X, Y, Z); with ``has_channels`` (C, X, Y) or (C, X, Y, Z).
        affine: 4 by 4, voxel index to RAS+ millimetres.
        has_channels: Whether the first axis holds channels.
        notes: What was odd about the file, reported but not fatal.
        has_grid: Whether the file says where its voxels lie; a bare array does not, and
            ``affine`` then stands for voxels of 1 mm.
        is_partial: Whether it is a mask of some of an image's voxels, the others being background:
            a DICOM SEG away from its series stores only the planes on which something is drawn.
    """

    array: NDArray
    affine: NDArray[np.float64]
    has_channels: bool = False
    notes: tuple[Finding, ...] = ()
    has_grid: bool = True
    is_partial: bool = False

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Voxels along each spatial axis, without channels."""
        return tuple(self.array.shape[1:] if self.has_channels else self.array.shape)

    @property
    def grid(self) -> Grid:
        """The lattice on which the voxels lie."""
        return Grid(self.spatial_shape, self.affine)


@dataclass(frozen=True)
class Extent:
    """What a header says of an image's voxels.

    Args:
        shape: Voxels along its two or three spatial axes.
        affine: 4 by 4, voxel index to RAS+ mm.
        channels: Values per voxel.
        stored_bytes: Bytes of one value.
    """

    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    channels: int
    stored_bytes: int

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Distance between neighbouring voxels along the axes of ``shape``."""
        return spacing_mm(self.affine)[: len(self.shape)]

    @classmethod
    def of(cls, volume: Volume) -> Extent:
        """The extent of a volume that was read."""
        channels = volume.array.shape[0] if volume.has_channels else 1
        return cls(volume.spatial_shape, volume.affine, channels, volume.array.itemsize)


def check_affine(affine: NDArray[np.float64], shape: tuple[int, ...], case: object) -> tuple[Finding, ...]:
    """Refuse a matrix that places no volume in the world; note a sheared one.

    Args:
        affine: 4 by 4, voxel index to RAS+ millimetres.
        shape: Voxels along each spatial axis.
        case: Named in the error.

    Raises:
        ImageError: ``IMAGE_GRID``: not finite, flat, or voxels more than 50 mm apart.
    """
    remedy = "export the image again with its spacing and orientation"
    if not np.isfinite(affine).all():
        raise ImageError("IMAGE_GRID", case, f"the voxel-to-world matrix is not finite: {affine.tolist()}", remedy)
    lengths_mm = np.asarray(spacing_mm(affine))
    if (lengths_mm < 1e-9).any():
        raise ImageError("IMAGE_GRID", case, f"voxel spacing {_lengths_text(lengths_mm)} mm holds a zero", remedy)
    if any(mm > WIDEST_SPACING_MM and n > 1 for mm, n in zip(lengths_mm, shape, strict=False)):
        problem = f"voxel spacing {_lengths_text(lengths_mm)} mm exceeds {WIDEST_SPACING_MM:g} mm"
        raise ImageError("IMAGE_GRID", case, problem, "correct the spacing, which must be in millimetres")
    directions = affine[:3, :3] / lengths_mm
    if abs(np.linalg.det(directions)) < 1e-3:
        raise ImageError("IMAGE_GRID", case, "two voxel axes point the same way", remedy)
    shear = shear_cosine(affine)
    if shear <= LEAST_SHEAR:
        return ()
    return (
        make_note("SHEARED_GRID", f"voxel axes are not perpendicular (cosine {shear:.3g}); many tools ignore this"),
    )


def value_notes(array: NDArray) -> tuple[Finding, ...]:
    """Notes on voxels that arithmetic or float32, which networks use, cannot hold.

    Empty arrays give none.
    """
    if array.size == 0 or array.dtype == bool:
        return ()
    if np.issubdtype(array.dtype, np.integer):
        largest = max(abs(int(array.min())), abs(int(array.max())))
        if largest > 2**24:
            return (make_note("INTEGER_BEYOND_FLOAT32", f"value {largest} is not exact in float32 (above 2^24)"),)
        return ()
    finite = np.isfinite(array)
    bad = array.size - int(np.count_nonzero(finite))
    notes = [make_note("NONFINITE_VOXELS", f"{bad} of {array.size} voxels are NaN or infinite")] if bad else []
    largest_finite = float(np.abs(array, where=finite, out=np.zeros_like(array)).max()) if bad else _extreme(array)
    if largest_finite > LARGEST_SQUARE_SAFE:
        notes.append(make_note("HUGE_VALUES", f"value {largest_finite:.4g} overflows float32 when squared"))
    return tuple(notes)


def rescale(array: NDArray, slope: float, intercept: float) -> NDArray:
    """``slope`` × stored value + ``intercept``, the values that a header means.

    Identity returns the array itself. Integers stay integers (the smallest of int16,
    int32 and int64 that holds them) where slope is 1 and the intercept is whole;
    everything else becomes float32, calculated in float64.
    """
    if slope == 1 and intercept == 0:
        return array
    if slope == 1 and float(intercept).is_integer() and np.issubdtype(array.dtype, np.integer):
        return _shift(array, int(intercept))
    result = np.empty_like(array, dtype=np.float32)
    for index in range(array.shape[-1]):
        result[..., index] = array[..., index].astype(np.float64) * slope + intercept
    return result


def put_channels_first(array: NDArray, case: object) -> tuple[NDArray, bool]:
    """Drop trailing singleton axes beyond the third; move a fourth axis to the front.

    Returns:
        The array (X, Y), (X, Y, Z) or (C, X, Y, Z), and whether it has channels.

    Raises:
        ImageError: ``IMAGE_NOT_3D`` where five or more axes are in use.
    """
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim > 4:
        problem = f"{array.ndim} axes ({size_text(array.shape)})"
        raise ImageError("IMAGE_NOT_3D", case, problem, "split it into 3D images")
    return (np.moveaxis(array, -1, 0), True) if array.ndim == 4 else (array, False)


def unread(sizes: Sequence[int], dtype: np.dtype) -> NDArray:
    """An array of these sizes whose voxels share one place in memory, to stand for voxels that were not read."""
    return np.broadcast_to(np.zeros((), dtype), tuple(sizes))


def extent_of_axes(sizes: Sequence[int], dtype: np.dtype, affine: NDArray[np.float64], case: object) -> Extent:
    """The extent that reading makes of axes of these sizes, a fourth being channels.

    Raises:
        ImageError: ``IMAGE_NOT_3D``: five or more axes are in use.
    """
    array, has_channels = put_channels_first(unread(sizes, dtype), case)
    return Extent.of(Volume(array, affine, has_channels))


def _shift(array: NDArray, intercept: int) -> NDArray:
    low, high = int(array.min()) + intercept, int(array.max()) + intercept
    for dtype in (np.int16, np.int32, np.int64):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            # An intercept that does not fit wraps around, as the sums do; these fit.
            return np.add(array, np.int64(intercept).astype(dtype), dtype=dtype, casting="unsafe")
    return array.astype(np.float32) + np.float32(intercept)


def _extreme(array: NDArray) -> float:
    return max(abs(float(array.min())), abs(float(array.max())))


def _lengths_text(values: NDArray[np.float64]) -> str:
    return size_text(f"{value:.4g}" for value in values)
