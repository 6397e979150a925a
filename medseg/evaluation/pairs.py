"""Which mask belongs to which reference: by the case's name, below two folders.

A case is named by its path below the folder, without the file's ending: ``site/case7``
for ``site/case7.nii.gz``. ``case7_seg`` and ``case7/case7_seg`` are found for ``case7``
as well, as long as no second file could be meant. What is then left over, such as flat
references of scans in folders, is paired by file name where each side has that name once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medseg.data.cases import open_dataset
from medseg.data.images import find_images, image_stem
from medseg.errors import DatasetError, InputError

SUFFIXES = ("_gt", "_mask", "_seg", "_label", "_labels", "_pred", "_segmentation", "_trans")
"""What other tools append to a case's name; removed where a mask has no reference of its own name."""

ROLES = frozenset(suffix.lstrip("_") for suffix in SUFFIXES)
"""A file of such a name, as in ``case7/seg.nii.gz``, is named after its role: its folder names the case."""


Reference = Path | tuple[Path, ...]


@dataclass(frozen=True)
class Pair:
    """A case to judge.

    Args:
        case: Its name.
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
    """

    pairs: tuple[Pair, ...]
    unmatched: tuple[str, ...]
    by_file_name: frozenset[str] = frozenset()
    doubtful: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def missing(self) -> tuple[str, ...]:
        """The cases without a mask."""
        return tuple(pair.case for pair in self.pairs if pair.mask is None)


def pair_masks(masks: Path, references: Path) -> Pairing:
    """Find each reference's mask.

    Args:
        masks: A folder, or one file, which then is the only case.
        references: A folder, or one file; with two masks, names do not matter. A dataset.json,
            or a folder with one and no images beside it, gives its cases' labels.

    Raises:
        InputError: A path does not exist, a folder holds no images, or no name agrees.
        DatasetError: Two files could be meant by one name.
    """
    if masks.is_file() and references.is_file() and references.suffix != ".json":
        return Pairing((Pair(plain_name(image_stem(references)), references, masks),), ())
    found_masks = _named(masks)
    found_references: Mapping[str, Reference] = _described(references) or _named(references)
    matches = _by_path(found_references, found_masks)
    homonyms = _homonyms(matches, found_masks)
    elsewhere = {reference: names[0] for reference, names in homonyms.items() if _is_sure(reference, names, matches)}
    pairs: list[Pair] = []
    for case, reference, own in matches:
        name = own if own is not None else elsewhere.get(reference)
        if name is not None or masks.is_dir():
            mask = found_masks[name] if name is not None else None
            pairs.append(Pair(case, found_references[reference], mask, name or ""))
    used = {pair.mask for pair in pairs}
    if used <= {None}:
        raise _no_pair_error(masks, references, found_masks, found_references)
    return Pairing(
        tuple(sorted(pairs, key=lambda pair: pair.case)),
        tuple(str(path) for path in found_masks.values() if path not in used),
        frozenset(case for case, reference, _ in matches if reference in elsewhere),
        {case: homonyms[ref] for case, ref, _ in matches if ref in homonyms and ref not in elsewhere},
    )


def plain_name(name: str) -> str:
    """``name`` without one of ``SUFFIXES``, and without a folder of the same name as the file.

    >>> plain_name("site/case7/case7_seg")
    'site/case7'
    """
    *folders, last = name.split("/")
    suffix = next((end for end in SUFFIXES if last.lower().endswith(end) and len(last) > len(end)), "")
    last = last[: len(last) - len(suffix)]
    return "/".join(folders if folders and folders[-1] == last else [*folders, last])


def _described(source: Path) -> Mapping[str, Reference]:
    """The labels that a dataset.json at ``source`` lists, by case id; none where it describes no cases."""
    is_description = source.suffix == ".json" and source.is_file()
    if not is_description and not (source / "dataset.json").is_file():
        return {}
    if source.is_dir() and any(path.parent == source for path in find_images(source)):
        return {}
    files = {case.id: tuple(map(Path, case.label_files)) for case in open_dataset(source).cases}
    return {name: paths if len(paths) > 1 else paths[0] for name, paths in files.items() if paths}


def _named(source: Path) -> dict[str, Path]:
    """Every image below ``source`` by its name."""
    if not source.exists():
        raise InputError("INPUT_MISSING", source, "there is no such file or folder", "correct the path")
    root = source if source.is_dir() else source.parent
    named: dict[str, Path] = {}
    for path in find_images(source) if source.is_dir() else [source]:
        name = (path.parent.relative_to(root) / image_stem(path)).as_posix()
        if name in named:
            raise DatasetError(
                "CASE_TWICE", name, f"both {named[name].name} and {path.name} have this name", "remove one of them"
            )
        named[name] = path
    if not named:
        raise InputError("INPUT_EMPTY", source, "the folder holds no images", "give the folder that holds the masks")
    return named


def _by_path(references: Mapping[str, Reference], masks: Mapping[str, Path]) -> list[tuple[str, str, str | None]]:
    """(case, reference, mask) for every reference, by the names' paths."""
    groups = _grouped(references), _grouped(masks)
    return [match for name, members in groups[0].items() for match in _matched(name, members, groups[1].get(name, []))]


def _homonyms(matches: list[tuple[str, str, str | None]], masks: Mapping[str, Path]) -> dict[str, tuple[str, ...]]:
    """For each reference without a mask: the masks of its file name, wherever they lie."""
    by_name: dict[str, list[str]] = {}
    for mask in masks:
        by_name.setdefault(_file_name(mask), []).append(mask)
    wanted = {reference: _file_name(reference) for _, reference, mask in matches if mask is None}
    return {
        reference: tuple(by_name[name])
        for reference, name in wanted.items()
        if name in by_name and name.lstrip("_").lower() not in ROLES
    }


def _is_sure(reference: str, masks: tuple[str, ...], matches: list[tuple[str, str, str | None]]) -> bool:
    """Whether one mask and one reference have this file name, and no other file of either kind."""
    names = Counter(_file_name(other) for _, other, _ in matches)
    return len(masks) == 1 and names[_file_name(reference)] == 1


def _file_name(name: str) -> str:
    return plain_name(name).rpartition("/")[2]


def _grouped(named: Mapping[str, Any]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in named:
        groups.setdefault(plain_name(name), []).append(name)
    return groups


def _matched(plain: str, references: list[str], masks: list[str]) -> list[tuple[str, str, str | None]]:
    """(case, reference, mask) for the files that share a plain name; refused where it is not clear."""
    if len(references) == 1 and len(masks) <= 1:
        mask = masks[0] if masks else None
        return [(mask if mask == references[0] else plain, references[0], mask)]
    if set(references) <= set(masks):
        return [(name, name, name) for name in references]
    raise DatasetError(
        "PAIR_AMBIGUOUS",
        plain,
        f"references {sorted(references)} and masks {sorted(masks)} could belong together in several ways",
        "keep one reference and one mask per case in the two folders",
    )


def _no_pair_error(masks: Path, references: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> InputError:
    return InputError(
        "PAIRS_NONE",
        masks,
        f"no name agrees: masks {_first(found)}; references in {references} {_first(wanted)}",
        "name each mask like its reference",
    )


def _first(named: Mapping[str, Any]) -> str:
    names = sorted(named)
    return f"{', '.join(names[:3])}{', …' if len(names) > 3 else ''} ({len(names)} in all)"
