"""Several files as one volume: images as its channels, masks as their union."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medseg.data.align import cover, put_on_grid
from medseg.data.volume import Note, Volume
from medseg.errors import GridError, LabelError
from medseg.geometry import is_same_grid, reindex, size_text


def stack(volumes: Sequence[Volume], paths: Sequence[str | os.PathLike]) -> Volume:
    """The volumes as channels of one, on the first one's grid.

    Args:
        volumes: At least one; those with channels give all of theirs.
        paths: Where they come from, for the error.

    Raises:
        GridError: ``GRID_MISMATCH``: they do not hold the same voxels.
    """
    first = volumes[0]
    if len(volumes) == 1:
        return first
    channels: list[NDArray] = []
    notes: list[Note] = []
    for volume, path in zip(volumes, paths, strict=True):
        parts = list(volume.array) if volume.has_channels else [volume.array]
        if not is_same_grid(volume.grid, first.grid):
            parts = [reindex(part, volume.grid, first.grid, path) for part in parts]
        channels += parts
        notes += volume.notes
    return Volume(np.stack(channels), first.affine, True, tuple(notes))


def unite(masks: Sequence[Volume], paths: Sequence[str | os.PathLike]) -> Volume:
    """The union of masks that each hold a part of the structures, such as the left and the right lung.

    Args:
        masks: At least one, of labels, without channels, on one grid.
        paths: Where they come from, for the error.

    Raises:
        GridError: ``GRID_MISMATCH``: they lie on different grids.
        LabelError: ``LABEL_OVERLAP``: a voxel has different labels in two of them.
    """
    masks = complete(masks, paths)
    union, notes = masks[0].array, list(masks[0].notes)
    for mask, path in zip(masks[1:], paths[1:], strict=True):
        if not is_same_grid(mask.grid, masks[0].grid):
            first, other = size_text(masks[0].spatial_shape), size_text(mask.spatial_shape)
            problem = f"{other} voxels, {paths[0]} has {first}, or they lie elsewhere"
            raise GridError("GRID_MISMATCH", path, problem, "export all parts of the mask from the same image")
        clash = (union != 0) & (mask.array != 0) & (union != mask.array)
        if clash.any():
            at = tuple(int(place[0]) for place in np.nonzero(clash))
            problem = f"{int(clash.sum())} voxels, such as {at}, have another label in {paths[0]}"
            raise LabelError("LABEL_OVERLAP", path, problem, "give each voxel one label in all parts of the mask")
        union = np.where(union != 0, union, mask.array)
        notes += [note for note in mask.notes if note not in notes]
    return replace(masks[0], array=union, notes=tuple(notes))


def complete(masks: Sequence[Volume], names: Sequence[object]) -> Sequence[Volume]:
    """Masks of some of an image's voxels on the grid of one that has them all, or on the one that covers all.

    Args:
        masks: Of one image; those that are not ``is_partial`` are returned as they are.
        names: Of each, for the error.

    Raises:
        GridError: ``GRID_MISMATCH``: they do not lie on the same voxels.
    """
    if not any(mask.is_partial for mask in masks):
        return masks
    whole = next((mask.grid for mask in masks if not mask.is_partial), None)
    grid = whole or cover([mask.grid for mask in masks])
    moved = [
        put_on_grid(mask, grid, name) if mask.is_partial else mask for mask, name in zip(masks, names, strict=True)
    ]
    return [replace(mask, is_partial=whole is None) for mask in moved]
