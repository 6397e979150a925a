"""Losses and weights made of distances: the border weight map and the boundary loss."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from medseg.losses.base import SegmentationLoss, probabilities

REACH_IN_SIGMAS = 5
"""How far the border term is followed: at d1 + d2 of 5 σ it is below 4·10⁻⁶ of `w0`."""


class Boundary(SegmentationLoss):
    """Σ φ(x)·p(x), averaged over voxels and foreground channels (Kervadec et al. 2019, equation 5).

    φ is `signed_distance_map` of the truth, in voxels, made anew for each batch on the
    processor. A perfect mask has the most negative value. It says nothing where a class
    is absent from an image, so train with its sum with Dice (`dice-boundary`).
    """

    def measure(self, logits: Tensor, truth: Tensor) -> Tensor:
        """The boundary loss."""
        first = 0 if logits.shape[1] == 1 else 1
        masks = truth[:, first:].cpu().numpy() > 0.5
        maps = np.stack([[signed_distance_map(mask) for mask in classes] for classes in masks])
        return (torch.from_numpy(maps).to(logits) * probabilities(logits)[:, first:]).mean()


def signed_distance_map(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance in voxels to the mask's boundary: positive outside, zero or negative inside.

    Outside, a voxel has its distance to the nearest voxel inside; inside, one less than its
    distance to the nearest voxel outside, negated, so that the mask's outermost voxels are 0.
    A mask that is empty or full has no boundary, and gives zeros.

    Args:
        mask: True inside; any number of axes.
    """
    if mask.all() or not mask.any():
        return np.zeros(mask.shape)
    outside = ndimage.distance_transform_edt(~mask)
    inside = ndimage.distance_transform_edt(mask)
    return np.where(mask, 1 - inside, outside)


def border_weight_map(label: NDArray[np.integer], w0: float = 10.0, sigma: float = 5.0) -> NDArray[np.float32]:
    """w(x) = w_c(x) + w0·exp(−(d1 + d2)² / 2σ²) (Ronneberger et al. 2015, equation 2).

    w_c balances the classes: N / (K·N_c) for a voxel of class c, with N voxels, N_c of them
    of that class, and K classes present; its mean is 1. d1 and d2 are the distances in
    voxels to the nearest and second nearest object, 0 inside it; objects are the connected
    pieces (face to face) of each class but 0. With fewer than two objects within
    `REACH_IN_SIGMAS`·σ, the second term is 0.

    Args:
        label: Integer labels, (X, Y) or (X, Y, Z).
        w0: Height of the border term.
        sigma: σ, its width in voxels.

    Returns:
        Weights in the shape of the label.
    """
    nearest, second = _two_nearest_objects(label, reach_voxels=int(np.ceil(REACH_IN_SIGMAS * sigma)))
    border = w0 * np.exp(-((nearest + second) ** 2) / (2 * sigma**2))
    return (_class_balance(label) + border).astype(np.float32)


def _class_balance(label: NDArray[np.integer]) -> NDArray[np.float64]:
    _, index, counts = np.unique(label, return_inverse=True, return_counts=True)
    return (label.size / (len(counts) * counts))[index].reshape(label.shape)


def _two_nearest_objects(
    label: NDArray[np.integer], reach_voxels: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distances to the nearest and second nearest object, infinite where beyond reach."""
    nearest = np.full(label.shape, np.inf)
    second = np.full(label.shape, np.inf)
    for objects in _objects_of_each_class(label):
        for number, box in enumerate(ndimage.find_objects(objects), start=1):
            # Only a box about the object is looked at: hundreds of objects stay affordable.
            near = tuple(slice(max(side.start - reach_voxels, 0), side.stop + reach_voxels) for side in box)
            distance = ndimage.distance_transform_edt(objects[near] != number)
            second[near] = np.minimum(second[near], np.maximum(nearest[near], distance))
            nearest[near] = np.minimum(nearest[near], distance)
    return nearest, second


def _objects_of_each_class(label: NDArray[np.integer]) -> list[NDArray[np.int32]]:
    return [ndimage.label(label == value)[0] for value in np.unique(label) if value != 0]
