"""What the stored values of a mask's file mean: labels, nearly labels, one channel per label, black and white."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medseg.data.images import as_labels
from medseg.data.labels import HALF_OF_255, expected_labels, has_soft_edges_only, label_values
from medseg.data.volume import Note, Volume
from medseg.errors import LabelError, as_finding
from medseg.findings import WHOLE, Finding

NEARLY = 1e-3
"""Floats within this of a whole number are that number, stored with rounding."""

WHITE = 255
NEAR_END = 16
"""Grey values this near to black or white are what lossy compression leaves of them."""
MOST_VALUES = 256
MOST_VALUES_OF_PICTURE = 64


@dataclass(frozen=True)
class Stored:
    """One file of a mask.

    Args:
        path: The file.
        labels: The mask as labels; None where they cannot be told.
        values: The different values as they are stored, up to MOST_VALUES; empty where they are no labels.
        is_picture: Whether the file is a picture.
        findings: What is odd about the values; the case is to be filled in.
    """

    path: str
    labels: Volume | None
    values: tuple[int, ...]
    is_picture: bool
    findings: tuple[Finding, ...]


def interpret_mask(volume: Volume, path: str, values: Collection[int] | None, *, is_picture: bool) -> Stored:
    """The labels that a mask's stored voxels stand for, as far as that is certain.

    Args:
        volume: The mask as the file stores it.
        path: The file.
        values: The labels that may occur; None lets any pass.
        is_picture: Whether the file is a picture.
    """
    repaired, findings = repair_labels(volume)
    try:
        labels = as_labels(replace(repaired, notes=()), None, path, is_picture=is_picture)
    except LabelError as error:
        return Stored(path, None, (), is_picture, (*findings, as_finding(error, WHOLE)))
    is_8bit_picture = is_picture and labels.array.dtype == np.uint8
    stored_values = tuple(label_values(labels.array)[: MOST_VALUES + 1])
    if values is None:
        array, told = _cut_soft_edges(labels.array, stored_values, is_8bit_picture=is_8bit_picture)
        told = told or _find_too_many(stored_values, is_8bit_picture=is_8bit_picture)
        return Stored(path, replace(labels, array=array), stored_values, is_picture, (*findings, *told))
    try:
        array, notes = expected_labels(labels.array, values, path, is_8bit_picture=is_8bit_picture)
    except LabelError as error:
        unexpected = as_finding(error, WHOLE)
        return Stored(path, labels, stored_values, is_picture, (*findings, unexpected))
    told = tuple(_tell_note(note, labels.array) for note in notes)
    return Stored(path, replace(labels, array=array), stored_values, is_picture, (*findings, *told))


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


def is_white_only(values: tuple[int, ...]) -> bool:
    """Whether a mask holds 255, and nothing else but 0."""
    return WHITE in values and set(values) <= {0, WHITE}


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
        note = Note("LABEL_THRESHOLDED", f"{len(values)} grey values; those above {HALF_OF_255} are taken as 1")
        return (array > HALF_OF_255).astype(np.uint8), (_tell_note(note, array),)
    return array, ()


def _fills_both_ends(array: NDArray) -> bool:
    """Whether at least half of the voxels above 0 are nearly black or nearly white: edges, not several labels."""
    near_white = int(np.count_nonzero(array >= WHITE - NEAR_END))
    near_black = int(np.count_nonzero((array > 0) & (array <= NEAR_END)))
    return near_white + near_black >= 0.5 * int(np.count_nonzero(array))


def _tell_note(note: Note, array: NDArray) -> Finding:
    """A note on a mask's values; of grey edges that were cut, with their share of the voxels."""
    if note.code != "LABEL_THRESHOLDED":
        return Finding(WHOLE, note.code, note.text)
    share = float(((array > 0) & (array < WHITE)).mean())
    return Finding(WHOLE, note.code, f"{note.text}; {share:.2%} of the voxels are grey")


def _find_too_many(values: tuple[int, ...], *, is_8bit_picture: bool) -> tuple[Finding, ...]:
    most = MOST_VALUES_OF_PICTURE if is_8bit_picture else MOST_VALUES
    if len(values) <= most:
        return ()
    return (Finding(WHOLE, "LABEL_TOO_MANY", f"more than {most} different values"),)
