"""A trained run with its scores, read from its folder alone."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.data.case import distinct_names
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
    below = sorted((path for path in place.iterdir() if path.is_dir()), key=_natural)
    return [folder for path in below for folder in runs_below(path, depth - 1)]


def read_run(folder: Path, part: str) -> ScoredRun:
    """What a run's folder says of it, with its scores on ``part``.

    Raises:
        InputError: RUN_UNSCORED, the part was not scored to its end.
        DatasetError: RUN_UNREADABLE, a file is damaged.
    """
    scores = folder / f"scores_{part}"
    if not (scores / SCORED_NAME).is_file():
        raise InputError(
            "RUN_UNSCORED",
            folder,
            f"its {part} part has no scores",
            "repeat the command that trained it, or give --data",
        )
    try:
        return _read(folder, scores)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DatasetError(
            "RUN_UNREADABLE", folder, first_line(error), f"delete its scores_{part} and score it again"
        ) from error


def fold_of(folder: Path) -> tuple[int, int] | None:
    """Which fold of how many a run was trained on, as its split says."""
    split = folder / "configs" / "split.json"
    found = _FOLD.match(str(_loaded(split).get("how", ""))) if split.is_file() else None
    return (int(found[1]), int(found[2])) if found else None


def usual_part(folder: Path) -> str:
    """The part of a run's split that is scored where nothing else is said: what its fold held out, else the test."""
    return "validation" if fold_of(folder) else "test"


def config_value(config: Mapping[str, Any], key: str) -> Any:
    """What stands at a key such as ``a::b`` of a configuration; None where there is nothing."""
    place: Any = config
    for step in key.split("::"):
        place = place.get(step) if isinstance(place, Mapping) else None
    return place


def _natural(path: Path) -> list[tuple[int, str]]:
    """``fold10`` after ``fold9``."""
    return [(int(text), "") if text.isdigit() else (-1, text) for text in re.split(r"(\d+)", path.name)]


def _read(folder: Path, scores: Path) -> ScoredRun:
    record, evaluation = _loaded(folder / "run.json"), _loaded(scores / "evaluation.json")
    scored = _loaded(scores / SCORED_NAME)
    by_case: dict[str, dict[int, dict[str, float]]] = {}
    for row in evaluation["cases"]:
        by_case.setdefault(row["case"], {})[row["value"]] = {key: _float(v) for key, v in row["scores"].items()}
    confusions = evaluation["confusion"]["per_case"]
    return ScoredRun(
        folder=folder,
        bundle=str(record["bundle"]),
        config=_loaded(folder / "configs" / "train.json"),
        overrides={**record.get("overrides", {}), **({"form": record["form"]} if record.get("form") else {})},
        fold=fold_of(folder),
        labels={int(value): name for value, name in evaluation["labels"].items()},
        scores=by_case,
        confusions={case: np.array(table, dtype=np.int64) for case, table in confusions.items()},
        groups=scored["groups"],
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


def _loaded(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))
