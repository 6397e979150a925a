"""NPZ archives that hold one image or mask, read without unpickling anything."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.data.formats import Format
from medseg.data.formats.payload import check_budget
from medseg.data.volume import PARSER_ERRORS, Volume, check_affine, value_notes
from medseg.errors import ImageError

AFFINE_KEY = "affine"
CHANNELS_KEY = "has_channels"
ZIP_ERRORS: tuple[type[Exception], ...] = (zipfile.BadZipFile, *PARSER_ERRORS)


def read_npz(path: Path) -> Volume:
    """Read the one array of two or more axes in ``path``, whatever its name.

    Its grid is the 4 by 4 array named ``affine`` where there is one, else it has none
    (``has_grid`` is false). Four axes, or a true ``has_channels``, mean channels first. Booleans
    become uint8.

    Raises:
        ImageError: Damaged, pickled, or with no such array or several.
    """
    arrays = _read_arrays(path)
    has_grid = AFFINE_KEY in arrays
    affine = np.asarray(arrays.pop(AFFINE_KEY, np.eye(4)), dtype=float)
    flag = arrays.pop(CHANNELS_KEY, np.array(False))
    images = {name: array for name, array in arrays.items() if array.ndim >= 2}
    if len(images) != 1:
        problem = f"it holds {len(images)} arrays of two or more axes ({', '.join(sorted(images)[:8])})"
        raise ImageError("NPZ_ARRAYS", path, problem, f"keep one, and its grid as {AFFINE_KEY!r}")
    array = next(iter(images.values()))
    if array.dtype == bool:
        array = array.astype(np.uint8)
    if array.dtype.kind not in "iuf" or array.ndim > 4:
        problem = f"an array of {array.dtype} with {array.ndim} axes"
        raise ImageError("IMAGE_DTYPE", path, problem, "store integers or floats with two to four axes")
    if affine.shape != (4, 4):
        raise ImageError("IMAGE_GRID", path, f"{AFFINE_KEY!r} has shape {affine.shape}", "store it as 4 by 4")
    has_channels = array.ndim == 4 or (bool(flag.any()) and array.ndim == 3)
    shape = array.shape[1:] if has_channels else array.shape
    return Volume(array, affine, has_channels, check_affine(affine, shape, path) + value_notes(array), has_grid)


def write_npz(volume: Volume, path: Path) -> None:
    """Write the voxels beside their affine and whether they have channels."""
    arrays = {"array": volume.array, AFFINE_KEY: volume.affine, CHANNELS_KEY: np.array(volume.has_channels)}
    with path.open("xb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def _read_arrays(path: Path) -> dict[str, NDArray]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            check_budget(sum(info.file_size for info in infos), path.stat().st_size, True, path)
            return {info.filename.removesuffix(".npy"): _parse_array(archive.read(info)) for info in infos}
    except ZIP_ERRORS as error:
        raise ImageError("IMAGE_CORRUPT", path, f"the archive is damaged ({error})", "write it again") from error


def _parse_array(data: bytes) -> NDArray:
    return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)


NPZ = Format("NPZ", (".npz",), read_npz, write=write_npz, written=(".npz",))
