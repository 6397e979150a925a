"""Which files of a folder are the one DICOM image series, and which are something else."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
from pydicom.dataset import FileDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import DeflatedExplicitVRLittleEndian, MediaStorageDirectoryStorage

from medseg.data.payload import READ_BYTES
from medseg.data.volume import PARSER_ERRORS, Note
from medseg.errors import ImageError

PREAMBLE_BYTES = 128
MAGIC = b"DICM"
DIRECTORY_NAME = "DICOMDIR"
DEFLATE_FLOOR_BYTES = 1 << 26
DEFLATE_RATIO = 100

DICOM_ERRORS: tuple[type[Exception], ...] = (InvalidDicomError, BytesLengthException, *PARSER_ERRORS)
"""What pydicom raises on broken files; header values are decoded, and so fail, on first use."""

HEADER_ERRORS: tuple[type[Exception], ...] = (ImageError, *DICOM_ERRORS)

NOT_IMAGES = {
    "1.2.840.10008.5.1.4.1.1.66.4": "segmentation",
    "1.2.840.10008.5.1.4.1.1.66.7": "label map segmentation",
    "1.2.840.10008.5.1.4.1.1.481.2": "radiotherapy dose",
    "1.2.840.10008.5.1.4.1.1.30": "parametric map",
}
"""Storage classes that have rows and columns but are no acquired image."""


@dataclass
class Inventory:
    """What a folder holds: headers of images, and the files left out, by reason."""

    headers: dict[Path, FileDataset] = field(default_factory=dict)
    junk: list[Path] = field(default_factory=list)
    not_images: dict[Path, FileDataset] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)


def is_dicom_file(path: Path) -> bool:
    """Whether the file has DICOM's mark after its preamble (PS3.10, 7.1)."""
    with path.open("rb") as file:
        return file.read(PREAMBLE_BYTES + 4)[PREAMBLE_BYTES:] == MAGIC


def holds_images(files: Iterable[Path]) -> bool:
    """Whether any of ``files`` is a DICOM image, or a DICOM file too damaged to tell."""
    for path in files:
        try:
            if path.name != DIRECTORY_NAME and is_dicom_file(path) and _is_image(read_header(path)):
                return True
        except HEADER_ERRORS:
            return True
    return False


def take_inventory(folder: Path) -> Inventory:
    """Read the header of every file in ``folder``; hidden files are passed over.

    Folders below are searched, to any depth, only where ``folder`` itself holds no
    DICOM file but its table of contents, DICOMDIR.

    Raises:
        ImageError: A DICOM file whose header is damaged, a DICOMDIR that points
            outside the folder, or an unreadable file named like the slices.
    """
    inventory = Inventory()
    for path in _files(folder):
        header = read_header(path) if is_dicom_file(path) else None
        if header is None or not (_storage_class(header) or _is_image(header)):
            inventory.junk.append(path)
        elif header.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
            _check_directory(path, header)
        elif not _is_image(header):
            inventory.not_images[path] = header
        else:
            inventory.headers[path] = header
    _refuse_lost_slices(inventory)
    inventory.notes.extend(_skip_notes(inventory))
    inventory.notes.extend(_preamble_notes(inventory))
    return inventory


def read_header(path: Path) -> FileDataset:
    """The data set of a DICOM file without its pixels.

    Raises:
        ImageError: ``DICOM_UNREADABLE`` or ``IMAGE_TOO_LARGE``.
    """
    return _read(path, stop_before_pixels=True)


def read_data_set(path: Path) -> FileDataset:
    """The whole data set of a DICOM file.

    Raises:
        ImageError: ``DICOM_UNREADABLE`` or ``IMAGE_TOO_LARGE``.
    """
    return _read(path, stop_before_pixels=False)


def one_series(inventory: Inventory, folder: Path) -> dict[Path, FileDataset]:
    """The headers of the one image series; the same instance stored twice counts once.

    Raises:
        ImageError: ``DICOM_NO_IMAGE`` or ``DICOM_SEVERAL_SERIES``.
    """
    series: dict[tuple[str, str], dict[Path, FileDataset]] = {}
    for path, header in inventory.headers.items():
        key = (str(header.get("PatientID", "")), str(header.get("SeriesInstanceUID", "")))
        series.setdefault(key, {})[path] = header
    if not series:
        remedy = "give the folder that holds the slices of one series"
        raise ImageError("DICOM_NO_IMAGE", folder, "it holds no DICOM image", remedy)
    if len(series) > 1:
        listed = "; ".join(_described(files) for files in list(series.values())[:8])
        remedy = "move each series into a folder of its own and give the one to use"
        raise ImageError("DICOM_SEVERAL_SERIES", folder, f"it holds {len(series)} image series: {listed}", remedy)
    return _without_copies(next(iter(series.values())), inventory)


def _read(path: Path, *, stop_before_pixels: bool) -> FileDataset:
    try:
        meta = pydicom.filereader.read_file_meta_info(path)
        if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            _check_deflated(path, int(meta.get("FileMetaInformationGroupLength", 0)))
        return pydicom.dcmread(path, stop_before_pixels=stop_before_pixels)
    except DICOM_ERRORS as error:
        problem = f"the DICOM file is damaged ({type(error).__name__}: {error})"
        raise ImageError("DICOM_UNREADABLE", path, problem, "export the series again") from error


def _check_deflated(path: Path, meta_bytes: int) -> None:
    """Inflate in small blocks without keeping them: pydicom would inflate a bomb whole."""
    limit = max(DEFLATE_FLOOR_BYTES, DEFLATE_RATIO * path.stat().st_size)
    inflater, total = zlib.decompressobj(-15), 0
    with path.open("rb") as file:
        file.seek(PREAMBLE_BYTES + 4 + 12 + meta_bytes)
        while data := inflater.unconsumed_tail or file.read(READ_BYTES):
            total += len(inflater.decompress(data, READ_BYTES))
            if total > limit:
                problem = f"{path.stat().st_size} bytes inflate to more than {limit}"
                raise ImageError("IMAGE_TOO_LARGE", path, problem, "export it without compression")


def _is_image(header: FileDataset) -> bool:
    return "Rows" in header and header.get("SOPClassUID") not in NOT_IMAGES


def _files(folder: Path) -> list[Path]:
    below = list(_files_below(folder))
    here = [path for path in below if path.parent == folder]
    if any(path.name != DIRECTORY_NAME and is_dicom_file(path) for path in here):
        return here
    return below


def _files_below(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            if not name.startswith(".") and path.is_file():
                yield path


def _check_directory(path: Path, header: FileDataset) -> None:
    for record in header.get("DirectoryRecordSequence") or []:
        value = record.get("ReferencedFileID")
        parts = [value] if isinstance(value, str) else list(value or [])
        if any(not re.fullmatch(r"[A-Z0-9_]{1,8}", str(part)) for part in parts):
            problem = f"DICOMDIR refers to {parts}, which is no file name of eight letters or digits (PS3.10, 8.2)"
            raise ImageError("DICOM_DIRECTORY", path, problem, "delete DICOMDIR after checking where it came from")


def _refuse_lost_slices(inventory: Inventory) -> None:
    """A file that is named or classed like the slices but holds no image is a lost slice."""
    shapes = {_name_shape(path) for path in inventory.headers}
    classes = {_storage_class(header) for header in inventory.headers.values()}
    named = [path for path in inventory.junk if _name_shape(path) in shapes and re.search(r"\d", path.name)]
    classed = [path for path, header in inventory.not_images.items() if _storage_class(header) in classes]
    for path in named + classed:
        problem = f"{path.stat().st_size} bytes without an image, though named or classed like the series' slices"
        raise ImageError("DICOM_UNREADABLE", path, problem, "copy the file again, or remove it if it is no slice")


def _storage_class(header: FileDataset) -> str:
    return str(header.file_meta.get("MediaStorageSOPClassUID", ""))


def _name_shape(path: Path) -> str:
    return re.sub(r"\d+", "0", path.name)


def _skip_notes(inventory: Inventory) -> list[Note]:
    notes = []
    if inventory.junk:
        notes.append(Note("DICOM_JUNK_SKIPPED", f"{_names(inventory.junk)} are no DICOM files"))
    if inventory.not_images:
        notes.append(Note("DICOM_NON_IMAGE_SKIPPED", f"{_names([*inventory.not_images])} hold no acquired image"))
    return notes


def _preamble_notes(inventory: Inventory) -> list[Note]:
    """A preamble that an operating system would execute (CVE-2019-11687)."""
    starts = {}
    for path in inventory.headers:
        with path.open("rb") as file:
            starts[path] = file.read(4)
    odd = [path for path, start in starts.items() if start.startswith((b"\x7fELF", b"MZ", b"#!"))]
    return [Note("DICOM_PREAMBLE", f"{_names(odd)} begin like a program")] if odd else []


def _without_copies(headers: dict[Path, FileDataset], inventory: Inventory) -> dict[Path, FileDataset]:
    kept: dict[str, Path] = {}
    copies = []
    for path, header in headers.items():
        first = kept.setdefault(str(header.get("SOPInstanceUID", path)), path)
        if first == path:
            continue
        if first.read_bytes() != path.read_bytes():
            problem = f"it has the SOPInstanceUID of {first.name} but other content"
            raise ImageError("DICOM_DUPLICATE_SLICE", path, problem, "remove the wrong one")
        copies.append(path)
    if copies:
        inventory.notes.append(Note("DICOM_DUPLICATE_FILE", f"{_names(copies)} are copies and were left out"))
    return {path: headers[path] for path in kept.values()}


def _described(files: dict[Path, FileDataset]) -> str:
    path, header = next(iter(files.items()))
    size = f"{header.get('Columns')}×{header.get('Rows')}"
    return f"{len(files)} files of {size} {header.get('Modality', '')} such as {path.name}"


def _names(paths: list[Path]) -> str:
    names = ", ".join(path.name for path in paths[:5])
    return names if len(paths) <= 5 else f"{names} and {len(paths) - 5} more"
