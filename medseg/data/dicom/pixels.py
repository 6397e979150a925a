"""The stored pixel values of one DICOM file, decoded frame by frame.

Before anything is decoded, what the header claims is held against the bytes that are there.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import apply_color_lut, get_decoder
from pydicom.uid import (
    JPEG2000TransferSyntaxes,
    JPEGExtended12Bit,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from medseg.data.dicom.file import (
    DICOM_ERRORS,
    PIXEL_DATA,
    DicomFile,
    PixelPlace,
    read_pixel_bytes,
    refuse_unreadable,
    show_value,
)
from medseg.data.formats.payload import DEFLATE_LIMIT_RATIO, check_budget
from medseg.errors import ImageError

END_OF_STREAM = b"\xff\xd9"
START_OF_JPEG2000 = b"\xff\x4f\xff\x51"
JPEG_FRAME_MARKERS = frozenset([*range(0xC0, 0xD0), 0xF7]) - {0xC4, 0xC8, 0xCC}
JPEG_SCAN_MARKER = 0xDA
JPEG_FAMILY = frozenset([*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, *JPEG2000TransferSyntaxes])

STREAM_HEAD_BYTES, STREAM_TAIL_BYTES = 1 << 16, 64
"""A compressed stream states its size in the first of these, and that it has ended in the last."""

ITEM = b"\xfe\xff\x00\xe0"
SEQUENCE_END = b"\xfe\xff\xdd\xe0"

BLANK_FRAME_BYTES = 1 << 24
"""A compressed frame of up to 16 MiB may hold next to nothing: a blank one takes some 100 bytes."""

RLE_MARGIN = 1.1
"""Run lengths never make pixels much longer than they are (PS3.5, G.3.1); beyond that they hide others."""

COLOUR_SPACES = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
GREYS = ("MONOCHROME1", "MONOCHROME2")
PALETTE = "PALETTE COLOR"


def find_stored_dtype(header: FileDataset) -> np.dtype:
    """The type of the pixels that a header claims."""
    if header.get("PhotometricInterpretation") == PALETTE:
        return np.dtype(np.uint16 if int(header.RedPaletteColorLookupTableDescriptor[2]) > 8 else np.uint8)
    return np.dtype(f"{'i' if header.get('PixelRepresentation') == 1 else 'u'}{int(header.BitsAllocated) // 8}")


def count_claimed_bytes(header: FileDataset) -> int:
    """Bytes that the pixels take once decoded."""
    frames, rows, columns, samples = read_claimed_shape(header)
    return frames * rows * columns * samples * find_stored_dtype(header).itemsize


def check_pixels(file: DicomFile) -> None:
    """Refuse pixels that cannot be what the header claims, without decoding them.

    Raises:
        ImageError: ``IMAGE_TRUNCATED``, ``IMAGE_TOO_LARGE``, ``MEMORY_BUDGET``, ``DICOM_PIXELS`` or
            ``DICOM_NO_DECODER``.
    """
    place = file.pixels
    if place is None:
        raise ImageError("DICOM_PIXELS", file.path, "PixelData is missing", "export the series again")
    with refuse_unreadable(file.path):
        _check_kind(file, place)
        _check_decoder(file)
        if file.syntax.is_encapsulated:
            _check_fragments(file, place)
        else:
            _check_length(file, place)


def read_claimed_shape(header: FileDataset) -> tuple[int, int, int, int]:
    """Frames, rows, columns and samples per pixel."""
    frames = int(header.get("NumberOfFrames") or 1)
    return frames, int(header.Rows), int(header.Columns), int(header.get("SamplesPerPixel", 1))


def count_trailing_bytes(file: DicomFile) -> int:
    """Bytes behind plain pixels that are no further element; 0 where there are none, or where they are not known."""
    place = file.pixels
    if place is None or place.length is None or place.available is None:
        return 0
    rest = place.available - place.length
    if rest <= 0:
        return 0
    with file.path.open("rb") as source:
        source.seek(place.offset + place.length)
        start = source.read(8)
    tag = int.from_bytes(start[:2], "little") << 16 | int.from_bytes(start[2:4], "little")
    return 0 if len(start) == 8 and tag > PIXEL_DATA else rest


def has_decoder(file: DicomFile) -> bool:
    """Whether pydicom can decode the pixels; Pillow's JPEG ends at 8 bits."""
    if file.syntax == JPEGExtended12Bit and int(file.header.get("BitsStored", 8)) > 8:
        return False
    try:
        return bool(get_decoder(file.syntax).is_available)
    except NotImplementedError:
        return False


def check_stream(file: DicomFile, head: bytes, tail: bytes) -> None:
    """Refuse a compressed frame of another size than the header's, or without its end.

    Args:
        file: Whose header counts.
        head: The frame, or as much of it as holds its size.
        tail: The frame, or its last bytes.

    Raises:
        ImageError: ``DICOM_PIXELS`` or ``IMAGE_TRUNCATED``.
    """
    if file.syntax not in JPEG_FAMILY:
        return
    _, rows, columns, _ = read_claimed_shape(file.header)
    coded = read_coded_size(head)
    if coded is not None and coded != (rows, columns):
        problem = f"compressed pixels are {coded[1]}×{coded[0]}, the header says {columns}×{rows}"
        raise ImageError("DICOM_PIXELS", file.path, problem, "export the series again")
    if not tail.rstrip(b"\0").endswith(END_OF_STREAM):
        problem = "the compressed pixels have no end"
        raise ImageError("IMAGE_TRUNCATED", file.path, problem, "export the series again")


def read_coded_size(frame: bytes) -> tuple[int, int] | None:
    """Rows and columns that a JPEG, JPEG-LS or JPEG 2000 stream states; None for others.

    Decoders allocate what the stream states, so it is compared before decoding.
    """
    if frame.startswith(START_OF_JPEG2000):
        width, height, left, top = struct.unpack(">4I", frame[8:24])
        return height - top, width - left
    place = 2
    while frame.startswith(b"\xff\xd8") and place + 9 <= len(frame) and frame[place] == 0xFF:
        marker = frame[place + 1]
        if marker in JPEG_FRAME_MARKERS:
            rows, columns = struct.unpack(">2H", frame[place + 5 : place + 9])
            return rows, columns
        if marker == JPEG_SCAN_MARKER:
            break
        place += 2 + int.from_bytes(frame[place + 2 : place + 4], "big")
    return None


def read_frames(file: DicomFile) -> Iterator[NDArray]:
    """The frames of a file as stored, before rescaling, one by one: (row, column[, colour]).

    Raises:
        ImageError: ``IMAGE_TRUNCATED``, ``IMAGE_TOO_LARGE``, ``DICOM_PIXELS`` or
            ``DICOM_NO_DECODER``.
    """
    check_pixels(file)
    yield from decode_frames(file)


def decode_frames(file: DicomFile) -> Iterator[NDArray]:
    """Decode the frames as ``read_frames`` gives them, of a file whose pixels ``check_pixels`` has seen.

    Raises:
        ImageError: What ``read_frames`` raises.
    """
    claimed, rows, columns, samples = read_claimed_shape(file.header)
    wanted, count = (rows, columns, samples)[: 3 if samples > 1 else 2], 0
    try:
        for count, frame in enumerate(_decode(file), 1):
            if frame.shape != wanted or count > claimed:
                problem = f"frame {count} of shape {frame.shape}, the header says {claimed} of {wanted}"
                raise ImageError("DICOM_PIXELS", file.path, problem, "export the series again")
            is_palette = file.header.get("PhotometricInterpretation") == PALETTE
            yield apply_color_lut(frame, file.header) if is_palette else frame
    except DICOM_ERRORS as error:
        problem = f"the pixels cannot be decoded ({type(error).__name__}: {error})"
        raise ImageError("DICOM_PIXELS", file.path, problem) from error
    if count != claimed:
        problem = f"{count} frames of pixels, the header says {claimed}"
        raise ImageError("DICOM_PIXELS", file.path, problem, "export the series again")


def _check_kind(file: DicomFile, place: PixelPlace) -> None:
    """Pixels are there, and they are whole bytes of grey values or of colours."""
    header, remedy = file.header, "export the series again, with 8, 16 or 32 bits per pixel"
    shape = read_claimed_shape(header)
    colours = str(header.get("PhotometricInterpretation", ""))
    allocated, stored = int(header.BitsAllocated), int(header.get("BitsStored", header.BitsAllocated))
    high = int(header.get("HighBit", stored - 1))
    problem = ""
    if place.tag != PIXEL_DATA:
        problem = "pixels are stored as floating point numbers"
    elif min(shape) < 1:
        problem = f"{shape[0]} frames of {shape[2]}×{shape[1]} pixels with {shape[3]} samples"
    elif allocated not in (8, 16, 32) or not 1 <= stored <= allocated or not stored - 1 <= high < allocated:
        problem = f"{allocated} bits per pixel, {stored} in use up to bit {high}"
    elif header.get("PixelRepresentation", 0) not in (0, 1):
        problem = f"PixelRepresentation is {show_value(header.PixelRepresentation)}"
    elif shape[3] != (3 if colours in COLOUR_SPACES else 1) or colours not in (*COLOUR_SPACES, *GREYS, PALETTE):
        problem = f"{shape[3]} samples per pixel as {show_value(colours)}"
    if problem:
        raise ImageError("DICOM_PIXELS", file.path, problem, remedy)


def _check_decoder(file: DicomFile) -> None:
    syntax = file.syntax
    if not syntax or not syntax.is_transfer_syntax or syntax.is_private:
        problem = f"transfer syntax {show_value(str(syntax))} is not one of the standard's"
        raise ImageError("DICOM_NO_DECODER", file.path, problem, "export the series again, uncompressed")
    if has_decoder(file) or (syntax in JPEGTransferSyntaxes and file.header.BitsAllocated <= 16):
        return
    remedy = "install a decoder for pydicom (pylibjpeg with its plug-ins), or export uncompressed"
    raise ImageError("DICOM_NO_DECODER", file.path, f"no decoder for {syntax.name}", remedy)


def _check_length(file: DicomFile, place: PixelPlace) -> None:
    """Plain pixels take as many bytes as the header says, and these bytes are there."""
    claimed = count_claimed_bytes(file.header)
    if file.header.get("PhotometricInterpretation") == "YBR_FULL_422":
        claimed = claimed // 3 * 2
    length = claimed if place.length is None else place.length
    available = length if place.available is None else min(length, place.available)
    if file.is_deflated:
        check_budget(claimed, file.path.stat().st_size, True, file.path)
    check_budget(claimed, available, False, file.path)
    row = int(file.header.Columns) * find_stored_dtype(file.header).itemsize
    if length - claimed >= max(row, 2):
        problem = f"PixelData holds {length} bytes, the header accounts for {claimed}"
        raise ImageError("DICOM_PIXELS", file.path, problem, "export the series again")


def _check_fragments(file: DicomFile, place: PixelPlace) -> None:
    """Compressed pixels are whole, one stream or more for each frame, and none too small to hold its frame."""
    frames = read_claimed_shape(file.header)[0]
    with file.path.open("rb") as source:
        pieces = list(_list_pieces(source, file, place))[1:]
        _check_counts(file, frames, [length for _, length in pieces])
        if len(pieces) == frames or frames == 1:
            ends = pieces if len(pieces) == frames else [(pieces[0][0], pieces[-1][0] + pieces[-1][1] - pieces[0][0])]
            for start, length in ends:
                source.seek(start)
                head = source.read(min(length, STREAM_HEAD_BYTES))
                source.seek(max(start, start + length - STREAM_TAIL_BYTES))
                check_stream(file, head, source.read(min(length, STREAM_TAIL_BYTES)))


def _check_counts(file: DicomFile, frames: int, sizes: list[int]) -> None:
    if len(sizes) < frames:
        problem = f"{len(sizes)} compressed pieces for {frames} frames"
        raise ImageError("IMAGE_TRUNCATED", file.path, problem, "export the series again")
    claimed, stored = count_claimed_bytes(file.header), sum(sizes)
    floor = 0 if file.syntax == RLELossless else frames * BLANK_FRAME_BYTES
    check_budget(claimed, max(stored, -(-min(claimed, floor) // DEFLATE_LIMIT_RATIO)), True, file.path)
    if file.syntax == RLELossless and stored > RLE_MARGIN * claimed + 1024 * frames:
        problem = f"run lengths of {stored} bytes for {claimed} bytes of pixels"
        raise ImageError("DICOM_PIXELS", file.path, problem)


def _list_pieces(source: BinaryIO, file: DicomFile, place: PixelPlace) -> Iterator[tuple[int, int]]:
    """First byte and length of each item of the compressed pixels, the table of offsets first (PS3.5, A.4)."""
    end, at = file.path.stat().st_size, place.offset
    while True:
        source.seek(at)
        start = source.read(8)
        if start[:4] == SEQUENCE_END:
            return
        length = int.from_bytes(start[4:], "little")
        if start[:4] != ITEM or at + 8 + length > end:
            problem = "the compressed pixels end too early, or are no series of items"
            raise ImageError("IMAGE_TRUNCATED", file.path, problem)
        yield at + 8, length
        at += 8 + length


def _decode(file: DicomFile) -> Iterator[NDArray]:
    if not file.syntax.is_encapsulated:
        yield from _read_plain_frames(file)
        return
    data = read_pixel_bytes(file)
    frames = read_claimed_shape(file.header)[0]
    for frame in generate_frames(data, number_of_frames=frames):
        check_stream(file, frame, frame)
    if not has_decoder(file):
        yield from _decode_by_gdcm(file, data)
        return
    for array, _ in get_decoder(file.syntax).iter_array(data, **_list_options(file.header)):
        yield array


def _read_plain_frames(file: DicomFile) -> Iterator[NDArray]:
    """Frames that are not compressed one by one; bits beyond those in use are dropped (PS3.5, 8.1.1)."""
    header = file.header
    options = _list_options(header)
    stored, high = options["bits_stored"], int(header.get("HighBit", options["bits_stored"] - 1))
    options["bits_stored"] = high + 1
    vr = file.pixels.vr if file.pixels else "OW"
    for array, _ in get_decoder(file.syntax).iter_array(read_pixel_bytes(file), pixel_vr=vr, **options):
        yield array >> (high + 1 - stored) if high + 1 > stored else array


def _list_options(header: FileDataset) -> dict[str, Any]:
    """What pydicom's decoders want to know."""
    frames, rows, columns, samples = read_claimed_shape(header)
    return {
        "rows": rows,
        "columns": columns,
        "number_of_frames": frames,
        "samples_per_pixel": samples,
        "photometric_interpretation": str(header.PhotometricInterpretation),
        "planar_configuration": int(header.get("PlanarConfiguration") or 0),
        "bits_allocated": int(header.BitsAllocated),
        "bits_stored": int(header.get("BitsStored", header.BitsAllocated)),
        "pixel_representation": int(header.get("PixelRepresentation", 0)),
        "pixel_keyword": "PixelData",
    }


def _decode_by_gdcm(file: DicomFile, data: bytes) -> NDArray:
    """Decode through SimpleITK's GDCM, for the syntaxes that pydicom has no decoder for.

    GDCM rescales and inverts as it decodes, so it is given a copy whose header asks
    for neither, and nothing that names the patient.
    """
    import SimpleITK

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "plain.dcm")
        _strip_rescaling(file.header, data).save_as(path)
        try:
            array = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
        except RuntimeError as error:
            remedy = "install a decoder for pydicom (pylibjpeg), or export uncompressed"
            raise ImageError("DICOM_NO_DECODER", file.path, f"no decoder for {file.syntax.name}", remedy) from error
    frames, rows, columns, samples = read_claimed_shape(file.header)
    return array.reshape(frames, rows, columns, *([samples] if samples > 1 else []))


def _strip_rescaling(header: FileDataset, data: bytes) -> FileDataset:
    wanted = (
        "SOPClassUID SOPInstanceUID NumberOfFrames SamplesPerPixel PlanarConfiguration Rows Columns "
        "BitsAllocated BitsStored HighBit PixelRepresentation PhotometricInterpretation"
    )
    bare = pydicom.Dataset()
    for keyword in wanted.split():
        if keyword in header:
            bare[keyword] = header[keyword]
    # Packed anew: GDCM would allocate whatever length a damaged item claims.
    count = int(header.get("NumberOfFrames") or 1)
    bare.PixelData = encapsulate(list(generate_frames(data, number_of_frames=count)))
    if bare.get("PhotometricInterpretation") == "MONOCHROME1":
        bare.PhotometricInterpretation = "MONOCHROME2"
    return FileDataset(None, bare, preamble=b"\0" * 128, file_meta=header.file_meta)  # type: ignore[arg-type]
