"""The stored pixel values of one DICOM file, decoded frame by frame once they were checked."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import apply_color_lut, get_decoder

from medseg.data.dicom.files import DICOM_ERRORS, DicomFile, pixel_bytes
from medseg.data.dicom.pixel_checks import PALETTE, check_pixels, check_stream, claimed_shape, has_decoder
from medseg.errors import ImageError


def stored_frames(file: DicomFile) -> Iterator[NDArray]:
    """The frames of a file as stored, before rescaling, one by one: (row, column[, colour]).

    Raises:
        ImageError: ``IMAGE_TRUNCATED``, ``IMAGE_TOO_LARGE``, ``DICOM_PIXELS`` or
            ``DICOM_NO_DECODER``.
    """
    check_pixels(file)
    yield from decoded_frames(file)


def decoded_frames(file: DicomFile) -> Iterator[NDArray]:
    """As ``stored_frames``, of a file whose pixels ``check_pixels`` has seen.

    Raises:
        ImageError: As ``stored_frames``.
    """
    claimed, rows, columns, samples = claimed_shape(file.header)
    wanted, count = (rows, columns, samples)[: 3 if samples > 1 else 2], 0
    try:
        for count, frame in enumerate(_decoded(file), 1):
            if frame.shape != wanted or count > claimed:
                problem = f"frame {count} of shape {frame.shape}, the header says {claimed} of {wanted}"
                raise ImageError("DICOM_PIXELS", file.path, problem, "export the series again")
            is_palette = file.header.get("PhotometricInterpretation") == PALETTE
            yield apply_color_lut(frame, file.header) if is_palette else frame
    except DICOM_ERRORS as error:
        problem = f"the pixels cannot be decoded ({type(error).__name__}: {error})"
        raise ImageError("DICOM_PIXELS", file.path, problem, "export the series again, uncompressed") from error
    if count != claimed:
        problem = f"{count} frames of pixels, the header says {claimed}"
        raise ImageError("DICOM_PIXELS", file.path, problem, "export the series again")


def _decoded(file: DicomFile) -> Iterator[NDArray]:
    if not file.syntax.is_encapsulated:
        yield from _plain_frames(file)
        return
    data = pixel_bytes(file)
    frames = claimed_shape(file.header)[0]
    for frame in generate_frames(data, number_of_frames=frames):
        check_stream(file, frame, frame)
    if not has_decoder(file):
        yield from _decoded_by_gdcm(file, data)
        return
    for array, _ in get_decoder(file.syntax).iter_array(data, **_options(file.header)):
        yield array


def _plain_frames(file: DicomFile) -> Iterator[NDArray]:
    """Frames that are not compressed one by one; bits beyond those in use are dropped (PS3.5, 8.1.1)."""
    header = file.header
    options = _options(header)
    stored, high = options["bits_stored"], int(header.get("HighBit", options["bits_stored"] - 1))
    options["bits_stored"] = high + 1
    vr = file.pixels.vr if file.pixels else "OW"
    for array, _ in get_decoder(file.syntax).iter_array(pixel_bytes(file), pixel_vr=vr, **options):
        yield array >> (high + 1 - stored) if high + 1 > stored else array


def _options(header: FileDataset) -> dict[str, Any]:
    """What pydicom's decoders want to know."""
    frames, rows, columns, samples = claimed_shape(header)
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


def _decoded_by_gdcm(file: DicomFile, data: bytes) -> NDArray:
    """Decode through SimpleITK's GDCM, for the syntaxes that pydicom has no decoder for.

    GDCM rescales and inverts as it decodes, so it is given a copy whose header asks
    for neither, and nothing that names the patient.
    """
    import SimpleITK

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "plain.dcm")
        _without_rescaling(file.header, data).save_as(path)
        try:
            array = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
        except RuntimeError as error:
            remedy = "install a decoder for pydicom (pylibjpeg), or export uncompressed"
            raise ImageError("DICOM_NO_DECODER", file.path, f"no decoder for {file.syntax.name}", remedy) from error
    frames, rows, columns, samples = claimed_shape(file.header)
    return array.reshape(frames, rows, columns, *([samples] if samples > 1 else []))


def _without_rescaling(header: FileDataset, data: bytes) -> FileDataset:
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
