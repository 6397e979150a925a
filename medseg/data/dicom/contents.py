"""The files of a folder sorted into image series, other DICOM objects and junk; one series chosen among several."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.uid import MediaStorageDirectoryStorage

from medseg.data.dicom.files import HEADER_ERRORS, DicomFile, read_file
from medseg.data.dicom.naming import ENDING_SHOWN, number_of, split_stack, uid_of
from medseg.data.dicom.rules import Found
from medseg.data.dicom.sniff import DIRECTORY_NAME, is_dicom_file
from medseg.data.dicom.wording import names, plain
from medseg.data.volume import Note
from medseg.errors import ImageError

MOST_LISTED_SERIES = 12
SHORTEST_ENDING = 6
"""Shorter endings of a UID are no name: a mistyped number would pick the series that happens to end so."""

IDENTITY = (
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
        folder: Or a single file.
        at_any_depth: Search folders below too; otherwise only where ``folder`` itself
            holds no DICOM file but its table of contents, DICOMDIR.
    """
    contents = Contents()
    for path in _files(folder, at_any_depth):
        try:
            _sort(path, contents)
        except ImageError as error:
            contents.found.append(error)
        except HEADER_ERRORS as error:
            problem = f"it cannot be read ({type(error).__name__}: {error})"
            contents.found.append(ImageError("DICOM_UNREADABLE", path, problem, "copy the file again"))
    contents.found += _lost_slices(contents)
    contents.found += _notes(contents)
    return contents


def chosen(contents: Contents, folder: Path, wanted: str | None = None) -> list[DicomFile]:
    """The files of the one image series, or of the one that is wanted.

    Args:
        contents: Of the folder.
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
        problem = f"it holds {len(every)} image series: {_listed(every)}"
        raise ImageError("DICOM_SEVERAL_SERIES", folder, problem, remedy)
    fitting = [files for files in every if wanted.isdecimal() and series_number(files[0]) == int(wanted)]
    if not fitting and len(wanted) >= SHORTEST_ENDING:
        fitting = [files for files in every if series_uid(files[0]).endswith(wanted)]
    if len(fitting) == 1:
        return fitting[0]
    problem = f"{len(fitting)} of its {len(every)} image series fit {wanted!r}: {_listed(fitting or every)}"
    remedy = f"give a number, or an ending of at least {SHORTEST_ENDING} characters of a UID, that one series has"
    raise ImageError("DICOM_SERIES_NOT_FOUND", folder, problem, remedy)


def series_uid(file: DicomFile) -> str:
    """Its SeriesInstanceUID; see ``naming.uid_of``."""
    return uid_of(file.header)


def series_number(file: DicomFile) -> int | None:
    """Its SeriesNumber; see ``naming.number_of``."""
    return number_of(file.header)


def _listed(every: Sequence[list[DicomFile]]) -> str:
    more = f"; and {len(every) - MOST_LISTED_SERIES} more" if len(every) > MOST_LISTED_SERIES else ""
    return "; ".join(map(_described, every[:MOST_LISTED_SERIES])) + more


def _described(files: list[DicomFile]) -> str:
    header = files[0].header
    planes = sum(int(file.header.get("NumberOfFrames") or 1) for file in files)
    number = "none" if series_number(files[0]) is None else series_number(files[0])
    size = f"{header.get('Columns')}×{header.get('Rows')}"
    return (
        f"number {number}, {plain(header.get('Modality') or '')} {size}, {planes} slices, "
        f"UID …{series_uid(files[0])[-ENDING_SHOWN:]} (such as {files[0].path.name})"
    )


def _sort(path: Path, contents: Contents) -> None:
    file = read_file(path) if is_dicom_file(path) else None
    if file is None or not (file.storage_class or file.is_image):
        contents.junk.append(path)
        return
    for keyword in IDENTITY:
        file.header.get(keyword)
    if file.storage_class == MediaStorageDirectoryStorage:
        _check_directory(file)
    elif file.is_image:
        contents.images.append(file)
    else:
        contents.other.append(file)


def _files(folder: Path, at_any_depth: bool) -> list[Path]:
    if folder.is_file():
        return [folder]
    below = list(_files_below(folder))
    here = [path for path in below if path.parent == folder]
    if not at_any_depth and any(path.name != DIRECTORY_NAME and _is_dicom(path) for path in here):
        return here
    return below


def _files_below(folder: Path) -> Iterator[Path]:
    for parent, folders, file_names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(file_names):
            path = Path(parent, name)
            if not name.startswith(".") and path.is_file():
                yield path


def _is_dicom(path: Path) -> bool:
    try:
        return is_dicom_file(path)
    except OSError:
        return False


def _check_directory(file: DicomFile) -> None:
    for record in file.header.get("DirectoryRecordSequence") or []:
        value = record.get("ReferencedFileID")
        parts = [value] if isinstance(value, str) else list(value or [])
        if any(not re.fullmatch(r"[A-Z0-9_]{1,8}", str(part)) for part in parts):
            problem = f"DICOMDIR refers to {parts}, which is no file name of eight letters or digits (PS3.10, 8.2)"
            raise ImageError("DICOM_DIRECTORY", file.path, problem, "delete DICOMDIR after checking where it came from")


def _lost_slices(contents: Contents) -> Iterator[ImageError]:
    """A file that is named or classed like the slices but holds no image is a lost slice."""
    shapes = {_name_shape(file.path) for file in contents.images}
    classes = {file.storage_class for file in contents.images}
    named = [path for path in contents.junk if _name_shape(path) in shapes and re.search(r"\d", path.name)]
    classed = [file.path for file in contents.other if file.storage_class in classes]
    for path in named + classed:
        problem = f"{path.stat().st_size} bytes without an image, though named or classed like the series' slices"
        remedy = "copy the file again, or remove it if it is no slice"
        yield ImageError("DICOM_UNREADABLE", path, problem, remedy)


def _name_shape(path: Path) -> str:
    return re.sub(r"\d+", "0", path.name)


def _notes(contents: Contents) -> Iterator[Note]:
    if contents.junk:
        yield Note("DICOM_JUNK_SKIPPED", f"{names(contents.junk)} are no DICOM files")
    if contents.other:
        kinds = sorted({file.kind for file in contents.other})
        text = f"{names([file.path for file in contents.other])} hold no acquired image ({', '.join(kinds)})"
        yield Note("DICOM_NON_IMAGE_SKIPPED", text)
    patients = {str(file.header.get("PatientID", "")) for file in contents.images}
    if len(patients) > 1:
        yield Note("DICOM_SEVERAL_PATIENTS", f"the files belong to {len(patients)} patients")
    # A preamble that an operating system would execute (CVE-2019-11687).
    odd = [
        file.path for file in contents.images if (file.header.preamble or b"").startswith((b"\x7fELF", b"MZ", b"#!"))
    ]
    if odd:
        yield Note("DICOM_PREAMBLE", f"{names(odd)} begin like a program")
