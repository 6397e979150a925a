"""DICOM Segmentation objects as masks: each frame placed by its position, on the grid of the series drawn on.

BINARY, FRACTIONAL and LABELMAP (PS3.3, C.8.20). Frames lie on a lattice of numbered planes at even steps: the
slices of the series if it is known, else their own. Frames that were left out because nothing is drawn
there become background.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.data.align import spread
from medseg.data.dicom.file import DicomFile, read_file, read_pixel_bytes, refuse_unreadable
from medseg.data.dicom.frames import Frame, list_frames
from medseg.data.dicom.pixels import read_frames
from medseg.data.dicom.rtstruct import read_structure_set
from medseg.data.dicom.segments import Segment, make_planes, match_labels, read_code_key
from medseg.data.dicom.sniff import LABELMAP_CLASS, STRUCTURE_SET_CLASS, read_storage_class
from medseg.data.dicom.source import (
    SourceSeries,
    check_frame_of_reference,
    find_series,
    read_segmentation_images,
    read_segmentation_series,
)
from medseg.data.dicom.stacks import DIRECTION_TOLERANCE, SPACING_TOLERANCE, STEP_TOLERANCE, build_affine
from medseg.data.formats.payload import check_budget
from medseg.data.labels import BACKGROUND
from medseg.data.terminology import Names
from medseg.data.volume import Volume, check_affine
from medseg.errors import GridError, ImageError, LabelError
from medseg.findings import Finding, make_note
from medseg.geometry import LPS_TO_RAS, NEAR_GRID_VOXELS, SAME_GRID_VOXELS, Grid

TYPES = ("BINARY", "FRACTIONAL", "LABELMAP")
UNKNOWN = -1
SAME_POSITION_MM = 0.01
PARALLEL = 1e-6

MOST_GAPS = 200
"""Planes left out between two that are stored, beyond which a spacing is not believed."""


@dataclass(frozen=True)
class StoredSegmentation:
    """What a DICOM SEG says of itself, before its pixels are read.

    Args:
        file: The file's header.
        kind: One of ``TYPES``.
        frames: The planes, as they are stored.
        segments: What it describes, a background of number 0 left out.
        series_uids: SeriesInstanceUID of the series that it refers to.
    """

    file: DicomFile
    kind: str
    frames: tuple[Frame, ...]
    segments: tuple[Segment, ...]
    series_uids: tuple[str, ...]

    @property
    def path(self) -> Path:
        """The file."""
        return self.file.path


def read_segmentation(path: Path, names: Names | None = None, series: SourceSeries | None = None) -> Volume:
    """Read a DICOM SEG as a mask on the grid of the series that it was drawn on.

    Where that series does not lie beside it, the mask spans the planes that are stored, and
    ``is_partial`` tells that what lies outside is background.

    Args:
        path: The file.
        names: See :func:`medseg.data.dicom.segments.match_labels`.
        series: The series that it was drawn on, where it is known already.

    Raises:
        ImageError: Damaged, contradictory, or planes of several sizes, spacings or orientations.
        LabelError: ``LABEL_OVERLAP`` or ``SEGMENTS_AMBIGUOUS``.
        GridError: ``GRID_MISMATCH``: it does not lie on the voxels of its series.
    """
    with refuse_unreadable(path, remedy="export the segmentation again"):
        stored = _read_stored(path)
        source = series or find_series(stored.series_uids, path, partial(read_segmentation_images, stored.file.header))
        return _make_volume(stored, names, source)


def read_dicom_mask(path: Path, names: Names | None = None) -> Volume:
    """Read a DICOM SEG or RTSTRUCT, as ``sniff.find_mask_file`` gives it.

    Args:
        path: The file.
        names: See :func:`medseg.data.dicom.segments.match_labels`.

    Raises:
        ImageError: What the reader of its kind raises.
    """
    is_structure_set = read_storage_class(path) == STRUCTURE_SET_CLASS
    return read_structure_set(path, names) if is_structure_set else read_segmentation(path, names)


def read_own_planes(path: Path) -> Volume:
    """As :func:`read_segmentation`, by segment numbers and from the file alone, wherever its series is.

    Raises:
        ImageError: What :func:`read_segmentation` raises.
    """
    return _make_volume(_read_stored(path), None, None)


@dataclass(frozen=True)
class Lattice:
    """Parallel planes at even steps.

    Args:
        places: The number of each frame's plane.
        count: Planes in all.
        affine: 4 by 4, (column, row, plane) to RAS+ mm.
        astray_voxels: How far the frame that fits worst lies off its plane, in units of the smallest spacing.
    """

    places: tuple[int, ...]
    count: int
    affine: NDArray[np.float64]
    astray_voxels: float = 0.0


def _read_stored(path: Path) -> StoredSegmentation:
    """The header of a DICOM SEG, checked.

    Raises:
        ImageError: ``SEG_INVALID``, or geometry that is missing or mixed.
    """
    file = read_file(path)
    header = file.header
    kind = str(header.get("SegmentationType", ""))
    if str(header.get("SOPClassUID", "")) == LABELMAP_CLASS:
        kind = "LABELMAP"
    if kind not in TYPES:
        raise _invalid(path, f"SegmentationType is {kind!r}, none of {', '.join(TYPES)}")
    frames = list_frames(path, header)
    if not frames:
        raise _invalid(path, "it has no frame")
    return StoredSegmentation(file, kind, tuple(frames), _read_segments(file, kind), read_segmentation_series(header))


def _find_lattice(
    frames: Sequence[Frame], series: SourceSeries | None, path: Path
) -> tuple[Lattice, tuple[Finding, ...]]:
    """The planes on which frames lie: the slices of ``series`` where these are parallel, else their own steps.

    Raises:
        ImageError: ``DICOM_MIXED_GEOMETRY`` or ``DICOM_IRREGULAR_SLICES``.
        GridError: ``GRID_MISMATCH``: a frame lies between the slices of its series.
    """
    _check_alike(frames, path)
    if series is not None and abs(frames[0].normal @ series.frames[0].normal) > 1 - PARALLEL:
        return _number_by_slices(frames, series, path), ()
    return _number_by_steps(frames, path)


def _place_on_source(
    array: NDArray, lattice: Lattice, series: SourceSeries, path: Path
) -> tuple[NDArray, tuple[Finding, ...]]:
    """Labels (X, Y, Z) of a lattice on the grid of its series; what was not stored is background.

    Raises:
        GridError: ``GRID_MISMATCH``: the voxels are not those of the series.
    """
    placed, apart = spread(array, Grid(array.shape, lattice.affine), series.grid, path)
    apart = max(apart, lattice.astray_voxels)
    if apart <= SAME_GRID_VOXELS:
        return placed, ()
    return placed, (make_note("GRID_NEAR", f"segmentation and series lie {apart:.2g} voxels apart"),)


def _make_volume(stored: StoredSegmentation, names: Names | None, series: SourceSeries | None) -> Volume:
    if series is not None:
        check_frame_of_reference(str(stored.file.header.get("FrameOfReferenceUID", "")), series, stored.path)
    lattice, notes = _find_lattice(stored.frames, series, stored.path)
    numbers, named = match_labels(stored.segments, names, stored.path)
    array, told = _paint(stored, lattice, numbers)
    notes = (*notes, *named, *told)
    if series is None:
        uids = ", ".join(stored.series_uids) or "which it does not name"
        text = f"the series that it was drawn on ({uids}) is not beside it; it spans the planes that it stores"
        notes = (make_note("SEG_SERIES_ABSENT", text), *notes, *check_affine(lattice.affine, array.shape, stored.path))
        return Volume(array, lattice.affine, notes=notes, is_partial=True)
    placed, near = _place_on_source(array, lattice, series, stored.path)
    return Volume(placed, series.grid.affine, notes=(*notes, *near))


def _read_segments(file: DicomFile, kind: str) -> tuple[Segment, ...]:
    items = list(file.header.get("SegmentSequence") or [])
    segments = []
    for item in items:
        number = item.get("SegmentNumber")
        if number is None:
            raise _invalid(file.path, "a segment has no number")
        types = list(item.get("SegmentedPropertyTypeCodeSequence") or [])
        code = read_code_key(types[0]) if types else ""
        segments.append(Segment(int(number), str(item.get("SegmentLabel") or ""), code))
    numbers = [segment.number for segment in segments]
    if not numbers or len(set(numbers)) < len(numbers):
        raise _invalid(file.path, f"its segments are numbered {numbers[:12]}")
    if min(numbers) < (0 if kind == "LABELMAP" else 1):
        raise _invalid(file.path, f"a segment is numbered {min(numbers)}")
    return tuple(segment for segment in segments if segment.number != BACKGROUND)


def _paint(stored: StoredSegmentation, lattice: Lattice, labels: dict[int, int]) -> tuple[NDArray, tuple[Finding, ...]]:
    """Labels (X, Y, Z) on the lattice."""
    planes = make_planes((*stored.frames[0].size, lattice.count), labels.values(), stored.path)
    if stored.kind == "LABELMAP":
        _paint_labels(stored, lattice, labels, planes)
        return planes.transpose(2, 1, 0), ()
    masks, notes = _read_fractions(stored) if stored.kind == "FRACTIONAL" else (_read_bits(stored), ())
    _paint_segments(stored, lattice, labels, planes, masks)
    return planes.transpose(2, 1, 0), notes


def _paint_segments(
    stored: StoredSegmentation,
    lattice: Lattice,
    labels: dict[int, int],
    planes: NDArray,
    masks: Iterator[NDArray[np.bool_]],
) -> None:
    described = {segment.number for segment in stored.segments}
    seen: set[tuple[int, int]] = set()
    for frame, place, mask in zip(stored.frames, lattice.places, masks, strict=True):
        number = _read_segment_number(frame, stored.path)
        if number not in described:
            raise _invalid(stored.path, f"a frame belongs to segment {number}, which is not described")
        if (number, place) in seen:
            raise _invalid(stored.path, f"segment {number} has two frames at one position")
        seen.add((number, place))
        if number not in labels:
            continue
        there = planes[place][mask]
        if ((there != BACKGROUND) & (there != labels[number])).any():
            raise _overlap(stored, labels, number, {int(value) for value in np.unique(there)})
        planes[place][mask] = labels[number]


def _overlap(stored: StoredSegmentation, labels: dict[int, int], number: int, there: set[int]) -> LabelError:
    own = next(segment for segment in stored.segments if segment.number == number)
    others = [s for s in stored.segments if labels.get(s.number) in there - {labels[number]}]
    problem = f"segments {own} and {', '.join(map(str, others))} overlap"
    return LabelError("LABEL_OVERLAP", stored.path, problem, "give each voxel one segment, or export them apart")


def _read_segment_number(frame: Frame, path: Path) -> int:
    for group in frame.groups:
        for item in group.get("SegmentIdentificationSequence") or []:
            if item.get("ReferencedSegmentNumber") is not None:
                return int(item.ReferencedSegmentNumber)
    raise _invalid(path, f"frame {frame.index} belongs to no segment")


def _read_bits(stored: StoredSegmentation) -> Iterator[NDArray[np.bool_]]:
    """Each frame of one bit per pixel, (row, column), the first pixel in the lowest bit (PS3.5, 8.1.1)."""
    if int(stored.file.header.get("BitsAllocated", 0)) != 1:
        yield from (frame != 0 for frame in _read_pixels(stored))
        return
    if stored.file.syntax.is_encapsulated:
        problem = f"one bit per pixel, compressed as {stored.file.syntax.name}"
        raise ImageError("DICOM_NO_DECODER", stored.path, problem, "export the segmentation uncompressed")
    columns, rows = stored.frames[0].size
    pixels = columns * rows
    data = np.frombuffer(_read_all_bits(stored, pixels * len(stored.frames)), dtype=np.uint8)
    for index in range(len(stored.frames)):
        first, end = index * pixels, (index + 1) * pixels
        bits = np.unpackbits(data[first // 8 : -(-end // 8)], bitorder="little")
        yield bits[first % 8 :][:pixels].reshape(rows, columns).astype(bool)


def _read_pixels(stored: StoredSegmentation) -> Iterator[NDArray]:
    """Stored pixels of whole bytes; numbers of segments even where a palette gives them colours."""
    file = read_file(stored.path)
    file.header.PhotometricInterpretation = "MONOCHROME2"
    return read_frames(file)


def _read_all_bits(stored: StoredSegmentation, bits: int) -> bytes:
    place = stored.file.pixels
    if place is None:
        raise ImageError("DICOM_PIXELS", stored.path, "PixelData is missing", "export the segmentation again")
    if place.available is not None:
        check_budget(-(-bits // 8), place.available, False, stored.path)
    data = read_pixel_bytes(stored.file)
    check_budget(-(-bits // 8), len(data), False, stored.path)
    return data


def _read_fractions(stored: StoredSegmentation) -> tuple[Iterator[NDArray[np.bool_]], tuple[Finding, ...]]:
    highest = float(stored.file.header.get("MaximumFractionalValue") or 0)
    if not 1 <= highest <= 255:
        raise _invalid(stored.path, f"MaximumFractionalValue is {highest:g}")
    note = make_note("LABEL_THRESHOLDED", f"values to {highest:g}; those above its half are taken as the segment")
    return _cut_at_half(stored, highest), (note,)


def _cut_at_half(stored: StoredSegmentation, highest: float) -> Iterator[NDArray[np.bool_]]:
    for frame in _read_pixels(stored):
        if frame.max() > highest:
            raise _invalid(stored.path, f"it holds {frame.max()}, MaximumFractionalValue is {highest:g}")
        yield frame > highest / 2


def _paint_labels(stored: StoredSegmentation, lattice: Lattice, labels: dict[int, int], planes: NDArray) -> None:
    if len(set(lattice.places)) < len(lattice.places):
        raise _invalid(stored.path, "two frames lie at one position")
    table = _make_label_table(stored, labels)
    for place, frame in zip(lattice.places, _read_pixels(stored), strict=True):
        painted = table[frame]
        if (painted == UNKNOWN).any():
            strange = sorted({int(value) for value in np.unique(frame[painted == UNKNOWN])})
            raise _invalid(stored.path, f"it holds {strange[:8]}, which it does not describe as segments")
        planes[place] = painted


def _make_label_table(stored: StoredSegmentation, labels: dict[int, int]) -> NDArray[np.int32]:
    """The label of each stored value; UNKNOWN where the file does not describe it."""
    table = np.full(2**16, UNKNOWN, dtype=np.int32)
    table[BACKGROUND] = BACKGROUND
    table[[segment.number for segment in stored.segments]] = BACKGROUND  # Those that are left out stay so.
    for number, label in labels.items():
        table[number] = label
    padding = stored.file.header.get("PixelPaddingValue")
    if padding is not None:
        table[int(padding)] = BACKGROUND
    return table


def _invalid(path: Path, problem: str) -> ImageError:
    return ImageError("SEG_INVALID", path, problem)


def _check_alike(frames: Sequence[Frame], path: Path) -> None:
    first = frames[0]
    for frame in frames[1:]:
        turned = np.abs(frame.along_row - first.along_row).max(), np.abs(frame.along_column - first.along_column).max()
        if not np.allclose(frame.spacing_mm, first.spacing_mm, rtol=SPACING_TOLERANCE):
            problem = f"frames of spacing {first.spacing_mm} and {frame.spacing_mm} mm"
        elif max(turned) > DIRECTION_TOLERANCE:
            problem = "frames of several orientations"
        else:
            continue
        raise ImageError("DICOM_MIXED_GEOMETRY", path, problem, "export one segmentation for each orientation")


def _number_by_slices(frames: Sequence[Frame], series: SourceSeries, path: Path) -> Lattice:
    """Planes numbered as the slices of a series whose planes are parallel; each slice counts where it truly lies."""
    normal = series.frames[0].normal
    slices = series.positions_mm @ normal
    heights = np.array([frame.position_mm @ normal for frame in frames])  # type: ignore[operator]
    nearest = np.abs(heights[:, None] - slices[None, :]).argmin(axis=1)
    step_mm = abs(float(series.step_mm @ normal))
    off = np.abs(heights - slices[nearest])
    worst = int(off.argmax())
    if off[worst] > NEAR_GRID_VOXELS * step_mm:
        problem = f"frame {frames[worst].index} lies {off[worst]:.3g} mm off the nearest slice of its series"
        raise GridError("GRID_MISMATCH", path, problem, "export the segmentation on the series that it was drawn on")
    places = tuple(int(place) for place in nearest)
    # Each frame is measured from its own slice, so that the rounding of the slices' positions does not add up.
    shifts = np.array([frame.position_mm for frame in frames]) - series.positions_mm[nearest]
    shift = np.median(shifts, axis=0)
    smallest_mm = min(*frames[0].spacing_mm, step_mm)
    astray = float(np.linalg.norm(shifts - shift, axis=1).max()) / smallest_mm
    _check_straight(astray, path)
    affine = build_affine(frames[0], series.step_mm, (LPS_TO_RAS @ series.grid.affine)[:3, 3] + shift)
    return Lattice(places, len(slices), affine, max(astray, float(off[worst]) / smallest_mm))


def _number_by_steps(frames: Sequence[Frame], path: Path) -> tuple[Lattice, tuple[Finding, ...]]:
    """Planes at the steps that the frames themselves have, the gaps between them filled."""
    positions = np.array([frame.position_mm for frame in frames], dtype=float)
    heights = (positions - positions[0]) @ frames[0].normal
    steps = np.diff(np.sort(heights))
    steps = steps[steps > SAME_POSITION_MM]
    notes: tuple[Finding, ...] = ()
    if not steps.size and frames[0].thickness_mm is None:
        notes = (make_note("DICOM_NO_THICKNESS", "a single plane of unknown thickness; 1 mm is assumed"),)
    step_mm = _find_step_mm(steps, frames[0].stated_step_mm, path) if steps.size else frames[0].thickness_mm or 1.0
    places = np.rint((heights - heights.min()) / step_mm).astype(int)
    first, last = int(heights.argmin()), int(heights.argmax())
    step = frames[0].normal * step_mm
    if places.max() > 0:
        step = (positions[last] - positions[first]) / places.max()
    origin = np.median(positions - places[:, None] * step, axis=0)
    smallest_mm = min(*frames[0].spacing_mm, step_mm)
    astray = float(np.linalg.norm(positions - origin - places[:, None] * step, axis=1).max()) / smallest_mm
    _check_straight(astray, path)
    lattice = Lattice(
        tuple(int(place) for place in places), int(places.max()) + 1, build_affine(frames[0], step, origin)
    )
    return lattice, notes


def _find_step_mm(steps: NDArray[np.float64], stated: float | None, path: Path) -> float:
    """The step of which all distances between planes are multiples: the stated one, else the smallest."""
    for step in (stated, float(steps.min())):
        if not step:
            continue
        times = steps / step
        is_multiple = np.abs(times - np.rint(times)) <= np.maximum(STEP_TOLERANCE * np.rint(times), STEP_TOLERANCE)
        if (is_multiple & (np.rint(times) >= 1)).all() and times.max() <= MOST_GAPS:
            return float(step)
    problem = f"planes {steps.min():.4g} to {steps.max():.4g} mm apart, which are no multiples of one step"
    raise ImageError("DICOM_IRREGULAR_SLICES", path, problem, "put the series that it was drawn on beside it")


def _check_straight(astray_voxels: float, path: Path) -> None:
    if astray_voxels > NEAR_GRID_VOXELS:
        problem = f"a frame lies {astray_voxels:.3g} voxels off the line through the others"
        raise ImageError("DICOM_IRREGULAR_SLICES", path, problem, "export the segmentation again")
