"""How the scores of single cases lie: box plots and histograms per class, curves over the cases, train beside test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from medseg.data.cases.case import natural_order
from medseg.errors import check_known
from medseg.evaluation.figures.drawing import (
    CLASS_COLOURS,
    INK,
    PART_COLOURS,
    add_key,
    add_median,
    draw_bars,
    make_figure,
    make_plot,
    make_whole_ticks,
    name_axes,
    pick_class_colours,
    pick_colour,
    shorten_label,
    style_plot,
)
from medseg.evaluation.metrics import METRICS
from medseg.evaluation.results import Evaluation, read_cases
from medseg.evaluation.summaries import Row, average
from medseg.options import SPLIT_PARTS

Scores = Evaluation | Sequence[Row] | str | Path
"""Where scores come from: an evaluation, its rows, or its cases.csv or the folder of that."""

METRIC_COLOURS = (CLASS_COLOURS[1], CLASS_COLOURS[6], CLASS_COLOURS[2], CLASS_COLOURS[3])
MARKERS = ("s", "o", "^", "v")

SCORE_BARS = 20
LOWEST_SHOWN = (-1.0, 0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99)
"""Where a histogram's axis may begin: the last that leaves no score out."""

PANELS_ACROSS = 3
MARKED_CASES = 80


@dataclass(frozen=True)
class Sample:
    """One case's value of one metric, and whether there was no mask to score."""

    case: str
    value: float
    is_missing: bool


def read_rows(scores: Scores) -> Sequence[Row]:
    """The rows of an evaluation, read from its file where a path is given.

    Raises:
        InputError: There is no such file.
        DatasetError: It is no cases.csv.
    """
    if isinstance(scores, str | Path):
        return read_cases(scores)
    return scores.rows if isinstance(scores, Evaluation) else scores


def score_histogram(scores: Scores, metric: str = "iou") -> Figure:
    """How many cases reached which score: a panel per foreground class; where there are parts, one beside the other.

    A case whose score is not defined (as the metric says of empty masks) is counted in the heading only;
    a case without a mask counts as the evaluation counted it.

    Args:
        scores: An evaluation, its rows, or its cases.csv.
        metric: A key of ``METRICS``.

    Raises:
        UsageError: There is no such metric.
        InputError: There is no such file.
        DatasetError: It is no cases.csv.
    """
    check_known("NAME_UNKNOWN", [metric], METRICS)
    rows = [row for row in read_rows(scores) if row.value != 0]
    names = {row.value: row.name for row in rows}
    colours, parts = pick_class_colours(names), _split_parts(rows)
    panels = [
        (
            f"{shorten_label(name)}{f', {part}' if len(parts) > 1 else ''}",
            colours[value],
            _list_class_samples(kept, value, metric),
        )
        for value, name in names.items()
        for part, kept in parts.items()
    ]
    title = f"{_name_metric(metric)} of each case, by class"
    return _draw_histograms(title, panels, [metric] * len(panels), len(parts) if len(parts) > 1 else PANELS_ACROSS)


def sample_curves(scores: Scores, metrics: Sequence[str] = ("accuracy", "dice")) -> Figure:
    """Each case's scores, case after case in the order of their names; a panel per part, train beside test.

    Of several foreground classes the mean over those with a value is drawn. A case without any
    is a gap.

    Args:
        scores: An evaluation, its rows, or its cases.csv.
        metrics: Keys of ``METRICS``, a line for each.

    Raises:
        UsageError: There is no such metric.
        InputError: There is no such file.
        DatasetError: It is no cases.csv.
    """
    check_known("NAME_UNKNOWN", metrics, METRICS)
    rows = [row for row in read_rows(scores) if row.value != 0]
    parts = _split_parts(rows)
    figure = make_plot(_choose_width(len(parts)), 3.4, f"Scores case by case{_describe_mean(rows)}")
    samples = {part: {metric: _list_samples(kept, metric) for metric in metrics} for part, kept in parts.items()}
    values = [each.value for lines in samples.values() for line in lines.values() for each in line]
    low = min([0.0, *(value for value in values if not math.isnan(value))])
    for index, (part, lines) in enumerate(samples.items()):
        axes = figure.add_subplot(1, len(parts), index + 1)
        for number, (metric, line) in enumerate(lines.items()):
            positions = range(1, len(line) + 1)
            axes.plot(positions, [each.value for each in line], **_choose_line_style(number, metric, len(line)))
        axes.set_ylim(low - 0.02, 1.02)
        axes.xaxis.set_major_locator(make_whole_ticks())
        name_axes(axes, _describe_counts(part, next(iter(lines.values()), [])), "case, in the order of the names")
        style_plot(axes)
    if figure.axes:
        add_key(
            figure, [Line2D([], [], **_choose_line_style(number, metric, 1)) for number, metric in enumerate(metrics)]
        )
    return figure


def sample_distributions(scores: Scores, metrics: Sequence[str] = ("accuracy", "dice")) -> Figure:
    """How the cases' scores are distributed: a row per metric, train beside test on one scale.

    Args:
        scores: An evaluation, its rows, or its cases.csv.
        metrics: Keys of ``METRICS``; of several foreground classes the mean is taken.

    Raises:
        UsageError: There is no such metric.
        InputError: There is no such file.
        DatasetError: It is no cases.csv.
    """
    check_known("NAME_UNKNOWN", metrics, METRICS)
    rows = [row for row in read_rows(scores) if row.value != 0]
    parts = _split_parts(rows)
    panels = [
        (part, PART_COLOURS.get(part, pick_colour(index)), _list_samples(kept, metric))
        for metric in metrics
        for index, (part, kept) in enumerate(parts.items())
    ]
    title = f"Distribution of the cases' scores{_describe_mean(rows)}"
    return _draw_histograms(title, panels, [metric for metric in metrics for _ in parts], max(len(parts), 1))


def score_box_plot(scores: Mapping[str, Sequence[float]], metric: str = "Dice") -> Figure:
    """One box per class: quartiles and median, whiskers to the lowest and highest case, every case a point.

    Args:
        scores: Values from 0 to 1 of each class by its name; nan is left out and not counted in n.
        metric: Written below the axis.
    """
    figure = make_figure(7.0, 0.9 + 0.42 * max(len(scores), 1))
    axes = figure.subplots()
    known = [np.asarray([value for value in values if not math.isnan(value)]) for values in scores.values()]
    for row, values in enumerate(known):
        if values.size:
            _draw_box(axes, row, values, pick_colour(row))
    names = [f"{shorten_label(name)}  (n = {values.size})" for name, values in zip(scores, known, strict=True)]
    axes.set_yticks(range(len(names)), names, color=INK)
    axes.set_ylim(max(len(names), 1) - 0.5, -0.5)
    axes.set_xlim(min([0.0, *(float(values.min()) for values in known if values.size)]) - 0.02, 1.02)
    axes.set_xlabel(f"{metric} per case", color=INK)
    style_plot(axes, grid="x")
    figure.tight_layout()
    return figure


def _draw_box(axes: Axes, row: int, values: NDArray, colour: str) -> None:
    low, first, middle, third, high = np.percentile(values, [0, 25, 50, 75, 100])
    axes.hlines(row, low, high, INK, lw=1)
    axes.add_patch(Rectangle((first, row - 0.28), third - first, 0.56, facecolor=colour, edgecolor=INK, zorder=2))
    axes.vlines(middle, row - 0.28, row + 0.28, INK, lw=2, zorder=3)
    jitter = np.random.default_rng(0).uniform(-0.2, 0.2, values.size)
    axes.scatter(values, row + jitter, s=9, color=INK, alpha=0.6, linewidths=0, zorder=4)


def _draw_histograms(
    title: str, panels: Sequence[tuple[str, str, list[Sample]]], metrics: Sequence[str], across: int
) -> Figure:
    """Panels of (heading, colour, samples), ``across`` in a row; those of one metric share their axes' range."""
    across = min(across, len(panels)) or 1
    lines = math.ceil(len(panels) / across) or 1
    figure = make_plot(_choose_width(across), 2.3 * lines + 0.6, title)
    for index, (heading, colour, samples) in enumerate(panels):
        same = [
            each
            for (_, _, other), metric in zip(panels, metrics, strict=True)
            if metric == metrics[index]
            for each in other
        ]
        axes = figure.add_subplot(lines, across, index + 1)
        known, edges = _drop_undefined(samples), np.linspace(_choose_lowest(_drop_undefined(same)), 1.0, SCORE_BARS + 1)
        draw_bars(axes, known, edges, colour)
        told = add_median(_name_metric(metrics[index]), known, ".3f")
        name_axes(axes, _describe_counts(heading, samples), told, "cases" if index % across == 0 else "")
    return figure


def _choose_line_style(number: int, metric: str, cases: int) -> dict[str, Any]:
    """Each metric's own colour and marker; of many cases only dots, which the line would else hide."""
    marker, size = (MARKERS[number % len(MARKERS)], 4.0) if cases <= MARKED_CASES else (".", 2.0)
    colour = METRIC_COLOURS[number % len(METRIC_COLOURS)]
    return {"color": colour, "lw": 1.1, "marker": marker, "markersize": size, "label": _name_metric(metric)}


def _split_parts(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each part: train, validation, test, then any other; one part without a name is all cases."""
    named: dict[str, list[Row]] = {}
    for row in rows:
        named.setdefault(row.part, []).append(row)
    order = sorted(named, key=lambda part: SPLIT_PARTS.index(part) if part in SPLIT_PARTS else len(SPLIT_PARTS))
    rest = "all cases" if len(named) == 1 else "other"
    return {part or rest: named[part] for part in order}


def _list_class_samples(rows: Sequence[Row], value: int, metric: str) -> list[Sample]:
    return [Sample(row.case, row.scores[metric], row.status == "missing") for row in rows if row.value == value]


def _list_samples(rows: Sequence[Row], metric: str) -> list[Sample]:
    """Each case's mean over its foreground classes, in the order of the names."""
    by_case: dict[str, list[Row]] = {}
    for row in rows:
        by_case.setdefault(row.case, []).append(row)
    samples = []
    for case in sorted(by_case, key=natural_order):
        value = average(row.scores[metric] for row in by_case[case])
        samples.append(Sample(case, value, by_case[case][0].status == "missing"))
    return samples


def _drop_undefined(samples: Sequence[Sample]) -> NDArray[np.float64]:
    return np.asarray([each.value for each in samples if not math.isnan(each.value)])


def _choose_lowest(values: NDArray[np.float64]) -> float:
    low = float(values.min()) if values.size else 0.0
    return max(edge for edge in LOWEST_SHOWN if edge <= max(low, -1.0))


def _describe_counts(heading: str, samples: Sequence[Sample]) -> str:
    undefined = sum(math.isnan(each.value) for each in samples)
    missing = sum(each.is_missing for each in samples)
    told = f"n = {len(samples) - undefined}"
    told += f", {undefined} not defined" if undefined else ""
    told += f", {missing} without a mask" if missing else ""
    return f"{heading} ({told})"


def _describe_mean(rows: Sequence[Row]) -> str:
    classes = len({row.value for row in rows})
    return f"; mean over {classes} foreground classes" if classes > 1 else ""


def _choose_width(panels: int) -> float:
    return max(4.0 * panels, 6.0)


def _name_metric(metric: str) -> str:
    return METRICS[metric].label or METRICS[metric].title
