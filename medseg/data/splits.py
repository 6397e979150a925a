"""Split cases into training, validation and test: by patient, seeded, written down.

A split depends on the case ids, their groups and the seed, never on the order of
files on a disk. Sizes are counted in groups (patients), for a group is never divided.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medseg.data.cases import datalist, open_dataset
from medseg.data.cases.case import Case, Channels, select_channels
from medseg.data.read import read_mask
from medseg.errors import DatasetError, UsageError
from medseg.files import write_json
from medseg.options import SPLIT_PARTS
from medseg.text import list_some, pluralise

FRACTIONS = (0.7, 0.2, 0.1)
Stratum = Callable[[Case], str]
Sizes = str | Sequence[float]
"""``(0.7, 0.2, 0.1)``, ``"8:1:1"`` or ``(250, 74, 45)``."""

READERS_AT_ONCE = 2


@dataclass(frozen=True)
class Split:
    """Which case is used for what.

    Args:
        train: Case ids, sorted; disjoint from the other two.
        validation: Case ids for choosing weights.
        test: Case ids kept aside.
        seed: The seed that drew it; None for one made by hand.
        how: In words, how it was drawn.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    seed: int | None
    how: str

    @property
    def ids(self) -> tuple[str, ...]:
        """All case ids, sorted."""
        return tuple(sorted((*self.train, *self.validation, *self.test)))


def fingerprint(ids: Iterable[str]) -> str:
    """A short hash of a set of case ids, the same in any order."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()[:16]


def split_cases(
    cases: Iterable[Case], parts: Sizes = FRACTIONS, seed: int = 0, stratify: Stratum | None = None
) -> Split:
    """Draw a split.

    Args:
        cases: With distinct ids; their order does not matter.
        parts: Two or three sizes: fractions that add up to 1, ``(0.7, 0.2, 0.1)``; a
            ratio in text, ``"8:1:1"``; or numbers of groups that add up to all,
            ``(250, 74, 45)``. Each size is met to within one group.
        seed: Of the generator.
        stratify: Names each case's stratum; each part gets its share of every stratum.

    Raises:
        UsageError: SPLIT_SIZES, the sizes make no sense.
        DatasetError: SPLIT_SIZES, the numbers do not add up to the number of groups;
            CASE_TWICE.
    """
    groups = _group_cases(cases)
    sizes = group_counts(parts, len(groups))
    ordered = _draw_order(groups, seed, stratify)
    ends = np.cumsum(sizes)
    chunks = [_sort_ids(ordered[end - size : end], groups) for size, end in zip(sizes, ends, strict=True)]
    how = f"drawn {parts if isinstance(parts, str) else tuple(parts)} of {len(groups)} groups"
    return Split(chunks[0], chunks[1], chunks[2], seed, how + (", stratified" if stratify else ""))


def folds(cases: Iterable[Case], k: int, seed: int = 0, stratify: Stratum | None = None) -> tuple[Split, ...]:
    """``k`` splits for cross-validation: each case is in ``validation`` exactly once, ``test`` is empty.

    Raises:
        UsageError: SETTING_INVALID, fewer than two folds or more folds than groups.
    """
    groups = _group_cases(cases)
    if not 2 <= k <= len(groups):
        raise UsageError(
            "SETTING_INVALID", f"k = {k}", f"there are {len(groups)} groups", "choose k from 2 to that number"
        )
    ordered = _draw_order(groups, seed, stratify)
    ends = [round(len(ordered) * fold / k) for fold in range(k + 1)]
    made = []
    for fold in range(k):
        held = ordered[ends[fold] : ends[fold + 1]]
        rest = ordered[: ends[fold]] + ordered[ends[fold + 1] :]
        made.append(Split(_sort_ids(rest, groups), _sort_ids(held, groups), (), seed, f"fold {fold + 1} of {k}"))
    return tuple(made)


def write_split(split: Split, path: str | Path) -> Path:
    """Write ``split`` as JSON, with the fingerprint of its case ids, and return the path."""
    target = Path(path)
    content = {
        "seed": split.seed,
        "how": split.how,
        "fingerprint": fingerprint(split.ids),
        **{part: list(getattr(split, part)) for part in SPLIT_PARTS},
    }
    write_json(content, target)
    return target


def read_split(path: str | Path) -> Split:
    """Read a split; one written by hand needs no more than ``train`` and ``validation``.

    Raises:
        DatasetError: SPLIT_INVALID, not such a file, an id in two parts, or changed since it was written.
    """
    try:
        content: Any = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise _split_error(path, f"cannot be read ({error})") from error
    if not isinstance(content, dict) or not {"train", "validation"} <= content.keys():
        raise _split_error(path, "has no 'train' and 'validation'")
    chunks = [content.get(part, []) for part in SPLIT_PARTS]
    if not all(isinstance(ids, list) and all(isinstance(name, str) for name in ids) for ids in chunks):
        raise _split_error(path, "a part is not a list of case ids")
    ids = [name for chunk in chunks for name in chunk]
    repeated = sorted({name for name in ids if ids.count(name) > 1}) if len(set(ids)) < len(ids) else []
    if repeated:
        raise _split_error(path, f"these are named twice: {list_some(repeated)}")
    if content.get("fingerprint", fingerprint(ids)) != fingerprint(ids):
        raise _split_error(path, "its ids are not those it was written with (fingerprint differs)")
    seed, how = content.get("seed"), str(content.get("how", "made by hand"))
    train, validation, test = (tuple(sorted(chunk)) for chunk in chunks)
    return Split(train, validation, test, seed if isinstance(seed, int) else None, how)


def choose_split(
    cases: Iterable[Case], split_file: str | Path | None = None, fractions: Sizes = FRACTIONS, seed: int = 0
) -> Split:
    """The split in ``split_file`` if it is one of these cases, else a freshly drawn one.

    A file that names exactly these cases is used; one that names none of them belongs
    to another data set, and a split is drawn; anything between is an error.

    Raises:
        DatasetError: SPLIT_PARTIAL, the file and the data set share only some cases;
            SPLIT_LEAK, the file divides a group; SPLIT_INVALID.
    """
    cases = tuple(cases)
    if split_file is None:
        return split_cases(cases, fractions, seed)
    split, ids = read_split(split_file), {case.id for case in cases}
    if not ids & set(split.ids):
        return split_cases(cases, fractions, seed)
    unknown, absent = sorted(ids - set(split.ids)), sorted(set(split.ids) - ids)
    if unknown or absent:
        apart = (
            (f"{pluralise(len(unknown), 'case')} in no part of the split", unknown),
            (f"{pluralise(len(absent), 'name')} in the split of no case here", absent),
        )
        raise DatasetError(
            "SPLIT_PARTIAL",
            split_file,
            "; ".join(f"{text}: {list_some(names, 5)}" for text, names in apart if names),
            "complete the data set, or draw a new split: medseg train --new-split; in Python, no split file",
        )
    _check_groups_whole(split, cases, split_file)
    return split


def datalist_of(
    dataset_dir: str,
    part: str,
    split_file: str | None = None,
    fractions: Sizes = FRACTIONS,
    seed: int = 0,
    channels: Channels = None,
    drop_empty: bool = False,
) -> list[dict[str, str | list[str]]]:
    """The records of one part of a data set, in one call for a bundle's config.

    Args:
        dataset_dir: Anything that :func:`medseg.data.cases.open_dataset` opens.
        part: ``train``, ``validation`` or ``test``.
        split_file: See :func:`choose_split`.
        fractions: See :func:`split_cases`.
        seed: Of the split, where one is drawn.
        channels: Names of the channels wanted, in order; see :func:`medseg.data.cases.case.select_channels`.
        drop_empty: Leave out cases whose mask holds nothing; the split stays that of all cases.

    Raises:
        UsageError: NAME_UNKNOWN.
        DatasetError: PART_EMPTY, or what is wrong with the data set or the split.
    """
    if part not in SPLIT_PARTS:
        raise UsageError("NAME_UNKNOWN", part, "is no part of a split", f"choose one of {', '.join(SPLIT_PARTS)}")
    dataset = open_dataset(dataset_dir)
    split = choose_split(dataset.cases, split_file, fractions, seed)
    wanted = set(getattr(split, part))
    cases = tuple(case for case in dataset.cases if case.id in wanted)
    cases = select_channels(keep_foreground(cases) if drop_empty else cases, dataset.channels, channels, dataset_dir)
    if not cases:
        how = f"{split.how}, empty masks left out" if drop_empty else split.how
        raise DatasetError(
            "PART_EMPTY", dataset_dir, f"no case is left for {part} ({how})", "add cases or change the fractions"
        )
    return datalist(cases)


def group_counts(wanted: Sizes, count: int) -> list[int]:
    """Numbers of groups in the three parts: exact, or by largest remainder.

    Args:
        wanted: Fractions, a ratio in text, or numbers; of two parts or three.
        count: How many groups there are.

    Raises:
        UsageError: SPLIT_SIZES, they make no sense.
        DatasetError: SPLIT_SIZES, numbers that do not add up to ``count``.
    """
    shares = _read_sizes(wanted)
    is_ratio = isinstance(wanted, str) or math.isclose(sum(shares), 1, abs_tol=1e-6)
    if not is_ratio and all(share == int(share) for share in shares):
        if sum(shares) != count:
            raise DatasetError(
                "SPLIT_SIZES",
                str(wanted),
                f"adds up to {int(sum(shares))}, but there are {count} groups (patients)",
                f"give numbers that add up to {count}, fractions, or a ratio in text such as '8:1:1'",
            )
        return [int(share) for share in shares]
    if not is_ratio:
        raise _sizes_error(wanted)
    exact = [share / sum(shares) * count for share in shares]
    sizes = [math.floor(value + 1e-9) for value in exact]
    by_remainder = sorted(range(3), key=lambda part: (sizes[part] - exact[part], part))
    for part in by_remainder[: count - sum(sizes)]:
        sizes[part] += 1
    return sizes


def keep_foreground(cases: Iterable[Case]) -> tuple[Case, ...]:
    """The cases whose mask has a voxel above 0; those without a mask are left out too.

    Raises:
        ImageError: A mask cannot be read.
    """
    cases = tuple(cases)
    with ThreadPoolExecutor(READERS_AT_ONCE) as pool:
        return tuple(case for case, shows in zip(cases, pool.map(_shows_foreground, cases), strict=True) if shows)


def _group_cases(cases: Iterable[Case]) -> dict[str, list[Case]]:
    groups: dict[str, list[Case]] = {}
    seen: set[str] = set()
    for case in sorted(cases, key=lambda case: (case.group, case.id)):
        if case.id in seen:
            raise DatasetError("CASE_TWICE", case.id, "more than one case has this id", "rename all but one")
        seen.add(case.id)
        groups.setdefault(case.group, []).append(case)
    return groups


def _draw_order(groups: dict[str, list[Case]], seed: int, stratify: Stratum | None) -> list[str]:
    """Groups in random order, each stratum spread evenly over the whole."""
    rng = np.random.default_rng(seed)
    strata: dict[str, list[str]] = {}
    for group, members in groups.items():
        stratum = "+".join(sorted({str(stratify(case)) for case in members})) if stratify else ""
        strata.setdefault(stratum, []).append(group)
    placed: list[tuple[float, str]] = []
    for stratum in sorted(strata):
        shuffled = [strata[stratum][i] for i in rng.permutation(len(strata[stratum]))]
        start = float(rng.random())
        placed += [((rank + start) / len(shuffled), name) for rank, name in enumerate(shuffled)]
    return [name for _, name in sorted(placed)]


def _sort_ids(names: Iterable[str], groups: dict[str, list[Case]]) -> tuple[str, ...]:
    return tuple(sorted(case.id for name in names for case in groups[name]))


def _check_groups_whole(split: Split, cases: Iterable[Case], split_file: str | Path) -> None:
    part_of = {name: part for part in SPLIT_PARTS for name in getattr(split, part)}
    divided = sorted(name for name, members in _group_cases(cases).items() if len({part_of[c.id] for c in members}) > 1)
    if divided:
        raise DatasetError("SPLIT_LEAK", split_file, f"divides the groups {list_some(divided)}")


def _split_error(path: object, problem: str) -> DatasetError:
    return DatasetError(
        "SPLIT_INVALID", path, problem, "write it with medseg, or name each case once in train, validation or test"
    )


def _read_sizes(wanted: Sizes) -> list[float]:
    try:
        shares = [float(share) for share in (wanted.split(":") if isinstance(wanted, str) else wanted)]
    except (TypeError, ValueError) as error:
        raise _sizes_error(wanted) from error
    if len(shares) not in (2, 3) or not all(math.isfinite(s) and s >= 0 for s in shares) or sum(shares) <= 0:
        raise _sizes_error(wanted)
    return [*shares, 0.0][:3]


def _sizes_error(wanted: object) -> UsageError:
    return UsageError(
        "SPLIT_SIZES",
        str(wanted),
        "not two or three sizes",
        "give fractions that add up to 1, '8:1:1', or numbers of groups",
    )


def _shows_foreground(case: Case) -> bool:
    return any(bool(read_mask(path).array.any()) for path in case.label_files)
