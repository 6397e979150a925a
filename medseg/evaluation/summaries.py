"""From the rows of all cases to one summary per class: spreads, pooled values, and what has no truth."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from medseg.evaluation.metrics import METRICS, score
from medseg.evaluation.tables import EMPTY_TRUTH, EVERY_CLASS, FOREGROUND, Row, Spread, Summary

Confusion = NDArray[np.int64]
"""(classes, classes + 1): reference by row, prediction by column, the last for voxels without one."""


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
        rows: Of the cases to summarise, one per class.
        confusions: Of these cases, and maybe of others.
        labels: Name of each value, in the order of the confusions' rows.
        part: Of the data set.
        with_background: Add the mean over all classes, the background among them.
    """
    if not rows:
        return []
    tables = {case: confusions[case] for case in dict.fromkeys(row.case for row in rows)}
    places = {value: index for index, value in enumerate(labels)}
    classes = [
        _summary(part, [row for row in rows if row.value == value], tables, index) for value, index in places.items()
    ]
    structures = [index for value, index in places.items() if value != 0]
    if not structures:
        return classes
    foreground = [classes[index] for index in structures]
    means = [_mean(part, FOREGROUND, foreground, _without_truth(tables.values(), structures))]
    if with_background:
        means.append(_mean(part, EVERY_CLASS, classes, _without_truth(tables.values(), list(places.values()))))
    return [*classes, *means]


def _summary(part: str, rows: Sequence[Row], tables: Mapping[str, Confusion], index: int) -> Summary:
    scored = [row for row in rows if row.status != EMPTY_TRUTH]
    zero = np.zeros_like(next(iter(tables.values())))
    pooled = score(sum((tables[row.case] for row in scored), zero))
    return Summary(
        part,
        rows[0].value,
        rows[0].name,
        cases=len(rows),
        missing=sum(row.status == "missing" for row in rows),
        metrics={name: spread_of((row.scores[name] for row in scored), float(pooled[name][index])) for name in METRICS},
        **_without_truth((tables[row.case] for row in rows), [index]),
    )


def _mean(part: str, name: str, classes: Sequence[Summary], without_truth: Mapping[str, int]) -> Summary:
    metrics = {}
    for metric in METRICS:
        spreads = [summary.metrics[metric] for summary in classes]
        means = spread_of((spread.mean for spread in spreads), math.nan)
        pooled = spread_of((spread.pooled for spread in spreads), math.nan).mean
        metrics[metric] = Spread(means.n, means.mean, math.nan, math.nan, math.nan, math.nan, pooled)
    first = classes[0]
    return Summary(part, None, name, first.cases, missing=first.missing, metrics=metrics, **without_truth)


def _without_truth(tables: Iterable[Confusion], classes: list[int]) -> dict[str, int]:
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


def spread_of(values: Iterable[float], pooled: float) -> Spread:
    """How ``values`` lie, those that are nan left out; all nan where none is left."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return Spread(0, math.nan, math.nan, math.nan, math.nan, math.nan, pooled)
    sd = statistics.stdev(known) if len(known) > 1 else math.nan
    return Spread(len(known), statistics.fmean(known), sd, statistics.median(known), min(known), max(known), pooled)
