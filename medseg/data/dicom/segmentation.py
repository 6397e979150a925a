"""DICOM Segmentation objects as masks: each frame placed by its position, on the grid of the series drawn on.

BINARY, FRACTIONAL and LABELMAP (PS3.3, C.8.20). Frames that were left out because nothing is
drawn there become background.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.data.dicom.files import DICOM_ERRORS, DicomFile, pixel_bytes, read_file
from medseg.data.dicom.frames import Frame, frames_of
from medseg.data.dicom.lattice import Lattice, lattice_of, on_source
from medseg.data.dicom.pixels import stored_frames
from medseg.data.dicom.reference import SourceSeries, check_frame_of_reference, find_series
from medseg.data.dicom.references import images_of_segmentation, series_of_segmentation
from medseg.data.dicom.segments import BACKGROUND, Names, Segment, coded_key, labels_of
from medseg.data.formats.payload import check_budget, check_memory
from medseg.data.volume import Note, Volume, check_affine
from medseg.errors import ImageError, LabelError

SEGMENTATION_CLASS = "1.2.840.10008.5.1.4.1.1.66.4"
LABELMAP_CLASS = "1.2.840.10008.5.1.4.1.1.66.7"
TYPES = ("BINARY", "FRACTIONAL", "LABELMAP")
UNKNOWN = -1


@dataclass(frozen=True)
class StoredSegmentation:
    """What a DICOM SEG says of itself, before its pixels are read.

    Args:
        file: Its header.
        kind: One of ``TYPES``.
        frames: Its planes, as they are stored.
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
        names: See :func:`medseg.data.dicom.segments.labels_of`.
        series: The series that it was drawn on, where it is known already.

    Raises:
        ImageError: Damaged, contradictory, or planes of several sizes, spacings or orientations.
        LabelError: ``LABEL_OVERLAP`` or ``SEGMENTS_AMBIGUOUS``.
        GridError: ``GRID_MISMATCH``: it does not lie on the voxels of its series.
    """
    try:
        stored = stored_segmentation(path)
        source = series or find_series(stored.series_uids, path, partial(images_of_segmentation, stored.file.header))
        return _volume(stored, names, source)
    except DICOM_ERRORS as error:
        problem = f"a header value cannot be read ({type(error).__name__}: {error})"
        raise ImageError("DICOM_UNREADABLE", path, problem, "export the segmentation again") from error


def read_own_planes(path: Path) -> Volume:
    """As :func:`read_segmentation`, by segment numbers and from the file alone, wherever its series is.

    Raises:
        ImageError: As :func:`read_segmentation`.
    """
    return _volume(stored_segmentation(path), None, None)


def stored_segmentation(path: Path) -> StoredSegmentation:
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
    frames = frames_of(path, header)
    if not frames:
        raise _invalid(path, "it has no frame")
    return StoredSegmentation(file, kind, tuple(frames), _segments(file, kind), series_of_segmentation(header))


def _volume(stored: StoredSegmentation, names: Names | None, series: SourceSeries | None) -> Volume:
    if series is not None:
        check_frame_of_reference(str(stored.file.header.get("FrameOfReferenceUID", "")), series, stored.path)
    lattice, notes = lattice_of(stored.frames, series, stored.path)
    numbers, named = labels_of(stored.segments, names, stored.path)
    array, told = _painted(stored, lattice, numbers)
    notes = (*notes, *named, *told)
    if series is None:
        uids = ", ".join(stored.series_uids) or "which it does not name"
        text = f"the series that it was drawn on ({uids}) is not beside it; it spans the planes that it stores"
        notes = (Note("SEG_SERIES_ABSENT", text), *notes, *check_affine(lattice.affine, array.shape, stored.path))
        return Volume(array, lattice.affine, notes=notes, is_partial=True)
    placed, near = on_source(array, lattice, series, stored.path)
    return Volume(placed, series.grid.affine, notes=(*notes, *near))


def _segments(file: DicomFile, kind: str) -> tuple[Segment, ...]:
    items = list(file.header.get("SegmentSequence") or [])
    segments = []
    for item in items:
        number = item.get("SegmentNumber")
        if number is None:
            raise _invalid(file.path, "a segment has no number")
        types = list(item.get("SegmentedPropertyTypeCodeSequence") or [])
        code = coded_key(types[0]) if types else ""
        segments.append(Segment(int(number), str(item.get("SegmentLabel") or ""), code))
    numbers = [segment.number for segment in segments]
    if not numbers or len(set(numbers)) < len(numbers):
        raise _invalid(file.path, f"its segments are numbered {numbers[:12]}")
    if min(numbers) < (0 if kind == "LABELMAP" else 1):
        raise _invalid(file.path, f"a segment is numbered {min(numbers)}")
    return tuple(segment for segment in segments if segment.number != BACKGROUND)


def _painted(stored: StoredSegmentation, lattice: Lattice, labels: dict[int, int]) -> tuple[NDArray, tuple[Note, ...]]:
    """Labels (X, Y, Z) on the lattice."""
    kind = np.uint8 if max(labels.values(), default=0) < 256 else np.uint16
    columns, rows = stored.frames[0].size
    check_memory(lattice.count * rows * columns * np.dtype(kind).itemsize, stored.path)
    planes = np.zeros((lattice.count, rows, columns), dtype=kind)
    if stored.kind == "LABELMAP":
        _paint_labels(stored, lattice, labels, planes)
        return planes.transpose(2, 1, 0), ()
    masks, notes = _fractional(stored) if stored.kind == "FRACTIONAL" else (_bits(stored), ())
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
        number = _segment_number(frame, stored.path)
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


def _segment_number(frame: Frame, path: Path) -> int:
    for group in frame.groups:
        for item in group.get("SegmentIdentificationSequence") or []:
            if item.get("ReferencedSegmentNumber") is not None:
                return int(item.ReferencedSegmentNumber)
    raise _invalid(path, f"frame {frame.index} belongs to no segment")


def _bits(stored: StoredSegmentation) -> Iterator[NDArray[np.bool_]]:
    """Each frame of one bit per pixel, (row, column), the first pixel in the lowest bit (PS3.5, 8.1.1)."""
    if int(stored.file.header.get("BitsAllocated", 0)) != 1:
        yield from (frame != 0 for frame in _frames(stored))
        return
    if stored.file.syntax.is_encapsulated:
        problem = f"one bit per pixel, compressed as {stored.file.syntax.name}"
        raise ImageError("DICOM_NO_DECODER", stored.path, problem, "export the segmentation uncompressed")
    columns, rows = stored.frames[0].size
    pixels = columns * rows
    data = np.frombuffer(_all_bits(stored, pixels * len(stored.frames)), dtype=np.uint8)
    for index in range(len(stored.frames)):
        first, end = index * pixels, (index + 1) * pixels
        bits = np.unpackbits(data[first // 8 : -(-end // 8)], bitorder="little")
        yield bits[first % 8 :][:pixels].reshape(rows, columns).astype(bool)


def _frames(stored: StoredSegmentation) -> Iterator[NDArray]:
    """Stored pixels of whole bytes; numbers of segments even where a palette gives them colours."""
    file = read_file(stored.path)
    file.header.PhotometricInterpretation = "MONOCHROME2"
    return stored_frames(file)


def _all_bits(stored: StoredSegmentation, bits: int) -> bytes:
    place = stored.file.pixels
    if place is None:
        raise ImageError("DICOM_PIXELS", stored.path, "PixelData is missing", "export the segmentation again")
    if place.available is not None:
        check_budget(-(-bits // 8), place.available, False, stored.path)
    data = pixel_bytes(stored.file)
    check_budget(-(-bits // 8), len(data), False, stored.path)
    return data


def _fractional(stored: StoredSegmentation) -> tuple[Iterator[NDArray[np.bool_]], tuple[Note, ...]]:
    highest = float(stored.file.header.get("MaximumFractionalValue") or 0)
    if not 1 <= highest <= 255:
        raise _invalid(stored.path, f"MaximumFractionalValue is {highest:g}")
    note = Note("LABEL_THRESHOLDED", f"values to {highest:g}; those above its half are taken as the segment")
    return _above_half(stored, highest), (note,)


def _above_half(stored: StoredSegmentation, highest: float) -> Iterator[NDArray[np.bool_]]:
    for frame in _frames(stored):
        if frame.max() > highest:
            raise _invalid(stored.path, f"it holds {frame.max()}, MaximumFractionalValue is {highest:g}")
        yield frame > highest / 2


def _paint_labels(stored: StoredSegmentation, lattice: Lattice, labels: dict[int, int], planes: NDArray) -> None:
    if len(set(lattice.places)) < len(lattice.places):
        raise _invalid(stored.path, "two frames lie at one position")
    table = _label_table(stored, labels)
    for place, frame in zip(lattice.places, _frames(stored), strict=True):
        painted = table[frame]
        if (painted == UNKNOWN).any():
            strange = sorted({int(value) for value in np.unique(frame[painted == UNKNOWN])})
            raise _invalid(stored.path, f"it holds {strange[:8]}, which it does not describe as segments")
        planes[place] = painted


def _label_table(stored: StoredSegmentation, labels: dict[int, int]) -> NDArray[np.int32]:
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
    return ImageError("SEG_INVALID", path, problem, "export the segmentation again")
