"""An image on its way to a network, with what was done to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Image:
    """Voxels, where they lie, and the operations that brought them there.

    ``medseg.inference.inverse_transform.axis_changes`` reads the operations, recorded as MONAI's transforms do.

    Args:
        array: (C, X, Y[, Z]) float32.
        affine: 4 by 4, voxel index to RAS+ mm.
        applied_operations: In their order.
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


def chosen_size(wanted: Sequence[int] | int, size: Sequence[int]) -> tuple[int, ...]:
    """``wanted`` along each axis; where it is 0 or less, the image's own.

    >>> chosen_size([16, -1], (20, 30)), chosen_size(8, (20, 30))
    ((16, 30), (8, 8))
    """
    given = [wanted] * len(size) if isinstance(wanted, int) else list(wanted)
    return tuple(int(new) if new > 0 else int(old) for new, old in zip(given, size, strict=True))
