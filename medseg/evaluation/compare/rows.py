"""One way of training as a row of a comparison: its runs, read from their folders alone, and its scores.

The scores are taken over cases and over folds; how the runs went stands beside them.
"""

from __future__ import annotations

import contextlib
import csv
import json
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
from medseg.evaluation.metrics import COMPARED, score
from medseg.evaluation.runs import (
    RUN_RECORD,
    SCORED_NAME,
    choose_part,
    is_scored,
    make_damage_error,
    read_fold,
    read_table,
)
from medseg.evaluation.summaries import FOREGROUND, average, deviate

EVALUATION_NAME = "evaluation.json"

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
        seconds: How long all epochs together took.
        parameters: How many the network has, running means and variances included.
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
        folder: The folder of the run.
        bundle: The name of the bundle that it was trained from.
        config: What its `train.json` holds.
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
        DatasetError: RECORD_UNREADABLE, a file is damaged.
    """
    if not is_scored(folder, part):
        raise _make_unscored_error(folder, part)
    return _read_scored(folder, folder / f"scores_{part}")


def config_value(config: Mapping[str, Any], key: str) -> Any:
    """What stands at a key such as ``a::b`` of a configuration; None where there is nothing."""
    place: Any = config
    for step in key.split("::"):
        place = place.get(step) if isinstance(place, Mapping) else None
    return place


def _read_scored(folder: Path, scores: Path) -> ScoredRun:
    with _open_record(folder / RUN_RECORD) as record:
        bundle, form = str(record["bundle"]), record.get("form")
        overrides = {**record.get("overrides", {}), **({"form": form} if form else {})}
    with _open_record(scores / EVALUATION_NAME) as evaluation:
        labels = {int(value): str(name) for value, name in evaluation["labels"].items()}
        by_case, confusions = _group_scores(evaluation["cases"]), evaluation["confusion"]["per_case"]
        tables = {case: np.array(table, dtype=np.int64) for case, table in confusions.items()}
        _check_whole(labels, by_case, tables)
    with _open_record(scores / SCORED_NAME) as scored:
        groups = {case: str(group) for case, group in scored["groups"].items()}
        best_epoch, parameters = _to_float(scored["best_epoch"]), _to_float(scored["parameters"])
    return ScoredRun(
        folder=folder,
        bundle=bundle,
        config=read_table(folder / "configs" / "train.json"),
        overrides=overrides,
        fold=read_fold(folder),
        labels=labels,
        scores=by_case,
        confusions=tables,
        groups=groups,
        training=_read_training(folder / "logs" / "epochs.csv", best_epoch, parameters),
    )


@contextlib.contextmanager
def _open_record(path: Path) -> Iterator[dict[str, Any]]:
    """What a file holds; what its content lacks becomes an error that names the file."""
    content = read_table(path)
    try:
        yield content
    except _DAMAGES as error:
        raise make_damage_error(path, first_line(error)) from error


def _group_scores(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[int, dict[str, float]]]:
    scores: dict[str, dict[int, dict[str, float]]] = {}
    for row in rows:
        numbers = {metric: _to_float(value) for metric, value in row["scores"].items()}
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
        for value, metric in product(labels, COMPARED):
            if metric not in of_class.get(value, {}):
                raise ValueError(f"case {case} has no {metric} of {labels[value]}")
        # By reference (rows) and prediction (columns), of which the last is no mask at all.
        if case not in confusions or confusions[case].shape != (len(labels), len(labels) + 1):
            raise ValueError(f"case {case} has no table of its voxels by class")


def _read_training(log: Path, best_epoch: float, parameters: float) -> Training:
    try:
        with log.open(encoding="utf-8", newline="") as file:
            epochs = list(csv.DictReader(file))
        return Training(
            val_loss=min(_read_column(epochs, "val_loss"), default=math.nan),
            epochs=max(_read_column(epochs, "epoch"), default=math.nan),
            best_epoch=best_epoch,
            seconds=math.fsum(_read_column(epochs, "seconds")),
            parameters=parameters,
        )
    except _DAMAGES as error:
        raise make_damage_error(log, first_line(error)) from error


def _read_column(epochs: Sequence[Mapping[str, str]], name: str) -> list[float]:
    """The numbers of a column of the log, without its empty cells."""
    numbers = [float(epoch[name]) for epoch in epochs if epoch.get(name)]
    return [value for value in numbers if not math.isnan(value)]


def _to_float(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _make_unscored_error(folder: Path, part: str) -> InputError:
    """That a run has no scores of a part that count, and what gives them."""
    if not (folder / "models" / "model.pt").is_file():
        return InputError("RUN_UNSCORED", folder, "its training has kept no weights", TRAIN_FIRST)
    has_scores = (folder / f"scores_{part}" / SCORED_NAME).is_file()
    lacking = "was scored by other weights than it has now" if has_scores else "has no scores"
    data = read_table(folder / RUN_RECORD).get("data")
    words = ["medseg", "compare", str(folder), "--data", data if isinstance(data, str) else "DATA"]
    words += [] if part == choose_part(folder) else ["--part", part]
    return InputError("RUN_UNSCORED", folder, f"its {part} part {lacking}", f"score it: {shlex.join(words)}")


ALL_CLASSES = "all classes"
TRAINING = ("val_loss", "epochs", "best_epoch", "seconds", "parameters")


@dataclass(frozen=True)
class MetricSpread:
    """One metric of one row; nan where it has no value.

    Args:
        n: Cases where it is defined.
        mean: Mean over these cases.
        sd: Standard deviation over these cases, with n - 1; nan for one.
        pooled: The value of all cases' voxels together.
        fold_mean: Mean of the folds' means.
        fold_sd: Standard deviation of the folds' means, with folds - 1; nan for one fold.
    """

    n: int
    mean: float
    sd: float
    pooled: float
    fold_mean: float
    fold_sd: float


@dataclass(frozen=True)
class ClassScores:
    """A class, or a mean over classes, of one row.

    Args:
        value: The class's value; None for a mean over classes.
        name: The class's name.
        cases: Cases scored.
        empty: Those of them without a Dice, where the class is in neither mask.
        metrics: A spread for each of ``COMPARED``.
    """

    value: int | None
    name: str
    cases: int
    empty: int
    metrics: Mapping[str, MetricSpread]


@dataclass(frozen=True)
class ComparedRow:
    """One way of training.

    Args:
        name: The name of the row.
        network: The name of its network.
        loss: The name of its loss.
        varied: What else differs between the rows, by key.
        parts: What a published row may name of it, such as ``unet``, ``focal`` and ``filters-16``.
        folds: How many runs it has.
        rank: Mean rank among the rows.
        classes: Background first, then the foreground mean and all classes.
        training: Mean and sd over the runs, for each of ``TRAINING``.
    """

    name: str
    network: str
    loss: str
    varied: Mapping[str, str]
    parts: frozenset[str]
    folds: int
    rank: float
    classes: tuple[ClassScores, ...]
    training: Mapping[str, tuple[float, float]]

    def of(self, name: str) -> ClassScores:
        """The scores of a class by its name."""
        return next(each for each in self.classes if each.name == name)


def make_row(name: str, runs: Sequence[ScoredRun], keys: Sequence[str], rank: float) -> ComparedRow:
    """A row from its runs.

    Args:
        name: The name of the row.
        runs: The runs of its folds, or the one run.
        keys: The settings that differ between rows, beside network and loss.
        rank: Its mean rank among the rows.
    """
    config, varied = runs[0].config, {key: format_setting(runs[0], key) for key in keys}
    network, loss = str(config.get("network_name", "")), str(config.get("loss_name", ""))
    said = {**dict(config.get("network_options") or {}), **varied}
    return ComparedRow(
        name=name,
        network=network,
        loss=loss,
        varied=varied,
        parts=frozenset([network, loss, *(make_slug(key, value) for key, value in said.items())]),
        folds=len(runs),
        rank=rank,
        classes=_score_classes(runs),
        training={key: _summarise_runs(runs, key) for key in TRAINING},
    )


def format_setting(run: ScoredRun, key: str) -> str:
    """What a run had for a key of `train.json`, as text; empty where it had nothing."""
    value = run.overrides.get(key, config_value(run.config, key))
    return "" if value is None else _format_value(value)


def make_slug(key: str, value: Any) -> str:
    """A setting as part of a row's name.

    >>> make_slug("network_options::filters", 16), make_slug("fractions", [0.5, 0.5])
    ('filters-16', 'fractions-0.5-0.5')
    """
    kept = "".join(letter if letter.isalnum() or letter in ".+-" else " " for letter in _format_value(value))
    return "-".join([key.rpartition("::")[2], *kept.split()])


def _format_value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _summarise_runs(runs: Sequence[ScoredRun], key: str) -> tuple[float, float]:
    values = [float(getattr(run.training, key)) for run in runs]
    return average(values), deviate(values)


def _score_classes(runs: Sequence[ScoredRun]) -> tuple[ClassScores, ...]:
    """Every class, the foreground mean, and all classes."""
    labels, total = runs[0].labels, np.sum([table for run in runs for table in run.confusions.values()], axis=0)
    by_metric = score(total)
    pooled = [{metric: float(by_metric[metric][index]) for metric in COMPARED} for index in range(len(labels))]
    foreground = [index for index, value in enumerate(labels) if value != 0]
    cases = [_list_cases(run) for run in runs]
    classes = [
        _measure_spread(value, name, [[case[index] for case in run] for run in cases], pooled[index])
        for index, (value, name) in enumerate(labels.items())
    ]
    means = [[_average_classes([case[index] for index in foreground]) for case in run] for run in cases]
    whole = [
        [_average_all(found, run.confusions[case]) for case, found in zip(run.scores, found_cases, strict=True)]
        for run, found_cases in zip(runs, cases, strict=True)
    ]
    return (
        *classes,
        _measure_spread(None, FOREGROUND, means, _average_classes([pooled[index] for index in foreground])),
        _measure_spread(None, ALL_CLASSES, whole, _average_all(pooled, total)),
    )


def _list_cases(run: ScoredRun) -> list[list[Mapping[str, float]]]:
    """The metrics of every case and class."""
    return [[case[value] for value in run.labels] for case in run.scores.values()]


def _average_classes(classes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {metric: average(found[metric] for found in classes) for metric in COMPARED}


def _average_all(classes: Sequence[Mapping[str, float]], confusion: NDArray[np.int64]) -> dict[str, float]:
    """The mean over all classes; accuracy is the share of voxels that were given their class."""
    share = float(np.trace(confusion) / confusion.sum()) if confusion.sum() else math.nan
    return {**_average_classes(classes), "accuracy": share}


def _measure_spread(
    value: int | None, name: str, runs: Sequence[Sequence[Mapping[str, float]]], pooled: Mapping[str, float]
) -> ClassScores:
    """How the metrics of the runs' cases lie, over all cases and over the runs' means."""
    metrics = {}
    for metric in COMPARED:
        known = [[case[metric] for case in run if not math.isnan(case[metric])] for run in runs]
        every, means = [number for run in known for number in run], [average(run) for run in known]
        metrics[metric] = MetricSpread(
            len(every), average(every), deviate(every), pooled[metric], average(means), deviate(means)
        )
    cases = sum(map(len, runs))
    return ClassScores(value, name, cases, cases - metrics["dice"].n, metrics)
