"""Open a data set, or a heap of images to predict, as cases.

A data set is what its ``dataset.json`` or ``dataset.csv`` says; without one, the
folder is held against :data:`medseg.data.cases.layouts.LAYOUTS`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from medseg.data.cases.case import (
    Case,
    Channels,
    Dataset,
    Labels,
    are_modalities,
    case_ids,
    channel_count,
    guess_group,
    select_channels,
)
from medseg.data.cases.descriptions import DESCRIPTION, TABLE, read_description, read_table, write_dataset
from medseg.data.cases.layouts import LAYOUTS, Layout
from medseg.data.cases.listing import Folder, Found, group_channels, make_cases, names_of
from medseg.data.cases.publishers import recognise_modalities
from medseg.data.image_files import SERIES_PART, is_present
from medseg.errors import DatasetError
from medseg.text import list_some

__all__ = ["Case", "Dataset", "Labels", "datalist", "open_dataset", "open_images", "write_dataset"]

MOST_CHANNELS = 8
"""More files than this that differ only in ``_0000``, ``_0001`` … are slices, not channels."""


def open_dataset(path: str | Path) -> Dataset:
    """The cases with reference masks in a folder, a ``dataset.json`` or a CSV.

    Raises:
        DatasetError: NOT_FOUND, NO_CASES, CASES_UNPAIRED, or what is wrong with the description.
    """
    place = _make_absolute(path)
    described = _read_described(place)
    if described is not None:
        if not described.cases:
            raise _no_cases_error(place)
        return described
    layout, found = recognise(Folder(place))
    if layout is None or found is None:
        raise _no_cases_error(place)
    _check_whole(place, layout, found)
    unlabelled = tuple(sorted(pair.names[0] for pair in found.unlabelled))
    return Dataset(place, make_cases(found.pairs), found.labels, found.channels, layout.name, unlabelled)


def open_images(path: str | Path, channels: Channels = None) -> tuple[Case, ...]:
    """The cases to predict in a file, a folder, a DICOM series' folder, a list (``.txt``) or a CSV.

    In a folder every image at any depth is a case; where the folder is laid out as a
    data set, its masks are left out. Files that differ only in ``_0000``, ``_0001`` …
    are one case's channels, if there are as many as ``channels``. Where brain MR channels
    are wanted by name, files named by modality are one case's channels, with masks beside
    them or without.

    A case's id is its path in the folder without suffix; where two cases would share
    it (``a.nii`` and ``a.nii.gz``), both keep their suffix. It never leads out of the
    folder. In a data set the ids are those of :func:`open_dataset`.

    Args:
        path: Where to look.
        channels: How many the model wants, or which, by name and in its order; up to 8
            files are taken as channels if None. See :func:`medseg.data.cases.case.select_channels`.

    Raises:
        DatasetError: NOT_FOUND, NO_CASES, CHANNELS_MISSING, CHANNELS_DIFFER, or what is wrong with a list.
    """
    place = _make_absolute(path)
    is_part = not place.exists() and is_present(str(place))
    if is_part or (place.is_file() and place.name != DESCRIPTION):
        return select_channels(_open_file(place), (), channels, place)
    described = _read_described(place)
    if described is not None:
        return select_channels(_drop_masks(described.cases), described.channels, channels, place)
    return _open_folder(place, channels)


def narrow_to_series(cases: Iterable[Case], series: str | None) -> tuple[Case, ...]:
    """The cases, DICOM folders narrowed to one series.

    Args:
        cases: With any images.
        series: Its number or the end of its UID, and ``:N`` for stack N of it; None changes nothing.
    """
    if series is None:
        return tuple(cases)

    def named(image: str) -> str:
        return f"{image}{SERIES_PART}{series}" if Path(image).is_dir() else image

    return tuple(replace(case, images=tuple(map(named, case.images))) for case in cases)


def datalist(cases: Iterable[Case]) -> list[dict[str, str | list[str]]]:
    """The cases as MONAI's dictionary transforms take them: ``image``, ``label``, ``case_id``.

    ``image`` is a path, or a list of paths if there is one per channel; ``label`` is a
    path, or a list of paths whose masks are to be united, and left out where there is none.
    """
    records: list[dict[str, str | list[str]]] = []
    for case in cases:
        record: dict[str, str | list[str]] = {"image": case.images[0] if len(case.images) == 1 else list(case.images)}
        if case.label is not None:
            record["label"] = case.label if isinstance(case.label, str) else list(case.label)
        records.append({**record, "case_id": case.id})
    return records


def _make_absolute(path: str | Path) -> Path:
    # Path.resolve would follow links, and Path.absolute would keep the "..".
    return Path(os.path.abspath(path))  # noqa: PTH100


def _read_described(place: Path) -> Dataset | None:
    """The data set that a file or a file in the folder describes, or None."""
    if not place.exists():
        raise DatasetError("NOT_FOUND", place, "there is no such file or folder")
    if place.is_file():
        return read_table(place) if place.suffix.lower() == ".csv" else read_description(place)
    if (place / DESCRIPTION).is_file():
        return read_description(place / DESCRIPTION)
    return read_table(place / TABLE) if (place / TABLE).is_file() else None


def _open_file(place: Path) -> tuple[Case, ...]:
    """The cases of a list, of a table, or the one of an image."""
    if place.suffix.lower() == ".csv":
        return _drop_masks(read_table(place, needs_label=False).cases)
    return _name_cases(_read_list(place) if place.suffix.lower() == ".txt" else [place], channels=1)


def _open_folder(place: Path, channels: Channels) -> tuple[Case, ...]:
    folder = Folder(place)
    _, found = recognise(folder)
    if found is None and are_modalities(channels):
        found = recognise_modalities(folder)
    if found is not None and found.lacking:
        raise _lacking_error(place, found)
    if found is not None and found.pairs:
        items: list[tuple[Sequence[str], tuple[str, ...]]]
        items = [(pair.names, pair.images) for pair in (*found.pairs, *found.unlabelled)]
        alone = _group_files(found.images_alone, len(found.pairs[0].images))
        cases = _give_ids(items + [(names_of(image, place), images) for image, images in alone])
        return select_channels(cases, found.channels, channels, place)
    if not folder.images:
        raise _no_cases_error(place)
    if folder.images == (place,):
        return select_channels((_make_case(place.name, (str(place),)),), (), channels, place)
    return select_channels(_name_cases(folder.images, channel_count(channels), place), (), channels, place)


def recognise(folder: Folder) -> tuple[Layout | None, Found | None]:
    """The first layout that fits the folder, and what it makes of it; None and None where none fits."""
    for layout in LAYOUTS:
        found = layout.recognise(folder)
        if found is not None and (
            found.pairs or found.images_alone or found.masks_alone or found.lacking or found.wrong
        ):
            return layout, found
    return None, None


def _check_whole(place: Path, layout: Layout, found: Found) -> None:
    """Refuse a folder with anything left over or incomplete, naming all of it."""
    rest = [f"{pair.names[-1]} has no mask" for pair in found.pairs if pair.label is None]
    rest += [f"{path.relative_to(place)} has no mask" for path in found.images_alone]
    rest += [f"{path.relative_to(place)} has no image" for path in found.masks_alone]
    rest += found.wrong
    if found.lacking and not rest:
        raise _lacking_error(place, found)
    rest += found.lacking
    if rest:
        raise DatasetError(
            "CASES_UNPAIRED",
            place,
            f"read as {layout.name} ({layout.looks_like}), {len(rest)} are incomplete or left over: {list_some(rest)}",
            f"complete or remove them, or describe the cases in a {DESCRIPTION} or {TABLE}",
        )


def _lacking_error(place: Path, found: Found) -> DatasetError:
    return DatasetError(
        "CHANNELS_MISSING",
        place,
        f"{len(found.lacking)} cases lack channels that others have: {list_some(found.lacking)}",
        "add the missing channels, or move the cases away",
    )


def _read_list(path: Path) -> list[Path]:
    """The images that a text file names, one on each line; empty lines and ``#`` comments are skipped."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError("LIST_INVALID", path, f"cannot be read ({error})", "save it as UTF-8 text") from error
    images = [path.parent / line for line in lines if line and not line.startswith("#")]
    missing = [str(image) for image in images if not is_present(str(image))]
    if missing or not images:
        problem = f"these are not there: {list_some(missing)}" if missing else "names no image"
        raise DatasetError(
            "LIST_INVALID", path, problem, "write one path on each line, absolute or from the list's folder"
        )
    return images


def _name_cases(images: Iterable[Path], channels: int | None = None, root: Path | None = None) -> tuple[Case, ...]:
    """Cases of these images, numbered ones as channels; ids are paths from ``root`` or the common folder."""
    paths = [Path(os.path.normpath(image)) for image in images]
    base = root or Path(os.path.commonpath([path.parent for path in paths]))
    return _give_ids([(names_of(place, base)[1:], files) for place, files in _group_files(paths, channels)])


def _group_files(images: Iterable[Path], channels: int | None) -> list[tuple[Path, tuple[str, ...]]]:
    """Each case's place and files: ``_0000``, ``_0001`` … of one name in one folder together, if as many as wanted."""
    in_folder: dict[Path, list[Path]] = {}
    for path in images:
        in_folder.setdefault(path.parent, []).append(path)
    items: list[tuple[Path, tuple[str, ...]]] = []
    for folder, paths in in_folder.items():
        groups = group_channels(paths) or {}
        most = max((len(files) for files in groups.values()), default=0)
        if not groups or (channels == 1 and most > 1) or (channels is None and most > MOST_CHANNELS):
            items += [(path, (str(path),)) for path in paths]
            continue
        wanted = channels or most
        wrong = [f"{place.name} has {len(files)}" for place, files in groups.items() if len(files) != wanted]
        if wrong:
            raise DatasetError(
                "CHANNELS_MISSING",
                folder,
                f"{wanted} channels are wanted, but {list_some(wrong)}",
                "add the missing channels, or move the cases away",
            )
        items += [(place, tuple(str(file) for file in files)) for place, files in groups.items()]
    return items


def _give_ids(items: Sequence[tuple[Sequence[str], tuple[str, ...]]]) -> tuple[Case, ...]:
    """Cases with distinct ids, each from the names it could go by."""
    ids = case_ids([names for names, _ in items])
    cases = (_make_case(name, images) for name, (_, images) in zip(ids, items, strict=True))
    return tuple(sorted(cases, key=lambda case: case.id))


def _make_case(name: str, images: tuple[str, ...]) -> Case:
    return Case(name, images, None, guess_group(name))


def _drop_masks(cases: Iterable[Case]) -> tuple[Case, ...]:
    return tuple(Case(case.id, case.images, None, case.group) for case in cases)


def _no_cases_error(place: Path) -> DatasetError:
    """NO_CASES, with what is there instead."""
    files = sorted(p for p in place.rglob("*") if p.is_file()) if place.is_dir() else [place]
    suffixes = Counter("".join(p.suffixes[-2:]) if p.name.endswith(".gz") else p.suffix or "no suffix" for p in files)
    counts = ", ".join(f"{count} × {suffix}" for suffix, count in suffixes.most_common(8)) or "it is empty"
    first = list_some([str(p.relative_to(place)) for p in files if p != place], most=5)
    known = "; ".join(f"{layout.name}: {layout.looks_like}" for layout in LAYOUTS)
    return DatasetError(
        "NO_CASES",
        place,
        f"no case found; there: {counts}" + (f" ({first})" if first else ""),
        f"arrange the files in a known layout ({known}) or describe them in a {DESCRIPTION} or {TABLE}",
    )
