"""What masks are held against: one mask, a folder of masks, or a data set with its images beside them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from medseg.data.cases import open_dataset
from medseg.data.cases.case import Dataset
from medseg.data.image_files import find_images, find_masks, image_stem, split_part
from medseg.errors import DatasetError, InputError

DESCRIPTIONS = (".json", ".csv")
"""A file that ends so describes a data set."""

MOST_TOLD = 200

Reference = Path | tuple[Path, ...]
"""A mask, or the files whose union it is."""


@dataclass(frozen=True)
class References:
    """Reference masks and the names that they go by.

    Args:
        files: Each reference by the id of its case, or, where there is no data set, by its path.
        path_of: Of a data set: the path of each case's mask, without the ending, where it is one file.
        layout: Of the data set; empty where there is none.
        labels: What the values mean, where the data set says.
        how: How they were looked for, in words.
    """

    files: Mapping[str, Reference]
    path_of: Mapping[str, str] = field(default_factory=dict)
    layout: str = ""
    labels: Mapping[int, str] = field(default_factory=dict)
    how: str = ""


def find_references(source: Path) -> References:
    """The references at ``source``: those of a data set where it is one, else every image below it.

    Args:
        source: A mask, a folder in any layout, or a file that describes a data set.

    Raises:
        InputError: INPUT_MISSING or INPUT_EMPTY.
        DatasetError: CASE_TWICE, or what is wrong with a description without images beside it.
    """
    if source.is_file() and not is_description(source):
        return References(images_by_name(source))
    try:
        return _of_dataset(open_dataset(source))
    except DatasetError as error:
        if not source.exists() or is_description(source) or _is_described(source):
            raise _absent(source) if not source.exists() else error from None
        why = f"{error.code}: {textwrap.shorten(error.problem, MOST_TOLD)}"
        if error.code == "NO_CASES":
            why = "no known layout"
        how = f"{source} was not taken as a data set ({why}), so the paths below it were compared"
        return References(images_by_name(source), how=how)


def is_description(path: Path) -> bool:
    """Whether ``path`` is a file that describes a data set."""
    return path.is_file() and path.suffix.lower() in DESCRIPTIONS


def images_by_name(source: Path) -> dict[str, Path]:
    """Every image below a folder by its path without the ending, or one image by its name.

    Raises:
        InputError: INPUT_MISSING or INPUT_EMPTY.
        DatasetError: CASE_TWICE.
    """
    if not source.exists():
        raise _absent(source)
    root = source if source.is_dir() else source.parent
    named: dict[str, Path] = {}
    for path in find_masks(source) if source.is_dir() else [source]:
        name = _name_below(path, root)
        if name in named:
            raise DatasetError(
                "CASE_TWICE", name, f"both {named[name].name} and {path.name} have this name", "remove one of them"
            )
        named[name] = path
    if not named:
        raise InputError("INPUT_EMPTY", source, "the folder holds no images", "give the folder that holds the masks")
    return named


def _of_dataset(dataset: Dataset) -> References:
    files: dict[str, Reference] = {}
    path_of: dict[str, str] = {}
    root = dataset.root if dataset.root.is_dir() else dataset.root.parent
    for case in dataset.cases:
        paths = tuple(map(Path, case.label_files))
        if paths:
            files[case.id] = paths if len(paths) > 1 else paths[0]
        if len(paths) == 1 and not split_part(str(paths[0]))[1] and paths[0].is_relative_to(root):
            path_of[case.id] = _name_below(paths[0], root)
    read = f"{dataset.root} was read as a data set ({dataset.layout})"
    how = f"{read}: the ids of its cases were compared, then the paths of its masks"
    return References(files, path_of, dataset.layout, dataset.labels.names, how)


def _is_described(source: Path) -> bool:
    """Whether a description is all that there is: beside images it may only name the classes of these."""
    has_description = any((source / f"dataset{suffix}").is_file() for suffix in DESCRIPTIONS)
    return has_description and not any(path.parent == source for path in find_images(source))


def _name_below(path: Path, root: Path) -> str:
    return (path.parent.relative_to(root) / image_stem(path)).as_posix()


def _absent(source: Path) -> InputError:
    return InputError("INPUT_MISSING", source, "there is no such file or folder", "correct the path")
