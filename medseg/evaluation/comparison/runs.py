"""A trained run with its scores, read from its folder alone."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.data.case import distinct_names, natural_order
from medseg.data.splits import Split, read_split
from medseg.errors import DatasetError, InputError, first_line

SCORED_NAME = "scored.json"
"""In a folder of scores: what was scored, by which weights; written last, so that it stands for a whole folder."""

_FOLD = re.compile(r"fold (\d+) of (\d+)")
_FOLD_FOLDER = re.compile(r"fold\d+")


@dataclass(frozen=True)
class Training:
    """How a run went; nan where its folder does not say.

    Args:
        val_loss: Lowest validation loss of any epoch.
        epochs: Number of epochs run.
        best_epoch: The epoch whose weights were kept.
        seconds: Of all epochs together.
        parameters: Of the network, running means and variances included.
    """

    val_loss: float
    epochs: float
    best_epoch: float
    seconds: float
    parameters: float


@dataclass(frozen=True)
class ScoredRun:
    """One run: what it was, how its training went, and its scores on one part.

    Args:
        folder: Of the run.
        bundle: Name of the bundle that it was trained from.
        config: Its `train.json`.
        overrides: What was changed in the bundle's configuration, by key.
        fold: Number of the fold, and of how many; None without folds.
        labels: Name of each value.
        scores: Per case and class value, every metric.
        confusions: Per case, voxels by reference (row) and prediction (column).
        groups: The patient of each case.
        training: How the training went.
    """

    folder: Path
    bundle: str
    config: Mapping[str, Any]
    overrides: Mapping[str, Any]
    fold: tuple[int, int] | None
    labels: Mapping[int, str]
    scores: Mapping[str, Mapping[int, Mapping[str, float]]]
    confusions: Mapping[str, NDArray[np.int64]]
    groups: Mapping[str, str]
    training: Training


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


def read_run(folder: Path, part: str) -> ScoredRun:
    """What a run's folder says of it, with its scores on ``part``.

    Raises:
        InputError: RUN_UNSCORED, the part was not scored to its end, or by other weights than the run has.
        DatasetError: RUN_UNREADABLE, a file is damaged.
    """
    scores = folder / f"scores_{part}"
    if not is_scored(folder, part):
        has_scores = (scores / SCORED_NAME).is_file()
        problem = f"its {part} part " + (
            "was scored by other weights than it has now" if has_scores else "has no scores"
        )
        raise InputError("RUN_UNSCORED", folder, problem, "repeat the command that trained it, or give --data")
    try:
        return _read(folder, scores)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, csv.Error) as error:
        raise DatasetError(
            "RUN_UNREADABLE", folder, first_line(error), f"delete its scores_{part} and score it again"
        ) from error


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
        raise _unreadable(error.case, error.problem) from error


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


def config_value(config: Mapping[str, Any], key: str) -> Any:
    """What stands at a key such as ``a::b`` of a configuration; None where there is nothing."""
    place: Any = config
    for step in key.split("::"):
        place = place.get(step) if isinstance(place, Mapping) else None
    return place


def _read(folder: Path, scores: Path) -> ScoredRun:
    record, evaluation = read_table(folder / "run.json"), read_table(scores / "evaluation.json")
    scored = read_table(scores / SCORED_NAME)
    by_case: dict[str, dict[int, dict[str, float]]] = {}
    for row in evaluation["cases"]:
        by_case.setdefault(row["case"], {})[row["value"]] = {key: _float(v) for key, v in row["scores"].items()}
    confusions = evaluation["confusion"]["per_case"]
    return ScoredRun(
        folder=folder,
        bundle=str(record["bundle"]),
        config=read_table(folder / "configs" / "train.json"),
        overrides={**record.get("overrides", {}), **({"form": record["form"]} if record.get("form") else {})},
        fold=fold_of(folder),
        labels={int(value): name for value, name in evaluation["labels"].items()},
        scores=by_case,
        confusions={case: np.array(table, dtype=np.int64) for case, table in confusions.items()},
        groups=dict(scored["groups"]),
        training=_training(folder / "logs" / "epochs.csv", scored),
    )


def _training(log: Path, scored: Mapping[str, Any]) -> Training:
    with log.open(encoding="utf-8", newline="") as file:
        epochs = list(csv.DictReader(file))
    losses = _column(epochs, "val_loss")
    return Training(
        val_loss=min(losses, default=math.nan),
        epochs=max(_column(epochs, "epoch"), default=math.nan),
        best_epoch=_float(scored["best_epoch"]),
        seconds=math.fsum(_column(epochs, "seconds")),
        parameters=_float(scored["parameters"]),
    )


def _column(epochs: Sequence[Mapping[str, str]], name: str) -> list[float]:
    """The numbers of a column of the log, without its empty cells."""
    numbers = [float(epoch[name]) for epoch in epochs if epoch.get(name)]
    return [value for value in numbers if not math.isnan(value)]


def _float(value: float | None) -> float:
    return math.nan if value is None else float(value)


def read_table(path: Path) -> dict[str, Any]:
    """What a file of a run holds.

    Raises:
        DatasetError: RUN_UNREADABLE, it is missing or damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(path, first_line(error)) from error
    if not isinstance(content, dict):
        raise _unreadable(path, "not a table of settings")
    return content


def _unreadable(path: object, problem: str) -> DatasetError:
    remedy = "of scores: delete its folder and score the run again; else restore the file, or train the run anew"
    return DatasetError("RUN_UNREADABLE", path, problem, remedy)
