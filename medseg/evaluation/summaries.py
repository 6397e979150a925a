"""Scores by case and class, and from them one summary per class: spreads, pooled values, and what has no truth."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.evaluation.metrics import METRICS, score

ALL_CASES = "all"
FOREGROUND = "foreground mean"
EVERY_CLASS = "mean with background"
EMPTY_TRUTH = "empty truth"
"""Status of a slice's class that its truth lacks."""

Confusion = NDArray[np.int64]
"""(classes, classes + 1): reference by row, prediction by column, the last for voxels without one."""


@dataclass(frozen=True)
class Row:
    """One class of one case.

    Args:
        case: The case's name.
        part: The part of the data set, such as ``test``; empty where not said.
        value: The class's value in the masks.
        name: The class's name.
        status: ``scored``; ``missing`` where there was no mask; ``empty truth`` for a class that the
            truth of a slice lacks, which has volumes and no scores.
        scores: One number for each of ``METRICS``, and both volumes in ml; nan where not defined.
    """

    case: str
    part: str
    value: int
    name: str
    status: str
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Spread:
    """How one metric lies over the cases where it is defined; nan where there are none.

    Args:
        n: Cases where the metric is defined (of the foreground mean: classes).
        mean: Mean over these cases.
        sd: Standard deviation, with n - 1; nan for one case.
        median: Median over these cases.
        least: The lowest value.
        most: The highest value.
        pooled: The metric of all cases' voxels together.
    """

    n: int
    mean: float
    sd: float
    median: float
    least: float
    most: float
    pooled: float


@dataclass(frozen=True)
class Summary:
    """One class over the cases of one part.

    Args:
        part: ``all``, or a part of the data set.
        value: The class's value, None for the mean of the foreground classes or of all.
        name: The class's name.
        cases: Cases with a row.
        empty: Those of them where the class is in neither mask (true negatives).
        missing: Those of them without a mask.
        metrics: A spread for each of ``METRICS``.
        empty_truth: Cases whose reference lacks the class; of the means, every class that they cover.
        empty_truth_missing: Those of them without a mask.
        false_positive_voxels: Voxels that the masks of those cases wrongly give to the class.
    """

    part: str
    value: int | None
    name: str
    cases: int
    empty: int
    missing: int
    metrics: Mapping[str, Spread]
    empty_truth: int = 0
    empty_truth_missing: int = 0
    false_positive_voxels: int = 0


def summarise(
    rows: Sequence[Row],
    confusions: Mapping[str, Confusion],
    labels: Mapping[int, str],
    part: str,
    with_background: bool = False,
) -> list[Summary]:
    """One summary per class over ``rows``, background first, then the mean over the foreground classes.

    The foreground's mean averages the classes' means (and their pooled values); it has no spread.
    Cases whose row has the status ``empty truth`` are counted, but are in no number of their class.

    Args:
        rows: The rows of the cases to summarise, one per case and class.
        confusions: The confusion matrices of these cases, and maybe of others.
        labels: Name of each value, in the order of the confusions' rows.
        part: The part of the data set, or ``all``.
        with_background: Add the mean over all classes, the background among them.
    """
    if not rows:
        return []
    tables = {case: confusions[case] for case in dict.fromkeys(row.case for row in rows)}
    places = {value: index for index, value in enumerate(labels)}
    classes = [
        _summarise_class(part, [row for row in rows if row.value == value], tables, index)
        for value, index in places.items()
    ]
    structures = [index for value, index in places.items() if value != 0]
    if not structures:
        return classes
    foreground = [classes[index] for index in structures]
    means = [_average_classes(part, FOREGROUND, foreground, _count_empty_truth(tables.values(), structures))]
    if with_background:
        means.append(
            _average_classes(part, EVERY_CLASS, classes, _count_empty_truth(tables.values(), list(places.values())))
        )
    return [*classes, *means]


def _summarise_class(part: str, rows: Sequence[Row], tables: Mapping[str, Confusion], index: int) -> Summary:
    scored = [row for row in rows if row.status != EMPTY_TRUTH]
    zero = np.zeros_like(next(iter(tables.values())))
    pooled = score(sum((tables[row.case] for row in scored), zero))
    return Summary(
        part,
        rows[0].value,
        rows[0].name,
        cases=len(rows),
        missing=sum(row.status == "missing" for row in rows),
        metrics={
            name: measure_spread((row.scores[name] for row in scored), float(pooled[name][index])) for name in METRICS
        },
        **_count_empty_truth((tables[row.case] for row in rows), [index]),
    )


def _average_classes(part: str, name: str, classes: Sequence[Summary], without_truth: Mapping[str, int]) -> Summary:
    metrics = {}
    for metric in METRICS:
        spreads = [summary.metrics[metric] for summary in classes]
        means, pooled = _drop_nan(spread.mean for spread in spreads), average(spread.pooled for spread in spreads)
        metrics[metric] = Spread(len(means), average(means), math.nan, math.nan, math.nan, math.nan, pooled)
    first = classes[0]
    return Summary(part, None, name, first.cases, missing=first.missing, metrics=metrics, **without_truth)


def _count_empty_truth(tables: Iterable[Confusion], classes: list[int]) -> dict[str, int]:
    """Of the cases whose reference holds none of ``classes``: how many, how predicted."""
    counted = dict.fromkeys(("empty_truth", "empty_truth_missing", "empty", "false_positive_voxels"), 0)
    for table in tables:
        if table[classes].any():
            continue
        wrong = int(table[:, classes].sum())
        is_missing = bool(table[:, -1].any())
        counted["empty_truth"] += 1
        counted["empty_truth_missing"] += is_missing
        counted["empty"] += not wrong and not is_missing
        counted["false_positive_voxels"] += wrong
    return counted


def average(values: Iterable[float]) -> float:
    """The mean of the values that are not nan; nan where there are none."""
    known = _drop_nan(values)
    return statistics.fmean(known) if known else math.nan


def deviate(values: Iterable[float]) -> float:
    """The standard deviation, with n - 1, of the values that are not nan; nan for fewer than two."""
    known = _drop_nan(values)
    return statistics.stdev(known) if len(known) > 1 else math.nan


def measure_spread(values: Iterable[float], pooled: float) -> Spread:
    """How ``values`` lie, those that are nan left out; all nan where none is left."""
    known = _drop_nan(values)
    if not known:
        return Spread(0, math.nan, math.nan, math.nan, math.nan, math.nan, pooled)
    middle = statistics.median(known)
    return Spread(len(known), average(known), deviate(known), middle, min(known), max(known), pooled)


def _drop_nan(values: Iterable[float]) -> list[float]:
    return [float(value) for value in values if not math.isnan(value)]
