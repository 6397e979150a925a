"""Write images so that a file under its final name is whole and holds what was meant.

Each file is written beside its target under a hidden name, flushed to disk, read back
and compared, and only then renamed.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg.data.formats import Format
from medseg.data.formats.table import WRITTEN
from medseg.data.labels import shrink_integers
from medseg.data.volume import Volume
from medseg.errors import ImageError, OutputError, UsageError
from medseg.geometry import Grid, is_same_grid

WIDE_INTEGERS = (np.dtype(np.int32), np.dtype(np.uint32), np.dtype(np.int64), np.dtype(np.uint64))


def write(array: ArrayLike, affine: ArrayLike, path: str | Path, *, has_channels: bool = False) -> Path:
    """Write an image or mask; the suffix chooses the format.

    Booleans become uint8, integers wider than 16 bits the smallest type that holds
    them (labels: uint8), float16 becomes float32; other types are kept. Missing
    folders are made. The same call gives the same bytes.

    Args:
        array: (X, Y) or (X, Y, Z); with ``has_channels`` (C, X, Y) or (C, X, Y, Z).
        affine: 4 by 4, voxel index to RAS+ mm; pictures cannot keep it.
        path: .nii.gz, .nii, .nrrd, .mha, .npz, .png, .tif or .tiff.
        has_channels: Whether the first axis holds channels.

    Returns:
        ``path``.

    Raises:
        UsageError: ``FORMAT_UNKNOWN``, or ``FORMAT_UNFIT`` where the format cannot hold the array.
        OutputError: ``OUTPUT_UNWRITABLE`` or ``OUTPUT_NOT_VERIFIED``.
    """
    path = Path(path)
    suffix = next((ending for ending in WRITTEN if path.name.lower().endswith(ending)), "")
    known = WRITTEN.get(suffix)
    if known is None or known.write is None:
        problem = f"no image format is written under the name {path.name!r}"
        raise UsageError("FORMAT_UNKNOWN", path, problem, f"use one of {', '.join(WRITTEN)}")
    volume = _make_storable(np.asarray(array), np.asarray(affine, dtype=float), has_channels, path)
    if refusal := known.refuse(volume, suffix):
        raise UsageError("FORMAT_UNFIT", path, refusal, "write .nii.gz, or .npz, which holds any array")
    temporary = path.with_name(f".{secrets.token_hex(6)}.tmp{suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        known.write(volume, temporary)
        _flush(temporary)
        _verify(volume, known, temporary, path)
        temporary.replace(path)
        _flush(path.parent)
    except (OSError, RuntimeError) as error:
        problem = f"it cannot be written ({error})"
        raise OutputError("OUTPUT_UNWRITABLE", path, problem, "free space or choose another folder") from error
    finally:
        _remove(temporary)
    return path


def _make_storable(array: NDArray, affine: NDArray[np.float64], has_channels: bool, path: Path) -> Volume:
    axes = array.ndim - has_channels
    if array.dtype.kind not in "biuf" or array.size == 0 or axes not in (2, 3) or affine.shape != (4, 4):
        problem = f"array of {array.dtype} and shape {array.shape}, affine of shape {affine.shape}"
        remedy = "give a 2D or 3D array of numbers and a 4 by 4 affine"
        raise UsageError("FORMAT_UNFIT", path, problem, remedy)
    if array.dtype == bool:
        array = array.astype(np.uint8)
    elif array.dtype in WIDE_INTEGERS and array.max() <= np.iinfo(np.int64).max:
        array = shrink_integers(array, path) if abs(array).max() < 2**53 else array
    elif array.dtype == np.float16:
        array = array.astype(np.float32)
    return Volume(array.astype(array.dtype.newbyteorder("="), copy=False), affine, has_channels)


def _verify(volume: Volume, known: Format, written: Path, path: Path) -> None:
    """Read the file back; voxels must be equal, the grid equal to header rounding."""
    try:
        stored = known.read(written)
    except ImageError as error:
        problem = f"the file just written cannot be read back ({error.code}: {error.problem})"
        raise OutputError("OUTPUT_NOT_VERIFIED", path, problem, "check the disk") from error
    has_floats = volume.array.dtype.kind == "f"
    if not np.array_equal(stored.array, volume.array, equal_nan=has_floats):
        problem = "the voxels read back differ from those written"
        raise OutputError("OUTPUT_NOT_VERIFIED", path, problem, "check the disk")
    wanted = Grid(volume.spatial_shape, volume.affine)
    if not known.is_picture and not is_same_grid(stored.grid, wanted):
        problem = "the format cannot hold this grid"
        raise OutputError("OUTPUT_NOT_VERIFIED", path, problem, "write .nii.gz instead")


def _flush(path: Path) -> None:
    """Force a file's content, or a folder's names, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(temporary: Path) -> None:
    try:
        temporary.unlink(missing_ok=True)
    except OSError:
        return  # The folder itself is out of reach; that error is already on its way.
