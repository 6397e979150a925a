"""Write images so that a file under its final name is whole and holds what was meant.

Each file is written beside its target under a hidden name, flushed to disk, read back
and compared, and only then renamed.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from isal import igzip
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from medseg.data.archives import AFFINE_KEY, CHANNELS_KEY, read_npz
from medseg.data.itk_formats import read_metaimage, read_nrrd
from medseg.data.labels import smallest_integers
from medseg.data.nifti import read_nifti
from medseg.data.pictures import read_picture
from medseg.data.volume import Volume
from medseg.errors import ImageError, OutputError, UsageError
from medseg.geometry import Grid, is_same_grid

GZIP_LEVEL = 3
LARGEST_NIFTI1_AXIS = 2**15 - 1
WIDE_INTEGERS = (np.dtype(np.int32), np.dtype(np.uint32), np.dtype(np.int64), np.dtype(np.uint64))
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Writer:
    """How one format is written, and read back to prove it.

    Args:
        write: Takes the volume and the file to write.
        read: The strict reader of the same format.
        refusal: Why the format cannot hold a volume; empty where it can.
        stores_grid: Whether the format can hold an affine.
    """

    write: Callable[[Volume, Path], None]
    read: Callable[[Path], Volume]
    refusal: Callable[[Volume], str]
    stores_grid: bool = True


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
    suffix = next((known for known in WRITERS if path.name.lower().endswith(known)), None)
    if suffix is None:
        problem = f"no image format is written under the name {path.name!r}"
        raise UsageError("FORMAT_UNKNOWN", path, problem, f"use one of {', '.join(WRITERS)}")
    volume = _storable(np.asarray(array), np.asarray(affine, dtype=float), has_channels, path)
    if refusal := WRITERS[suffix].refusal(volume):
        raise UsageError("FORMAT_UNFIT", path, refusal, "write .nii.gz, or .npz, which holds any array")
    temporary = path.with_name(f".{secrets.token_hex(6)}.tmp{suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        WRITERS[suffix].write(volume, temporary)
        _flush(temporary)
        _verify(volume, WRITERS[suffix], temporary, path)
        temporary.replace(path)
        _flush(path.parent)
    except (OSError, RuntimeError) as error:
        problem = f"it cannot be written ({error})"
        raise OutputError("OUTPUT_UNWRITABLE", path, problem, "free space or choose another folder") from error
    finally:
        _remove(temporary)
    return path


def _storable(array: NDArray, affine: NDArray[np.float64], has_channels: bool, path: Path) -> Volume:
    axes = array.ndim - has_channels
    if array.dtype.kind not in "biuf" or array.size == 0 or axes not in (2, 3) or affine.shape != (4, 4):
        problem = f"array of {array.dtype} and shape {array.shape}, affine of shape {affine.shape}"
        remedy = "give a 2D or 3D array of numbers and a 4 by 4 affine"
        raise UsageError("FORMAT_UNFIT", path, problem, remedy)
    if array.dtype == bool:
        array = array.astype(np.uint8)
    elif array.dtype in WIDE_INTEGERS and array.max() <= np.iinfo(np.int64).max:
        array = smallest_integers(array, path) if abs(array).max() < 2**53 else array
    elif array.dtype == np.float16:
        array = array.astype(np.float32)
    return Volume(array.astype(array.dtype.newbyteorder("="), copy=False), affine, has_channels)


def _verify(volume: Volume, writer: Writer, written: Path, path: Path) -> None:
    """Read the file back; voxels must be equal, the grid equal to header rounding."""
    try:
        stored = writer.read(written)
    except ImageError as error:
        problem = f"the file just written cannot be read back ({error.code}: {error.problem})"
        raise OutputError("OUTPUT_NOT_VERIFIED", path, problem, "check the disk") from error
    has_floats = volume.array.dtype.kind == "f"
    if not np.array_equal(stored.array, volume.array, equal_nan=has_floats):
        problem = "the voxels read back differ from those written"
        raise OutputError("OUTPUT_NOT_VERIFIED", path, problem, "check the disk")
    wanted = Grid(volume.spatial_shape, volume.affine)
    if writer.stores_grid and not is_same_grid(stored.grid, wanted):
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


def _write_nifti(volume: Volume, path: Path) -> None:
    array = np.moveaxis(volume.array, 0, -1) if volume.has_channels else volume.array
    kind = nib.Nifti1Image if max(array.shape) <= LARGEST_NIFTI1_AXIS else nib.Nifti2Image
    image = kind(array, volume.affine, dtype=array.dtype)
    image.header.set_xyzt_units("mm")
    image.set_sform(volume.affine, code=1)
    directions = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    is_sheared = not np.allclose(directions.T @ directions, np.eye(3), atol=1e-4)
    image.set_qform(volume.affine, code=0 if is_sheared else 1)
    with path.open("xb") as file:
        if path.name.endswith(".gz"):
            with igzip.IGzipFile("", "wb", compresslevel=GZIP_LEVEL, fileobj=file, mtime=0) as packed:
                image.to_stream(packed)
        else:
            image.to_stream(file)


def _write_itk(volume: Volume, path: Path) -> None:
    import SimpleITK

    array = np.moveaxis(volume.array, 0, -1) if volume.has_channels else volume.array
    axes = len(volume.spatial_shape)
    order = [*range(axes - 1, -1, -1), *([axes] if volume.has_channels else [])]
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.transpose(order)), isVector=volume.has_channels)
    lps = RAS_TO_LPS @ volume.affine
    spacing = np.linalg.norm(lps[:axes, :axes], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:axes, 3].tolist())
    image.SetDirection((lps[:axes, :axes] / spacing).ravel().tolist())
    SimpleITK.WriteImage(image, str(path), useCompression=True)


def _write_npz(volume: Volume, path: Path) -> None:
    arrays = {"array": volume.array, AFFINE_KEY: volume.affine, CHANNELS_KEY: np.array(volume.has_channels)}
    with path.open("xb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def _write_png(volume: Volume, path: Path) -> None:
    _pages(volume)[0].save(path)


def _write_tiff(volume: Volume, path: Path) -> None:
    first, *rest = _pages(volume)
    first.save(path, save_all=True, append_images=rest, compression="tiff_adobe_deflate")


def _no_refusal(volume: Volume) -> str:
    return ""


def _nifti_refusal(volume: Volume) -> str:
    is_flat = volume.has_channels and volume.array.ndim == 3
    return "NIfTI has no 2D image with channels" if is_flat else ""


def _png_refusal(volume: Volume) -> str:
    return _picture_refusal(volume, ("uint8", "uint16"), most_axes=2)


def _tiff_refusal(volume: Volume) -> str:
    return _picture_refusal(volume, ("uint8", "uint16", "float32"), most_axes=3)


def _picture_refusal(volume: Volume, dtypes: tuple[str, ...], most_axes: int) -> str:
    dtype, shape = str(volume.array.dtype), volume.array.shape
    is_colour = volume.has_channels and shape[0] == 3 and dtype == "uint8" and len(shape) == 3
    is_grey = not volume.has_channels and len(shape) <= most_axes and dtype in dtypes
    if is_colour or is_grey:
        return ""
    return f"it holds {' or '.join(dtypes)}, or 3 channels of uint8, not {dtype} of shape {shape}"


def _pages(volume: Volume) -> list[Image.Image]:
    if volume.has_channels:
        return [Image.fromarray(np.ascontiguousarray(volume.array.transpose(2, 1, 0)))]
    pages = volume.array if volume.array.ndim == 3 else volume.array[..., None]
    return [Image.fromarray(np.ascontiguousarray(pages[..., index].T)) for index in range(pages.shape[-1])]


WRITERS: dict[str, Writer] = {
    ".nii.gz": Writer(_write_nifti, read_nifti, _nifti_refusal),
    ".nii": Writer(_write_nifti, read_nifti, _nifti_refusal),
    ".nrrd": Writer(_write_itk, read_nrrd, _no_refusal),
    ".mha": Writer(_write_itk, read_metaimage, _no_refusal),
    ".npz": Writer(_write_npz, read_npz, _no_refusal),
    ".png": Writer(_write_png, read_picture, _png_refusal, stores_grid=False),
    ".tif": Writer(_write_tiff, read_picture, _tiff_refusal, stores_grid=False),
    ".tiff": Writer(_write_tiff, read_picture, _tiff_refusal, stores_grid=False),
}
"""The formats that are written, by suffix."""
