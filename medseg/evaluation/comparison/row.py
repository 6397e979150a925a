"""One way of training as a row of a comparison: its scores over cases and over folds, and how its runs went."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.evaluation.comparison.runs import SHOWN, ScoredRun, config_value
from medseg.evaluation.metrics import score
from medseg.evaluation.tables import FOREGROUND

ALL_CLASSES = "all classes"
TRAINING = ("val_loss", "epochs", "best_epoch", "seconds", "parameters")


@dataclass(frozen=True)
class MetricSpread:
    """One metric of one row; nan where it has no value.

    Args:
        n: Cases where it is defined.
        mean: Over these cases.
        sd: Over these cases, with n - 1; nan for one.
        pooled: Of all cases' voxels together.
        fold_mean: Mean of the folds' means.
        fold_sd: Of the folds' means, with folds - 1; nan for one fold.
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
        empty: Of these, cases without a Dice, where the class is in neither mask.
        metrics: For each of SHOWN.
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
        name: Of the row.
        network: Its network's name.
        loss: Its loss's name.
        varied: What else differs between the rows, by key.
        parts: What a published row may name of it, such as ``unet``, ``focal`` and ``filters-16``.
        folds: How many runs it has.
        rank: Mean rank among the rows.
        classes: Background first, then the foreground mean and all classes.
        training: For each of TRAINING, mean and sd over the runs.
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


def compared_row(name: str, runs: Sequence[ScoredRun], keys: Sequence[str], rank: float) -> ComparedRow:
    """A row from its runs.

    Args:
        name: Of the row.
        runs: Its folds, or the one run.
        keys: The settings that differ between rows, beside network and loss.
        rank: Among the rows.
    """
    config, varied = runs[0].config, {key: setting(runs[0], key) for key in keys}
    network, loss = str(config.get("network_name", "")), str(config.get("loss_name", ""))
    said = {**dict(config.get("network_options") or {}), **varied}
    return ComparedRow(
        name=name,
        network=network,
        loss=loss,
        varied=varied,
        parts=frozenset([network, loss, *(slug(key, value) for key, value in said.items())]),
        folds=len(runs),
        rank=rank,
        classes=_class_scores(runs),
        training={key: _over_runs(runs, key) for key in TRAINING},
    )


def setting(run: ScoredRun, key: str) -> str:
    """What a run had for a key of `train.json`, as text; empty where it had nothing."""
    value = run.overrides.get(key, config_value(run.config, key))
    return "" if value is None else _text(value)


def slug(key: str, value: Any) -> str:
    """A setting as part of a row's name.

    >>> slug("network_options::filters", 16), slug("fractions", [0.5, 0.5])
    ('filters-16', 'fractions-0.5-0.5')
    """
    kept = "".join(letter if letter.isalnum() or letter in ".+-" else " " for letter in _text(value))
    return "-".join([key.rpartition("::")[2], *kept.split()])


def mean(values: Iterable[float]) -> float:
    """Of the values that are not nan; nan where there are none."""
    known = [float(value) for value in values if not math.isnan(value)]
    return fmean(known) if known else math.nan


def _sd(values: Iterable[float]) -> float:
    known = [float(value) for value in values if not math.isnan(value)]
    return stdev(known) if len(known) > 1 else math.nan


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _over_runs(runs: Sequence[ScoredRun], key: str) -> tuple[float, float]:
    values = [float(getattr(run.training, key)) for run in runs]
    return mean(values), _sd(values)


def _class_scores(runs: Sequence[ScoredRun]) -> tuple[ClassScores, ...]:
    """Every class, the foreground mean, and all classes."""
    labels, total = runs[0].labels, np.sum([table for run in runs for table in run.confusions.values()], axis=0)
    by_metric = score(total)
    pooled = [{metric: float(by_metric[metric][index]) for metric in SHOWN} for index in range(len(labels))]
    foreground = [index for index, value in enumerate(labels) if value != 0]
    cases = [_cases(run) for run in runs]
    classes = [
        _spread(value, name, [[case[index] for case in run] for run in cases], pooled[index])
        for index, (value, name) in enumerate(labels.items())
    ]
    means = [[_mean_of([case[index] for index in foreground]) for case in run] for run in cases]
    whole = [
        [{**_mean_of(case), "accuracy": _share_right(table)} for case, table in zip(found, tables, strict=True)]
        for found, tables in ((_cases(run), [run.confusions[case] for case in run.scores]) for run in runs)
    ]
    pooled_whole = {**_mean_of(pooled), "accuracy": _share_right(total)}
    return (
        *classes,
        _spread(None, FOREGROUND, means, _mean_of([pooled[index] for index in foreground])),
        _spread(None, ALL_CLASSES, whole, pooled_whole),
    )


def _cases(run: ScoredRun) -> list[list[Mapping[str, float]]]:
    """The metrics of every case and class."""
    return [[case[value] for value in run.labels] for case in run.scores.values()]


def _mean_of(classes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {metric: mean(found[metric] for found in classes) for metric in SHOWN}


def _share_right(confusion: NDArray[np.int64]) -> float:
    return float(np.trace(confusion) / confusion.sum()) if confusion.sum() else math.nan


def _spread(
    value: int | None, name: str, runs: Sequence[Sequence[Mapping[str, float]]], pooled: Mapping[str, float]
) -> ClassScores:
    """How the metrics of the runs' cases lie, over all cases and over the runs' means."""
    metrics = {}
    for metric in SHOWN:
        known = [[case[metric] for case in run if not math.isnan(case[metric])] for run in runs]
        every, means = [number for run in known for number in run], [mean(run) for run in known]
        metrics[metric] = MetricSpread(len(every), mean(every), _sd(every), pooled[metric], mean(means), _sd(means))
    cases = sum(map(len, runs))
    return ClassScores(value, name, cases, cases - metrics["dice"].n, metrics)
