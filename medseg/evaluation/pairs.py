"""Which mask belongs to which reference: by the case's name, below two folders.

A case is named by its path below the folder, without the file's ending: ``site/case7``
for ``site/case7.nii.gz``. ``case7_seg`` and ``case7/case7_seg`` are found for ``case7``
as well, as long as no second file could be meant.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medseg.data.cases import open_dataset
from medseg.data.images import find_images, image_stem
from medseg.errors import DatasetError, InputError

SUFFIXES = ("_gt", "_mask", "_seg", "_label", "_labels", "_pred", "_segmentation", "_trans")
"""What other tools append to a case's name; removed where a mask has no reference of its own name."""


@dataclass(frozen=True)
class Pair:
    """A case to judge.

    Args:
        case: Its name.
        reference: The reference mask.
        mask: The mask to judge, None where it is missing.
    """

    case: str
    reference: Path
    mask: Path | None


@dataclass(frozen=True)
class Pairing:
    """All cases, and the masks that belong to none."""

    pairs: tuple[Pair, ...]
    unmatched: tuple[str, ...]

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
    found_references = _described(references) or _named(references)
    groups = _grouped(found_references), _grouped(found_masks)
    pairs: list[Pair] = []
    for name, reference_names in groups[0].items():
        mask_names = groups[1].get(name, [])
        for case, reference_name, mask_name in _matched(name, reference_names, mask_names):
            mask = found_masks[mask_name] if mask_name is not None else None
            if mask is not None or masks.is_dir():
                pairs.append(Pair(case, found_references[reference_name], mask))
    used = {pair.mask for pair in pairs}
    if used <= {None}:
        raise _no_pair_error(masks, references, found_masks, found_references)
    unmatched = tuple(str(path) for path in found_masks.values() if path not in used)
    return Pairing(tuple(sorted(pairs, key=lambda pair: pair.case)), unmatched)


def plain_name(name: str) -> str:
    """``name`` without one of ``SUFFIXES``, and without a folder of the same name as the file.

    >>> plain_name("site/case7/case7_seg")
    'site/case7'
    """
    *folders, last = name.split("/")
    suffix = next((end for end in SUFFIXES if last.lower().endswith(end) and len(last) > len(end)), "")
    last = last[: len(last) - len(suffix)]
    return "/".join(folders if folders and folders[-1] == last else [*folders, last])


def _described(source: Path) -> dict[str, Path]:
    """The labels that a dataset.json at ``source`` lists, by case id; none where it describes no cases."""
    is_description = source.suffix == ".json" and source.is_file()
    if not is_description and not (source / "dataset.json").is_file():
        return {}
    if source.is_dir() and any(path.parent == source for path in find_images(source)):
        return {}
    return {case.id: Path(case.label) for case in open_dataset(source).cases if case.label}


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


def _grouped(named: dict[str, Path]) -> dict[str, list[str]]:
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


def _no_pair_error(masks: Path, references: Path, found: dict[str, Path], wanted: dict[str, Path]) -> InputError:
    return InputError(
        "PAIRS_NONE",
        masks,
        f"no name agrees: masks {_first(found)}; references in {references} {_first(wanted)}",
        "name each mask like its reference",
    )


def _first(named: dict[str, Path]) -> str:
    names = sorted(named)
    return f"{', '.join(names[:3])}{', …' if len(names) > 3 else ''} ({len(names)} in all)"
