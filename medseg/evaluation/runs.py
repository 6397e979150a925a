"""What the folder of a training holds, read back: where it lies, how its data were split, its logs and its scores."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medseg.data.cases.case import distinct_names, natural_order
from medseg.data.labels import mask_reading
from medseg.data.splits import Split, read_split
from medseg.errors import DatasetError, InputError, first_line
from medseg.evaluation.results import read_cases, read_csv
from medseg.evaluation.summaries import Row
from medseg.options import SPLIT_PARTS

SCORED_NAME = "scored.json"
"""In a folder of scores: what was scored, by which weights; written last, so that it stands for a whole folder."""

RUN_RECORD = "run.json"
"""What a run says of itself."""

MASK_STEPS_PLACE = ("validate", "preprocessing", "transforms")
"""Where a training's configuration says how cases are read."""

EPOCHS_NAME, BATCHES_NAME = "epochs.csv", "batches.csv"

TRAIN_ANEW = "of scores: delete its folder and score the run again; else restore the file, or train the run anew"
"""What to do about a file of a run that is missing or damaged."""

_FOLD = re.compile(r"fold (\d+) of (\d+)")
_FOLD_FOLDER = re.compile(r"fold\d+")


def find_runs(places: Iterable[str | Path]) -> dict[str, list[Path]]:
    """The run folders at or up to two levels below each place, by the name of their row.

    A run in a folder `fold1`, `fold2` … belongs to the row of the folder above.

    Raises:
        InputError: RUN_NOT_FOUND, there is no run in a place.
    """
    rows: dict[Path, list[Path]] = {}
    for folder in list_run_folders(places):
        owner = folder.parent if _FOLD_FOLDER.fullmatch(folder.name) else folder
        rows.setdefault(owner, []).append(folder)
    names = distinct_names([(owner.name, f"{owner.parent.name}/{owner.name}", str(owner)) for owner in rows])
    return dict(zip(names, rows.values(), strict=True))


def list_run_folders(places: Iterable[str | Path]) -> list[Path]:
    """The run folders at or up to two levels below each place, each once.

    Raises:
        InputError: RUN_NOT_FOUND, there is no run in a place.
    """
    folders: dict[Path, None] = {}
    for place in places:
        found = find_runs_below(Path(place).resolve())
        if not found:
            raise InputError(
                "RUN_NOT_FOUND", place, "no trained run is there", "give folders that medseg train or compare made"
            )
        folders.update(dict.fromkeys(found))
    return list(folders)


def find_runs_below(place: Path, depth: int = 2) -> list[Path]:
    """The run folders at or up to ``depth`` levels below a place, sorted by name; none where there is no such place."""
    if (place / RUN_RECORD).is_file() and (place / "configs").is_dir():
        return [place]
    if depth == 0 or not place.is_dir():
        return []
    below = sorted((path for path in place.iterdir() if path.is_dir()), key=lambda path: natural_order(path.name))
    return [folder for path in below for folder in find_runs_below(path, depth - 1)]


def is_scored(folder: Path, part: str) -> bool:
    """Whether the part was scored to its end, by the weights that the run has now.

    Raises:
        DatasetError: RECORD_UNREADABLE.
    """
    scored, weights = folder / f"scores_{part}" / SCORED_NAME, folder / "models" / "model.pt"
    if not scored.is_file() or not weights.is_file():
        return False
    return bool(read_table(scored).get("weights_sha256") == hashlib.sha256(weights.read_bytes()).hexdigest())


def read_run_split(folder: Path) -> Split:
    """The split that a run was trained on.

    Raises:
        DatasetError: RECORD_UNREADABLE.
    """
    try:
        return read_split(folder / "configs" / "split.json")
    except DatasetError as error:
        raise make_damage_error(error.case, error.problem) from error


def read_fold(folder: Path) -> tuple[int, int] | None:
    """Which fold of how many a run was trained on, as its split says.

    Raises:
        DatasetError: RECORD_UNREADABLE.
    """
    found = _FOLD.match(read_run_split(folder).how) if (folder / "configs" / "split.json").is_file() else None
    return (int(found[1]), int(found[2])) if found else None


def choose_part(folder: Path) -> str:
    """The part of a run's split that is scored where nothing else is said: what its fold held out, else the test.

    Raises:
        DatasetError: RECORD_UNREADABLE.
    """
    return "validation" if read_fold(folder) else "test"


def read_table(path: Path, remedy: str = TRAIN_ANEW) -> dict[str, Any]:
    """What a file of a run holds.

    Args:
        path: The file.
        remedy: What to do where it is damaged.

    Raises:
        DatasetError: RECORD_UNREADABLE, it is missing or damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise make_damage_error(path, first_line(error), remedy) from error
    if not isinstance(content, dict):
        raise make_damage_error(path, "not a table of settings", remedy)
    return content


def make_damage_error(path: object, problem: str, remedy: str = TRAIN_ANEW) -> DatasetError:
    """A file of a run that is missing or damaged, as an error."""
    return DatasetError("RECORD_UNREADABLE", path, problem, remedy)


@dataclass(frozen=True)
class PartScores:
    """The scores of one part of a run's split, and where its masks lie."""

    part: str
    labels: Mapping[int, str]
    rows: tuple[Row, ...]
    settings: Mapping[str, str]
    masks: Path


def read_parts(run: Path) -> list[PartScores]:
    """Every scored part of a run: train, validation, test, then what says no part.

    Raises:
        DatasetError: A file of scores is damaged.
    """
    names = [*(f"scores_{part}" for part in SPLIT_PARTS), "scores"]
    return [each for name in names if (run / name / "cases.csv").is_file() for each in _read_scores(run / name)]


def read_part(run: Path, part: str) -> PartScores:
    """One scored part of a run.

    Raises:
        InputError: RUN_NOT_FOUND, the part has no scores.
        DatasetError: A file of scores is damaged.
    """
    found = [each for each in read_parts(run) if each.part == part]
    if not found:
        raise make_no_run_error(run, f"its {part} part has no scores")
    return found[0]


def find_data(runs: Sequence[Path]) -> str:
    """Where the data set of some runs was in their trainings: the first such place that is still there, else the first.

    Raises:
        InputError: RUN_NOT_FOUND, a record names no data set.
        DatasetError: A record is damaged.
    """
    places = [_read_if_there(run / RUN_RECORD).get("data") for run in runs]
    known = [place for place in places if isinstance(place, str)]
    if not known:
        raise make_no_run_error(runs[0], "its run.json names no data set")
    return next((place for place in known if Path(place).exists()), known[0])


def read_train_config(run: Path) -> dict[str, Any]:
    """A run's `train.json`; empty where there is none.

    Raises:
        DatasetError: It is damaged.
    """
    return _read_if_there(run / "configs" / "train.json")


def read_renamed(run: Path) -> dict[int, int]:
    """The labels that training read as others, as its configuration says.

    Raises:
        DatasetError: The configuration is damaged.
    """
    steps: Any = read_train_config(run)
    for key in MASK_STEPS_PLACE:
        steps = steps.get(key) if isinstance(steps, dict) else None
    return dict(mask_reading(steps).renamed)


def make_no_run_error(run: str | Path, problem: str) -> InputError:
    """That a folder is no run, or lacks what is to be drawn."""
    return InputError("RUN_NOT_FOUND", run, problem, "give a folder that medseg train made")


def _read_scores(folder: Path) -> list[PartScores]:
    """The parts in one folder of scores."""
    ending = folder.name.partition("_")[2]
    rows = [replace(row, part=row.part or ending) for row in read_cases(folder)]
    settings = _read_if_there(folder / "evaluation.json").get("settings", {})
    masks = folder.with_name(folder.name.replace("scores", "masks", 1))
    masks = masks if masks.is_dir() else Path(settings.get("masks", masks))
    labels = {row.value: row.name for row in rows}
    return [
        PartScores(part, labels, tuple(row for row in rows if row.part == part), settings, masks)
        for part in dict.fromkeys(row.part for row in rows)
    ]


def _read_if_there(path: Path) -> dict[str, Any]:
    return read_table(path, "restore the run's folder") if path.is_file() else {}


@dataclass(frozen=True)
class Batch:
    """The loss of one batch.

    Args:
        epoch: The epoch, counted from 1.
        part: ``train`` or ``validation``.
        step: The number of the batch within the epoch.
        loss: The value of the loss function.
    """

    epoch: int
    part: str
    step: int
    loss: float


def read_epochs(path: str | Path) -> list[dict[str, float]]:
    """The rows of an epochs.csv by rising epoch; nan where nothing was measured.

    An epoch that was repeated, as after an interruption, counts as it ran last.

    Args:
        path: The file, or its folder.

    Raises:
        InputError: There is no such file.
        DatasetError: It has no column ``epoch``, or a cell that is no number.
    """
    file, rows = _read_log(Path(path), EPOCHS_NAME, ("epoch",))
    try:
        numbers = [{name: float(cell) if cell else math.nan for name, cell in row.items()} for row in rows]
        return [row for _, row in sorted({int(row["epoch"]): row for row in numbers}.items())]
    except ValueError as error:
        raise _make_log_error(file, first_line(error)) from error


def read_batches(path: str | Path) -> list[Batch]:
    """The rows of a batches.csv, in its order.

    Args:
        path: The file, or its folder.

    Raises:
        InputError: There is no such file.
        DatasetError: A column is missing, or a cell is no number.
    """
    file, rows = _read_log(Path(path), BATCHES_NAME, ("epoch", "part", "step", "loss"))
    try:
        return [Batch(int(row["epoch"]), row["part"], int(row["step"]), float(row["loss"])) for row in rows]
    except ValueError as error:
        raise _make_log_error(file, first_line(error)) from error


def _read_log(path: Path, name: str, needed: tuple[str, ...]) -> tuple[Path, list[dict[str, str]]]:
    """A log's file and its rows, which have all the needed columns."""
    file = path / name if path.is_dir() else path
    if not file.is_file():
        raise InputError("INPUT_MISSING", file, "there is no such file", "give a folder that medseg train made")
    try:
        header, rows = read_csv(file)
    except (OSError, ValueError, csv.Error) as error:
        raise _make_log_error(file, first_line(error)) from error
    lacking = [column for column in needed if column not in header]
    if lacking:
        raise _make_log_error(file, f"it has no column {', '.join(lacking)}")
    return file, rows


def _make_log_error(file: Path, problem: str) -> DatasetError:
    return DatasetError("RECORD_UNREADABLE", file, problem, "give the log that a training wrote, unchanged")
