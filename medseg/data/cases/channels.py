"""Which image is which channel: by the names of modalities, in the spellings that publishers use."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from medseg.data.cases.case import Case, some_of
from medseg.data.formats.nifti import NIFTI
from medseg.errors import DatasetError

BRAIN_CHANNELS = {
    "flair": ("flair", "t2f"),
    "t1": ("t1", "t1n", "t1w"),
    "t1ce": ("t1ce", "t1c", "t1gd", "t1post"),
    "t2": ("t2", "t2w"),
}
"""Brain MR channels in BraTS order, with the words that name each in a file name or a list of channels."""

Channels = int | Sequence[str] | None
"""What a model takes: a number of channels, or their names in its order; None where that is open."""


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
        raise _channels_error(place, f"{count} images per case are needed for {_list_names(wanted)}: {some_of(odd)}")
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
