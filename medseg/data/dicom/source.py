"""The image series that a mask was drawn on: what the mask says of it, where it is found, and where its slices lie.

What is searched is bounded: the folder of the mask, two levels below it, and the folders beside it with one
level below them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info, read_partial
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medseg.data.dicom.file import HEADER_ERRORS, DicomFile, read_file, refuse_unreadable
from medseg.data.dicom.frames import Frame
from medseg.data.dicom.rules import examine
from medseg.data.dicom.series import choose_series, look_into, split_stack
from medseg.data.dicom.sniff import NOT_IMAGES, STRUCTURE_SET_CLASS, is_dicom_file, name_kind, read_storage_class
from medseg.data.dicom.stacks import PICKABLE, find_stacks
from medseg.errors import ImageError
from medseg.geometry import LPS_TO_RAS, Grid

Image = tuple[str, int]
"""SOPInstanceUID and number of the frame in it, from 1; 0 for all that it holds."""

SERIES_INSTANCE_UID = 0x0020000E

PROBED_FILES = 8
"""So many files of a folder tell which series it holds; only where none does, all are read."""

MOST_SEARCHED_FILES = 20_000


def read_segmentation_series(header: Dataset) -> tuple[str, ...]:
    """SeriesInstanceUIDs of the series that a DICOM SEG was drawn on."""
    items = header.get("ReferencedSeriesSequence") or []
    return tuple(dict.fromkeys(str(item.SeriesInstanceUID) for item in items if item.get("SeriesInstanceUID")))


def read_contour_series(header: Dataset) -> tuple[str, ...]:
    """SeriesInstanceUIDs of the series that an RTSTRUCT was drawn on."""
    found = [
        str(series.SeriesInstanceUID)
        for reference in header.get("ReferencedFrameOfReferenceSequence") or []
        for study in reference.get("RTReferencedStudySequence") or []
        for series in study.get("RTReferencedSeriesSequence") or []
        if series.get("SeriesInstanceUID")
    ]
    return tuple(dict.fromkeys(found))


def read_referenced_series(path: Path) -> tuple[str, ...]:
    """SeriesInstanceUIDs of the series that a DICOM SEG or RTSTRUCT was drawn on.

    Raises:
        ImageError: ``DICOM_UNREADABLE``.
    """
    header = read_file(path).header
    is_contours = read_storage_class(path) == STRUCTURE_SET_CLASS
    with refuse_unreadable(path, remedy="export it again"):
        return read_contour_series(header) if is_contours else read_segmentation_series(header)


def list_image_series(folder: Path) -> set[str]:
    """SeriesInstanceUIDs of the DICOM images that lie in ``folder`` itself; unreadable files are passed over."""
    found = {_sniff_series_uid(path) for path in folder.iterdir() if not path.name.startswith(".")}
    return found - {""}


def read_segmentation_images(header: Dataset) -> frozenset[Image]:
    """The images that a DICOM SEG names as a whole or frame by frame."""
    series = header.get("ReferencedSeriesSequence") or []
    items = [item for each in series for item in each.get("ReferencedInstanceSequence") or []]
    items += [item for derived in _list_derivations(header) for item in derived.get("SourceImageSequence") or []]
    return frozenset(image for item in items for image in _list_item_images(item))


def read_contour_images(header: Dataset) -> frozenset[Image]:
    """The images on which the contours of an RTSTRUCT say that they lie."""
    return frozenset(
        image
        for structure in header.get("ROIContourSequence") or []
        for contour in structure.get("ContourSequence") or []
        for item in contour.get("ContourImageSequence") or []
        for image in _list_item_images(item)
    )


def list_images(frames: Sequence[Frame]) -> frozenset[Image]:
    """What may be named of some frames: each of them, and their files as a whole."""
    instances = ((str(frame.groups[-1].get("SOPInstanceUID", "")), frame.index + 1) for frame in frames)
    return frozenset(image for uid, number in instances for image in ((uid, 0), (uid, number)))


def keep_references(header: Dataset, frames: Sequence[Frame]) -> None:
    """Leave out of a DICOM SEG's sources the frames of their files that it was not made from.

    highdicom names every frame of a multi-frame source that lies at a mask's position, of all stacks.
    """
    held = list_images(frames)
    for derived in _list_derivations(header):
        items = derived.get("SourceImageSequence") or []
        kept = [item for item in items if held.issuperset(_list_item_images(item))]
        if len(kept) < len(items):
            derived.SourceImageSequence = kept


@dataclass(frozen=True)
class SourceSeries:
    """An image series without its pixels.

    Args:
        files: The files of the series.
        frames: The planes along the third axis of ``grid``, in order.
        grid: Where its voxels lie, as ``read_dicom`` has it.
    """

    files: tuple[DicomFile, ...]
    frames: tuple[Frame, ...]
    grid: Grid

    @property
    def uid(self) -> str:
        """Its SeriesInstanceUID."""
        return str(self.files[0].header.get("SeriesInstanceUID", ""))

    @property
    def frame_of_reference(self) -> str:
        """Its FrameOfReferenceUID; empty where the files have none."""
        return str(self.files[0].header.get("FrameOfReferenceUID", ""))

    @property
    def positions_mm(self) -> NDArray[np.float64]:
        """Centre of each plane's first voxel, LPS, (slices, 3)."""
        return np.array([frame.position_mm for frame in self.frames], dtype=float)

    @property
    def step_mm(self) -> NDArray[np.float64]:
        """From one plane's first voxel to the next one's, LPS, mean of all."""
        return (LPS_TO_RAS @ self.grid.affine)[:3, 2]


def build_source(files: Collection[DicomFile], case: Path, stack: int | None = None) -> SourceSeries:
    """The series of these files, or one of the stacks in it, its planes in order.

    Raises:
        ImageError: As ``read_dicom`` for slices that are missing, doubled, uneven or mixed.
    """
    examined = examine(list(files), case, stack)
    _ = examined.notes  # Raises what is wrong.
    if examined.affine is None:
        problem = "the image has no position in the patient"
        raise ImageError("DICOM_GEOMETRY", case, problem, "give a series of CT, MR or another with positions")
    return SourceSeries(examined.files, examined.frames, Grid(examined.shape, examined.affine))


def read_source(image: Path, wanted: str | None = None) -> SourceSeries:
    """The series that ``read_dicom`` reads from a file or folder, without its pixels.

    Args:
        image: File or folder.
        wanted: Which of several series; see ``read_dicom``.

    Raises:
        ImageError: As ``read_dicom``, and ``DICOM_GEOMETRY`` for a picture without a position.
    """
    return build_source(choose_series(look_into(image), image, wanted), image, split_stack(wanted)[1])


def find_series(
    uids: Collection[str], near: Path, named: Callable[[], frozenset[Image]] = frozenset
) -> SourceSeries | None:
    """The first image series of ``uids`` that lies in or beside the folder of ``near``; None where none does.

    Args:
        uids: SeriesInstanceUIDs.
        near: The mask.
        named: Gives the images that the mask names, by which one of several stacks in the series is picked.

    Raises:
        ImageError: It is there, but is no regular volume, or one of its files is damaged.
    """
    if not uids:
        return None
    folders = list(_list_folders(near.parent))
    for most in (PROBED_FILES, None):
        searched = 0
        for folder in folders:
            paths = _list_files(folder)[:most]
            searched += len(paths)
            if any(_probe_series(path) in uids for path in paths):
                return _build_stack(named, _read_members(folder, uids), folder)
            if searched > MOST_SEARCHED_FILES:
                break
    return None


def check_frame_of_reference(uid: str, series: SourceSeries, case: Path) -> None:
    """Refuse positions that are measured in another coordinate system than those of the series.

    Raises:
        ImageError: ``FRAME_OF_REFERENCE_DIFFERS``.
    """
    if uid and series.frame_of_reference and uid != series.frame_of_reference:
        problem = f"its positions are of frame of reference {uid}, those of its series of {series.frame_of_reference}"
        raise ImageError("FRAME_OF_REFERENCE_DIFFERS", case, problem)


def _list_derivations(header: Dataset) -> Iterator[Dataset]:
    for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in header.get(keyword) or []:
            yield from group.get("DerivationImageSequence") or []


def _list_item_images(item: Dataset) -> list[Image]:
    uid, numbers = str(item.get("ReferencedSOPInstanceUID", "")), item.get("ReferencedFrameNumber")
    if numbers is None or numbers == "":
        return [(uid, 0)]
    return [(uid, int(number)) for number in ([numbers] if isinstance(numbers, str | int) else numbers)]


def _build_stack(named: Callable[[], frozenset[Image]], files: Sequence[DicomFile], folder: Path) -> SourceSeries:
    """The series as a whole, or the only stack in it that has all the images named."""
    try:
        return build_source(files, folder)
    except ImageError as error:
        images = named() if error.code in PICKABLE else frozenset()
        stacks = find_stacks(examine(files, folder).frames) if images else []
        fitting = [number for number, stack in enumerate(stacks, 1) if images <= list_images(stack.frames)]
        if len(fitting) != 1:
            raise
        return build_source(files, folder, fitting[0])


def _list_folders(own: Path) -> Iterator[Path]:
    """Where a series is looked for, the nearest first."""
    own = Path(os.path.abspath(own))  # noqa: PTH100 -- resolve would follow links
    yield own
    below = list(_list_folders_in(own))
    yield from below
    yield from (deeper for folder in below for deeper in _list_folders_in(folder))
    if own.parent != own:
        beside = [folder for folder in _list_folders_in(own.parent) if folder != own]
        yield from beside
        yield from (deeper for folder in beside for deeper in _list_folders_in(folder))


def _list_folders_in(folder: Path) -> list[Path]:
    return _list_entries(folder, lambda entry: entry.is_dir(follow_symlinks=False))


def _list_files(folder: Path) -> list[Path]:
    return _list_entries(folder, lambda entry: entry.is_file())


def _list_entries(folder: Path, is_wanted: Callable[[os.DirEntry[str]], bool]) -> list[Path]:
    """What a folder holds by name, hidden names left out; nothing where it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.name[0] != "." and is_wanted(entry))
    except OSError:
        return []
    return [folder / name for name in names]


def _probe_series(path: Path) -> str:
    """The series of a file; empty where it holds no acquired image or cannot be read."""
    try:
        file = read_file(path) if is_dicom_file(path) else None
        return str(file.header.get("SeriesInstanceUID", "")) if file is not None and file.is_image else ""
    except HEADER_ERRORS:
        return ""


def _read_members(folder: Path, uids: Collection[str]) -> list[DicomFile]:
    """The folder's images of the first series of ``uids`` that is there; damaged files are errors."""
    found: dict[str, list[DicomFile]] = {}
    for path in _list_files(folder):
        if is_dicom_file(path):
            file = read_file(path)
            uid = str(file.header.get("SeriesInstanceUID", ""))
            if uid in uids and file.is_image:
                found.setdefault(uid, []).append(file)
    return next(iter(found.values()))


def _sniff_series_uid(path: Path) -> str:
    """The series of a DICOM file that may be an image, by the beginning of its header; empty of any other."""
    stored = read_storage_class(path)
    if not stored or stored in NOT_IMAGES or name_kind(stored) != "other":
        return ""
    try:
        with path.open("rb") as file:
            meta = read_file_meta_info(path)
            if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
                return str(read_file(path).header.get("SeriesInstanceUID", ""))
            start = read_partial(file, stop_when=lambda tag, vr, length: tag > SERIES_INSTANCE_UID)
            return str(start.get("SeriesInstanceUID", ""))
    except HEADER_ERRORS:
        return ""
