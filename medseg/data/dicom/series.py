"""A folder's DICOM files sorted into image series: all listed, or one read in RAS+ mm or refused.

The steps: what the folder holds (``look_into``), one series of it (``choose_series``), that series held against the
rules (``rules``), order and place of its planes (``stacks``), pixels (``pixels``). DICOM's LPS world ends here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import MediaStorageDirectoryStorage

from medseg.data.dicom.file import (
    ENDING_SHOWN,
    HEADER_ERRORS,
    DicomFile,
    Found,
    list_names,
    read_file,
    read_series_number,
    read_series_uid,
    refuse_unreadable,
    show_value,
)
from medseg.data.dicom.frames import Frame
from medseg.data.dicom.pixels import decode_frames, find_stored_dtype
from medseg.data.dicom.rules import INFORMATIVE, ExaminedSeries, examine, list_errors
from medseg.data.dicom.sniff import DIRECTORY_NAME, is_dicom_file, looks_like_dicom, walk_visible
from medseg.data.formats.payload import check_memory
from medseg.data.volume import Volume, value_notes
from medseg.errors import ImageError
from medseg.findings import Finding, make_note

MOST_LISTED_SERIES = 12

SHORTEST_ENDING = 6
"""Shorter endings of a UID are no name: a mistyped number would pick the series that happens to end so."""

INTEGER_TYPES = (np.int16, np.int32, np.int64)
LARGEST_WHOLE_INTERCEPT = 2**31

HEADER_IDENTITY = (
    "SOPClassUID",
    "SOPInstanceUID",
    "PatientID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "Modality",
    "NumberOfFrames",
    "Rows",
    "Columns",
)
"""What files are told apart by; a value that cannot be decoded makes a file unreadable."""


@dataclass
class Contents:
    """What a folder holds, and what is wrong with it.

    Args:
        images: The files with acquired images.
        other: DICOM files without.
        junk: Files that are no DICOM.
        found: Errors and notes that concern no single series.
    """

    images: list[DicomFile] = field(default_factory=list)
    other: list[DicomFile] = field(default_factory=list)
    junk: list[Path] = field(default_factory=list)
    found: list[Found] = field(default_factory=list)

    @property
    def series(self) -> list[list[DicomFile]]:
        """The images, one list for each series of each patient."""
        series: dict[tuple[str, str], list[DicomFile]] = {}
        for file in self.images:
            key = (str(file.header.get("PatientID", "")), str(file.header.get("SeriesInstanceUID", "")))
            series.setdefault(key, []).append(file)
        return list(series.values())


def look_into(folder: Path, *, at_any_depth: bool = False) -> Contents:
    """Read the header of every file in ``folder``; hidden files are passed over.

    Args:
        folder: The folder, or a single file.
        at_any_depth: Search folders below too; otherwise only where ``folder`` itself
            holds no DICOM file but its table of contents, DICOMDIR.
    """
    contents = Contents()
    for path in _list_files(folder, at_any_depth):
        try:
            _sort(path, contents)
        except ImageError as error:
            contents.found.append(error)
        except HEADER_ERRORS as error:
            problem = f"it cannot be read ({type(error).__name__}: {error})"
            contents.found.append(ImageError("DICOM_UNREADABLE", path, problem, "copy the file again"))
    contents.found += _find_lost_slices(contents)
    contents.found += _note_contents(contents)
    return contents


def choose_series(contents: Contents, folder: Path, wanted: str | None = None) -> list[DicomFile]:
    """The files of the one image series, or of the one that is wanted.

    Args:
        contents: What the folder holds.
        folder: Named in errors.
        wanted: The SeriesNumber, or an ending of the SeriesInstanceUID, that one series has; the number goes first.
            What follows a colon is left to ``rules.examine``.

    Raises:
        ImageError: ``DICOM_NO_IMAGE``, ``DICOM_SEVERAL_SERIES`` or ``DICOM_SERIES_NOT_FOUND``.
    """
    every = contents.series
    wanted = split_stack(wanted)[0]
    if not every:
        remedy = "give the folder that holds the slices of one series"
        kinds = ", ".join(sorted({file.kind for file in contents.other}))
        problem = f"its DICOM files hold {kinds}, no acquired image" if kinds else "it holds no DICOM image"
        raise ImageError("DICOM_NO_IMAGE", folder, problem, remedy)
    if wanted is None:
        if len(every) == 1:
            return every[0]
        remedy = "name one by its number or the end of its UID: --series SUFFIX, or FOLDER#series=SUFFIX"
        problem = f"it holds {len(every)} image series: {_list_series(every)}"
        raise ImageError("DICOM_SEVERAL_SERIES", folder, problem, remedy)
    fitting = [files for files in every if wanted.isdecimal() and read_series_number(files[0].header) == int(wanted)]
    if not fitting and len(wanted) >= SHORTEST_ENDING:
        fitting = [files for files in every if read_series_uid(files[0].header).endswith(wanted)]
    if len(fitting) == 1:
        return fitting[0]
    problem = f"{len(fitting)} of its {len(every)} image series fit {wanted!r}: {_list_series(fitting or every)}"
    remedy = f"give a number, or an ending of at least {SHORTEST_ENDING} characters of a UID, that one series has"
    raise ImageError("DICOM_SERIES_NOT_FOUND", folder, problem, remedy)


def split_stack(wanted: str | None) -> tuple[str | None, int | None]:
    """What names a series, and the number of a stack in it, of ``SERIES``, ``SERIES:STACK`` or ``:STACK``.

    >>> split_stack("3:2"), split_stack("190024.52"), split_stack(":2"), split_stack(None)
    (('3', 2), ('190024.52', None), (None, 2), (None, None))
    """
    match = re.fullmatch(r"([^:]*):([0-9]{1,9})", wanted or "")
    return (match[1] or None, int(match[2])) if match else (wanted, None)


def read_dicom(path: Path, series: str | None = None) -> Volume:
    """Read a folder that holds one image series, or a single file as a one-slice volume.

    Slices are ordered along the normal, towards growing position. Values are rescaled
    slice by slice: integers where every slope is 1 and every intercept whole, else
    float32. A single picture without a position (an X-ray) is 2D. Colour becomes
    channels, first.

    Args:
        path: File, or folder; its folders are searched only where it holds no DICOM file itself.
        series: Which of several series: its SeriesNumber, or an ending of its SeriesInstanceUID. ``:N`` behind it,
            or alone where there is one series, picks stack N of several phases, echoes or orientations in it.

    Raises:
        ImageError: Several series, missing or doubled slices, mixed or missing
            geometry, damaged files, more than the memory budget.
    """
    with refuse_unreadable(path):
        return _read(path, series)


def _list_series(every: Sequence[list[DicomFile]]) -> str:
    more = f"; and {len(every) - MOST_LISTED_SERIES} more" if len(every) > MOST_LISTED_SERIES else ""
    return "; ".join(map(_describe_series, every[:MOST_LISTED_SERIES])) + more


def _describe_series(files: list[DicomFile]) -> str:
    header = files[0].header
    planes = sum(int(file.header.get("NumberOfFrames") or 1) for file in files)
    number = "none" if read_series_number(files[0].header) is None else read_series_number(files[0].header)
    size = f"{header.get('Columns')}×{header.get('Rows')}"
    return (
        f"number {number}, {show_value(header.get('Modality') or '')} {size}, {planes} slices, "
        f"UID …{read_series_uid(files[0].header)[-ENDING_SHOWN:]} (such as {files[0].path.name})"
    )


def _sort(path: Path, contents: Contents) -> None:
    file = read_file(path) if is_dicom_file(path) else None
    if file is None or not (file.storage_class or file.is_image):
        contents.junk.append(path)
        return
    for keyword in HEADER_IDENTITY:
        file.header.get(keyword)
    if file.storage_class == MediaStorageDirectoryStorage:
        _check_directory(file)
    elif file.is_image:
        contents.images.append(file)
    else:
        contents.other.append(file)


def _list_files(folder: Path, at_any_depth: bool) -> list[Path]:
    if folder.is_file():
        return [folder]
    below = [path for path in walk_visible(folder) if path.is_file()]
    here = [path for path in below if path.parent == folder]
    if not at_any_depth and any(path.name != DIRECTORY_NAME and looks_like_dicom(path) for path in here):
        return here
    return below


def _check_directory(file: DicomFile) -> None:
    for record in file.header.get("DirectoryRecordSequence") or []:
        value = record.get("ReferencedFileID")
        parts = [value] if isinstance(value, str) else list(value or [])
        if any(not re.fullmatch(r"[A-Z0-9_]{1,8}", str(part)) for part in parts):
            problem = f"DICOMDIR refers to {parts}, which is no file name of eight letters or digits (PS3.10, 8.2)"
            raise ImageError("DICOM_DIRECTORY", file.path, problem)


def _find_lost_slices(contents: Contents) -> Iterator[ImageError]:
    """A file that is named or classed like the slices but holds no image is a lost slice."""
    shapes = {_strip_digits(file.path) for file in contents.images}
    classes = {file.storage_class for file in contents.images}
    named = [path for path in contents.junk if _strip_digits(path) in shapes and re.search(r"\d", path.name)]
    classed = [file.path for file in contents.other if file.storage_class in classes]
    for path in named + classed:
        problem = f"{path.stat().st_size} bytes without an image, though named or classed like the series' slices"
        remedy = "copy the file again, or remove it if it is no slice"
        yield ImageError("DICOM_UNREADABLE", path, problem, remedy)


def _strip_digits(path: Path) -> str:
    return re.sub(r"\d+", "0", path.name)


def _note_contents(contents: Contents) -> Iterator[Finding]:
    if contents.junk:
        yield make_note("DICOM_JUNK_SKIPPED", f"{list_names(contents.junk)} are no DICOM files")
    if contents.other:
        kinds = sorted({file.kind for file in contents.other})
        text = f"{list_names([file.path for file in contents.other])} hold no acquired image ({', '.join(kinds)})"
        yield make_note("DICOM_NON_IMAGE_SKIPPED", text)
    patients = {str(file.header.get("PatientID", "")) for file in contents.images}
    if len(patients) > 1:
        yield make_note("DICOM_SEVERAL_PATIENTS", f"the files belong to {len(patients)} patients")
    # A preamble that an operating system would execute (CVE-2019-11687).
    odd = [
        file.path for file in contents.images if (file.header.preamble or b"").startswith((b"\x7fELF", b"MZ", b"#!"))
    ]
    if odd:
        yield make_note("DICOM_PREAMBLE", f"{list_names(odd)} begin like a program")


def _read(path: Path, series: str | None) -> Volume:
    if not path.is_dir():
        _check_single(path)
    contents = look_into(path)
    for error in list_errors(contents.found):
        raise error
    examined = examine(choose_series(contents, path, series), path, split_stack(series)[1])
    notes = [*(each for each in contents.found if isinstance(each, Finding)), *examined.notes]
    array = _read_voxels(examined)
    has_channels = array.ndim == 4
    affine = examined.affine
    if affine is None:
        array, affine = array[..., 0], np.diag([*examined.spacing_mm, 1.0, 1.0])
    return Volume(array, affine, has_channels, (*notes, *value_notes(array)))


def _check_single(path: Path) -> None:
    if not is_dicom_file(path):
        raise ImageError("DICOM_UNREADABLE", path, "it is no DICOM file", "check what the file is")


def _read_voxels(examined: ExaminedSeries) -> NDArray:
    """Rescaled voxels, (X, Y, Z) or (C, X, Y, Z)."""
    frames, files = examined.frames, examined.files
    is_whole = all(
        frame.slope == 1 and frame.intercept.is_integer() and abs(frame.intercept) < LARGEST_WHOLE_INTERCEPT
        for frame in frames
    )
    stored = np.result_type(*(find_stored_dtype(file.header) for file in files))
    stack = _stack_planes(files, frames, stored if is_whole else np.dtype(np.float32))
    if is_whole:
        stack = _add_intercepts(stack, [int(frame.intercept) for frame in frames])
    # (slice, row, column[, colour]) as (x, y, z) or (colour, x, y, z); no voxel moves.
    return stack.transpose(3, 2, 1, 0) if stack.ndim == 4 else stack.T


def _stack_planes(files: Sequence[DicomFile], frames: Sequence[Frame], dtype: np.dtype) -> NDArray:
    """The planes in the order of ``frames``, each rescaled where ``dtype`` is floating."""
    places = {(frame.path, frame.index): place for place, frame in enumerate(frames)}
    stack: NDArray | None = None
    for file in files:
        for index, plane in enumerate(decode_frames(file)):
            place = places.get((file.path, index))
            if place is None:
                continue  # A frame of another stack in the same file.
            if stack is None:
                shape = (len(frames), *plane.shape)
                check_memory(int(np.prod(shape, dtype=object)) * dtype.itemsize, file.path.parent)
                stack = np.empty(shape, dtype)
            if dtype.kind == "f":
                frame = frames[place]
                stack[place] = plane.astype(np.float64) * frame.slope + frame.intercept
            else:
                stack[place] = plane
    if stack is None:
        raise ImageError("DICOM_PIXELS", frames[0].path, "it holds no frame", "export the series again")
    return stack


def _add_intercepts(stack: NDArray, intercepts: Sequence[int]) -> NDArray:
    """Whole intercepts added to their planes, in the smallest integers that hold the sums; in place where these fit."""
    if not any(intercepts):
        return stack
    low = min(int(plane.min()) + intercept for plane, intercept in zip(stack, intercepts, strict=True))
    high = max(int(plane.max()) + intercept for plane, intercept in zip(stack, intercepts, strict=True))
    dtype = next(kind for kind in INTEGER_TYPES if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
    result = stack.view(dtype) if stack.dtype.itemsize == np.dtype(dtype).itemsize else np.empty(stack.shape, dtype)
    for plane, target, intercept in zip(stack, result, intercepts, strict=True):
        # Sums are right even where a term alone overflows: integers wrap around.
        np.add(plane, np.int64(intercept).astype(dtype), out=target, dtype=dtype, casting="unsafe")
    return result


@dataclass(frozen=True)
class Series:
    """One image series of one patient; nothing that names the patient is kept.

    Args:
        uid: SeriesInstanceUID; empty where the files have none.
        modality: Such as CT or MR; empty where the files do not say.
        number: SeriesNumber, where the files have one.
        files: The files, as they lie in the folder.
        shape: Voxels (X, Y, Z), or (X, Y) of a picture without a position; None where it cannot be read.
        spacing_mm: Spacing along ``shape``'s axes; None where it cannot be read.
        findings: What is wrong or odd about it.
    """

    uid: str
    modality: str
    number: int | None
    files: tuple[Path, ...]
    shape: tuple[int, ...] | None = None
    spacing_mm: tuple[float, ...] | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def is_readable(self) -> bool:
        """Whether nothing was found for which ``read_dicom`` would refuse it before decoding its pixels."""
        return all(finding.severity != "error" for finding in self.findings)


@dataclass(frozen=True)
class FolderInventory:
    """What lies below a folder.

    Args:
        folder: The folder that was searched.
        series: The image series in it.
        other: DICOM files that hold no acquired image, by kind: SEG, RTSTRUCT, SR, PDF and so on.
        junk: Files that are no DICOM.
        findings: What concerns no single series.
    """

    folder: Path
    series: tuple[Series, ...] = ()
    other: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    junk: tuple[Path, ...] = ()
    findings: tuple[Finding, ...] = ()


def take_inventory(folder: str | Path) -> FolderInventory:
    """The series of a folder, at any depth, with what is wrong with each.

    Headers are read, pixels are not decoded. Never raises for what a file holds: that becomes a finding.
    """
    root = Path(folder)
    contents = look_into(root, at_any_depth=True)
    series = tuple(_take_series(files, root) for files in contents.series)
    other: dict[str, tuple[Path, ...]] = {}
    for file in contents.other:
        other[file.kind] = (*other.get(file.kind, ()), file.path)
    return FolderInventory(root, series, other, tuple(contents.junk), _list_findings(contents.found, root, "."))


def _take_series(files: Sequence[DicomFile], root: Path) -> Series:
    header = files[0].header
    where = Path(os.path.commonpath([file.path.parent for file in files]))
    try:
        with refuse_unreadable(where):
            examined = examine(files, where)
    except ImageError as error:
        examined = ExaminedSeries(tuple(files), (), None, (error,))
    return Series(
        read_series_uid(header),
        show_value(header.get("Modality") or ""),
        read_series_number(header),
        tuple(file.path for file in files),
        None if list_errors(examined.found) else examined.shape,
        None if list_errors(examined.found) else examined.spacing_mm,
        _list_findings(examined.found, root, where),
    )


def _list_findings(found: Sequence[Found], root: Path, where: str | Path) -> tuple[Finding, ...]:
    """What was found as findings; the same thing about several files is one."""
    places: dict[tuple[str, str, str, str], list[str]] = {}
    for each in found:
        if isinstance(each, ImageError):
            key = (each.code, "error", each.problem, each.remedy)
            places.setdefault(key, []).append(_make_relative(each.case, root))
        else:
            severity = "info" if each.code in INFORMATIVE else "warning"
            key = (each.code, severity, each.problem, "")  # The table says what to do.
            places.setdefault(key, []).append(_make_relative(str(where), root))
    return tuple(
        Finding(at[0], code, what if len(at) == 1 else f"{what} (and {len(at) - 1} more files)", remedy, severity)  # type: ignore[arg-type]
        for (code, severity, what, remedy), at in places.items()
    )


def _make_relative(place: str, root: Path) -> str:
    return Path(place).relative_to(root).as_posix() if Path(place).is_relative_to(root) else place
