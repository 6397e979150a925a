"""A made-up case on which an exported bundle and the bundle itself are compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import zoom

from medseg.data.case import Case
from medseg.data.images import write
from medseg.inference.region import MARGIN
from medseg.inference.steps.description import Description

BEYOND_WINDOW = 1.15
"""Its size in windows along the first axis; along the others it is one window."""

SPACING_FACTOR = 1.1
"""Its spacing, where the bundle resamples, in that of the bundle."""

GRAIN_VOXELS = 6

AIR_HU = -1024.0


def phantom(description: Description, folder: Path, is_surrounded: bool = False) -> Case:
    """Smooth noise in the range of values that the bundle takes, turned and spaced unlike its grid, in files.

    Args:
        description: Of the exported bundle.
        folder: For the files.
        is_surrounded: Put air, or padding, at both ends of its first axis, more than a window together.
    """
    generator = np.random.default_rng(0)
    steps = {str(step["step"]): step for step in description.preprocessing}
    size, affine = phantom_size(description), np.eye(4)
    low, high = 0.0, 255.0
    if "ScaleIntensityRange" in steps and len(size) == 3:
        low, high = (float(steps["ScaleIntensityRange"][key]) for key in ("a_min", "a_max"))
    if len(size) == 3:
        wanted = [*steps.get("Spacing", {}).get("pixdim", [1.0])]
        spacing = [SPACING_FACTOR * (each if each > 0 else 1.0) for each in (*wanted, wanted[-1], wanted[-1])[:3]]
        affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    nothing = np.full((size[0] // 2 + 2 * MARGIN, *size[1:]), 0.0 if description.air is None else AIR_HU)
    files = []
    for number in range(len(description.channels)):
        array = low + (high - low) * _smooth_noise(generator, size)
        array = np.concatenate([nothing, array, nothing]) if is_surrounded else array
        file = folder / f"channel_{number}.{'nii.gz' if len(size) == 3 else 'png'}"
        write(array.astype(np.float32) if len(size) == 3 else np.rint(array).astype(np.uint8), affine, file)
        files.append(str(file))
    return Case("phantom", tuple(files), None, "phantom")


def phantom_size(description: Description) -> tuple[int, ...]:
    """Voxels along each axis."""
    first, *others = description.window.roi
    thickness = [3 if size == 1 else size for size in others]
    return (int(np.ceil(first * BEYOND_WINDOW)) + (first == 1), *thickness)


def _smooth_noise(generator: np.random.Generator, size: tuple[int, ...]) -> NDArray[np.float64]:
    """Noise from 0 to 1 with grains of some voxels."""
    coarse = generator.random([max(2, -(-n // GRAIN_VOXELS)) for n in size])
    return np.clip(zoom(coarse, [n / m for n, m in zip(size, coarse.shape, strict=True)], order=1), 0, 1)
