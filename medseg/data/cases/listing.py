"""What lies in a folder: its images, what they could be called, which are channels of one case."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from medseg.data.cases.case import Case, Labels, case_ids, guess_group, label_files
from medseg.data.image_files import SERIES_PART, find_images, image_stem, is_present, split_part
from medseg.errors import DatasetError
from medseg.text import list_some

CHANNEL_ENDING = re.compile(r"_(\d{4})$")


@dataclass(frozen=True)
class Pair:
    """Images and mask (or its parts) of one case, with the names it could go by, the shortest first."""

    names: tuple[str, ...]
    images: tuple[str, ...]
    label: str | tuple[str, ...] | None


@dataclass(frozen=True)
class Found:
    """What a recogniser makes of a folder.

    Args:
        pairs: The cases; one whose label is None should have a mask and has none.
        images_alone: Files that are no whole case.
        masks_alone: Masks without an image.
        labels: What the masks' values mean.
        channels: Name of each of a case's images.
        lacking: Of each case without some of the channels, which ones, in words.
        wrong: What else keeps the folder from being a data set, in words.
        unlabelled: Cases that their publisher has drawn no mask for.
    """

    pairs: tuple[Pair, ...]
    images_alone: tuple[Path, ...] = ()
    masks_alone: tuple[Path, ...] = ()
    labels: Labels = field(default_factory=Labels)
    channels: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    unlabelled: tuple[Pair, ...] = ()


class Folder:
    """A folder whose images are listed once, when first asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def images(self) -> tuple[Path, ...]:
        """Every image below, a DICOM series as its folder, sorted; hidden files left out."""
        return tuple(find_images(self.root))

    def names(self, *paths: Path) -> tuple[str, ...]:
        """The names a case of these files could go by: stem, path without suffix, path."""
        return names_of(paths[0], self.root)

    def below(self, names: Iterable[str]) -> Path | None:
        """The first sub-folder that bears one of these names, whatever its case."""
        return next(iter(self.all_below(names)), None)

    def all_below(self, names: Iterable[str]) -> list[Path]:
        """The sub-folders that bear one of these names, whatever their case, in the order of the names."""
        folders = {path.name.lower(): path for path in sorted(self.root.iterdir()) if path.is_dir()}
        return [folders[name.lower()] for name in names if name.lower() in folders]


def stem_of(path: Path) -> str:
    """A file's name without suffix (``.nii.gz`` counts as one); a folder's whole name."""
    return path.name if path.is_dir() else image_stem(path)


def names_of(path: Path, root: Path) -> tuple[str, str, str]:
    """Stem, relative path without suffix, and relative path, with ``/`` between folders."""
    relative = path.relative_to(root)
    stem = stem_of(path)
    return stem, (relative.parent / stem).as_posix(), relative.as_posix()


def folder_names(place: Path, root: Path) -> tuple[str, str]:
    """A case folder's name and its path; the root itself goes by its own name."""
    return place.name, place.relative_to(root).as_posix() if place != root else place.name


def names_in_list(path: str, root: Path, called: str | None = None) -> tuple[str, ...]:
    """The names that a case of this path could go by, with the page of ``#N`` or the frame of ``#tN`` added."""
    file, page = split_part(called or path)
    names = (
        names_of(Path(file), root) if Path(file).is_relative_to(root) else (names_of(Path(file), Path(file).parent)[0],)
    )
    if page.startswith(SERIES_PART):
        series = page.removeprefix(SERIES_PART).replace(":", "_stack")
        return tuple(f"{name}_series{series}" for name in names)
    kind, number = ("t", page[2:]) if page.startswith("#t") else ("", page[1:])
    return tuple(f"{name}_{kind}{int(number):03d}" if page else name for name in names)


def one_or_more(masks: Iterable[str]) -> str | tuple[str, ...] | None:
    """The files of a mask as a case has them: one alone, several together, or None.

    >>> one_or_more([]), one_or_more(["a.png"]), one_or_more(["left.png", "right.png"])
    (None, 'a.png', ('left.png', 'right.png'))
    """
    files = tuple(masks)
    return files if len(files) > 1 else next(iter(files), None)


def group_channels(images: Iterable[Path]) -> dict[Path, list[Path]] | None:
    """Files grouped as channels of a case by their ending ``_0000``, ``_0001`` …; None unless all have one.

    The keys are paths without that ending and suffix. Channels are counted from
    0000 without a gap; where a case starts later or skips one, the answer is None too.
    """
    groups: dict[Path, list[Path]] = {}
    for path in sorted(images):
        number = CHANNEL_ENDING.search(stem_of(path))
        place = path.with_name(CHANNEL_ENDING.sub("", stem_of(path)))
        if number is None or int(number[1]) != len(groups.setdefault(place, [])):
            return None
        groups[place].append(path)
    return groups or None


def unique_names(paths: Iterable[Path], name_of: Callable[[Path], str]) -> tuple[dict[str, Path], list[Path]]:
    """Files by name, and apart from them those whose name another has too (``a.png`` and ``a.jpg``)."""
    named: dict[str, list[Path]] = {}
    for path in paths:
        named.setdefault(name_of(path), []).append(path)
    unique = {name: same[0] for name, same in named.items() if len(same) == 1}
    return unique, [path for same in named.values() if len(same) > 1 for path in same]


def make_cases(pairs: Iterable[Pair], groups: Iterable[str | None] | None = None) -> tuple[Case, ...]:
    """Cases with distinct ids, sorted by id; a group that is not given is guessed from the id."""
    pairs = tuple(pairs)
    ids = case_ids([pair.names for pair in pairs])
    given = tuple(groups) if groups is not None else (None,) * len(pairs)
    cases = (
        Case(name, pair.images, pair.label, group or guess_group(name))
        for name, pair, group in zip(ids, pairs, given, strict=True)
    )
    return tuple(sorted(cases, key=lambda case: case.id))


def check_present(path: Path, pairs: Iterable[Pair]) -> None:
    """Refuse a description at ``path`` that names files which are not there.

    Raises:
        DatasetError: FILES_MISSING.
    """
    names = [name for pair in pairs for name in (*pair.images, *label_files(pair.label))]
    missing = [name for name in names if not is_present(name)]
    if missing:
        raise DatasetError(
            "FILES_MISSING",
            path,
            f"{len(missing)} files are not there: {list_some(missing)}",
        )
