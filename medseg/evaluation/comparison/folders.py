"""Folders of runs: where they lie, how they were split, and whether they are scored."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from medseg.data.cases.case import distinct_names, natural_order
from medseg.data.splits import Split, read_split
from medseg.errors import DatasetError, InputError, first_line

SCORED_NAME = "scored.json"
"""In a folder of scores: what was scored, by which weights; written last, so that it stands for a whole folder."""

RECORD_NAME = "run.json"
"""What a run says of itself."""

_FOLD = re.compile(r"fold (\d+) of (\d+)")
_FOLD_FOLDER = re.compile(r"fold\d+")


def find_runs(places: Iterable[str | Path]) -> dict[str, list[Path]]:
    """The run folders at or up to two levels below each place, by the name of their row.

    A run in a folder `fold1`, `fold2` … belongs to the row of the folder above.

    Raises:
        InputError: RUN_NOT_FOUND, there is no run in a place.
    """
    rows: dict[Path, list[Path]] = {}
    for folder in run_folders(places):
        owner = folder.parent if _FOLD_FOLDER.fullmatch(folder.name) else folder
        rows.setdefault(owner, []).append(folder)
    names = distinct_names([(owner.name, f"{owner.parent.name}/{owner.name}", str(owner)) for owner in rows])
    return dict(zip(names, rows.values(), strict=True))


def run_folders(places: Iterable[str | Path]) -> list[Path]:
    """The run folders at or up to two levels below each place, each once.

    Raises:
        InputError: RUN_NOT_FOUND, there is no run in a place.
    """
    folders: dict[Path, None] = {}
    for place in places:
        found = runs_below(Path(place).resolve())
        if not found:
            raise InputError(
                "RUN_NOT_FOUND", place, "no trained run is there", "give folders that medseg train or compare made"
            )
        folders.update(dict.fromkeys(found))
    return list(folders)


def runs_below(place: Path, depth: int = 2) -> list[Path]:
    """The run folders at or up to ``depth`` levels below a place, sorted by name; none where there is no such place."""
    if (place / "run.json").is_file() and (place / "configs").is_dir():
        return [place]
    if depth == 0 or not place.is_dir():
        return []
    below = sorted((path for path in place.iterdir() if path.is_dir()), key=lambda path: natural_order(path.name))
    return [folder for path in below for folder in runs_below(path, depth - 1)]


def is_scored(folder: Path, part: str) -> bool:
    """Whether the part was scored to its end, by the weights that the run has now.

    Raises:
        DatasetError: RUN_UNREADABLE.
    """
    scored, weights = folder / f"scores_{part}" / SCORED_NAME, folder / "models" / "model.pt"
    if not scored.is_file() or not weights.is_file():
        return False
    return bool(read_table(scored).get("weights_sha256") == hashlib.sha256(weights.read_bytes()).hexdigest())


def split_of(folder: Path) -> Split:
    """The split that a run was trained on.

    Raises:
        DatasetError: RUN_UNREADABLE.
    """
    try:
        return read_split(folder / "configs" / "split.json")
    except DatasetError as error:
        raise unreadable(error.case, error.problem) from error


def fold_of(folder: Path) -> tuple[int, int] | None:
    """Which fold of how many a run was trained on, as its split says.

    Raises:
        DatasetError: RUN_UNREADABLE.
    """
    found = _FOLD.match(split_of(folder).how) if (folder / "configs" / "split.json").is_file() else None
    return (int(found[1]), int(found[2])) if found else None


def usual_part(folder: Path) -> str:
    """The part of a run's split that is scored where nothing else is said: what its fold held out, else the test.

    Raises:
        DatasetError: RUN_UNREADABLE.
    """
    return "validation" if fold_of(folder) else "test"


def read_table(path: Path) -> dict[str, Any]:
    """What a file of a run holds.

    Raises:
        DatasetError: RUN_UNREADABLE, it is missing or damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(path, first_line(error)) from error
    if not isinstance(content, dict):
        raise unreadable(path, "not a table of settings")
    return content


def unreadable(path: object, problem: str) -> DatasetError:
    """A file of a run that is missing or damaged, as an error."""
    remedy = "of scores: delete its folder and score the run again; else restore the file, or train the run anew"
    return DatasetError("RUN_UNREADABLE", path, problem, remedy)
