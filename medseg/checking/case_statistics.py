"""A case in a few numbers, which are compared with those of the other cases, and what it shows by itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.checking.read_case import Expected, Reading, count_channels
from medseg.data.formats.pictures import is_grey
from medseg.data.labels import label_values
from medseg.data.volume import Volume
from medseg.findings import Finding
from medseg.geometry import Grid

THUMBNAIL = {2: (32, 32), 3: (16, 16, 16)}
"""Voxels of the small copy by which images are compared."""

CUT = "LABEL_THRESHOLDED"

LEVELS_COUNTED = 64
SAMPLED_VOXELS = 1 << 18
"""Percentiles and levels are told from about so many voxels, evenly spread."""

FEW_VALUES = 32
MOST_LABEL_VALUES = 256
PATCHY_SHARE = 0.6
"""A whole-numbered image of up to FEW_VALUES values may be a label map; of more, where so many neighbours are equal."""

MOST_COUNTED_LABELS = 16
"""Where there are more labels, their components are not counted."""

NEAR_AIR_HU = -500
"""A volume whose darkest hundredth lies below this is stored in Hounsfield units."""


FEWEST_LEVELS = 32

FEWEST_VOXELS = 4096
"""Smaller images have few values by nature."""

GROUND_SHARE = 0.1
"""A smaller share of the image is no ground outside the body."""

MOST_OUTSIDE = 0.1
"""A label with a larger share of its voxels on the ground lies outside the body."""


@dataclass(frozen=True)
class ImageStatistics:
    """An image in a few numbers.

    Args:
        grid: Where its voxels lie.
        channels: The numbers of channels that it may be taken to have.
        has_grid: Whether its file says where its voxels lie.
        levels: How many different values it has, counted up to LEVELS_COUNTED.
        low: The 1st percentile of its values.
        high: The 99th percentile.
        digest: A hash of voxels and shape; equal images have the same.
        thumbnail: A small copy, zero mean and unit length; None where there is nothing to see.
        label_values: How many different values it has, where these could be labels; else 0.
    """

    grid: Grid
    channels: frozenset[int]
    has_grid: bool
    levels: int
    low: float
    high: float
    digest: str
    thumbnail: NDArray[np.float32] | None
    label_values: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along each spatial axis."""
        return self.grid.shape

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Distance of neighbouring voxels along each axis."""
        return self.grid.spacing_mm

    @property
    def orientation(self) -> str:
        """The directions in which the axes point, such as RAS."""
        return self.grid.orientation

    @property
    def looks_like_hu(self) -> bool:
        """Whether the values reach down to air in Hounsfield units, as those of a CT do."""
        return self.low < NEAR_AIR_HU


@dataclass(frozen=True)
class MaskStatistics:
    """A mask in a few numbers.

    Args:
        voxels: How many of each label.
        stored_values: The different values before they were interpreted.
        pieces: How many connected components each label has.
        digest: A hash of voxels and shape.
        has_soft_edges: Whether grey edges were cut.
    """

    voxels: dict[int, int]
    stored_values: frozenset[int]
    pieces: dict[int, int]
    digest: str
    has_soft_edges: bool

    @property
    def is_empty(self) -> bool:
        """Whether no voxel is above 0."""
        return set(self.voxels) <= {0}

    @property
    def is_full(self) -> bool:
        """Whether no voxel is 0."""
        return bool(self.voxels) and 0 not in self.voxels


@dataclass(frozen=True)
class CaseStatistics:
    """A case in a few numbers.

    Args:
        case: The id of the case.
        group: The patient, as far as its name or the data set's description says.
        image: None where it cannot be read.
        mask: None where there is none or it cannot be read.
        is_readable: Whether each of its files could be read.
    """

    case: str
    group: str
    image: ImageStatistics | None
    mask: MaskStatistics | None
    is_readable: bool


def measure_case(reading: Reading) -> CaseStatistics:
    """What to keep of a case."""
    case = reading.case
    image = _measure_image(reading.image) if reading.image is not None else None
    return CaseStatistics(case.id, case.group, image, _measure_mask(reading), reading.is_readable)


def sample(array: NDArray) -> NDArray:
    """At most about SAMPLED_VOXELS finite values of an array, evenly spread."""
    flat = array.reshape(-1) if array.flags.c_contiguous else array.ravel(order="K")
    some = flat[:: max(1, flat.size // SAMPLED_VOXELS)]
    return some[np.isfinite(some)] if np.issubdtype(some.dtype, np.floating) else some


def make_thumbnail(image: Volume) -> NDArray[np.float32] | None:
    """A small copy of an image, its channels averaged, with zero mean and unit length.

    Each of its voxels is the mean of a block. None where the image has one value, or is smaller.
    """
    array = image.array.mean(axis=0, dtype=np.float32) if image.has_channels else image.array
    size = THUMBNAIL[array.ndim]
    if any(n < 2 for n in array.shape):
        return None
    small = np.nan_to_num(array.astype(np.float32, copy=False), nan=0.0, posinf=0.0, neginf=0.0)
    largest = float(np.abs(small).max(initial=0.0))
    if largest == 0:
        return None
    small = small / np.float32(largest)
    for axis, count in enumerate(size):
        edges = np.linspace(0, small.shape[axis], min(count, small.shape[axis]) + 1).astype(int)[:-1]
        widths = np.diff([*edges, small.shape[axis]])
        small = np.moveaxis(np.add.reduceat(small, edges, axis=axis), axis, -1) / widths
        small = np.moveaxis(small, -1, axis)
    small = np.asarray(small - small.mean(), dtype=np.float32)
    length = float(np.linalg.norm(small))
    return (small / length).ravel() if length > 1e-6 else None


def _measure_image(image: Volume) -> ImageStatistics:
    some = sample(image.array)
    low, high = (float(value) for value in np.percentile(some, (1, 99))) if some.size else (0.0, 0.0)
    levels = len(np.unique(some))
    return ImageStatistics(
        grid=image.grid,
        channels=count_channels(image),
        has_grid=image.has_grid,
        levels=min(levels, LEVELS_COUNTED),
        low=low,
        high=high,
        digest=_hash(image.array),
        thumbnail=make_thumbnail(image),
        label_values=_count_label_values(image, some),
    )


def _count_label_values(image: Volume, some: NDArray) -> int:
    """How many values an image has, where they are whole, begin at 0, and are few or lie in patches of one value."""
    array = image.array[0] if image.has_channels else image.array
    if (image.has_channels and not is_grey(image.array)) or some.size == 0 or array.min() != 0:
        return 0
    if len(np.unique(some)) > MOST_LABEL_VALUES or not _is_whole(some) or not _is_whole(array):
        return 0
    count = len(label_values(array))
    is_label_map = 1 < count <= FEW_VALUES or (FEW_VALUES < count <= MOST_LABEL_VALUES and _lies_in_patches(array))
    return count if is_label_map else 0


def _is_whole(array: NDArray) -> bool:
    return array.dtype.kind in "biu" or bool((np.isfinite(array) & (array == np.rint(array))).all())


def _lies_in_patches(array: NDArray) -> bool:
    """Whether neighbours along the first axis are mostly equal, of those that are not both 0."""
    drawn = equal = 0
    for index in range(array.shape[-1]):
        one, next_one = array[:-1, ..., index], array[1:, ..., index]
        is_drawn = (one != 0) | (next_one != 0)
        drawn += int(np.count_nonzero(is_drawn))
        equal += int(np.count_nonzero(is_drawn & (one == next_one)))
    return equal > PATCHY_SHARE * drawn


def _measure_mask(reading: Reading) -> MaskStatistics | None:
    if reading.mask is None:
        return None
    array = reading.on_image if reading.on_image is not None else reading.mask.array
    values, counts = np.unique(array, return_counts=True)
    voxels = {int(value): int(count) for value, count in zip(values, counts, strict=True)}
    stored = frozenset(value for one in reading.stored for value in one.values)
    has_soft_edges = any(finding.code == CUT for one in reading.stored for finding in one.findings)
    return MaskStatistics(voxels, stored, _count_pieces(array, voxels), _hash(array), has_soft_edges)


def _count_pieces(array: NDArray, voxels: dict[int, int]) -> dict[int, int]:
    """Connected components of each label, touching corners counted as connected; none where there are many labels."""
    from scipy import ndimage

    labels = [value for value in voxels if value > 0]
    if len(labels) > MOST_COUNTED_LABELS:
        return {}
    touching = np.ones((3,) * array.ndim)
    pieces: dict[int, int] = {}
    for value in labels:
        where = array == value
        box = ndimage.find_objects(where.astype(np.uint8))[0]
        pieces[value] = int(ndimage.label(where[box], touching)[1])
    return pieces


def _hash(array: NDArray) -> str:
    """A hash of an array's shape and values, the same for equal whole numbers of other types."""
    hashed = hashlib.blake2b(str(array.shape).encode(), digest_size=16)
    for index in range(array.shape[-1] if array.ndim else 0):
        plane = array[..., index]
        wide = np.float64 if np.issubdtype(plane.dtype, np.floating) else np.int64
        hashed.update(np.ascontiguousarray(plane, dtype=wide).tobytes())
    return hashed.hexdigest()


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
