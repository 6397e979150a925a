"""Images for bundles: strict reading and verified writing as MONAI's ``ImageReader`` and ``ImageWriter``.

``read``, ``read_mask`` and ``write`` can be had from here too; without MONAI they stand in ``read`` and ``write``.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data import ImageReader, ImageWriter
from monai.data.utils import is_no_channel
from monai.utils import convert_to_numpy
from monai.utils.enums import SpaceKeys
from numpy.typing import DTypeLike, NDArray

from medseg.data.align import stack
from medseg.data.image_files import is_image_name
from medseg.data.read import read, read_mask
from medseg.data.volume import Volume
from medseg.data.write import write

__all__ = ["MaskReader", "VolumeReader", "VolumeWriter", "read", "read_mask", "write"]


class VolumeReader(ImageReader):
    """``LoadImaged(reader="medseg.data.images.VolumeReader")`` reads with ``medseg.data.read.read``.

    ``read`` only takes down the paths: ``LoadImage`` answers an error there by trying
    other, laxer readers. The files are read in ``get_data``, whose errors reach the user.
    """

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Whether every name is a folder or ends as a known format does."""
        return all(Path(path).is_dir() or is_image_name(Path(path).name) for path in _as_list(filename))

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> list[PathLike]:
        """The paths, to be read by ``get_data``."""
        return _as_list(data)

    def get_data(self, img: Sequence[PathLike]) -> tuple[NDArray, dict[str, Any]]:
        """Read the files; several become channels, on the first one's grid.

        Returns:
            The array, channels first if there are any, and MONAI's metadata.

        Raises:
            ImageError: As ``medseg.data.read.read``.
            GridError: ``GRID_MISMATCH``: the channels do not hold the same voxels.
        """
        volume = self._volume([Path(path) for path in img])
        return volume.array, {
            "affine": volume.affine.copy(),
            "original_affine": volume.affine.copy(),
            "spatial_shape": np.asarray(volume.spatial_shape),
            "original_channel_dim": 0 if volume.has_channels else float("nan"),
            "space": SpaceKeys.RAS,
            "has_grid": volume.has_grid,
            "is_partial": volume.is_partial,
            "notes": "; ".join(str(note) for note in volume.notes),
        }

    def _volume(self, paths: list[Path]) -> Volume:
        return stack([read(path) for path in paths], paths)


class MaskReader(VolumeReader):
    """``LoadImaged(reader="medseg.data.images.MaskReader", values=[0, 1])`` reads with ``read_mask``.

    Several files are united, not stacked as channels.

    Args:
        values: The labels that may occur; see ``medseg.data.read.read_mask``.
        names: Names and codes of each label, by which segments of DICOM objects are recognised. The
            labels may be text, as in JSON.
    """

    def __init__(
        self, values: Collection[int] | None = None, names: Mapping[int | str, Sequence[str]] | None = None
    ) -> None:
        super().__init__()
        self.values = values
        self.names = {int(label): tuple(texts) for label, texts in (names or {}).items()}

    def _volume(self, paths: list[Path]) -> Volume:
        return read_mask(paths, self.values, self.names)


class VolumeWriter(ImageWriter):
    """``SaveImaged(writer="medseg.data.images.VolumeWriter")`` writes with ``medseg.data.write.write``.

    The file lies on the grid that the metadata's ``affine`` gives, or, with
    ``resample``, on that of ``original_affine`` and ``spatial_shape``.

    Args:
        output_dtype: Type of the voxels in the file; None keeps the array's.
        scale: 255 or 65535: values from 0 to 1 are clipped and scaled to this.
        kwargs: Kept as attributes, as MONAI's writers do.
    """

    def __init__(self, output_dtype: DTypeLike | None = None, scale: int | None = None, **kwargs: Any) -> None:
        super().__init__(output_dtype=output_dtype, scale=scale, **kwargs)
        self.output_dtype = None if output_dtype is None else np.dtype(output_dtype)
        self.scale = scale
        self.has_channels = False
        self.affine: NDArray[np.float64] = np.eye(4)

    def set_data_array(self, data_array: Any, channel_dim: int | None = 0, **kwargs: Any) -> None:
        """Take the voxels; a single channel is dropped, several are moved to the front.

        Args:
            data_array: Array or tensor.
            channel_dim: The axis of the channels, or None.
            kwargs: Ignored: no spatial axis is ever dropped.
        """
        array = np.asarray(convert_to_numpy(data_array))
        self.has_channels = not is_no_channel(channel_dim)
        if self.has_channels:
            array = np.moveaxis(array, int(channel_dim or 0), 0)
            if array.shape[0] == 1:
                array, self.has_channels = array[0], False
        self.data_obj = array

    def set_metadata(self, meta_dict: Mapping | None, resample: bool = True, **options: Any) -> None:
        """Take the grid from MONAI's metadata, resampling to the original one if asked to.

        Args:
            meta_dict: With ``affine``, and ``original_affine`` and ``spatial_shape`` for resampling.
            resample: Whether to resample onto the original grid where it differs.
            options: ``mode``, ``padding_mode`` and ``dtype`` of the resampling.
        """
        original_affine, affine, spatial_shape = self.get_meta_info(meta_dict)
        self.affine = _four_by_four(affine)
        target = self.affine if original_affine is None else _four_by_four(original_affine)
        if resample and not np.allclose(self.affine, target):
            self.data_obj = self._resample(target, spatial_shape, options)
            self.affine = target

    def write(self, filename: PathLike, verbose: bool = True, **kwargs: Any) -> None:
        """Write, read back and compare, as ``medseg.data.write.write``.

        Raises:
            OutputError: ``OUTPUT_UNWRITABLE`` or ``OUTPUT_NOT_VERIFIED``.
        """
        super().write(filename, verbose=verbose)
        array = np.asarray(self.data_obj)
        if self.scale is not None:
            array = np.rint(np.clip(array, 0, 1) * self.scale).astype(np.uint8 if self.scale == 255 else np.uint16)
        elif self.output_dtype is not None:
            array = array.astype(self.output_dtype, copy=False)
        write(array, self.affine, Path(filename), has_channels=self.has_channels)

    def _resample(self, target: NDArray[np.float64], spatial_shape: Any, options: dict[str, Any]) -> NDArray:
        channels = self.data_obj if self.has_channels else self.data_obj[None]
        size = None if spatial_shape is None else [int(n) for n in spatial_shape]
        moved = [self.resample_if_needed(one, self.affine, target, size, **options)[0] for one in channels]
        return np.stack(moved) if self.has_channels else moved[0]


def _as_list(data: Sequence[PathLike] | PathLike) -> list[PathLike]:
    return [data] if isinstance(data, str | os.PathLike) else list(data)


def _four_by_four(affine: Any) -> NDArray[np.float64]:
    """``affine`` as 4 by 4; a 2D one is embedded, its third axis 1 mm along z."""
    if affine is None:
        return np.eye(4)
    matrix = np.asarray(convert_to_numpy(affine), dtype=float)
    if matrix.shape == (4, 4):
        return matrix
    axes = matrix.shape[0] - 1
    full = np.eye(4)
    full[:axes, :axes] = matrix[:axes, :axes]
    full[:axes, 3] = matrix[:axes, axes]
    return full
