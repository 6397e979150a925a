"""What a data set is made of: cases with their images, mask and patient, and what the labels mean."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medseg.errors import DatasetError
from medseg.options import SERIES_NAME

SERIES_PART = "#series="
"""Between a folder and the name of one of its DICOM series."""

PART_ENDING = re.compile(rf"(.+)#(t?\d+|series=(?:{SERIES_NAME.pattern}))", re.DOTALL)
"""A path that names a part: ``FILE#N`` a slice or page, ``FILE#tN`` a time frame, from 0; ``FOLDER#series=SUFFIX``."""

GROUP_RULES = (
    re.compile(r"(?<![A-Za-z0-9])patient[-_]?\d+", re.IGNORECASE),
    re.compile(r"(?<![A-Za-z0-9])TCGA[-_][A-Z0-9]{2}[-_][A-Z0-9]{4}(?![A-Z0-9])"),
    re.compile(r"(?<![A-Za-z0-9])sub-[A-Za-z0-9]+"),
    re.compile(r"(?<![A-Za-z0-9])ID_\d{4}(?=_Z_\d{4}(?![A-Za-z0-9]))"),
)
"""Parts of a case id that name the patient (ACDC, TCGA, BIDS, lung CT slices); the first that is found counts."""


@dataclass(frozen=True)
class Case:
    """One thing to segment.

    Args:
        id: Unique in its data set; may hold ``/`` but never ``..``.
        images: One path per channel, or a single file that holds all channels. A path
            may end in ``#N``, slice N along the third axis, or ``#tN``, time frame N.
        label: Path of the reference mask, or paths of the masks whose union it is (a left
            and a right half); None where there is none.
        group: The patient: cases of one group never end up in two parts of a split.
    """

    id: str
    images: tuple[str, ...]
    label: str | tuple[str, ...] | None
    group: str

    @property
    def label_files(self) -> tuple[str, ...]:
        """The files of the reference mask: none, one, or those to be united."""
        return label_files(self.label)


@dataclass(frozen=True)
class Labels:
    """What the values of the masks mean.

    Args:
        names: Name of each value; 0 is the background. Empty where the data set does not say.
        regions: Overlapping structures as sets of values (nnU-Net's regions), by name.
    """

    names: dict[int, str] = field(default_factory=dict)
    regions: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def ignored(self) -> int | None:
        """The value that marks voxels without a reference (named ``ignore``), if any."""
        return next((value for value, name in self.names.items() if name == "ignore"), None)


@dataclass(frozen=True)
class Dataset:
    """Cases with a common meaning of channels and labels.

    Args:
        root: The folder that the data set was opened from.
        cases: Sorted by id.
        labels: What the masks' values mean; empty where nothing says.
        channels: Name of each channel; empty where nothing says.
        layout: Name of the layout as which it was recognised.
        unlabelled: Ids of images that their publisher has drawn no mask for; they are no cases.
    """

    root: Path
    cases: tuple[Case, ...]
    labels: Labels
    channels: tuple[str, ...]
    layout: str
    unlabelled: tuple[str, ...] = ()


def guessed_group(case_id: str) -> str:
    """The patient named in a case id by :data:`GROUP_RULES`; the id itself where none is.

    >>> guessed_group("patient007_frame01"), guessed_group("TCGA_CS_4941_19960909_12"), guessed_group("scan7")
    ('patient007', 'TCGA_CS_4941', 'scan7')
    """
    found = (rule.search(case_id) for rule in GROUP_RULES)
    return next((match.group() for match in found if match), case_id)


def natural_order(name: str) -> list[tuple[int, str]]:
    """A key that sorts numbers in names as numbers.

    >>> sorted(["case10", "case2"], key=natural_order)
    ['case2', 'case10']
    """
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in re.split(r"(\d+)", name)]


def distinct_names(choices: Sequence[Sequence[str]]) -> list[str]:
    """One name for each item, all different: its first choice unless another item has that name too.

    Items whose names collide move on to their next choice together, until none collide.

    Args:
        choices: For each item its names, the shortest first; the last ones must all differ.

    >>> distinct_names([["a", "x/a"], ["a", "y/a"], ["b", "y/b"]])
    ['x/a', 'y/a', 'b']
    """
    at = [0] * len(choices)
    while True:
        names = [own[position] for own, position in zip(choices, at, strict=True)]
        times = Counter(names)
        movable = [i for i, name in enumerate(names) if times[name] > 1 and at[i] + 1 < len(choices[i])]
        if not movable:
            return names
        for i in movable:
            at[i] += 1


def case_ids(choices: Sequence[Sequence[str]]) -> list[str]:
    """An id for each case from the names it could go by, fit to be a path below a results folder.

    Raises:
        DatasetError: CASE_IDS_REPEATED, cases cannot be told apart; CASE_ID_INVALID, an
            id is empty, absolute, leads upwards or holds control characters.
    """
    ids = distinct_names(choices)
    repeated = sorted(name for name, times in Counter(ids).items() if times > 1)
    if repeated:
        raise DatasetError(
            "CASE_IDS_REPEATED", some_of(repeated), "more than one case has this id", "name each case once"
        )
    for name in ids:
        if any(part in ("", ".", "..") for part in re.split(r"[/\\]", name)) or not name.isprintable():
            raise DatasetError("CASE_ID_INVALID", repr(name), "would not be a file name", "give the case a plain id")
    return ids


def label_files(label: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """The files of a mask, however many.

    >>> label_files(None), label_files("mask.png"), label_files(("left.png", "right.png"))
    ((), ('mask.png',), ('left.png', 'right.png'))
    """
    if label is None:
        return ()
    return (label,) if isinstance(label, str) else tuple(label)


def split_slice(path: str) -> tuple[str, str]:
    """A path and its ending ``#N`` (a slice), ``#tN`` (a time frame) or ``#series=SUFFIX``, or an empty string.

    >>> split_slice("train-volume.tif#3"), split_slice("cine.nii.gz#t11"), split_slice("scan.nii.gz")
    (('train-volume.tif', '#3'), ('cine.nii.gz', '#t11'), ('scan.nii.gz', ''))
    """
    match = PART_ENDING.fullmatch(path)
    return (match[1], f"#{match[2]}") if match else (path, "")


def is_present(path: str) -> bool:
    """Whether the file (or DICOM folder) of a case's path exists, with or without ``#N`` or ``#tN``."""
    return os.path.lexists(path) or Path(split_slice(path)[0]).exists()


def some_of(names: Sequence[str], most: int = 50) -> str:
    """Names joined for an error message, with a count of those left out."""
    left_out = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + left_out
