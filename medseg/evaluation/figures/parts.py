"""What a run's folder holds to be drawn: its scored parts, and what its training says of the data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medseg.data.labels import mask_reading
from medseg.errors import DatasetError, InputError, first_line
from medseg.evaluation.records import read_cases
from medseg.evaluation.tables import Row
from medseg.options import SPLIT_PARTS

STEPS = ("validate", "preprocessing", "transforms")
"""Where a training's configuration says how cases are read."""


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
        raise no_run(run, f"its {part} part has no scores")
    return found[0]


def data_of(runs: Sequence[Path]) -> str:
    """Where the data set of some runs was in their trainings: the first such place that is still there, else the first.

    Raises:
        InputError: RUN_NOT_FOUND, a record names no data set.
        DatasetError: A record is damaged.
    """
    places = [_loaded(run / "run.json").get("data") for run in runs]
    known = [place for place in places if isinstance(place, str)]
    if not known:
        raise no_run(runs[0], "its run.json names no data set")
    return next((place for place in known if Path(place).exists()), known[0])


def train_config(run: Path) -> dict[str, Any]:
    """A run's `train.json`; empty where there is none.

    Raises:
        DatasetError: It is damaged.
    """
    return _loaded(run / "configs" / "train.json")


def renamed_by(run: Path) -> dict[int, int]:
    """The labels that training read as others, as its configuration says.

    Raises:
        DatasetError: The configuration is damaged.
    """
    steps: Any = train_config(run)
    for key in STEPS:
        steps = steps.get(key) if isinstance(steps, dict) else None
    return dict(mask_reading(steps).renamed)


def no_run(run: str | Path, problem: str) -> InputError:
    """That a folder is no run, or lacks what is to be drawn."""
    return InputError("RUN_NOT_FOUND", run, problem, "give a folder that medseg train made")


def _read_scores(folder: Path) -> list[PartScores]:
    """The parts in one folder of scores."""
    ending = folder.name.partition("_")[2]
    rows = [replace(row, part=row.part or ending) for row in read_cases(folder)]
    settings = _loaded(folder / "evaluation.json").get("settings", {})
    masks = folder.with_name(folder.name.replace("scores", "masks", 1))
    masks = masks if masks.is_dir() else Path(settings.get("masks", masks))
    labels = {row.value: row.name for row in rows}
    return [
        PartScores(part, labels, tuple(row for row in rows if row.part == part), settings, masks)
        for part in dict.fromkeys(row.part for row in rows)
    ]


def _loaded(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
    except (OSError, ValueError, TypeError) as error:
        raise DatasetError("RUN_UNREADABLE", path, first_line(error), "restore the run's folder") from error
