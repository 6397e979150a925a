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

from medseg.geometry import Grid, reindex


class AlignToImaged(MapTransform):
    """Bring labels onto the grid of their image, by turning axes alone; refuse where that is not enough.

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
            GridError: GRID_MISMATCH: an image and its label do not hold the same voxels.
        """
        aligned = dict(data)
        target = _grid(data[self.image_key])
        for key in self.key_iterator(aligned):
            label = aligned[key]
            array = np.asarray(label)[0]
            turned = reindex(array, _grid(label), target, label.meta.get("filename_or_obj", key))
            if turned is not array:
                affine = torch.as_tensor(target.affine)
                meta = {**label.meta, "spatial_shape": np.asarray(turned.shape), "original_affine": affine}
                aligned[key] = MetaTensor(torch.as_tensor(turned.copy())[None], affine=affine, meta=meta)
        return aligned


def _grid(image: MetaTensor) -> Grid:
    affine: NDArray[np.float64] = np.asarray(image.affine, dtype=float)
    return Grid(tuple(image.shape[1:]), affine)
