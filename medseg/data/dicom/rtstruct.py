"""RT Structure Sets as masks: closed contours filled on the slices of the series that they were drawn on.

A contour is filled where it lies; slices between contours stay as they are, and a gap is noted.
Contours of one structure in one slice cut holes into those around them; where they partly overlap, they mean
nothing certain unless they say that they are to be combined by exclusive or (PS3.3, C.8.8.6.3).
A voxel counts where its centre lies inside.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from medseg.data.dicom.file import UNDEFINED_LENGTH, DicomFile, read_file, refuse_unreadable
from medseg.data.dicom.segments import Segment, make_planes, match_labels, read_code_key
from medseg.data.dicom.source import (
    SourceSeries,
    check_frame_of_reference,
    find_series,
    read_contour_images,
    read_contour_series,
)
from medseg.data.labels import BACKGROUND
from medseg.data.terminology import Names
from medseg.data.volume import Volume
from medseg.errors import ImageError, LabelError
from medseg.findings import Finding, make_note
from medseg.geometry import NEAR_GRID_VOXELS

EXCLUSIVE = "CLOSEDPLANAR_XOR"
CLOSED = ("CLOSED_PLANAR", EXCLUSIVE)
CONTOUR_DATA = 0x30060050
Outline = tuple[str, NDArray[np.float64]]

MOST_CONTOUR_POINTS = 5_000_000
"""More points than this describe no anatomy."""

Box = tuple[slice, slice]


def read_structure_set(path: Path, names: Names | None = None) -> Volume:
    """Read an RTSTRUCT as a mask on the grid of the series that it was drawn on, which must lie beside it.

    Args:
        path: The file.
        names: See :func:`medseg.data.dicom.segments.match_labels`; ROI numbers and names are those of segments.

    Raises:
        ImageError: ``SERIES_MISSING``, ``CONTOUR_INVALID``, ``CONTOUR_OFF_SLICE``, ``CONTOUR_OVERLAP``, or a damaged
            file.
        LabelError: ``LABEL_OVERLAP`` or ``SEGMENTS_AMBIGUOUS``.
    """
    with refuse_unreadable(path, "a value cannot be read", "export the structure set again"):
        file = read_file(path)
        _check_whole(file)
        series = _find_source(file)
        numbers, named = match_labels(_read_structures(file), names, path)
        array, notes = _paint_structures(file, series, numbers)
        return Volume(array, series.grid.affine, notes=(*named, *notes))


def fill_polygons(polygons: Iterable[NDArray[np.float64]], columns: int, rows: int) -> NDArray[np.bool_]:
    """The pixels whose centres an odd number of polygons' outlines enclose (even-odd rule).

    A polygon inside another is a hole, and one inside the hole is filled again; an outline that
    touches itself along a line (a keyhole) encloses what it seems to. A centre exactly on an
    outline belongs to the pixels right of or below it, so that neighbours share no pixel.

    Args:
        polygons: Corners (n, 2) as column and row; pixel centres are whole numbers. The last corner
            is joined to the first. Fewer than three corners enclose nothing.
        columns: Width of the lattice.
        rows: Height of the lattice.

    Returns:
        (rows, columns). What lies outside the lattice is cut off.

    >>> fill_polygons([np.array([(0.5, 0.5), (2.5, 0.5), (2.5, 1.5), (0.5, 1.5)])], 4, 3).astype(int).tolist()
    [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    """
    # Each crossing of an edge with a row's centre line turns all pixels to its right inside out.
    turns = np.zeros((rows, columns + 1), dtype=np.uint8)
    for corners in polygons:
        at_rows, at_columns = _find_crossings(corners, rows)
        first = np.clip(np.ceil(at_columns), 0, columns).astype(np.intp)
        np.bitwise_xor.at(turns, (at_rows, first), np.uint8(1))
    return np.bitwise_xor.accumulate(turns[:, :columns], axis=1).astype(bool)


def fill_nested(polygons: Sequence[NDArray[np.float64]], columns: int, rows: int) -> tuple[NDArray[np.bool_], int]:
    """The pixels that outlines enclose which lie inside or beside one another: outer edges, holes, islands in holes.

    As ``fill_polygons``, but where edges touch, what they share by less than two pixels' width is given to the smaller
    outline, which is painted or cut out as a whole: neighbours are joined, and a hole keeps its size. The same
    outline twice, from another start or the other way round, counts once.

    Args:
        polygons: Corners, as ``fill_polygons`` takes them.
        columns: Width of the lattice.
        rows: Height of the lattice.

    Returns:
        (rows, columns), and how many pixels two outlines share that partly overlap, 0 where all is clear:
        then neither is a hole of the other. Two other outlines of the very same pixels overlap as well, for
        they could be a thin wall or one thing drawn twice.
    """
    inside = np.zeros((rows, columns), dtype=bool)
    depth = np.zeros((rows, columns), dtype=np.intp)
    seen: set[bytes] = set()
    for corners in sorted(_drop_copies(polygons), key=_measure_area, reverse=True):
        box = _find_box(corners, columns, rows)
        origin = np.array([box[1].start, box[0].start])
        mask = fill_polygons([corners - origin], box[1].stop - box[1].start, box[0].stop - box[0].start)
        if not mask.any():
            continue
        around = np.bincount(depth[box][mask])
        own = int(around.argmax())
        elsewhere = mask & (depth[box] != own)
        pixels = _digest(mask, box)
        if _is_wide(elsewhere):
            return inside, int(np.count_nonzero(mask & (depth[box] > around.nonzero()[0][0])))
        if pixels in seen and _is_wide(mask):
            return inside, int(np.count_nonzero(mask))
        seen.add(pixels)
        inside[box][mask] = own % 2 == 0
        depth[box][mask] = own + 1
    return inside, 0


def _check_whole(file: DicomFile) -> None:
    """Refuse a file that ends within an element: pydicom gives what is there of a sequence of contours.

    Raises:
        ImageError: ``IMAGE_TRUNCATED``.
    """
    for element in file.header.elements():
        if isinstance(element, RawDataElement) and len(element.value or b"") < element.length != UNDEFINED_LENGTH:
            problem = f"element {element.tag} needs {element.length} bytes, {len(element.value or b'')} are there"
            raise ImageError("IMAGE_TRUNCATED", file.path, problem)
    if "ROIContourSequence" not in file.header:
        raise ImageError("IMAGE_TRUNCATED", file.path, "it has no contours at all", "copy the file again")


def _find_source(file: DicomFile) -> SourceSeries:
    uids = read_contour_series(file.header)
    series = find_series(uids, file.path, partial(read_contour_images, file.header))
    if series is None:
        named = f"SeriesInstanceUID {', '.join(uids)}" if uids else "and it does not say which"
        problem = f"the series that its contours were drawn on is not in or beside its folder ({named})"
        raise ImageError("SERIES_MISSING", file.path, problem)
    for item in file.header.get("StructureSetROISequence") or []:
        check_frame_of_reference(str(item.get("ReferencedFrameOfReferenceUID", "")), series, file.path)
    return series


def _read_structures(file: DicomFile) -> tuple[Segment, ...]:
    codes = {}
    for item in file.header.get("RTROIObservationsSequence") or []:
        coded = list(item.get("RTROIIdentificationCodeSequence") or [])
        if coded and item.get("ReferencedROINumber") is not None:
            codes[int(item.ReferencedROINumber)] = read_code_key(coded[0])
    rois = list(file.header.get("StructureSetROISequence") or [])
    numbers = [int(roi.ROINumber) for roi in rois]
    if not numbers or len(set(numbers)) < len(numbers):
        raise _invalid(file, f"its structures are numbered {numbers[:12]}")
    return tuple(
        Segment(number, str(roi.get("ROIName") or ""), codes.get(number, ""))
        for number, roi in zip(numbers, rois, strict=True)
    )


def _paint_structures(
    file: DicomFile, series: SourceSeries, labels: dict[int, int]
) -> tuple[NDArray, tuple[Finding, ...]]:
    """Labels (X, Y, Z) on the series' grid."""
    names = {segment.number: segment for segment in _read_structures(file)}
    if any(not 0 < label < 2**16 for label in labels.values()):
        raise _invalid(file, f"structures numbered {sorted(labels)[:12]} cannot be labels")
    columns, rows, _ = series.grid.shape
    planes = make_planes(series.grid.shape, labels.values(), file.path)
    notes: list[Finding] = []
    for item in _list_contoured(file, labels):
        number = int(item.ReferencedROINumber)
        on_slices = _read_outlines(file, list(item.get("ContourSequence") or []), series, names[number])
        for place, outlines in sorted(on_slices.items()):
            mask, clashing = _enclose(outlines, columns, rows)
            if clashing:
                raise _overlap(file, names[number], series.frames[place].name, clashing)
            _paint(planes[place], mask, number, (file, labels, names))
        notes += _list_notes(names[number], on_slices, planes, labels[number])
    return planes.transpose(2, 1, 0), tuple(notes)


def _list_contoured(file: DicomFile, labels: Collection[int]) -> list[Dataset]:
    """The items that hold the contours of the structures wanted, few enough to be read.

    The points are counted by the bytes that they take, before any is decoded.
    """
    items = [
        item
        for item in file.header.get("ROIContourSequence") or []
        if item.get("ReferencedROINumber") is not None and int(item.ReferencedROINumber) in labels
    ]
    raw = (_read_raw(contour) for item in items for contour in item.get("ContourSequence") or [])
    points = sum(text.count(b"\\") + 1 for text in raw if text) // 3
    if points > MOST_CONTOUR_POINTS:
        problem = f"its contours have {points} points, at most {MOST_CONTOUR_POINTS} are read"
        raise ImageError("CONTOUR_INVALID", file.path, problem, "export it with fewer points")
    return items


def _read_raw(contour: Dataset) -> bytes:
    """The points as they are stored, text with backslashes between the numbers."""
    if CONTOUR_DATA not in contour:
        return b""
    value = contour.get_item(CONTOUR_DATA).value
    if isinstance(value, bytes):
        return value
    return "\\".join(str(number) for number in value or ()).encode("ascii")


def _enclose(outlines: Sequence[Outline], columns: int, rows: int) -> tuple[NDArray[np.bool_], int]:
    """The voxels of one slice (row, column) that a structure's outlines enclose; see ``fill_nested``."""
    polygons = [corners for _, corners in outlines]
    if all(kind == EXCLUSIVE for kind, _ in outlines):
        return fill_polygons(polygons, columns, rows), 0
    return fill_nested(polygons, columns, rows)


def _overlap(file: DicomFile, structure: Segment, where: str, voxels: int) -> ImageError:
    problem = f"contours of structure {structure} on slice {where} partly overlap, by {voxels} voxels"
    remedy = "join them, or draw one inside the other, where the structure set was made, and export it again"
    return ImageError("CONTOUR_OVERLAP", file.path, problem, remedy)


def _read_outlines(
    file: DicomFile, contours: Sequence[Dataset], series: SourceSeries, structure: Segment
) -> dict[int, list[Outline]]:
    """A structure's outlines as columns and rows, with their types, by slice."""
    on_slices: dict[int, list[Outline]] = {}
    for index, contour in enumerate(contours):
        case = f"contour {index + 1} of structure {structure}"
        kind = str(contour.get("ContourGeometricType", ""))
        if kind not in CLOSED:
            raise _invalid(file, f"{case} is {kind or 'of no type'}, not closed and planar")
        points_mm = _read_points_mm(file, contour, case)
        place = _find_slice(file, points_mm, series, case)
        frame = series.frames[place]
        inside = points_mm - series.positions_mm[place]
        columns = inside @ frame.along_row / frame.spacing_mm[0]
        rows = inside @ frame.along_column / frame.spacing_mm[1]
        on_slices.setdefault(place, []).append((kind, np.stack([columns, rows], axis=1)))
    return on_slices


def _read_points_mm(file: DicomFile, contour: Dataset, case: str) -> NDArray[np.float64]:
    """Corners in LPS, (n, 3)."""
    text = _read_raw(contour).rstrip(b" \0")
    numbers = np.array(text.split(b"\\") if text else [], dtype="S").astype(np.float64)
    stated = contour.get("NumberOfContourPoints")
    if numbers.size == 0 or numbers.size % 3:
        raise _invalid(file, f"{case} has {numbers.size} coordinates, which are no points")
    if stated is not None and int(stated) != numbers.size // 3:
        raise _invalid(file, f"{case} has {numbers.size // 3} points, it says {int(stated)}")
    if not np.isfinite(numbers).all():
        raise _invalid(file, f"{case} holds a coordinate that is NaN or infinite")
    return numbers.reshape(-1, 3)


def _find_slice(file: DicomFile, points_mm: NDArray[np.float64], series: SourceSeries, case: str) -> int:
    """The slice in which all points lie, to a tenth of the distance between slices.

    Raises:
        ImageError: ``CONTOUR_OFF_SLICE``.
    """
    normal = series.frames[0].normal
    heights, slices = points_mm @ normal, series.positions_mm @ normal
    place = int(np.abs(slices - heights[0]).argmin())
    step_mm = abs(float(series.step_mm @ normal))
    off_mm = float(np.abs(heights - slices[place]).max())
    if off_mm > NEAR_GRID_VOXELS * step_mm:
        problem = f"{case} lies {off_mm:.3g} mm off the nearest slice; slices are {step_mm:.3g} mm apart"
        remedy = "export it with the series that it was drawn on"
        raise ImageError("CONTOUR_OFF_SLICE", file.path, problem, remedy)
    return place


def _paint(
    plane: NDArray,
    mask: NDArray[np.bool_],
    number: int,
    context: tuple[DicomFile, dict[int, int], dict[int, Segment]],
) -> None:
    file, labels, names = context
    there = plane[mask]
    clash = (there != BACKGROUND) & (there != labels[number])
    if clash.any():
        values = {int(value) for value in np.unique(there[clash])}
        others = [str(names[other]) for other, label in labels.items() if label in values]
        problem = f"structures {names[number]} and {', '.join(others)} overlap in {int(clash.sum())} voxels of a slice"
        raise LabelError("LABEL_OVERLAP", file.path, problem, "give each voxel one structure, or export them apart")
    plane[mask] = labels[number]


def _list_notes(structure: Segment, on_slices: Iterable[int], planes: NDArray, label: int) -> list[Finding]:
    places = sorted(on_slices)
    notes = []
    if places and not any((planes[place] == label).any() for place in places):
        notes.append(make_note("STRUCTURE_EMPTY", f"the contours of structure {structure} enclose no voxel's centre"))
    gaps = places[-1] - places[0] + 1 - len(places) if places else 0
    if gaps:
        text = f"structure {structure} has no contour on {gaps} slices between its first and last; they stay empty"
        notes.append(make_note("CONTOUR_GAPS", text))
    return notes


def _invalid(file: DicomFile, problem: str) -> ImageError:
    return ImageError("CONTOUR_INVALID", file.path, problem)


def _drop_copies(polygons: Iterable[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """The polygons, each set of edges once."""
    return list({_list_edges(corners).tobytes(): corners for corners in polygons}.values())


def _list_edges(corners: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Edges of some length without order or direction, (n, 2), column + row·i; without -0."""
    starts = corners[:, 0] + 1j * corners[:, 1] + 0.0
    edges = np.sort(np.stack([starts, np.roll(starts, -1)], axis=1), axis=1)
    return np.unique(edges[edges[:, 0] != edges[:, 1]], axis=0)


def _measure_area(corners: NDArray[np.float64]) -> float:
    """Twice the area that the corners enclose."""
    across, down = (corners - corners[:1]).T
    return abs(float(across @ np.roll(down, -1) - down @ np.roll(across, -1)))


def _find_box(corners: NDArray[np.float64], columns: int, rows: int) -> Box:
    """Rows and columns of the lattice that hold the corners."""
    low, high = np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0)) + 1
    (left, top), (right, bottom) = (np.clip(each, 0, (columns, rows)).astype(int).tolist() for each in (low, high))
    return slice(top, bottom), slice(left, right)


def _digest(mask: NDArray[np.bool_], box: Box) -> bytes:
    """What stands for the pixels of a mask, wherever its box ends."""
    at_rows, at_columns = mask.nonzero()
    return hashlib.sha256(np.stack([at_rows + box[0].start, at_columns + box[1].start]).tobytes()).digest()


def _is_wide(mask: NDArray[np.bool_]) -> bool:
    """Whether two by two pixels lie in it together, which a strip less than a pixel wide never holds."""
    return bool((mask[1:, 1:] & mask[1:, :-1] & mask[:-1, 1:] & mask[:-1, :-1]).any())


def _find_crossings(corners: NDArray[np.float64], rows: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Where a polygon's edges cross the rows' centre lines: rows and columns; an edge owns its upper end only."""
    starts, ends = corners, np.roll(corners, -1, axis=0)
    is_down = starts[:, 1] <= ends[:, 1]
    upper = np.where(is_down[:, None], starts, ends)
    lower = np.where(is_down[:, None], ends, starts)
    first = np.clip(np.ceil(upper[:, 1]), 0, rows).astype(np.intp)
    counts = np.clip(np.ceil(lower[:, 1]), 0, rows).astype(np.intp) - first
    edges = np.repeat(np.arange(len(corners)), counts)
    within = np.arange(len(edges)) - np.repeat(np.cumsum(counts) - counts, counts)
    at_rows = first[edges] + within
    slopes = (lower[:, 0] - upper[:, 0])[edges] / (lower[:, 1] - upper[:, 1])[edges]
    return at_rows, upper[edges, 0] + (at_rows - upper[edges, 1]) * slopes
