"""Transforms that MONAI lacks, in its dictionary form."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.typing import NDArray

from medseg.data.align import order_axes, spread
from medseg.data.formats.pictures import is_grey
from medseg.errors import GridError
from medseg.geometry import NEAR_GRID_VOXELS, Grid, corner_distance_voxels, is_same_grid, reindex


class AlignToImaged(MapTransform):
    """Bring labels onto the grid of their image, by turning axes alone; refuse where that is not enough.

    Corners up to 0.1 voxel apart are a rounded header: the voxels stay, the image's grid counts.

    A bare array (NPZ without an affine) takes the image's grid where the order of its axes
    follows from the image's size; see `medseg.data.align`. A mask of some of the image's voxels
    (a DICOM SEG without its series) is background elsewhere.

    Args:
        keys: The labels, (1, X, Y[, Z]) MetaTensors as `LoadImaged` and `EnsureChannelFirstd` leave them.
        image_key: The image whose grid counts.
        allow_missing_keys: Pass over labels that are not there.
    """

    def __init__(self, keys: KeysCollection, image_key: str = "image", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """``data`` with its labels aligned.

        Raises:
            GridError: GRID_MISMATCH: an image and its label do not hold the same voxels;
                AXES_AMBIGUOUS or SLICES_DIFFER of a bare array.
        """
        aligned = dict(data)
        target = _grid(data[self.image_key])
        for key in self.key_iterator(aligned):
            label = aligned[key]
            array, case = np.asarray(label)[0], label.meta.get("filename_or_obj", key)
            if label.meta.get("is_partial", False):
                turned, _ = spread(array, _grid(label), target, case)
            elif label.meta.get("has_grid", True) or is_same_grid(_grid(label), target):
                turned = _turn(array, _grid(label), target, case)
            else:
                turned = order_axes(array, target, case)
            if turned is not array or not is_same_grid(_grid(label), target):
                aligned[key] = _move(target, turned, label)
        return aligned


class GreyToOneChanneld(MapTransform):
    """Of a grey picture that was saved as colours keep one channel; any other image is left as it is.

    Args:
        keys: Images, (C, X, Y).
        allow_missing_keys: Pass over images that are not there.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """``data`` with its grey images as (1, X, Y)."""
        changed = dict(data)
        for key in self.key_iterator(changed):
            if is_grey(np.asarray(changed[key])):
                changed[key] = changed[key][:1]
        return changed


class SuppressOutsided(MapTransform):
    """Set what lies outside a mask to one value, so that a network sees the region of interest alone.

    Needs the mask, so it serves training and evaluation only. MONAI's `MaskIntensityd` sets to 0,
    which is water in a CT, not air.

    Args:
        keys: The images, (C, X, Y[, Z]).
        mask_key: The mask, (1, X, Y[, Z]), above 0 inside.
        value: Set outside, in the image's unit; None is the lowest value of each channel.
        allow_missing_keys: Pass over images that are not there.
    """

    def __init__(
        self,
        keys: KeysCollection,
        mask_key: str = "label",
        value: float | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mask_key = mask_key
        self.value = value

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """``data`` with the images suppressed; an empty mask leaves one value throughout.

        Raises:
            GridError: SHAPE_MISMATCH: an image has another size than the mask.
        """
        suppressed = dict(data)
        outside = torch.as_tensor(np.asarray(data[self.mask_key]) <= 0)
        for key in self.key_iterator(suppressed):
            image = suppressed[key]
            if image.shape[1:] != outside.shape[1:]:
                problem = f"{tuple(image.shape[1:])} voxels, the mask has {tuple(outside.shape[1:])}"
                raise GridError("SHAPE_MISMATCH", key, problem, "align image and mask before")
            changed = image.clone()
            for channel in changed:
                channel[outside[0].to(channel.device)] = channel.min() if self.value is None else self.value
            suppressed[key] = changed
        return suppressed


def _turn(array: NDArray, source: Grid, target: Grid, case: object) -> NDArray:
    is_near = corner_distance_voxels(source, target) <= NEAR_GRID_VOXELS
    return array if is_near else reindex(array, source, target, case)


def _move(grid: Grid, array: NDArray, label: MetaTensor) -> MetaTensor:
    """``array`` as a label on ``grid``, with the rest of ``label``'s metadata."""
    affine = torch.as_tensor(grid.affine)
    changes = {"spatial_shape": np.asarray(array.shape), "original_affine": affine, "affine": affine}
    known = {**label.meta, **changes, "has_grid": True, "is_partial": False}
    return MetaTensor(torch.as_tensor(array.copy())[None], meta=known)


def _grid(image: MetaTensor) -> Grid:
    affine: NDArray[np.float64] = np.asarray(image.affine, dtype=float)
    return Grid(tuple(image.shape[1:]), affine)
