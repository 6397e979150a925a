"""Which mask belongs to which reference: by the case's id in a data set, by the case's name below two folders.

References are one mask, a folder of masks, or a data set with its images beside them.
Where they lie in a data set, a mask goes by the case's id, as `medseg predict` names it, or by the
path of the case's own mask. In a plain folder a case is named by its path below it, without the file's ending:
``site/case7`` for ``site/case7.nii.gz``. ``case7_seg`` and ``case7/case7_seg`` are found for ``case7``
as well, as long as no second file could be meant. What is then left over, such as flat
references of scans in folders, is paired by file name where each side has that name once.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medseg.data.cases import open_dataset
from medseg.data.cases.case import Dataset
from medseg.data.image_files import find_images, find_masks, image_stem, split_part
from medseg.errors import DatasetError, InputError

ROLE_SUFFIXES = ("_gt", "_mask", "_seg", "_label", "_labels", "_pred", "_segmentation", "_trans")
"""What other tools append to a case's name; removed where a mask has no reference of its own name."""

ROLES = frozenset(suffix.lstrip("_") for suffix in ROLE_SUFFIXES)
"""A file of such a name, as in ``case7/seg.nii.gz``, is named after its role: its folder names the case."""


DESCRIPTION_SUFFIXES = (".json", ".csv")
"""A file that ends so describes a data set."""

MOST_TOLD = 200
"""Letters of the reason why a folder is no data set."""

Reference = Path | tuple[Path, ...]
"""A mask, or the files whose union it is."""


@dataclass(frozen=True)
class References:
    """Reference masks and the names that they go by.

    Args:
        files: Each reference by the id of its case, or, where there is no data set, by its path.
        path_of: In a data set, the path of each case's mask, without the ending, where it is one file.
        layout: The layout of the data set; empty where there is none.
        labels: What the values mean, where the data set says.
        how: How they were looked for, in words.
    """

    files: Mapping[str, Reference]
    path_of: Mapping[str, str] = field(default_factory=dict)
    layout: str = ""
    labels: Mapping[int, str] = field(default_factory=dict)
    how: str = ""


@dataclass(frozen=True)
class Pair:
    """A case to judge.

    Args:
        case: The case's name.
        reference: The reference mask, or the files whose union it is.
        mask: The mask to judge, None where it is missing.
        mask_name: The mask's path below its folder, without the ending; empty where it is missing.
    """

    case: str
    reference: Reference
    mask: Path | None
    mask_name: str = ""


@dataclass(frozen=True)
class Pairing:
    """All cases, and the masks that belong to none.

    Args:
        pairs: One per reference.
        unmatched: Masks without a reference.
        by_file_name: Cases whose mask lies in another folder and has the same file name.
        doubtful: Per case without a mask, the masks of its file name, if there are any.
        layout: The layout of the data set whose cases the references are; empty for plain files.
        labels: Name of each value, where that data set says.
    """

    pairs: tuple[Pair, ...]
    unmatched: tuple[str, ...]
    by_file_name: frozenset[str] = frozenset()
    doubtful: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    layout: str = ""
    labels: Mapping[int, str] = field(default_factory=dict)

    @property
    def missing(self) -> tuple[str, ...]:
        """The cases without a mask."""
        return tuple(pair.case for pair in self.pairs if pair.mask is None)


def pair_masks(masks: Path, references: Path) -> Pairing:
    """Find each reference's mask.

    Args:
        masks: A folder, or one file, which then is the only case.
        references: A folder, or one file; with two masks, names do not matter. A data set, as
            ``medseg.data.cases.open_dataset`` knows it, gives its cases' labels.

    Raises:
        InputError: A path does not exist, a folder holds no images, or no name agrees.
        DatasetError: Two files could be meant by one name.
    """
    if masks.is_file() and references.is_file() and not is_description(references):
        return Pairing((Pair(strip_role(image_stem(references)), references, masks),), ())
    found, truth = find_named_images(masks), find_references(references)
    try:
        matches = _match_by_case(truth, found) if truth.layout else _match_by_path(truth.files, found)
    except DatasetError as error:
        raise _add_attempts(error, truth) from error
    homonyms = _find_homonyms(matches, found)
    elsewhere = {reference: names[0] for reference, names in homonyms.items() if _is_sure(reference, names, matches)}
    pairs: list[Pair] = []
    for case, reference, own in matches:
        name = own if own is not None else elsewhere.get(reference)
        if name is not None or masks.is_dir():
            mask = found[name] if name is not None else None
            pairs.append(Pair(case, truth.files[reference], mask, name or ""))
    used = {pair.mask for pair in pairs}
    if used <= {None}:
        raise _make_no_pair_error(masks, references, found, truth)
    return Pairing(
        tuple(sorted(pairs, key=lambda pair: pair.case)),
        tuple(str(path) for path in found.values() if path not in used),
        frozenset(case for case, reference, _ in matches if reference in elsewhere),
        {case: homonyms[ref] for case, ref, _ in matches if ref in homonyms and ref not in elsewhere},
        truth.layout,
        truth.labels,
    )


def strip_role(name: str) -> str:
    """``name`` without one of ``ROLE_SUFFIXES``, and without a folder of the same name as the file.

    >>> strip_role("site/case7/case7_seg")
    'site/case7'
    """
    *folders, last = name.split("/")
    suffix = next((end for end in ROLE_SUFFIXES if last.lower().endswith(end) and len(last) > len(end)), "")
    last = last[: len(last) - len(suffix)]
    return "/".join(folders if folders and folders[-1] == last else [*folders, last])


def _match_by_case(truth: References, masks: Mapping[str, Path]) -> list[tuple[str, str, str | None]]:
    """(case, case, mask) for every case of a data set, by its id or by the path of its own mask.

    Raises:
        DatasetError: PAIR_AMBIGUOUS, the two ways lead to different masks, or one mask to two cases.
    """
    chosen: dict[str, str] = {}
    for case in truth.files:
        named = [name for name in dict.fromkeys((case, truth.path_of.get(case, case))) if name in masks]
        rivals = [other for other, mask in chosen.items() if mask in named]
        if len(named) > 1 or rivals:
            raise _make_ambiguous_error(case, [case, *rivals], named)
        chosen |= {case: named[0]} if named else {}
    for name_of in ({case: case for case in truth.files}, truth.path_of):
        cases = {name: case for case, name in name_of.items() if case not in chosen}
        free = {name: path for name, path in masks.items() if name not in chosen.values()}
        chosen |= {cases[name]: mask for _, name, mask in _match_by_path(cases, free) if mask is not None}
    return [(case, case, chosen.get(case)) for case in truth.files]


def _match_by_path(references: Mapping[str, Any], masks: Mapping[str, Path]) -> list[tuple[str, str, str | None]]:
    """(case, reference, mask) for every reference, by the names' paths."""
    groups = _group_names(references), _group_names(masks)
    return [
        match for name, members in groups[0].items() for match in _match_names(name, members, groups[1].get(name, []))
    ]


def _find_homonyms(matches: list[tuple[str, str, str | None]], masks: Mapping[str, Path]) -> dict[str, tuple[str, ...]]:
    """For each reference without a mask: the masks of its file name, wherever they lie."""
    by_name: dict[str, list[str]] = {}
    for mask in masks:
        by_name.setdefault(name_file(mask), []).append(mask)
    wanted = {reference: name_file(reference) for _, reference, mask in matches if mask is None}
    return {
        reference: tuple(by_name[name])
        for reference, name in wanted.items()
        if name in by_name and name.lstrip("_").lower() not in ROLES
    }


def _is_sure(reference: str, masks: tuple[str, ...], matches: list[tuple[str, str, str | None]]) -> bool:
    """Whether one mask and one reference have this file name, and no other file of either kind."""
    names = Counter(name_file(other) for _, other, _ in matches)
    return len(masks) == 1 and names[name_file(reference)] == 1


def name_file(name: str) -> str:
    """The file's own name in a case's name: without its folders, and without one of ``ROLE_SUFFIXES``.

    >>> name_file("site/case7_seg")
    'case7'
    """
    return strip_role(name).rpartition("/")[2]


def _group_names(named: Mapping[str, Any]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in named:
        groups.setdefault(strip_role(name), []).append(name)
    return groups


def _match_names(plain: str, references: list[str], masks: list[str]) -> list[tuple[str, str, str | None]]:
    """(case, reference, mask) for the files that share a plain name; refused where it is not clear."""
    if len(references) == 1 and len(masks) <= 1:
        mask = masks[0] if masks else None
        return [(mask if mask == references[0] else plain, references[0], mask)]
    if set(references) <= set(masks):
        return [(name, name, name) for name in references]
    raise _make_ambiguous_error(plain, references, masks)


def _make_ambiguous_error(case: str, references: list[str], masks: list[str]) -> DatasetError:
    return DatasetError(
        "PAIR_AMBIGUOUS",
        case,
        f"references {sorted(references)} and masks {sorted(masks)} could belong together in several ways",
    )


def _add_attempts(error: DatasetError, truth: References) -> DatasetError:
    """The error, with how the references were looked for."""
    tried = f"; {truth.how}" if truth.how else ""
    return DatasetError(error.code, error.case, f"{error.problem}{tried}", error.remedy)


def _make_no_pair_error(masks: Path, references: Path, found: Mapping[str, Any], truth: References) -> InputError:
    names = f"no name agrees: masks {_list_first(found)}; references in {references} {_list_first(truth.files)}"
    tried = f"; {truth.how}" if truth.how else ""
    return InputError("PAIRS_NONE", masks, f"{names}{tried}", "name each mask like its reference")


def _list_first(named: Mapping[str, Any]) -> str:
    names = sorted(named)
    return f"{', '.join(names[:3])}{', …' if len(names) > 3 else ''} ({len(names)} in all)"


def find_references(source: Path) -> References:
    """The references at ``source``: those of a data set where it is one, else every image below it.

    Args:
        source: A mask, a folder in any layout, or a file that describes a data set.

    Raises:
        InputError: INPUT_MISSING or INPUT_EMPTY.
        DatasetError: CASE_TWICE, or what is wrong with a description without images beside it.
    """
    if source.is_file() and not is_description(source):
        return References(find_named_images(source))
    try:
        return _take_dataset(open_dataset(source))
    except DatasetError as error:
        if not source.exists() or is_description(source) or _is_described(source):
            raise _make_absent_error(source) if not source.exists() else error from None
        why = f"{error.code}: {textwrap.shorten(error.problem, MOST_TOLD)}"
        if error.code == "NO_CASES":
            why = "no known layout"
        how = f"{source} was not taken as a data set ({why}), so the paths below it were compared"
        return References(find_named_images(source), how=how)


def is_description(path: Path) -> bool:
    """Whether ``path`` is a file that describes a data set."""
    return path.is_file() and path.suffix.lower() in DESCRIPTION_SUFFIXES


def find_named_images(source: Path) -> dict[str, Path]:
    """Every image below a folder by its path without the ending, or one image by its name.

    Raises:
        InputError: INPUT_MISSING or INPUT_EMPTY.
        DatasetError: CASE_TWICE.
    """
    if not source.exists():
        raise _make_absent_error(source)
    root = source if source.is_dir() else source.parent
    named: dict[str, Path] = {}
    for path in find_masks(source) if source.is_dir() else [source]:
        name = _name_by_path(path, root)
        if name in named:
            raise DatasetError(
                "CASE_TWICE", name, f"both {named[name].name} and {path.name} have this name", "remove one of them"
            )
        named[name] = path
    if not named:
        raise InputError("INPUT_EMPTY", source, "the folder holds no images")
    return named


def _take_dataset(dataset: Dataset) -> References:
    files: dict[str, Reference] = {}
    path_of: dict[str, str] = {}
    root = dataset.root if dataset.root.is_dir() else dataset.root.parent
    for case in dataset.cases:
        paths = tuple(map(Path, case.label_files))
        if paths:
            files[case.id] = paths if len(paths) > 1 else paths[0]
        if len(paths) == 1 and not split_part(str(paths[0]))[1] and paths[0].is_relative_to(root):
            path_of[case.id] = _name_by_path(paths[0], root)
    read = f"{dataset.root} was read as a data set ({dataset.layout})"
    how = f"{read}: the ids of its cases were compared, then the paths of its masks"
    return References(files, path_of, dataset.layout, dataset.labels.names, how)


def _is_described(source: Path) -> bool:
    """Whether a description is all that there is: beside images it may only name the classes of these."""
    has_description = any((source / f"dataset{suffix}").is_file() for suffix in DESCRIPTION_SUFFIXES)
    return has_description and not any(path.parent == source for path in find_images(source))


def _name_by_path(path: Path, root: Path) -> str:
    return (path.parent.relative_to(root) / image_stem(path)).as_posix()


def _make_absent_error(source: Path) -> InputError:
    return InputError("INPUT_MISSING", source, "there is no such file or folder")
