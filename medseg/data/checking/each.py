"""What a single case shows of itself: an ordered list of rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from medseg.data.checking.facts import Facts
from medseg.data.checking.findings import Finding, found
from medseg.data.checking.reading import Expected, Reading

FEWEST_LEVELS = 32
FEWEST_VOXELS = 4096
"""Smaller images have few values by nature."""

GROUND_SHARE = 0.1
"""A smaller share of the image is no ground outside the body."""

MOST_OUTSIDE = 0.1
"""A label with a larger share of its voxels on the ground lies outside the body."""


def case_findings(reading: Reading, facts: Facts, expected: Expected) -> Iterator[Finding]:
    """All that the rules find in one case."""
    for rule in CASE_RULES:
        yield from rule(reading, facts, expected)


def _constant(reading: Reading, facts: Facts, expected: Expected) -> Iterator[Finding]:
    if reading.image is not None and facts.image is not None and facts.image.levels == 1:
        array = reading.image.array
        if array.size and bool((array == array.flat[0]).all()):
            yield found("IMAGE_CONSTANT", facts.case, f"every voxel is {array.flat[0]:g}")


def _few_levels(reading: Reading, facts: Facts, expected: Expected) -> Iterator[Finding]:
    image = facts.image
    if image is None or reading.image is None or reading.image.array.size < FEWEST_VOXELS:
        return
    if 1 < image.levels < FEWEST_LEVELS:
        guess = "; it may be a mask" if image.levels == 2 else ""
        yield found("FEW_GREY_LEVELS", facts.case, f"{image.levels} different values{guess}")


def _duplicate_channels(reading: Reading, facts: Facts, expected: Expected) -> Iterator[Finding]:
    """Channels that are the same; a grey picture saved as colours is none, for readers know it."""
    image = reading.image
    if image is None or facts.image is None or not image.has_channels or len(facts.image.channels) > 1:
        return
    for second in range(1, image.array.shape[0]):
        first = next((n for n in range(second) if np.array_equal(image.array[n], image.array[second])), None)
        if first is not None and image.array[second].min() < image.array[second].max():
            yield found(
                "CHANNELS_DUPLICATE", facts.case, f"channels {first} and {second}, counted from 0, are the same"
            )


def _not_hu(reading: Reading, facts: Facts, expected: Expected) -> Iterator[Finding]:
    if reading.image is None or expected.modality.upper() != "CT" or reading.image.array.size == 0:
        return
    lowest = reading.image.array.min()
    if lowest >= 0:
        yield found("CT_NOT_HU", facts.case, f"the lowest value is {lowest:g}, air should be near -1000")


def _full(reading: Reading, facts: Facts, expected: Expected) -> Iterator[Finding]:
    if facts.mask is not None and facts.mask.is_full:
        yield found(
            "MASK_FULL",
            facts.case,
            f"no voxel of the mask is 0; it holds {', '.join(map(str, list(facts.mask.voxels)[:8]))}",
        )


def _outside(reading: Reading, facts: Facts, expected: Expected) -> Iterator[Finding]:
    """Labels over the ground: what has a corner's value and reaches it through voxels of that value."""
    if reading.image is None or reading.on_image is None or facts.mask is None or facts.mask.is_full:
        return
    channels = reading.image.array if reading.image.has_channels else reading.image.array[None]
    ground = _ground(channels)
    if ground.mean() < GROUND_SHARE or ground.all():
        return
    for value, count in facts.mask.voxels.items():
        outside = int(np.count_nonzero(ground & (reading.on_image == value))) if value else 0
        if outside > MOST_OUTSIDE * count:
            what = f"{outside / count:.0%} of the {count} voxels of label {value} lie where the image is constant"
            yield found("LABEL_OUTSIDE_BODY", facts.case, what)


def _ground(channels: NDArray) -> NDArray[np.bool_]:
    """The voxels of (C, X, Y[, Z]) that have the first one's value in all channels, and hang together with it."""
    from scipy import ndimage

    first = (0,) * (channels.ndim - 1)
    alike = np.ones(channels.shape[1:], dtype=bool)
    for channel in channels:
        alike &= channel == channel[first]
    # Air inside the body may have the value of the air around it.
    pieces, _ = ndimage.label(alike)
    return np.asarray(pieces == pieces[first])


CASE_RULES: tuple[Callable[[Reading, Facts, Expected], Iterator[Finding]], ...] = (
    _constant,
    _few_levels,
    _duplicate_channels,
    _not_hu,
    _full,
    _outside,
)
