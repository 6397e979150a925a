"""What a data set is made of: cases with their images, mask and patient; what labels and channels mean."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from medseg.data.formats.nifti import NIFTI
from medseg.errors import DatasetError
from medseg.text import list_some

GROUP_RULES = (
    re.compile(r"(?<![A-Za-z0-9])patient[-_]?\d+", re.IGNORECASE),
    re.compile(r"(?<![A-Za-z0-9])TCGA[-_][A-Z0-9]{2}[-_][A-Z0-9]{4}(?![A-Z0-9])"),
    re.compile(r"(?<![A-Za-z0-9])sub-[A-Za-z0-9]+"),
    re.compile(r"(?<![A-Za-z0-9])ID_\d{4}(?=_Z_\d{4}(?![A-Za-z0-9]))"),
)
"""Parts of a case id that name the patient (ACDC, TCGA, BIDS, lung CT slices); the first that is found counts."""

BRAIN_CHANNELS = {
    "flair": ("flair", "t2f"),
    "t1": ("t1", "t1n", "t1w"),
    "t1ce": ("t1ce", "t1c", "t1gd", "t1post"),
    "t2": ("t2", "t2w"),
}
"""Brain MR channels in BraTS order, with the words that name each in a file name or a list of channels."""

Channels = int | Sequence[str] | None
"""What a model takes: a number of channels, or their names in its order; None where that is open."""


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


def guess_group(case_id: str) -> str:
    """The patient named in a case id by :data:`GROUP_RULES`; the id itself where none is.

    >>> guess_group("patient007_frame01"), guess_group("TCGA_CS_4941_19960909_12"), guess_group("scan7")
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
        DatasetError: CASE_TWICE, cases cannot be told apart; CASE_ID_INVALID, an
            id is empty, absolute, leads upwards or holds control characters.
    """
    ids = distinct_names(choices)
    repeated = sorted(name for name, times in Counter(ids).items() if times > 1)
    if repeated:
        raise DatasetError("CASE_TWICE", list_some(repeated), "more than one case has this id", "name each case once")
    for name in ids:
        if any(part in ("", ".", "..") for part in re.split(r"[/\\]", name)) or not name.isprintable():
            raise DatasetError("CASE_ID_INVALID", repr(name), "would not be a file name")
    return ids


def label_files(label: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """The files of a mask, however many.

    >>> label_files(None), label_files("mask.png"), label_files(("left.png", "right.png"))
    ((), ('mask.png',), ('left.png', 'right.png'))
    """
    if label is None:
        return ()
    return (label,) if isinstance(label, str) else tuple(label)


def channel_count(wanted: Channels) -> int | None:
    """How many channels are wanted, None where that is open."""
    return wanted if wanted is None or isinstance(wanted, int) else len(wanted)


def modality_of(word: str) -> str | None:
    """The brain MR channel that a word stands for, if any.

    >>> modality_of("T1Gd"), modality_of("FLAIR"), modality_of("CT")
    ('t1ce', 'flair', None)
    """
    plain = _simplify(word)
    return next((name for name, spellings in BRAIN_CHANNELS.items() if plain in spellings), None)


def are_modalities(wanted: Channels) -> bool:
    """Whether channels are wanted by name, and each name is a brain MR channel's."""
    return isinstance(wanted, Sequence) and bool(wanted) and all(modality_of(name) for name in wanted)


def select_channels(cases: Iterable[Case], named: Sequence[str], wanted: Channels, place: object) -> tuple[Case, ...]:
    """The cases with the wanted channels only, in the wanted order.

    Names are compared without regard to case and punctuation, brain MR channels in all
    their spellings (``T1Gd`` is ``t1ce``). Where names cannot be compared, for the data
    set has none or neither side's are known, the channels are taken in order if there
    are as many as wanted. A channel inside a 4D NIfTI file becomes ``FILE#tN``.

    Args:
        cases: As the data set has them.
        named: Names of the data set's channels; empty where nothing says.
        wanted: Names; a number or None leaves the cases as they are.
        place: The data set, for the error.

    Raises:
        DatasetError: CHANNELS_DIFFER.
    """
    cases = tuple(cases)
    if wanted is None or isinstance(wanted, int):
        return cases
    order = _find_order(named, wanted, place)
    count = len(named) or len(wanted)
    odd = [f"{case.id} has {len(case.images)}" for case in cases if len(case.images) not in (1, count)]
    is_whole = order == list(range(count))
    # One file may hold all channels; how many it does hold is seen when it is read.
    single = [case for case in cases if count > 1 and len(case.images) == 1 and not is_whole]
    odd += [
        f"{case.id} has one file that is no NIfTI"
        for case in single
        if not case.images[0].lower().endswith(NIFTI.suffixes)
    ]
    if odd:
        raise _channels_error(place, f"{count} images per case are needed for {_list_names(wanted)}: {list_some(odd)}")
    return cases if is_whole else tuple(replace(case, images=_choose(case.images, order)) for case in cases)


def _find_order(named: Sequence[str], wanted: Sequence[str], place: object) -> list[int]:
    """For each wanted channel its number in the data set."""
    keys = [modality_of(name) or _simplify(name) for name in named]
    sought = [modality_of(name) or _simplify(name) for name in wanted]
    times = Counter(keys)
    if keys and all(times[key] == 1 for key in sought):
        return [keys.index(key) for key in sought]
    are_both_known = any(map(modality_of, named)) and any(map(modality_of, wanted))
    if are_both_known or (named and len(named) != len(wanted)):
        raise _channels_error(place, f"the model takes {_list_names(wanted)}, the data set has {_list_names(named)}")
    return list(range(len(wanted)))


def _choose(images: tuple[str, ...], order: list[int]) -> tuple[str, ...]:
    if len(images) == 1 and order != [0]:
        return tuple(f"{images[0]}#t{number}" for number in order)
    return tuple(images[number] for number in order)


def _simplify(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())


def _list_names(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names)})"


def _channels_error(place: object, problem: str) -> DatasetError:
    remedy = "use data with these channels, or name the data set's channels as the model's card does"
    return DatasetError("CHANNELS_DIFFER", place, problem, remedy)
