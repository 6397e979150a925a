"""Data sets of DICOM series with DICOM SEG or RTSTRUCT: paired by the series that each mask says it was drawn on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from medseg.data.cases.case import some_of
from medseg.data.cases.listing import Folder, Found, Pair, folder_names
from medseg.data.dicom.sniff import find_dicom_masks
from medseg.errors import ImageError

Place = tuple[Path, str]
"""A folder, and the SeriesInstanceUID of one of its series where it holds several, else an empty text."""


def recognise_segmented_series(folder: Folder) -> Found | None:
    """Folders of DICOM slices, and anywhere among them one SEG or RTSTRUCT for each series."""
    series = [path for path in folder.images if path.is_dir()]
    masks = find_dicom_masks(folder.root) if series else []
    if not masks:
        return None
    wanted, wrong = _find_wanted(masks, folder.root)
    places = _find_places(series, {uid for uids in wanted.values() for uid in uids})
    owned: dict[Place, list[Path]] = {}
    lone = []
    for mask, uids in wanted.items():
        place = next((places[uid] for uid in uids if uid in places), None)
        if place is None:
            lone.append(mask)
        else:
            owned.setdefault(place, []).append(mask)
    wrong += [_describe_several(place, found, folder.root) for place, found in owned.items() if len(found) > 1]
    pairs = [_make_pair(place, found[0], folder.root) for place, found in owned.items() if len(found) == 1]
    used = {path for path, _ in owned}
    alone = tuple(path for path in folder.images if path not in used)
    return Found(tuple(pairs), alone, tuple(lone), wrong=tuple(wrong))


def _find_wanted(masks: Iterable[Path], root: Path) -> tuple[dict[Path, tuple[str, ...]], list[str]]:
    """The series that each mask was drawn on, and in words the masks that cannot be read."""
    from medseg.data.dicom.source import read_referenced_series

    wanted: dict[Path, tuple[str, ...]] = {}
    wrong = []
    for mask in masks:
        try:
            wanted[mask] = read_referenced_series(mask)
        except ImageError as error:
            wrong.append(f"{mask.relative_to(root).as_posix()} is damaged ({error.code})")
    return wanted, wrong


def _find_places(series: Iterable[Path], wanted: set[str]) -> dict[str, Place]:
    """Where each of the series that are wanted lies."""
    from medseg.data.dicom.source import list_image_series

    places: dict[str, Place] = {}
    for path in series:
        uids = list_image_series(path)
        for uid in uids & wanted:
            places.setdefault(uid, (path, uid if len(uids) > 1 else ""))
    return places


def _make_pair(place: Place, mask: Path, root: Path) -> Pair:
    path, uid = place
    names = folder_names(path, root)
    return Pair(
        tuple(f"{name}_series{uid}" for name in names) if uid else names,
        (f"{path}#series={uid}" if uid else str(path),),
        str(mask),
    )


def _describe_several(place: Place, masks: list[Path], root: Path) -> str:
    named = some_of([mask.relative_to(root).as_posix() for mask in masks])
    return f"{folder_names(place[0], root)[1]} has {len(masks)} masks: {named}"
