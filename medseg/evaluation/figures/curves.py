"""How a training went: its numbers against epochs, and the losses of its batches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

from medseg.evaluation.figures.drawing import (
    INK,
    LINE_COLOURS,
    PART_COLOURS,
    SOFT,
    add_key,
    add_median,
    draw_bars,
    make_plot,
    make_whole_ticks,
    name_axes,
    shorten_label,
    style_plot,
)
from medseg.evaluation.runs import Batch, read_batches, read_epochs
from medseg.text import pluralise

PANELS = {
    "loss": ("loss", "val_loss"),
    "Dice": ("train_mean_dice", "val_mean_dice"),
    "IoU": ("train_mean_iou", "val_mean_iou"),
    "accuracy": ("train_accuracy", "val_accuracy"),
}
"""What is drawn, and the log's columns for the training and the validation part."""

SELECTED_BY = ("val_mean_dice", "val_loss")
"""What tells the best epoch where it is not said: the first that was measured."""

DROP_SHARE = 0.8
"""A learning rate below this share of the epoch before has dropped."""

LOG_SCALE_FROM = 20.0
"""Losses that differ by more than this factor are drawn on a logarithmic axis."""

LOSS_ROOM = 1.06
"""An axis of losses from 0 ends this many times the highest: its point is to be seen whole."""

MOST_MARKERS = 25
LOSS_BARS = 30
FAR_OUT = 1.5
"""Losses beyond this many times the 99th percentile are counted in the last bar, lest they flatten the others."""

Epochs = Sequence[Mapping[str, float]]


def epoch_curves(log: str | Path | Epochs, select_by: str | None = None) -> Figure:
    """Loss, Dice, IoU and accuracy against epochs, train and validation, each where it was measured.

    Dotted lines mark epochs from which on the learning rate is lower, the dashed line the best
    epoch. Nothing measured gives a figure without panels.

    Args:
        log: An epochs.csv, its folder, or its rows.
        select_by: Column whose best value marks the best epoch: the lowest of a loss, the highest
            of anything else. Otherwise the validation's Dice, or its loss.

    Raises:
        InputError: There is no such file.
        DatasetError: It is no log.
    """
    rows = read_epochs(log) if isinstance(log, str | Path) else log
    shown = {name: columns for name, columns in PANELS.items() if any(_is_measured(rows, key) for key in columns)}
    columns = min(len(shown), 2) or 1
    lines = math.ceil(len(shown) / columns) or 1
    best, told = _find_best_epoch(rows, select_by)
    title = f"Training, {pluralise(len(rows), 'epoch')}{told}"
    figure = make_plot(max(4.5 * columns, 6.0), 2.6 * lines + 0.9, title)
    drops = _find_rate_drops(rows)
    for index, (name, keys) in enumerate(shown.items()):
        axes = figure.add_subplot(lines, columns, index + 1)
        _draw_curves(axes, rows, keys)
        _mark_epochs(axes, best, drops)
        _scale(axes, name)
    _add_legend(figure, best, drops)
    return figure


def network_curves(logs: Mapping[str, str | Path | Epochs], column: str = "val_loss") -> Figure:
    """One number of several trainings against epochs, a line for each; a circle marks each one's best epoch.

    Args:
        logs: An epochs.csv, its folder, or its rows, by the network's name.
        column: A column of the log, such as ``val_loss`` or ``val_mean_dice``; trainings that did not measure it
            have no line.

    Raises:
        InputError: There is no such file.
        DatasetError: It is no log.
    """
    figure = make_plot(6.5, 3.8, f"{_spell_out(column)[:1].upper()}{_spell_out(column)[1:]} of each training")
    axes = figure.add_subplot()
    for index, (name, log) in enumerate(logs.items()):
        rows = read_epochs(log) if isinstance(log, str | Path) else log
        points = [(row["epoch"], row[column]) for row in rows if math.isfinite(row.get(column, math.nan))]
        if points:
            epochs, values = zip(*points, strict=True)
            best = (np.argmin if "loss" in column else np.argmax)(values)
            axes.plot(
                epochs,
                values,
                color=LINE_COLOURS[index % len(LINE_COLOURS)],
                lw=1.6,
                marker="o",
                markevery=[int(best)],
                label=shorten_label(name),
            )
    style_plot(axes)
    name_axes(axes, x="epoch (circle: best)")
    axes.xaxis.set_major_locator(make_whole_ticks())
    if axes.lines and "loss" in column:
        _scale_loss(axes, *_measure_range(axes.lines))
    add_key(figure, list(axes.lines), columns=3)
    return figure


def loss_histograms(batches: str | Path | Sequence[Batch]) -> Figure:
    """How many batches had which loss, train beside validation on one scale; all epochs together.

    Losses that are not finite are counted in the panel's heading. Few far beyond the rest are in
    the last bar, and the axis says so.

    Args:
        batches: A batches.csv, its folder, or its rows.

    Raises:
        InputError: There is no such file.
        DatasetError: It is no log.
    """
    rows = read_batches(batches) if isinstance(batches, str | Path) else batches
    losses = {part: np.asarray([row.loss for row in rows if row.part == part]) for part in ("train", "validation")}
    shown = {part: values for part, values in losses.items() if values.size} or {"train": np.empty(0)}
    edges, is_cut = _choose_loss_edges(np.concatenate(list(shown.values())))
    epochs = pluralise(len({row.epoch for row in rows}), "epoch")
    figure = make_plot(max(4.2 * len(shown), 5.0), 3.4, f"Loss of every batch, {epochs} together")
    for index, (part, values) in enumerate(shown.items()):
        axes = figure.add_subplot(1, len(shown), index + 1)
        _draw_losses(axes, part, values, edges)
        if is_cut:
            name_axes(axes, x=f"{axes.get_xlabel()}; last bar: ≥ {edges[-2]:.3g}")
    figure.axes[0].set_ylabel("batches", color=INK, fontsize=9)
    return figure


def _draw_losses(axes: Axes, part: str, values: NDArray, edges: NDArray) -> None:
    known = values[np.isfinite(values)]
    left_out = f", {values.size - known.size} not finite" if known.size < values.size else ""
    draw_bars(axes, known, edges, PART_COLOURS[part])
    name_axes(axes, f"{part} (n = {values.size}{left_out})", add_median("loss", known, ".3g"))


def _choose_loss_edges(values: NDArray) -> tuple[NDArray, bool]:
    """Edges of the bars, and whether losses lie beyond the last."""
    known = values[np.isfinite(values)]
    if not known.size:
        return np.linspace(0.0, 1.0, LOSS_BARS + 1), False
    low, usual, high = min(0.0, float(known.min())), float(np.percentile(known, 99)), float(known.max())
    is_cut = high > FAR_OUT * usual > 0
    top = usual if is_cut else high
    return np.linspace(low, top if top > low else low + 1.0, LOSS_BARS + 1), is_cut


def _is_measured(rows: Epochs, column: str) -> bool:
    return any(math.isfinite(row.get(column, math.nan)) for row in rows)


def _find_best_epoch(rows: Epochs, select_by: str | None) -> tuple[int | None, str]:
    """The best epoch, None where nothing tells it, and how to say it in a title."""
    names = [name for name in (select_by, *SELECTED_BY) if name and _is_measured(rows, name)]
    if not names:
        return None, ""
    name = names[0]
    known = [row for row in rows if math.isfinite(row.get(name, math.nan))]
    is_loss = "loss" in name
    # The first of equals, as training keeps its weights.
    best = min(known, key=lambda row: row[name] if is_loss else -row[name])
    told = f"{'lowest' if is_loss else 'highest'} {_spell_out(name)}, {best[name]:.4f}"
    return int(best["epoch"]), f"; best epoch {int(best['epoch'])} ({told})"


def _spell_out(column: str) -> str:
    """A log's column in words, such as ``validation Dice``."""
    words = {"val": "validation", "train": "training", "mean": "", "dice": "Dice", "iou": "IoU"}
    return " ".join(filter(None, (words.get(word, word) for word in column.split("_"))))


def _find_rate_drops(rows: Epochs) -> list[int]:
    """Epochs that ran with a clearly lower learning rate than the one before; none where it falls all the time."""
    rates = [(int(row["epoch"]), row.get("learning_rate", math.nan)) for row in rows]
    known = [(epoch, rate) for epoch, rate in rates if math.isfinite(rate)]
    falls = [(epoch, rate / before) for (_, before), (epoch, rate) in pairwise(known) if 0 < rate < before]
    return [epoch for epoch, share in falls if share < DROP_SHARE] if 2 * len(falls) < len(known) else []


def _draw_curves(axes: Axes, rows: Epochs, columns: tuple[str, str]) -> None:
    for part, column in zip(("train", "validation"), columns, strict=True):
        points = [(row["epoch"], row[column]) for row in rows if math.isfinite(row.get(column, math.nan))]
        if points:
            marked = part == "validation" or len(points) == 1
            epochs, values = zip(*points, strict=True)
            (line,) = axes.plot(epochs, values, color=PART_COLOURS[part], lw=1.6, label=part)
            line.set(marker="o" if marked else "", markersize=3.5, markevery=math.ceil(len(points) / MOST_MARKERS))


def _mark_epochs(axes: Axes, best: int | None, drops: Sequence[int]) -> None:
    for epoch in drops:
        axes.axvline(epoch, color=SOFT, lw=0.9, ls=":", zorder=1, label="_drop")
    if best is not None:
        axes.axvline(best, color=INK, lw=1.1, ls="--", zorder=1.5, label="_best")


def _scale(axes: Axes, name: str) -> None:
    """Heading and axes of a panel: losses by their range, shares up to 1 where they come near it."""
    low, high = _measure_range(_list_curves(axes))
    style_plot(axes)
    if name == "loss":
        _scale_loss(axes, low, high)
    elif low >= 0 and 0.9 < high <= 1:
        axes.set_ylim(max(0.0, low - 0.05 * (1 - low)), 1.0)
    mean = ", mean over the foreground classes" if name in ("Dice", "IoU") else ""
    name_axes(axes, f"{name}{mean}", "epoch")
    axes.xaxis.set_major_locator(make_whole_ticks())


def _scale_loss(axes: Axes, low: float, high: float) -> None:
    if 0 < low * LOG_SCALE_FROM < high:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_ylabel("logarithmic", color=SOFT, fontsize=8)
    elif low >= 0:
        axes.set_ylim(0, high * LOSS_ROOM or 1.0)


def _measure_range(lines: Iterable[Line2D]) -> tuple[float, float]:
    """Lowest and highest value of all lines."""
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in lines])
    return float(values.min()), float(values.max())


def _list_curves(axes: Axes) -> list[Line2D]:
    return [line for line in axes.lines if not str(line.get_label()).startswith("_")]


def _add_legend(figure: Figure, best: int | None, drops: Sequence[int]) -> None:
    parts = {str(line.get_label()): line for axes in figure.axes for line in _list_curves(axes)}
    keys = [
        Line2D([], [], color=PART_COLOURS[part], lw=1.6, marker=line.get_marker(), markersize=3.5, label=part)  # type: ignore[arg-type]
        for part, line in sorted(parts.items())
    ]
    keys += [Line2D([], [], color=INK, lw=1.1, ls="--", label="best epoch")] if best is not None else []
    keys += [Line2D([], [], color=SOFT, lw=0.9, ls=":", label="learning rate falls")] if drops else []
    add_key(figure, keys)
