"""From labels to better labels: what is known of the structures is applied to a mask."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from medseg.inference.prediction import keep_largest_pieces


class KeepLargestd(MapTransform):
    """Keep the largest connected piece of each structure that a body has one of; other pieces become background.

    Pieces touch by faces, edges or corners; of equally large ones the first in memory stays. What MONAI's
    `KeepLargestConnectedComponentd` does with scikit-image, this does with SciPy.

    Args:
        keys: The masks, (1, X, Y[, Z]) of whole numbers.
        labels: The structures; those that are not named stay as they are.
        allow_missing_keys: Pass over masks that are not there.
    """

    def __init__(self, keys: KeysCollection, labels: Collection[int], allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.labels = tuple(labels)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """``data`` with its masks cleaned."""
        cleaned = dict(data)
        for key in self.key_iterator(cleaned):
            mask = cleaned[key]
            kept = torch.as_tensor(keep_largest_pieces(np.asarray(mask)[0], self.labels))[None]
            cleaned[key] = MetaTensor(kept, meta=mask.meta) if isinstance(mask, MetaTensor) else kept
        return cleaned
