"""One DICOM file: its header, what kind of object it is, what names its series, and where its pixels lie.

Nothing is inflated or allocated beyond what the header accounts for.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset, read_partial
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

from medseg.data.dicom.sniff import DIRECTORY_NAME, META_START, NOT_IMAGES, is_dicom_file, name_kind
from medseg.data.formats.payload import Inflated, check_budget
from medseg.data.volume import PARSER_ERRORS
from medseg.errors import ImageError
from medseg.findings import Finding
from medseg.text import list_some

BARE_DEFLATE_WINDOW = -15

DEFLATED_HEADER_LIMIT_BYTES = 1 << 23
"""A deflated header longer than this is none: it inflates without end."""

ENDING_SHOWN = 12
"""Last characters of a UID by which a series can be named."""

PIXEL_TAGS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
PIXEL_DATA = 0x7FE00010
LONG_VRS = (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"UN")
UNDEFINED_LENGTH = 0xFFFFFFFF

DICOM_ERRORS: tuple[type[Exception], ...] = (InvalidDicomError, BytesLengthException, *PARSER_ERRORS)
"""What pydicom raises on broken files; header values are decoded, and so fail, on first use."""

HEADER_ERRORS: tuple[type[Exception], ...] = (ImageError, *DICOM_ERRORS)

Found = ImageError | Finding
"""What is found in a file or series: what it is refused for, or what is odd about it."""


@dataclass(frozen=True)
class PixelPlace:
    """Where the value of PixelData lies.

    Args:
        tag: PixelData, or one of its forms in floating point.
        vr: Value representation; OW where the file states none.
        offset: First byte of the value, in the file or in the inflated data set.
        length: Bytes of the value as stated; None where undefined, as of compressed pixels.
        available: Bytes from ``offset`` to the end; None where the file is deflated and not yet known.
    """

    tag: int
    vr: str
    offset: int
    length: int | None
    available: int | None


@dataclass(frozen=True)
class DicomFile:
    """A DICOM file without its pixels.

    Args:
        path: The file.
        header: The data set up to the pixels.
        pixels: Where they are; None where there are none.
    """

    path: Path
    header: FileDataset
    pixels: PixelPlace | None

    @property
    def storage_class(self) -> str:
        """The UID of its kind, as its meta information states it."""
        return str(self.header.file_meta.get("MediaStorageSOPClassUID", ""))

    @property
    def is_image(self) -> bool:
        """Whether it holds an acquired image."""
        return "Rows" in self.header and str(self.header.get("SOPClassUID")) not in NOT_IMAGES

    @property
    def is_deflated(self) -> bool:
        """Whether its data set is compressed as a whole."""
        return self.syntax == DeflatedExplicitVRLittleEndian

    @property
    def syntax(self) -> UID:
        """Its transfer syntax; empty where it states none."""
        return UID(str(self.header.file_meta.get("TransferSyntaxUID") or ""))

    @property
    def kind(self) -> str:
        """What a file that holds no acquired image holds, such as SEG or SR."""
        return name_kind(str(self.header.get("SOPClassUID", "") or self.storage_class))


@contextmanager
def refuse_unreadable(
    case: Path, what: str = "a header value cannot be read", remedy: str = "export the series again"
) -> Iterator[None]:
    """Turn what pydicom raises on a broken file into an error with a code.

    Args:
        case: The file or folder, named in the error.
        what: The problem in words, to which pydicom's own are added.
        remedy: What the user can do about it.

    Raises:
        ImageError: ``DICOM_UNREADABLE``.
    """
    try:
        yield
    except DICOM_ERRORS as error:
        problem = f"{what} ({type(error).__name__}: {error})"
        raise ImageError("DICOM_UNREADABLE", case, problem, remedy) from error


def holds_images(files: Iterable[Path]) -> bool:
    """Whether any of ``files`` is a DICOM image, or a DICOM file too damaged to tell."""
    for path in files:
        try:
            if path.name != DIRECTORY_NAME and is_dicom_file(path) and read_file(path).is_image:
                return True
        except HEADER_ERRORS:
            return True
    return False


def read_file(path: Path) -> DicomFile:
    """The header of a DICOM file, and where its pixels are.

    Raises:
        ImageError: ``DICOM_UNREADABLE``, ``IMAGE_TRUNCATED`` or ``IMAGE_TOO_LARGE``.
    """
    with refuse_unreadable(path, "the DICOM file is damaged"), path.open("rb") as file:
        meta = _read_meta(file, path)
        if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            return _read_deflated(file, path, meta)
        file.seek(0)
        header = read_partial(file, stop_when=_StopAtPixels(path))
        place = _find_pixels(file, path.stat().st_size, header)
        if place is None:
            _check_whole(header, file, path)
        return DicomFile(path, header, place)


def read_pixel_bytes(file: DicomFile) -> bytes:
    """The value of PixelData as it is stored; empty where there is none.

    Raises:
        ImageError: ``IMAGE_TRUNCATED``, ``IMAGE_CORRUPT`` or ``IMAGE_TOO_LARGE``.
    """
    place = file.pixels
    if place is None:
        return b""
    with file.path.open("rb") as opened:
        if not file.is_deflated:
            opened.seek(place.offset)
            return opened.read(-1 if place.length is None else place.length)
        if place.length is None:
            problem = "deflated pixels of undefined length"
            raise ImageError("DICOM_PIXELS", file.path, problem, "export it without compression")
        check_budget(place.length, file.path.stat().st_size, True, file.path)
        _read_meta(opened, file.path)
        with io.BufferedReader(Inflated(opened, file.path, BARE_DEFLATE_WINDOW)) as source:
            source.read(place.offset)
            data = source.read(place.length)
            _read_rest(source, file.path)
            return data


def show_value(value: object) -> str:
    """A header's value as text that can be shown: numbers and short codes; anything else is left out.

    >>> show_value("AXIAL"), show_value([0.5, 2]), show_value("Doe^John")
    ('AXIAL', '0.5, 2', '…')
    """
    values = [value] if isinstance(value, str | int | float) or value is None else list(value)  # type: ignore[call-overload]
    texts = ["none" if each in (None, "") else str(each) for each in values]
    return ", ".join(text if re.fullmatch(r"[A-Z0-9_.+\-e ]{1,16}|none", text) else "…" for text in texts)


def list_names(paths: Sequence[Path]) -> str:
    """Some file names, and how many more there are."""
    return list_some([path.name for path in paths], most=5)


def read_series_uid(header: Dataset) -> str:
    """The SeriesInstanceUID; empty where there is none, or none that is made of digits and dots."""
    uid = str(header.get("SeriesInstanceUID", ""))
    return uid if re.fullmatch(r"[0-9.]{1,64}", uid) else ""


def read_series_number(header: Dataset) -> int | None:
    """The SeriesNumber, where there is one."""
    text = str(header.get("SeriesNumber", ""))
    return int(text) if re.fullmatch(r"-?[0-9]{1,12}", text) else None


def name_series(header: Dataset) -> str:
    """What names a series among others: its number, else the end of its UID; empty where it has neither."""
    number = read_series_number(header)
    return str(number) if number is not None and number >= 0 else read_series_uid(header)[-ENDING_SHOWN:]


def _read_rest(source: IO[bytes], path: Path) -> None:
    """Inflate what follows the pixels, which shows that the stream has its end, and keep none of it."""
    extra = 0
    while block := source.read(1 << 18):
        extra += len(block)
        if extra > DEFLATED_HEADER_LIMIT_BYTES:
            raise _endless(path)


def _read_meta(file: BinaryIO, path: Path) -> Dataset:
    """The file meta information; leaves ``file`` at the first byte behind it."""
    file.seek(META_START)
    meta = read_dataset(
        file, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, vr, length: tag >> 16 != 2
    )
    group = file.read(2)
    file.seek(-len(group), io.SEEK_CUR)
    if group == b"\0\0" and meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        # A command set, which no file may hold (PS3.10, 7.1): pydicom would read zeros as such without end.
        raise ImageError("DICOM_UNREADABLE", path, "the data set begins with zeros", "export the series again")
    return meta


def _read_deflated(file: BinaryIO, path: Path, meta: Dataset) -> DicomFile:
    """Inflate no more than a header may need: pydicom would inflate a bomb whole."""
    with io.BufferedReader(Inflated(file, path, BARE_DEFLATE_WINDOW)) as source:
        start = source.read(DEFLATED_HEADER_LIMIT_BYTES)
    stream = io.BytesIO(start)
    data_set = read_dataset(stream, is_implicit_VR=False, is_little_endian=True, stop_when=_StopAtPixels(path))
    header = FileDataset(str(path), data_set, None, FileMetaDataset(meta), False, True)
    is_whole = len(start) < DEFLATED_HEADER_LIMIT_BYTES
    place = _find_pixels(stream, len(start) if is_whole else None, header)
    if place is None:
        if not is_whole:
            raise _endless(path)
        _check_whole(header, stream, path)
    return DicomFile(path, header, place)


def _check_whole(header: FileDataset, file: BinaryIO, path: Path) -> None:
    """A data set without pixels ends where its file ends, but for zeros; pydicom takes a shorter one as it is."""
    if not len(header) and not len(header.file_meta):
        return  # A mark and nothing behind it: no slice, and no part of one.
    last = header.get_item(list(header.keys())[-1]) if len(header) else None
    if last is None:
        raise ImageError("IMAGE_TRUNCATED", path, "it holds no data set")
    if isinstance(last, RawDataElement) and last.length != UNDEFINED_LENGTH:
        end = last.value_tell + last.length
        total = file.seek(0, io.SEEK_END)
        file.seek(end)
        if end > total or file.read().strip(b"\0"):
            problem = f"its last element ends at byte {end}, the file at {total}"
            raise ImageError("IMAGE_TRUNCATED", path, problem)


def _endless(path: Path) -> ImageError:
    problem = f"{path.stat().st_size} bytes inflate to far more than the header accounts for"
    return ImageError("IMAGE_TOO_LARGE", path, problem, "export it without compression")


class _StopAtPixels:
    """Ends the reading of a header at its pixels, and refuses one that repeats itself."""

    def __init__(self, path: Path) -> None:
        self._path, self._seen, self._calls = path, set[int](), 0

    def __call__(self, tag: BaseTag, vr: str | None, length: int) -> bool:
        # pydicom asks twice about the first element where it finds another encoding than was stated.
        number = int(tag)
        if number == 0:
            return True  # Zeros that pad the file.
        if number in self._seen:
            problem = f"the element {BaseTag(tag)} occurs twice"
            raise ImageError("DICOM_UNREADABLE", self._path, problem, "export the series again")
        if self._calls:
            self._seen.add(number)
        self._calls += 1
        return number in PIXEL_TAGS


def _find_pixels(file: IO[bytes], total: int | None, header: FileDataset) -> PixelPlace | None:
    start = file.read(12)
    is_big = header.file_meta.get("TransferSyntaxUID") == ExplicitVRBigEndian
    order = "big" if is_big else "little"
    if len(start) < 8:
        return None
    tag = int.from_bytes(start[:2], order) << 16 | int.from_bytes(start[2:4], order)  # type: ignore[arg-type]
    if tag not in PIXEL_TAGS:
        return None
    has_vr = start[4:6] in LONG_VRS
    at = file.tell() - len(start) + (12 if has_vr else 8)
    length = int.from_bytes(start[8:12] if has_vr else start[4:8], order)  # type: ignore[arg-type]
    return PixelPlace(
        tag,
        start[4:6].decode("ascii") if has_vr else "OW",
        at,
        None if length == UNDEFINED_LENGTH else length,
        None if total is None else max(total - at, 0),
    )
