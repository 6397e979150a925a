"""How alike two label arrays are. Run in a child process: NumPy stays out of the process that measures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

BACKGROUND = 0


def alike(pairs: Sequence[tuple[Path, Path]]) -> tuple[float, float]:
    """Share of equal voxels in per cent, and mean Dice over the foreground labels of all pairs together.

    Args:
        pairs: Label files, npy or NIfTI; Dice is symmetric, so is the share.

    Raises:
        ValueError: Two arrays differ in shape.
    """
    voxels = equal = 0
    shared: dict[int, list[int]] = {}
    for first, second in pairs:
        one, other = _labels(first), _labels(second)
        if one.shape != other.shape:
            raise ValueError(f"{first} has {one.shape} voxels, {second} {other.shape}")
        voxels += one.size
        equal += int((one == other).sum())
        _count(one, other, shared)
    dices = [2 * both / (left + right) for both, left, right in shared.values() if left + right]
    return round(100 * equal / voxels, 6), round(sum(dices) / len(dices), 6) if dices else 1.0


def _count(one: Any, other: Any, shared: dict[int, list[int]]) -> None:
    """Add the voxels of each label that both, the first and the second hold."""
    import numpy as np

    most = int(max(one.max(), other.max())) + 1
    both, left, right = (np.bincount(each.ravel(), minlength=most) for each in (one[one == other], one, other))
    for label in range(most):
        if label != BACKGROUND:
            counts = shared.setdefault(label, [0, 0, 0])
            for index, count in enumerate((both, left, right)):
                counts[index] += int(count[label])


def _labels(path: Path) -> Any:
    import numpy as np
    from nibabel import Nifti1Image

    if path.suffix == ".npy":
        return np.load(path)
    return np.asarray(Nifti1Image.from_filename(path).dataobj).astype(np.int64)
