"""Steps on an image's values, as MONAI's transforms of the same names take them, in NumPy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medseg.data.pictures import is_grey
from medseg.inference.steps.image import Image

Factors = Sequence[float] | float | None


def keep_one_grey(image: Image) -> Image:
    """``medseg.data.transforms.GreyToOneChanneld``: one channel of a grey picture saved as colours."""
    return image.valued(image.array[:1]) if is_grey(image.array) else image


def normalize(image: Image, subtrahend: Factors, divisor: Factors, nonzero: bool, channel_wise: bool) -> Image:
    """``NormalizeIntensityd``: less the mean, over the standard deviation.

    Args:
        image: The image.
        subtrahend: In place of the mean; one per channel where ``channel_wise``.
        divisor: In place of the standard deviation.
        nonzero: Whether voxels of 0 are left out and left alone.
        channel_wise: Whether each channel has its own.
    """
    parts = list(image.array) if channel_wise else [image.array]
    means, deviations = _each(subtrahend, len(parts)), _each(divisor, len(parts))
    done = [_normalized(*each, nonzero) for each in zip(parts, means, deviations, strict=True)]
    return image.valued(np.stack(done) if channel_wise else done[0])


def scale(image: Image, minv: float | None, maxv: float | None, factor: float | None, channel_wise: bool) -> Image:
    """``ScaleIntensityd``: lowest and highest value become ``minv`` and ``maxv``; without these, × (1 + factor)."""
    if minv is None and maxv is None:
        return image if factor is None else image.valued(image.array * np.float32(1 + factor))
    parts = list(image.array) if channel_wise else [image.array]
    done = [_rescaled(part, minv, maxv) for part in parts]
    return image.valued(np.stack(done) if channel_wise else done[0])


def scale_range(
    image: Image, a_min: float, a_max: float, b_min: float | None, b_max: float | None, clip: bool
) -> Image:
    """``ScaleIntensityRanged``: ``a_min`` becomes ``b_min``, ``a_max`` becomes ``b_max``."""
    return image.valued(_ranged(image.array, (a_min, a_max), (b_min, b_max), clip))


def scale_percentiles(
    image: Image,
    percentiles: Sequence[float],
    target: Sequence[float | None],
    clip: bool,
    relative: bool,
    channel_wise: bool,
) -> Image:
    """``ScaleIntensityRangePercentilesd``.

    Args:
        image: The image.
        percentiles: Lower and upper, from 0 to 100.
        target: What the values there become.
        clip: Whether values beyond become the target's ends.
        relative: Whether the target's own percentiles are meant.
        channel_wise: Whether each channel has its own percentiles.
    """
    low, high = target
    if relative and low is not None and high is not None:
        low, high = ((high - low) * each / 100 + low for each in percentiles)
    parts = list(image.array) if channel_wise else [image.array]
    sources = [np.percentile(part, percentiles).tolist() for part in parts]
    done = [_ranged(part, (a, b), (low, high), clip) for part, (a, b) in zip(parts, sources, strict=True)]
    return image.valued(np.stack(done) if channel_wise else done[0])


def _each(value: Factors, count: int) -> list[float | None]:
    return list(value) if isinstance(value, Sequence) else [value] * count


def _normalized(part: NDArray, mean: float | None, deviation: float | None, nonzero: bool) -> NDArray:
    where = part != 0 if nonzero else np.ones(part.shape, bool)
    if not where.any():
        return part
    values = part[where] if nonzero else part
    subtrahend = np.float32(values.mean(dtype=np.float64) if mean is None else mean)
    divisor = np.float32(values.std(dtype=np.float64) if deviation is None else deviation) or np.float32(1)
    return np.where(where, (part - subtrahend) / divisor, part) if nonzero else (part - subtrahend) / divisor


def _rescaled(part: NDArray, minv: float | None, maxv: float | None) -> NDArray:
    low, high = part.min(), part.max()
    if low == high:
        return part if minv is None else part * np.float32(minv)
    share = (part - low) / (high - low)
    return share if minv is None or maxv is None else share * np.float32(maxv - minv) + np.float32(minv)


def _ranged(
    part: NDArray, source: tuple[float, float], target: tuple[float | None, float | None], clip: bool
) -> NDArray:
    (first, last), (low, high) = source, target
    if last == first:
        return part - np.float32(first) + np.float32(low or 0)
    part = (part - np.float32(first)) / np.float32(last - first)
    if low is not None and high is not None:
        part = part * np.float32(high - low) + np.float32(low)
    return np.clip(part, low, high) if clip and (low is not None or high is not None) else part
