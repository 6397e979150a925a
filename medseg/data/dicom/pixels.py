"""The stored pixel values of one DICOM file, checked against what its header claims."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import get_decoder
from pydicom.uid import UID

from medseg.data.dicom.files import DICOM_ERRORS, read_data_set
from medseg.data.payload import check_budget
from medseg.errors import ImageError

END_OF_JPEG = b"\xff\xd9"
START_OF_JPEG2000 = b"\xff\x4f\xff\x51"
JPEG_FRAME_MARKERS = frozenset([*range(0xC0, 0xD0), 0xF7]) - {0xC4, 0xC8, 0xCC}
JPEG_SCAN_MARKER = 0xDA


def stored_frames(path: Path) -> NDArray:
    """All frames of a file as stored, before rescaling: (frame, row, column[, colour]).

    Raises:
        ImageError: ``IMAGE_TRUNCATED``, ``IMAGE_TOO_LARGE``, ``DICOM_PIXELS`` or
            ``DICOM_NO_DECODER``.
    """
    data_set = read_data_set(path)
    try:
        frames, rows, columns, samples = shape = _claimed_shape(path, data_set)
        _check_length(path, data_set, shape)
        pixels = _decoded(path, data_set)
    except DICOM_ERRORS as error:
        problem = f"the pixels cannot be decoded ({type(error).__name__}: {error})"
        raise ImageError("DICOM_PIXELS", path, problem, "export the series again, uncompressed") from error
    wanted = (frames, rows, columns, samples) if samples > 1 else (frames, rows, columns)
    if pixels.size != np.prod(wanted):
        problem = f"pixels of shape {pixels.shape}, the header says {wanted}"
        raise ImageError("DICOM_PIXELS", path, problem, "export the series again")
    return pixels.reshape(wanted)


def _claimed_shape(path: Path, data_set: FileDataset) -> tuple[int, int, int, int]:
    if "PixelData" not in data_set:
        raise ImageError("DICOM_PIXELS", path, "PixelData is missing", "export the series again")
    frames = int(data_set.get("NumberOfFrames") or 1)
    return frames, int(data_set.Rows), int(data_set.Columns), int(data_set.get("SamplesPerPixel", 1))


def _check_length(path: Path, data_set: FileDataset, shape: tuple[int, int, int, int]) -> None:
    bits = int(data_set.BitsAllocated)
    if bits not in (8, 16, 32):
        raise ImageError("DICOM_PIXELS", path, f"{bits} bits per pixel", "export it with 8, 16 or 32 bits")
    claimed = int(np.prod(shape, dtype=object)) * bits // 8
    syntax = _syntax(path, data_set)
    check_budget(claimed, len(data_set.PixelData), syntax.is_encapsulated, path)
    if not syntax.is_encapsulated:
        return
    for frame in generate_frames(data_set.PixelData, number_of_frames=shape[0]):
        coded = coded_size(frame)
        if coded is not None and coded != shape[1:3]:
            problem = f"compressed pixels are {coded[1]}×{coded[0]}, the header says {shape[2]}×{shape[1]}"
            raise ImageError("DICOM_PIXELS", path, problem, "export the series again")


def coded_size(frame: bytes) -> tuple[int, int] | None:
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


def _syntax(path: Path, data_set: FileDataset) -> UID:
    syntax = data_set.file_meta.get("TransferSyntaxUID")
    if syntax is None or not UID(syntax).is_transfer_syntax:
        problem = f"transfer syntax {syntax} is not one of the standard's"
        raise ImageError("DICOM_NO_DECODER", path, problem, "export the series again, uncompressed")
    return UID(syntax)


def _decoded(path: Path, data_set: FileDataset) -> NDArray:
    syntax = _syntax(path, data_set)
    if not syntax.is_encapsulated:
        return data_set.pixel_array
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        decoder = None
    if decoder is not None and decoder.is_available:
        return data_set.pixel_array
    return _decoded_by_gdcm(path, data_set)


def _decoded_by_gdcm(path: Path, data_set: FileDataset) -> NDArray:
    """Decode through SimpleITK's GDCM, for the syntaxes that pydicom has no decoder for.

    GDCM rescales and inverts as it decodes, so it is given a copy whose header asks
    for neither, and nothing that names the patient.
    """
    if not bytes(data_set.PixelData).rstrip(b"\0").rpartition(END_OF_JPEG)[1]:
        raise ImageError("IMAGE_TRUNCATED", path, "the compressed pixels have no end", "export the series again")
    import SimpleITK

    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder, "plain.dcm")
        _without_rescaling(data_set).save_as(plain)
        try:
            return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(plain)))
        except RuntimeError as error:
            name = UID(data_set.file_meta.TransferSyntaxUID).name
            remedy = "install a decoder for pydicom (pylibjpeg), or export uncompressed"
            raise ImageError("DICOM_NO_DECODER", path, f"no decoder for {name}", remedy) from error


def _without_rescaling(data_set: FileDataset) -> FileDataset:
    wanted = (
        "SOPClassUID SOPInstanceUID NumberOfFrames SamplesPerPixel PlanarConfiguration Rows Columns "
        "BitsAllocated BitsStored HighBit PixelRepresentation PhotometricInterpretation"
    )
    plain = pydicom.Dataset()
    for keyword in wanted.split():
        if keyword in data_set:
            plain[keyword] = data_set[keyword]
    # Packed anew: GDCM would allocate whatever length a damaged item claims.
    count = int(data_set.get("NumberOfFrames") or 1)
    plain.PixelData = encapsulate(list(generate_frames(data_set.PixelData, number_of_frames=count)))
    if plain.get("PhotometricInterpretation") == "MONOCHROME1":
        plain.PhotometricInterpretation = "MONOCHROME2"
    return FileDataset(None, plain, preamble=b"\0" * 128, file_meta=data_set.file_meta)  # type: ignore[arg-type]
