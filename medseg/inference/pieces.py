"""Connected pieces of structures in a mask."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

BACKGROUND = 0


def largest_pieces(mask: NDArray, labels: Collection[int]) -> NDArray:
    """A copy of ``mask`` (X, Y[, Z]) in which each of ``labels`` is one connected piece at most."""
    kept = mask.copy()
    for label in labels:
        pieces, count = ndimage.label(mask == label, structure=np.ones((3,) * mask.ndim))
        if count > 1:
            sizes = np.bincount(pieces.ravel())
            sizes[0] = 0
            kept[(mask == label) & (pieces != sizes.argmax())] = BACKGROUND
    return kept
