"""Read one case as a training would, and keep what is wrong instead of stopping at it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.checking.mask_values import Stored, interpret_mask
from medseg.data.case import Case, split_slice
from medseg.data.images import read, read_stored_mask
from medseg.data.joining import stacked, united
from medseg.data.payload import GZIP_MAGIC
from medseg.data.pictures import is_grey
from medseg.data.placing import on_grid
from medseg.data.volume import Note, Volume
from medseg.errors import GridError, ImageError, MedsegError, as_finding
from medseg.findings import Finding
from medseg.geometry import NEAR_GRID_VOXELS, SAME_GRID_VOXELS, Grid, corner_distance_voxels, reindex


@dataclass(frozen=True)
class Expected:
    """What a bundle or the data set's description says of the cases.

    Args:
        values: The labels that may occur; None lets any pass.
        channels: How many an image must have; None lets any number pass.
        names: Name of each label, as far as known.
        modality: Such as CT; empty where nothing says.
        segments: Names and codes by which segments of DICOM objects are recognised as labels.
        axes: How many axes in space an image must have; None lets pictures and volumes pass.
    """

    values: Collection[int] | None = None
    channels: int | None = None
    names: tuple[tuple[int, str], ...] = ()
    modality: str = ""
    segments: Mapping[int, Sequence[str]] = field(default_factory=dict)
    axes: int | None = None


@dataclass(frozen=True)
class Reading:
    """What reading one case brought.

    Args:
        case: The case.
        image: All channels; None where it cannot be read.
        mask: The labels, on their own grid; None where there are none or they cannot be told.
        on_image: The labels' voxels in the order of the image's; None where they do not lie on its grid.
        stored: Each file of the mask, as it is stored.
        findings: What was wrong or odd.
        is_readable: Whether each of its files could be read, whatever it holds.
    """

    case: Case
    image: Volume | None
    mask: Volume | None
    on_image: NDArray | None
    stored: tuple[Stored, ...]
    findings: tuple[Finding, ...]
    is_readable: bool


def read_case(case: Case, expected: Expected, needs_mask: bool = True) -> Reading:
    """Read a case's files once, as the readers of a training would.

    Args:
        case: The case.
        expected: What its labels and channels should be.
        needs_mask: Whether a case without a mask is a finding.
    """
    findings: list[Finding] = []
    volumes = _read_volumes(case, findings)
    image = _stack_channels(case, volumes, expected, findings)
    stored: tuple[Stored, ...] = ()
    mask, on_image = None, None
    if case.label_files:
        stored = _read_masks(case, expected, findings)
        mask = _unite_masks(case, stored, image, findings)
        on_image = _place(case, mask, image, findings) if mask and image else None
    elif needs_mask:
        findings.append(Finding(case.id, "MASK_MISSING", "has no mask"))
    is_readable = len(volumes) == len(case.images) and len(stored) == len(case.label_files)
    return Reading(case, image, mask, on_image, stored, tuple(findings), is_readable)


def count_channels(image: Volume) -> frozenset[int]:
    """How many channels the image may be taken to have: a grey picture saved as colours has one, too."""
    count = image.array.shape[0] if image.has_channels else 1
    return frozenset({count, 1}) if image.has_channels and is_grey(image.array) else frozenset({count})


def _read_volumes(case: Case, findings: list[Finding]) -> list[Volume]:
    """The images that can be read."""
    volumes: list[Volume] = []
    for path in case.images:
        try:
            volume = read(path)
        except MedsegError as error:
            findings.append(as_finding(error, case.id))
            continue
        where = Path(path).name if len(case.images) > 1 else ""
        findings += [_tell_note(note, case.id, where) for note in volume.notes]
        findings += _check_suffix(case.id, path)
        volumes.append(volume)
    return volumes


def _stack_channels(case: Case, volumes: list[Volume], expected: Expected, findings: list[Finding]) -> Volume | None:
    """All channels together; None where one is missing or lies elsewhere."""
    if len(volumes) < len(case.images):
        return None
    try:
        image = stacked(volumes, case.images)
    except GridError as error:
        findings.append(as_finding(error, case.id))
        return None
    findings += _check_axes(case.id, len(image.spatial_shape), expected.axes)
    counts = count_channels(image)
    if expected.channels is not None and expected.channels not in counts:
        problem = f"{max(counts)} channel(s), the model takes {expected.channels}"
        unfit = ImageError("CHANNEL_COUNT", case.id, problem, "give images with these channels")
        findings.append(as_finding(unfit, case.id))
    return image


def _tell_note(note: Note, case: str, where: str) -> Finding:
    """A reader's note on one of the case's files; ``where`` says which, where that is not plain."""
    return Finding(case, note.code, f"{where}: {note.text}" if where else note.text)


def _check_axes(case: str, axes: int, wanted: int | None) -> Iterator[Finding]:
    """A picture for a bundle that takes volumes, or a volume for one that takes pictures."""
    if wanted is None or axes == wanted:
        return
    told = f"{axes}D, the bundle takes {wanted}D"
    if axes < wanted:
        remedy = "give whole volumes, or use a bundle that takes pictures"
        yield as_finding(ImageError("IMAGE_NOT_3D", case, told, remedy), case)
    else:
        remedy = "give slices, such as scan.nii.gz#12, or use a bundle that takes volumes"
        yield as_finding(ImageError("IMAGE_NOT_2D", case, told, remedy), case)


def _read_masks(case: Case, expected: Expected, findings: list[Finding]) -> tuple[Stored, ...]:
    """The mask's files as they can be read, and what their values mean."""
    stored: list[Stored] = []
    for path in case.label_files:
        where = Path(path).name if len(case.label_files) > 1 else ""
        try:
            volume, is_picture = read_stored_mask(path, expected.segments)
        except MedsegError as error:
            findings.append(as_finding(error, case.id))
            continue
        notes = [note for note in volume.notes if note.code != "NONFINITE_VOXELS"]  # Told as no label.
        findings += [_tell_note(note, case.id, f"mask {where}".rstrip()) for note in notes]
        findings += _check_suffix(case.id, path)
        one = interpret_mask(volume, path, expected.values, is_picture=is_picture)
        findings += [replace(finding, case=case.id) for finding in one.findings]
        stored.append(one)
    return tuple(stored)


def _unite_masks(
    case: Case, stored: tuple[Stored, ...], image: Volume | None, findings: list[Finding]
) -> Volume | None:
    """The labels of all files together; bare arrays on the image's grid."""
    masks = [one.labels for one in stored if one.labels is not None]
    if not masks or len(masks) < len(case.label_files):
        return None
    try:
        mask = united(masks, case.label_files) if len(masks) > 1 else masks[0]
        return on_grid(mask, image.grid, " and ".join(case.label_files)) if image is not None else mask
    except MedsegError as error:
        findings.append(as_finding(error, case.id))
        return None


def _place(case: Case, mask: Volume, image: Volume, findings: list[Finding]) -> NDArray | None:
    """The mask's voxels in the order of the image's, and in how far it had to be moved."""
    apart = corner_distance_voxels(mask.grid, image.grid)
    if apart <= SAME_GRID_VOXELS:
        return mask.array
    if apart <= NEAR_GRID_VOXELS:
        findings.append(Finding(case.id, "GRID_NEAR", f"the mask's corners lie {apart:.2g} voxels from the image's"))
        return mask.array
    if sorted(mask.spatial_shape) != sorted(image.spatial_shape):
        what = f"the mask has {_format_shape(mask.grid)} voxels, the image {_format_shape(image.grid)}"
        findings.append(Finding(case.id, "SHAPE_MISMATCH", what))
        return None
    try:
        turned = reindex(mask.array, mask.grid, image.grid, " and ".join(case.label_files))
    except GridError as error:
        far = f"corners {apart:.3g} voxels apart: " if np.isfinite(apart) else ""
        findings.append(replace(as_finding(error, case.id), problem=f"{far}{error.problem}"))
        return None
    change = f"the mask is stored as {mask.grid.orientation}, the image as {image.grid.orientation}"
    findings.append(Finding(case.id, "GRID_REINDEXED", f"{change}; the same voxels in another order"))
    return turned


def _check_suffix(case: str, path: str) -> Iterator[Finding]:
    """A NIfTI file that is packed without saying so, or says so without being it."""
    file = Path(split_slice(path)[0])
    name = file.name.lower()
    if not name.endswith((".nii", ".nii.gz")) or not file.is_file():
        return
    with file.open("rb") as opened:
        is_packed = opened.read(2) == GZIP_MAGIC
    if is_packed != name.endswith(".gz"):
        kind = "gzip" if is_packed else "not gzip"
        yield Finding(case, "SUFFIX_WRONG", f"{file.name} is {kind}")


def _format_shape(grid: Grid) -> str:
    return "×".join(str(n) for n in grid.shape)
