"""What makes the files of a series one volume: the rules, in the order in which they are looked at.

A rule gives what it finds: an ``ImageError`` for which ``read_dicom`` refuses the series,
or a ``Finding``. ``read_dicom`` raises the first error, ``take_inventory`` lists everything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom.multival import MultiValue

from medseg.data.dicom.file import DicomFile, Found, list_names, show_value
from medseg.data.dicom.frames import Frame, list_frames
from medseg.data.dicom.pixels import check_pixels, count_trailing_bytes
from medseg.data.dicom.stacks import (
    DIRECTION_TOLERANCE,
    SPACING_TOLERANCE,
    add_stacks,
    describe_difference,
    order_frames,
    pick_stack,
    place_frames,
)
from medseg.errors import ImageError
from medseg.findings import Finding, make_note
from medseg.geometry import spacing_mm

Item = TypeVar("Item")

LOCALIZER = "LOCALIZER"

ONE_VALUE = ("Modality", "PhotometricInterpretation", "Units", "RescaleType", "SamplesPerPixel")
"""What every slice of a series must have in common for its values to mean the same."""

INFORMATIVE = frozenset({"DICOM_LOSSY", "DICOM_RESCALE_PER_SLICE"})
"""Notes that say what is so without asking for anything; ``read_dicom`` leaves them out."""


@dataclass(frozen=True)
class ExaminedSeries:
    """A series held against the rules.

    Args:
        files: The files of the series, without those that are stored twice.
        frames: The planes, in order where they make a volume.
        affine: 4 by 4, voxel index (column, row, slice) to RAS+ mm; None where the planes make no volume.
        found: Errors and notes, in the order of the rules.
    """

    files: tuple[DicomFile, ...]
    frames: tuple[Frame, ...]
    affine: NDArray[np.float64] | None
    found: tuple[Found, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Columns, rows and slices; of a picture columns and rows."""
        return self.frames[0].size if self.affine is None else (*self.frames[0].size, len(self.frames))

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Along the axes of ``shape``."""
        return self.frames[0].spacing_mm if self.affine is None else spacing_mm(self.affine)

    @property
    def notes(self) -> tuple[Finding, ...]:
        """What is odd without being wrong.

        Raises:
            ImageError: What is wrong, the first of it.
        """
        for error in list_errors(self.found):
            raise error
        return tuple(each for each in self.found if isinstance(each, Finding) and each.code not in INFORMATIVE)


def examine(files: Sequence[DicomFile], case: Path, stack: int | None = None) -> ExaminedSeries:
    """Hold the files of one series against the rules; no pixel is decoded.

    Args:
        files: The files of one series of one patient.
        case: Named in errors about the series as a whole.
        stack: Which of several volumes in the series, from 1, as ``find_stacks`` numbers them; None for all as one.

    Raises:
        ImageError: ``DICOM_SERIES_NOT_FOUND``: there is no such stack.
    """
    kept, found = _drop_copies(files)
    frames: list[Frame] = []
    for file in kept:
        try:
            frames += list_frames(file.path, file.header)
        except ImageError as error:
            found.append(error)
    if list_errors(found):
        return _hold_against_rules(kept, frames, found, case)
    if stack is None:
        examined = _hold_against_rules(kept, frames, found, case)
        return replace(examined, found=add_stacks(examined.found, frames))
    wanted = pick_stack(frames, stack, case)
    paths = {frame.path for frame in wanted}
    return _hold_against_rules([file for file in kept if file.path in paths], list(wanted), found, case)


def _hold_against_rules(kept: list[DicomFile], frames: list[Frame], found: list[Found], case: Path) -> ExaminedSeries:
    """Files and frames held against the rules, after what was ``found`` in reading them."""
    if not list_errors(found):
        found += [*_find_localizers(kept, case), *_find_differences(frames), *_find_mixed_values(kept)]
    found += _list_pixel_errors(kept)
    affine = None
    if not list_errors(found):
        try:
            frames, affine, notes = _make_volume(frames, case)
            found += notes
        except ImageError as error:
            found.append(error)
    found += _note_values(kept, frames)
    return ExaminedSeries(tuple(kept), tuple(frames), affine, tuple(found))


def list_errors(found: Sequence[Found]) -> list[ImageError]:
    """What is wrong, without what is merely odd."""
    return [each for each in found if isinstance(each, ImageError)]


def _make_volume(frames: list[Frame], case: Path) -> tuple[list[Frame], NDArray[np.float64] | None, list[Finding]]:
    """Order, affine and notes of planes that are alike; a picture without a position has no affine."""
    if frames[0].position_mm is not None:
        ordered = order_frames(frames, case)
        return ordered, *place_frames(ordered, case)
    if len(frames) > 1:
        problem = f"{len(frames)} pictures without positions"
        raise ImageError("DICOM_GEOMETRY", case, problem, "give one file at a time")
    text = "the image has no position in the patient; read as a 2D picture"
    return frames, None, [make_note("DICOM_NO_POSITION", text)]


def _list_pixel_errors(files: Sequence[DicomFile]) -> Iterator[ImageError]:
    for file in files:
        try:
            check_pixels(file)
        except ImageError as error:
            yield error


def _drop_copies(files: Sequence[DicomFile]) -> tuple[list[DicomFile], list[Found]]:
    """The files, each instance once."""
    kept: dict[str, DicomFile] = {}
    copies, found = [], list[Found]()
    for file in files:
        first = kept.setdefault(str(file.header.get("SOPInstanceUID") or file.path), file)
        if first is file:
            continue
        if first.path.read_bytes() != file.path.read_bytes():
            problem = f"it has the SOPInstanceUID of {first.path.name} but other content"
            found.append(ImageError("DICOM_DUPLICATE_SLICE", file.path, problem, "remove the wrong one"))
        copies.append(file.path)
    if copies and not found:
        found.append(make_note("DICOM_DUPLICATE_FILE", f"{list_names(copies)} are copies and were left out"))
    return list(kept.values()), found


def _find_localizers(files: Sequence[DicomFile], case: Path) -> Iterator[Found]:
    scouts = [file.path for file in files if LOCALIZER in _read_words(file, "ImageType")]
    if scouts and len(scouts) < len(files):
        problem = f"{list_names(scouts)} of {len(files)} files are localizers"
        yield ImageError("DICOM_LOCALIZER", case, problem)
    elif scouts:
        yield make_note("DICOM_LOCALIZER_ONLY", "the series is a localizer, an overview for planning the scan")


def _find_differences(frames: Sequence[Frame]) -> Iterator[Found]:
    """Every plane has the size, spacing and orientation that most have."""
    usual = _find_most_frequent(
        frames, lambda frame: (frame.size, frame.position_mm is None, *np.round(_join_axes(frame), 2))
    )
    for frame in frames:
        if frame.size != usual.size:
            problem = f"{frame.size[0]}×{frame.size[1]} voxels, {usual.name} has {usual.size[0]}×{usual.size[1]}"
        elif not np.allclose(frame.spacing_mm, usual.spacing_mm, rtol=SPACING_TOLERANCE):
            problem = f"spacing {frame.spacing_mm} mm, {usual.name} has {usual.spacing_mm} mm"
        elif not np.allclose(_join_axes(frame), _join_axes(usual), atol=DIRECTION_TOLERANCE):
            problem = f"orientation differs from that of {usual.name}{describe_difference([frame, usual])}"
        elif (frame.position_mm is None) != (usual.position_mm is None):
            problem = f"of this and {usual.name} only one has a position"
        else:
            continue
        remedy = "move localizers and other images out of the folder"
        yield ImageError("DICOM_MIXED_GEOMETRY", frame.path, problem, remedy)


def _find_mixed_values(files: Sequence[DicomFile]) -> Iterator[Found]:
    """Values that do not mean the same in every slice; coordinates that may not."""
    for keyword in ONE_VALUE:
        usual = _find_most_frequent(files, lambda file: _read_words(file, keyword))  # noqa: B023 -- used before the next turn
        for file in files:
            if _read_words(file, keyword) != _read_words(usual, keyword):
                own, other = (show_value(each.header.get(keyword)) for each in (file, usual))
                problem = f"{keyword} is {own}, {usual.path.name} has {other}"
                yield ImageError("DICOM_MIXED_VALUES", file.path, problem)
    references = {str(file.header.get("FrameOfReferenceUID", "")) for file in files}
    if len(references) > 1:
        text = f"the slices name {len(references)} frames of reference, whose coordinates may differ"
        yield make_note("DICOM_FRAMES_OF_REFERENCE", text)


def _find_most_frequent(items: Sequence[Item], key: Callable[[Item], Hashable]) -> Item:
    """The first of the items that have the most frequent key."""
    ((wanted, _),) = Counter(key(item) for item in items).most_common(1)
    return next(item for item in items if key(item) == wanted)


def _join_axes(frame: Frame) -> NDArray[np.float64]:
    return np.concatenate([frame.along_row, frame.along_column])


def _note_values(files: Sequence[DicomFile], frames: Sequence[Frame]) -> Iterator[Finding]:
    if any(file.header.get("PhotometricInterpretation") == "MONOCHROME1" for file in files):
        yield make_note("DICOM_MONOCHROME1", "high values are dark (MONOCHROME1); values are left as they are")
    if any("YBR" in str(file.header.get("PhotometricInterpretation")) for file in files):
        yield make_note("COLOUR_CONVERTED", "colours are converted to RGB")
    if files[0].header.get("Modality") == "CT" and not all(frame.is_rescaled for frame in frames):
        text = "CT without rescale slope and intercept; values may not be Hounsfield units"
        yield make_note("DICOM_NO_RESCALE", text)
    trailing = [file.path for file in files if count_trailing_bytes(file)]
    if trailing:
        yield make_note("TRAILING_DATA", f"{list_names(trailing)} hold bytes behind the pixels that belong to nothing")
    if len({(frame.slope, frame.intercept) for frame in frames}) > 1:
        yield make_note("DICOM_RESCALE_PER_SLICE", "slices have different rescale slopes or intercepts, as of PET")
    if any(str(file.header.get("LossyImageCompression")) == "01" for file in files):
        yield make_note("DICOM_LOSSY", "the pixels have been compressed with loss")


def _read_words(file: DicomFile, keyword: str) -> tuple[str, ...]:
    value = file.header.get(keyword)
    return tuple(map(str, value)) if isinstance(value, MultiValue) else (str(value),)
