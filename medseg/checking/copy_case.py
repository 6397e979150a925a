"""One case of a corrected copy: its files as they are or written anew, and names that no two cases share."""

from __future__ import annotations

import hashlib
import shutil
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from medseg.checking.read_case import repair_labels
from medseg.data.align import put_on_grid
from medseg.data.cases.case import Case
from medseg.data.cases.listing import CHANNEL_ENDING
from medseg.data.deshear import SHEAR_CODES, deshear, is_sheared
from medseg.data.formats.payload import GZIP_MAGIC
from medseg.data.formats.table import WRITTEN
from medseg.data.image_files import SERIES_PART, image_stem, split_part
from medseg.data.labels import HALF_OF_255, WHITE, has_soft_edges_only, is_white_only, label_values
from medseg.data.read import interpret_labels, read, read_stored_mask
from medseg.data.volume import Volume
from medseg.data.write import write
from medseg.errors import UsageError
from medseg.files import write_whole
from medseg.geometry import NEAR_GRID_VOXELS, Grid, corner_distance_voxels, reindex

OF_GRID = frozenset({"GRID_NEAR", "GRID_REINDEXED"})
APART = frozenset({"AXES_AMBIGUOUS", "GRID_MISMATCH", "SHAPE_MISMATCH", "SLICES_DIFFER"})
"""Image and mask, or two channels, do not hold the same voxels: no straightening could keep them together."""

OF_VALUES = frozenset({"LABEL_MAPPED", "LABEL_NEARLY_WHOLE", "LABEL_ONE_HOT", "LABEL_THRESHOLDED"})
ONE_FILE = {".mhd": ".mha", ".nhdr": ".nrrd"}
"""Formats of two files, and the one that holds both."""

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


LONGEST_BYTES = 180
"""The longest name without its ending; file systems take 255."""


@dataclass(frozen=True)
class Target:
    """Where a case's files go.

    Args:
        folder: The folder of the whole copy.
        name: The case's name, without folders and ending.
        segments: Names and codes by which segments of DICOM objects are recognised as labels.
    """

    folder: Path
    name: str
    segments: Mapping[int, Sequence[str]] = field(default_factory=dict)

    def place(self, kind: str, number: int, count: int, suffix: str) -> Path:
        """The file of an image (``images``) or mask (``labels``), numbered where there are several."""
        ending = f"_{number:04d}" if count > 1 else ""
        return self.folder / kind / f"{self.name}{ending}{suffix}"


def find_sheared_grid(case: Case, codes: Collection[str]) -> Grid | None:
    """The grid of a case's images where it is to be straightened; None where it is not sheared, or the mask elsewhere.

    Args:
        case: A case whose images can be read.
        codes: The codes of its findings.
    """
    if not set(SHEAR_CODES) & set(codes) or APART & set(codes):
        return None
    grid = read(case.images[0]).grid
    return grid if len(grid.shape) == 3 and is_sheared(grid.affine) else None


def write_images(case: Case, target: Target, sheared: Grid | None = None) -> tuple[str, ...]:
    """Copy a case's images, straightened where they lie on a sheared grid, and return where they are."""
    numbers = [(number, len(case.images)) for number in range(len(case.images))]
    if sheared is None:
        return tuple(str(_copy_file(path, target, "images", *n)) for n, path in zip(numbers, case.images, strict=True))
    written = []
    for number, path in zip(numbers, case.images, strict=True):
        straight = deshear(_place(read(path), sheared, path), path)
        written.append(
            str(_write_first_fit(straight, target, "images", number, (_choose_suffix(path), ".nii.gz", ".npz")))
        )
    return tuple(written)


def write_labels(case: Case, codes: Collection[str], target: Target, sheared: Grid | None = None) -> tuple[str, ...]:
    """Copy a case's masks, corrected as the codes of its findings ask for, and return where they are.

    Args:
        case: The case.
        codes: The codes of what is to be corrected.
        target: Where the copy goes.
        sheared: The images' grid where they are straightened, and the masks with them.
    """
    paths = case.label_files
    # An image of one series among several becomes a file of its own, which a DICOM mask would not refer to.
    is_rewritten = sheared is not None or any(SERIES_PART in image for image in case.images)
    if not is_rewritten and not (OF_GRID | OF_VALUES) & set(codes):
        return tuple(str(_copy_file(path, target, "labels", n, len(paths))) for n, path in enumerate(paths))
    grid = (sheared or read(case.images[0]).grid) if OF_GRID & set(codes) else None
    written = []
    for number, path in enumerate(paths):
        stored, is_picture = read_stored_mask(path, target.segments)
        is_corrected = sheared is None or (OF_GRID | OF_VALUES) & set(codes)
        labels = correct_mask(stored, codes, grid, path, is_picture=is_picture) if is_corrected else stored
        if sheared is not None:
            labels = deshear(_place(put_on_grid(labels, sheared, path), sheared, path), path, is_mask=True)
        suffixes = (_choose_suffix(path), ".nii.gz", ".npz")
        written.append(str(_write_first_fit(labels, target, "labels", (number, len(paths)), suffixes)))
    return tuple(written)


def correct_mask(stored: Volume, codes: Collection[str], grid: Grid | None, path: str, *, is_picture: bool) -> Volume:
    """A mask with what the codes name put right.

    Args:
        stored: The mask as its file has it.
        codes: The codes of findings that are certain to be correctable.
        grid: The image's, where the mask is to be brought onto it.
        path: The mask's file, for errors.
        is_picture: Whether the mask is a picture.

    Raises:
        LabelError: The voxels are no labels after all.
        GridError: The grids do not hold the same voxels after all.
    """
    labels = interpret_labels(repair_labels(stored)[0], None, path, is_picture=is_picture)
    if "LABEL_MAPPED" in codes and is_white_only(tuple(label_values(labels.array))):
        labels = replace(labels, array=(labels.array == WHITE).astype(np.uint8))
    if "LABEL_THRESHOLDED" in codes and is_picture and _is_soft_edged(labels.array):
        labels = replace(labels, array=(labels.array > HALF_OF_255).astype(np.uint8))
    if grid is None:
        return labels
    array = reindex(labels.array, labels.grid, grid, path) if "GRID_REINDEXED" in codes else labels.array
    return replace(labels, array=array, affine=grid.affine)


def _place(volume: Volume, grid: Grid, path: str) -> Volume:
    """The same voxels in the order of ``grid``, and said to lie exactly there, however their own header is rounded."""
    if corner_distance_voxels(volume.grid, grid) <= NEAR_GRID_VOXELS:
        return replace(volume, affine=grid.affine)
    channels = volume.array if volume.has_channels else volume.array[None]
    turned = np.stack([reindex(channel, volume.grid, grid, path) for channel in channels])
    return replace(volume, array=turned if volume.has_channels else turned[0], affine=grid.affine)


def _is_soft_edged(array: NDArray) -> bool:
    """Whether a picture is black and white but for its edges; another file of the same case need not be."""
    return array.dtype == np.uint8 and bool(array.max(initial=0) == WHITE) and has_soft_edges_only(array)


def _copy_file(path: str, target: Target, kind: str, number: int, count: int) -> Path:
    """One file or DICOM folder as it is; a page, a slice or a format of two files as a file of its own."""
    file, part = split_part(path)
    if not part and Path(path).is_dir():
        return _copy_folder(Path(path), target.place(kind, number, count, ""))
    suffix = find_suffix(path)
    if part or suffix in ONE_FILE:
        volume = read_stored_mask(path)[0] if kind == "labels" else read(path)
        wanted = (".png", ".tif", ".npz") if suffix in PICTURES else (ONE_FILE.get(suffix, ".nii.gz"), ".npz")
        return _write_first_fit(volume, target, kind, (number, count), wanted)
    place = target.place(kind, number, count, suffix)
    _copy(Path(file), place)
    return place


def _copy_folder(folder: Path, place: Path) -> Path:
    """All its files, those of its folders as well: a DICOM case may hold its slices below a DICOMDIR."""
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in inside.parts):
            (place / inside).parent.mkdir(parents=True, exist_ok=True)
            _copy(path, place / inside)
    return place


def _copy(source: Path, place: Path) -> None:
    def fill(file: IO[bytes]) -> None:
        with source.open("rb") as opened:
            shutil.copyfileobj(opened, file)

    write_whole(place, fill)


def _write_first_fit(
    volume: Volume, target: Target, kind: str, number: tuple[int, int], suffixes: tuple[str, ...]
) -> Path:
    """The volume in the first of these formats that can hold it."""
    for suffix in suffixes[:-1]:
        place = target.place(kind, *number, suffix)
        try:
            return write(volume.array, volume.affine, place, has_channels=volume.has_channels)
        except UsageError:
            continue  # The format cannot hold it; the last one holds any array.
    place = target.place(kind, *number, suffixes[-1])
    return write(volume.array, volume.affine, place, has_channels=volume.has_channels)


def _choose_suffix(path: str) -> str:
    if Path(path).is_dir():
        return ".nii.gz"
    suffix = find_suffix(path)
    if split_part(path)[1] or suffix in (".jpg", ".jpeg", ".bmp"):
        return ".png" if suffix in PICTURES else ".nii.gz"
    suffix = ONE_FILE.get(suffix, suffix)
    return suffix if suffix in WRITTEN else ".nii.gz"


def name_files(ids: Iterable[str]) -> dict[str, str]:
    """A name for each case id, without folders, different even where capitals and accents do not count.

    An id that can be a name stays as it is, unless an earlier one took it; no name ends as the
    channels of another do.

    Args:
        ids: The case ids, all different.

    >>> file_names(["a/b", "a_b", "A_B"])
    {'a/b': 'a_b', 'a_b': 'a_b-2', 'A_B': 'A_B-3'}
    """
    named: dict[str, str] = {}
    taken: set[str] = set()
    trunks: set[str] = set()
    for name in ids:
        plain = _shorten(name.replace("/", "_").replace("\\", "_"))
        number, candidate = 1, plain
        while _fold(candidate) in taken | trunks or _strip_channel(candidate) in taken:
            number += 1
            candidate = f"{plain}-{number}"
        taken.add(_fold(candidate))
        trunks |= {_strip_channel(candidate)} - {_fold(candidate)}
        named[name] = candidate
    return named


def find_suffix(path: str) -> str:
    """The ending of a file's name, in lower case; of NIfTI the one that its content asks for."""
    file = Path(split_part(path)[0])
    suffix = file.name[len(image_stem(file)) :].lower()
    if suffix not in (".nii", ".nii.gz"):
        return suffix
    with file.open("rb") as opened:
        return ".nii.gz" if opened.read(2) == GZIP_MAGIC else ".nii"


def _strip_channel(name: str) -> str:
    """The name that this one could be a channel of; itself where it could be none."""
    return CHANNEL_ENDING.sub("", _fold(name))


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _shorten(name: str) -> str:
    stored = name.encode("utf-8", "surrogateescape")
    if len(stored) <= LONGEST_BYTES:
        return name
    begin = stored[: LONGEST_BYTES - 17].decode("utf-8", "ignore")
    return f"{begin}-{hashlib.sha256(stored).hexdigest()[:16]}"
