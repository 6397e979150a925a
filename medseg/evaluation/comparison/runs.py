"""A trained run with its scores, read from its folder alone."""

from __future__ import annotations

import contextlib
import csv
import math
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.errors import InputError, first_line
from medseg.evaluation.comparison.folders import (
    RECORD_NAME,
    SCORED_NAME,
    fold_of,
    is_scored,
    read_table,
    unreadable,
    usual_part,
)

EVALUATION_NAME = "evaluation.json"

SHOWN = ("dice", "iou", "precision", "recall", "accuracy")
"""The metrics of a comparison."""

TRAIN_FIRST = "repeat the command that trained it: what is missing is trained, what was interrupted goes on"
"""What to do about a run that is not ready to be scored."""

_DAMAGES = (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, csv.Error)


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


def read_run(folder: Path, part: str) -> ScoredRun:
    """What a run's folder says of it, with its scores on ``part``.

    Raises:
        InputError: RUN_UNSCORED, the part was not scored to its end, or by other weights than the run has.
        DatasetError: RUN_UNREADABLE, a file is damaged.
    """
    if not is_scored(folder, part):
        raise _unscored(folder, part)
    return _read(folder, folder / f"scores_{part}")


def config_value(config: Mapping[str, Any], key: str) -> Any:
    """What stands at a key such as ``a::b`` of a configuration; None where there is nothing."""
    place: Any = config
    for step in key.split("::"):
        place = place.get(step) if isinstance(place, Mapping) else None
    return place


def _read(folder: Path, scores: Path) -> ScoredRun:
    with _reading(folder / RECORD_NAME) as record:
        bundle, form = str(record["bundle"]), record.get("form")
        overrides = {**record.get("overrides", {}), **({"form": form} if form else {})}
    with _reading(scores / EVALUATION_NAME) as evaluation:
        labels = {int(value): str(name) for value, name in evaluation["labels"].items()}
        by_case, confusions = _by_case(evaluation["cases"]), evaluation["confusion"]["per_case"]
        tables = {case: np.array(table, dtype=np.int64) for case, table in confusions.items()}
        _check_whole(labels, by_case, tables)
    with _reading(scores / SCORED_NAME) as scored:
        groups = {case: str(group) for case, group in scored["groups"].items()}
        best_epoch, parameters = _float(scored["best_epoch"]), _float(scored["parameters"])
    return ScoredRun(
        folder=folder,
        bundle=bundle,
        config=read_table(folder / "configs" / "train.json"),
        overrides=overrides,
        fold=fold_of(folder),
        labels=labels,
        scores=by_case,
        confusions=tables,
        groups=groups,
        training=_training(folder / "logs" / "epochs.csv", best_epoch, parameters),
    )


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[dict[str, Any]]:
    """What a file holds; what its content lacks becomes an error that names the file."""
    content = read_table(path)
    try:
        yield content
    except _DAMAGES as error:
        raise unreadable(path, first_line(error)) from error


def _by_case(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[int, dict[str, float]]]:
    scores: dict[str, dict[int, dict[str, float]]] = {}
    for row in rows:
        numbers = {metric: _float(value) for metric, value in row["scores"].items()}
        scores.setdefault(row["case"], {})[row["value"]] = numbers
    return scores


def _check_whole(
    labels: Mapping[int, str],
    scores: Mapping[str, Mapping[int, Mapping[str, float]]],
    confusions: Mapping[str, NDArray[np.int64]],
) -> None:
    """Refuse scores without a number that a comparison takes.

    Raises:
        ValueError: Saying which is lacking.
    """
    if not scores:
        raise ValueError("it has no cases")
    for case, of_class in scores.items():
        for value, metric in product(labels, SHOWN):
            if metric not in of_class.get(value, {}):
                raise ValueError(f"case {case} has no {metric} of {labels[value]}")
        # By reference (rows) and prediction (columns), of which the last is no mask at all.
        if case not in confusions or confusions[case].shape != (len(labels), len(labels) + 1):
            raise ValueError(f"case {case} has no table of its voxels by class")


def _training(log: Path, best_epoch: float, parameters: float) -> Training:
    try:
        with log.open(encoding="utf-8", newline="") as file:
            epochs = list(csv.DictReader(file))
        return Training(
            val_loss=min(_column(epochs, "val_loss"), default=math.nan),
            epochs=max(_column(epochs, "epoch"), default=math.nan),
            best_epoch=best_epoch,
            seconds=math.fsum(_column(epochs, "seconds")),
            parameters=parameters,
        )
    except _DAMAGES as error:
        raise unreadable(log, first_line(error)) from error


def _column(epochs: Sequence[Mapping[str, str]], name: str) -> list[float]:
    """The numbers of a column of the log, without its empty cells."""
    numbers = [float(epoch[name]) for epoch in epochs if epoch.get(name)]
    return [value for value in numbers if not math.isnan(value)]


def _float(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _unscored(folder: Path, part: str) -> InputError:
    """That a run has no scores of a part that count, and what gives them."""
    if not (folder / "models" / "model.pt").is_file():
        return InputError("RUN_UNSCORED", folder, "its training has kept no weights", TRAIN_FIRST)
    has_scores = (folder / f"scores_{part}" / SCORED_NAME).is_file()
    lacking = "was scored by other weights than it has now" if has_scores else "has no scores"
    data = read_table(folder / RECORD_NAME).get("data")
    words = ["medseg", "compare", str(folder), "--data", data if isinstance(data, str) else "DATA"]
    words += [] if part == usual_part(folder) else ["--part", part]
    return InputError("RUN_UNSCORED", folder, f"its {part} part {lacking}", f"score it: {shlex.join(words)}")
