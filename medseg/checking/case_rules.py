"""What a single case shows of itself: an ordered list of rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from medseg.checking.case_statistics import CaseStatistics
from medseg.checking.read_case import Expected, Reading
from medseg.findings import Finding

FEWEST_LEVELS = 32
FEWEST_VOXELS = 4096
"""Smaller images have few values by nature."""

GROUND_SHARE = 0.1
"""A smaller share of the image is no ground outside the body."""

MOST_OUTSIDE = 0.1
"""A label with a larger share of its voxels on the ground lies outside the body."""


def apply_case_rules(reading: Reading, statistics: CaseStatistics, expected: Expected) -> Iterator[Finding]:
    """All that the rules find in one case."""
    for rule in CASE_RULES:
        yield from rule(reading, statistics, expected)


def _check_constant(reading: Reading, statistics: CaseStatistics, expected: Expected) -> Iterator[Finding]:
    if reading.image is not None and statistics.image is not None and statistics.image.levels == 1:
        array = reading.image.array
        if array.size and bool((array == array.flat[0]).all()):
            yield Finding(statistics.case, "IMAGE_CONSTANT", f"every voxel is {array.flat[0]:g}")


def _check_levels(reading: Reading, statistics: CaseStatistics, expected: Expected) -> Iterator[Finding]:
    image = statistics.image
    if image is None or reading.image is None or reading.image.array.size < FEWEST_VOXELS:
        return
    if 1 < image.levels < FEWEST_LEVELS:
        guess = "; it may be a mask" if image.levels == 2 else ""
        yield Finding(statistics.case, "FEW_GREY_LEVELS", f"{image.levels} different values{guess}")


def _check_channels(reading: Reading, statistics: CaseStatistics, expected: Expected) -> Iterator[Finding]:
    """Channels that are the same; a grey picture saved as colours is none, for readers know it."""
    image = reading.image
    if image is None or statistics.image is None or not image.has_channels or len(statistics.image.channels) > 1:
        return
    for second in range(1, image.array.shape[0]):
        first = next((n for n in range(second) if np.array_equal(image.array[n], image.array[second])), None)
        if first is not None and image.array[second].min() < image.array[second].max():
            yield Finding(
                statistics.case, "CHANNELS_DUPLICATE", f"channels {first} and {second}, counted from 0, are the same"
            )


def _check_hu(reading: Reading, statistics: CaseStatistics, expected: Expected) -> Iterator[Finding]:
    if reading.image is None or expected.modality.upper() != "CT" or reading.image.array.size == 0:
        return
    lowest = reading.image.array.min()
    if lowest >= 0:
        yield Finding(statistics.case, "CT_NOT_HU", f"the lowest value is {lowest:g}, air should be near -1000")


def _check_full(reading: Reading, statistics: CaseStatistics, expected: Expected) -> Iterator[Finding]:
    if statistics.mask is not None and statistics.mask.is_full:
        yield Finding(
            statistics.case,
            "MASK_FULL",
            f"no voxel of the mask is 0; it holds {', '.join(map(str, list(statistics.mask.voxels)[:8]))}",
        )


def _check_outside(reading: Reading, statistics: CaseStatistics, expected: Expected) -> Iterator[Finding]:
    """Labels over the ground: what has a corner's value and reaches it through voxels of that value."""
    if reading.image is None or reading.on_image is None or statistics.mask is None or statistics.mask.is_full:
        return
    channels = reading.image.array if reading.image.has_channels else reading.image.array[None]
    ground = _find_ground(channels)
    if ground.mean() < GROUND_SHARE or ground.all():
        return
    for value, count in statistics.mask.voxels.items():
        outside = int(np.count_nonzero(ground & (reading.on_image == value))) if value else 0
        if outside > MOST_OUTSIDE * count:
            what = f"{outside / count:.0%} of the {count} voxels of label {value} lie where the image is constant"
            yield Finding(statistics.case, "LABEL_OUTSIDE_BODY", what)


def _find_ground(channels: NDArray) -> NDArray[np.bool_]:
    """The voxels of (C, X, Y[, Z]) that have the first one's value in all channels, and hang together with it."""
    from scipy import ndimage

    first = (0,) * (channels.ndim - 1)
    alike = np.ones(channels.shape[1:], dtype=bool)
    for channel in channels:
        alike &= channel == channel[first]
    # Air inside the body may have the value of the air around it.
    pieces, _ = ndimage.label(alike)
    return np.asarray(pieces == pieces[first])


CASE_RULES: tuple[Callable[[Reading, CaseStatistics, Expected], Iterator[Finding]], ...] = (
    _check_constant,
    _check_levels,
    _check_channels,
    _check_hu,
    _check_full,
    _check_outside,
)
