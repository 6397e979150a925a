"""A DICOM image series as one volume in RAS+ millimetres; irregular series are refused.

The steps: what the folder holds (``contents``), the series held against the rules
(``rules``), order and place of its planes (``stacking``), pixels (``pixels``).
DICOM's LPS world ends here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.data.dicom.contents import chosen, look_into
from medseg.data.dicom.files import DICOM_ERRORS, DicomFile, is_dicom_file
from medseg.data.dicom.frames import Frame
from medseg.data.dicom.naming import split_stack
from medseg.data.dicom.pixel_checks import stored_dtype
from medseg.data.dicom.pixels import decoded_frames
from medseg.data.dicom.rules import Examined, errors_in, examine
from medseg.data.payload import check_memory
from medseg.data.volume import Note, Volume, value_notes
from medseg.errors import ImageError

INTEGER_TYPES = (np.int16, np.int32, np.int64)
LARGEST_WHOLE_INTERCEPT = 2**31


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
    try:
        return _read(path, series)
    except DICOM_ERRORS as error:
        problem = f"a header value cannot be read ({type(error).__name__}: {error})"
        raise ImageError("DICOM_UNREADABLE", path, problem, "export the series again") from error


def _read(path: Path, series: str | None) -> Volume:
    if not path.is_dir():
        _check_single(path)
    contents = look_into(path)
    for error in errors_in(contents.found):
        raise error
    examined = examine(chosen(contents, path, series), path, split_stack(series)[1])
    notes = [*(each for each in contents.found if isinstance(each, Note)), *examined.notes]
    array = _voxels(examined)
    has_channels = array.ndim == 4
    affine = examined.affine
    if affine is None:
        array, affine = array[..., 0], np.diag([*examined.spacing_mm, 1.0, 1.0])
    return Volume(array, affine, has_channels, (*notes, *value_notes(array)))


def _check_single(path: Path) -> None:
    if not is_dicom_file(path):
        raise ImageError("DICOM_UNREADABLE", path, "it is no DICOM file", "check what the file is")


def _voxels(examined: Examined) -> NDArray:
    """Rescaled voxels, (X, Y, Z) or (C, X, Y, Z)."""
    frames, files = examined.frames, examined.files
    is_whole = all(
        frame.slope == 1 and frame.intercept.is_integer() and abs(frame.intercept) < LARGEST_WHOLE_INTERCEPT
        for frame in frames
    )
    stored = np.result_type(*(stored_dtype(file.header) for file in files))
    stack = _stack(files, frames, stored if is_whole else np.dtype(np.float32))
    if is_whole:
        stack = _shifted(stack, [int(frame.intercept) for frame in frames])
    # (slice, row, column[, colour]) as (x, y, z) or (colour, x, y, z); no voxel moves.
    return stack.transpose(3, 2, 1, 0) if stack.ndim == 4 else stack.T


def _stack(files: Sequence[DicomFile], frames: Sequence[Frame], dtype: np.dtype) -> NDArray:
    """The planes in the order of ``frames``, each rescaled where ``dtype`` is floating."""
    places = {(frame.path, frame.index): place for place, frame in enumerate(frames)}
    stack: NDArray | None = None
    for file in files:
        for index, plane in enumerate(decoded_frames(file)):
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


def _shifted(stack: NDArray, intercepts: Sequence[int]) -> NDArray:
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
