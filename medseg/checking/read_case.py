"""Read one case as a training would, and keep what is wrong instead of stopping at it.

The values that a mask stores may be labels, nearly labels, one channel per label, or black and white: what they
mean is told here as far as it is certain.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.data.align import put_on_grid, stack, unite
from medseg.data.cases.case import Case
from medseg.data.formats.payload import GZIP_MAGIC
from medseg.data.formats.pictures import is_grey
from medseg.data.image_files import split_part
from medseg.data.labels import HALF_OF_255, WHITE, has_soft_edges_only, label_values, match_labels
from medseg.data.read import interpret_labels, read, read_stored_mask
from medseg.data.volume import Volume
from medseg.errors import GridError, LabelError, MedsegError, as_finding
from medseg.findings import WHOLE, Finding, make_note
from medseg.geometry import NEAR_GRID_VOXELS, SAME_GRID_VOXELS, Grid, corner_distance_voxels, reindex

NEARLY = 1e-3
"""Floats within this of a whole number are that number, stored with rounding."""

NEAR_END = 16
"""Grey values this near to black or white are what lossy compression leaves of them."""
MOST_VALUES = 256
MOST_VALUES_OF_PICTURE = 64


@dataclass(frozen=True)
class StoredMask:
    """One file of a mask.

    Args:
        labels: The mask as labels; None where they cannot be told.
        values: The different values as they are stored, up to MOST_VALUES; empty where they are no labels.
        findings: What is odd about the values; the case is to be filled in.
    """

    labels: Volume | None
    values: tuple[int, ...]
    findings: tuple[Finding, ...]


def interpret_mask(volume: Volume, path: str, values: Collection[int] | None, *, is_picture: bool) -> StoredMask:
    """The labels that a mask's stored voxels stand for, as far as that is certain.

    Args:
        volume: The mask as the file stores it.
        path: The file.
        values: The labels that may occur; None lets any pass.
        is_picture: Whether the file is a picture.
    """
    repaired, findings = repair_labels(volume)
    try:
        labels = interpret_labels(replace(repaired, notes=()), None, path, is_picture=is_picture)
    except LabelError as error:
        return StoredMask(None, (), (*findings, as_finding(error, WHOLE)))
    is_8bit_picture = is_picture and labels.array.dtype == np.uint8
    stored_values = tuple(label_values(labels.array)[: MOST_VALUES + 1])
    if values is None:
        array, told = _cut_soft_edges(labels.array, stored_values, is_8bit_picture=is_8bit_picture)
        told = told or _find_too_many(stored_values, is_8bit_picture=is_8bit_picture)
        return StoredMask(replace(labels, array=array), stored_values, (*findings, *told))
    try:
        array, notes = match_labels(labels.array, values, path, is_8bit_picture=is_8bit_picture)
    except LabelError as error:
        unexpected = as_finding(error, WHOLE)
        return StoredMask(labels, stored_values, (*findings, unexpected))
    told = tuple(_tell_of_values(note, labels.array) for note in notes)
    return StoredMask(replace(labels, array=array), stored_values, (*findings, *told))


def repair_labels(volume: Volume) -> tuple[Volume, tuple[Finding, ...]]:
    """``volume`` rounded where all its voxels are nearly whole, and as labels where it is exactly one-hot."""
    array, findings = volume.array, []
    off = _measure_distance_from_whole(array)
    if 0 < off <= NEARLY:
        array = np.rint(array)
        findings.append(Finding(WHOLE, "LABEL_NEARLY_WHOLE", f"labels are up to {off:.2g} from whole numbers"))
    if volume.has_channels and is_one_hot(array):
        findings.append(Finding(WHOLE, "LABEL_ONE_HOT", f"{array.shape[0]} channels, one for each label"))
        return replace(volume, array=array.argmax(axis=0).astype(np.uint8), has_channels=False), tuple(findings)
    return (volume if array is volume.array else replace(volume, array=array)), tuple(findings)


def is_one_hot(channels: NDArray) -> bool:
    """Whether each voxel of (C, X, Y[, Z]) is 1 in exactly one of 2 to 255 channels and 0 in the others."""
    if not 2 <= channels.shape[0] <= WHITE:
        return False
    ones = np.zeros(channels.shape[1:], dtype=np.uint8)
    for channel in channels:
        is_one = channel == 1
        if not (is_one | (channel == 0)).all():
            return False
        ones += is_one
    return bool((ones == 1).all())


def _measure_distance_from_whole(array: NDArray) -> float:
    """The largest distance of a voxel from a whole number; infinite where one is not finite."""
    if array.size == 0 or not np.issubdtype(array.dtype, np.floating):
        return 0.0
    largest = 0.0
    for index in range(array.shape[-1]):
        plane = array[..., index].astype(np.float64)
        if not np.isfinite(plane).all():
            return float("inf")
        largest = max(largest, float(np.abs(plane - np.rint(plane)).max(initial=0.0)))
    return largest


def _cut_soft_edges(
    array: NDArray, values: tuple[int, ...], *, is_8bit_picture: bool
) -> tuple[NDArray, tuple[Finding, ...]]:
    """Where nothing says which labels may occur: soft edges are cut, the rest stays as it is."""
    is_grey_edged = is_8bit_picture and len(values) > 2 and values[0] == 0 and values[-1] == WHITE
    if is_grey_edged and has_soft_edges_only(array) and _fills_both_ends(array):
        note = make_note("LABEL_THRESHOLDED", f"{len(values)} grey values; those above {HALF_OF_255} are taken as 1")
        return (array > HALF_OF_255).astype(np.uint8), (_tell_of_values(note, array),)
    return array, ()


def _fills_both_ends(array: NDArray) -> bool:
    """Whether at least half of the voxels above 0 are nearly black or nearly white: edges, not several labels."""
    near_white = int(np.count_nonzero(array >= WHITE - NEAR_END))
    near_black = int(np.count_nonzero((array > 0) & (array <= NEAR_END)))
    return near_white + near_black >= 0.5 * int(np.count_nonzero(array))


def _tell_of_values(note: Finding, array: NDArray) -> Finding:
    """A note on a mask's values; of grey edges that were cut, with their share of the voxels."""
    if note.code != "LABEL_THRESHOLDED":
        return Finding(WHOLE, note.code, note.problem)
    share = float(((array > 0) & (array < WHITE)).mean())
    return Finding(WHOLE, note.code, f"{note.problem}; {share:.2%} of the voxels are grey")


def _find_too_many(values: tuple[int, ...], *, is_8bit_picture: bool) -> tuple[Finding, ...]:
    most = MOST_VALUES_OF_PICTURE if is_8bit_picture else MOST_VALUES
    if len(values) <= most:
        return ()
    return (Finding(WHOLE, "LABEL_TOO_MANY", f"more than {most} different values"),)


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
    stored: tuple[StoredMask, ...]
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
    stored: tuple[StoredMask, ...] = ()
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
        image = stack(volumes, case.images)
    except GridError as error:
        findings.append(as_finding(error, case.id))
        return None
    findings += _check_axes(case.id, len(image.spatial_shape), expected.axes)
    counts = count_channels(image)
    if expected.channels is not None and expected.channels not in counts:
        problem = f"{max(counts)} channel(s), the model takes {expected.channels}"
        findings.append(Finding(case.id, "CHANNEL_COUNT", problem, "give images with these channels"))
    return image


def _tell_note(note: Finding, case: str, where: str) -> Finding:
    """A reader's note on one of the case's files; ``where`` says which, where that is not plain."""
    return Finding(case, note.code, f"{where}: {note.problem}" if where else note.problem)


def _check_axes(case: str, axes: int, wanted: int | None) -> Iterator[Finding]:
    """A picture for a bundle that takes volumes, or a volume for one that takes pictures."""
    if wanted is None or axes == wanted:
        return
    told = f"{axes}D, the bundle takes {wanted}D"
    if axes < wanted:
        remedy = "give whole volumes, or use a bundle that takes pictures"
        yield Finding(case, "IMAGE_NOT_3D", told, remedy)
    else:
        remedy = "give slices, such as scan.nii.gz#12, or use a bundle that takes volumes"
        yield Finding(case, "IMAGE_NOT_2D", told, remedy)


def _read_masks(case: Case, expected: Expected, findings: list[Finding]) -> tuple[StoredMask, ...]:
    """The mask's files as they can be read, and what their values mean."""
    stored: list[StoredMask] = []
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
    case: Case, stored: tuple[StoredMask, ...], image: Volume | None, findings: list[Finding]
) -> Volume | None:
    """The labels of all files together; bare arrays on the image's grid."""
    masks = [one.labels for one in stored if one.labels is not None]
    if not masks or len(masks) < len(case.label_files):
        return None
    try:
        mask = unite(masks, case.label_files) if len(masks) > 1 else masks[0]
        return put_on_grid(mask, image.grid, " and ".join(case.label_files)) if image is not None else mask
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
    file = Path(split_part(path)[0])
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
