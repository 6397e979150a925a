"""Pictures of masks on their images, and box plots of scores, as matplotlib figures.

Planes are drawn as a radiologist reads them: the patient's right on the picture's left,
front and head at the top; letters at the edges say so. Sizes are true in millimetres.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from medseg.evaluation.figures.drawing import (
    COLUMN_INCHES,
    INK,
    LEAST_ROW_INCHES,
    LIGHT,
    MOST_ROW_INCHES,
    Labels,
    add_legend,
    blank_figure,
    class_colours,
    classes_in,
    draw_image,
    draw_mask,
    lay_out,
    legend_columns,
    nth_colour,
    outline,
    shortened,
    style_plot,
    to_png,
)
from medseg.evaluation.figures.planes import build_scene, choose_planes, window_around
from medseg.geometry import Grid

__all__ = ["class_colours", "overlay", "score_box_plot", "to_png"]


def overlay(
    image: NDArray,
    reference: NDArray | None,
    prediction: NDArray,
    labels: Labels,
    grid: Grid | NDArray | Sequence[float],
    window: tuple[float, float] | None = None,
) -> Figure:
    """Three planes through the labelled structures: image, reference and prediction side by side.

    The cuts are those that show the most of every class. On the prediction, the reference's
    outline is drawn in white. A 2D image is one plane.

    Args:
        image: (X, Y[, Z]), or with channels first (C, X, Y[, Z]); three channels in 2D are colours.
        reference: Mask on the image's grid, or None.
        prediction: Mask on the image's grid; it may be empty.
        labels: Name of each value; their order chooses the colours.
        grid: Of the arrays; or its 4 by 4 affine; or the spacing in mm of arrays in RAS order.
        window: Intensities drawn black and white; else from the region around the masks.

    Raises:
        GridError: The arrays' shapes differ.
    """
    scene = build_scene(image, reference, prediction, grid)
    planes = choose_planes(scene)
    classes = classes_in([mask for plane in planes for mask in (plane.reference, plane.prediction)], labels)
    window = window or window_around(scene)
    headings = ["image", "prediction"]
    if reference is not None:
        headings = ["image", "reference", "prediction (white line: reference)"]
    columns = legend_columns(classes, len(headings) * COLUMN_INCHES)
    # All rows to one scale, as far as the page allows.
    scale = COLUMN_INCHES / max(plane.width_mm for plane in planes)
    heights = [min(max(plane.height_mm * scale, LEAST_ROW_INCHES), MOST_ROW_INCHES) for plane in planes]
    figure, panels = lay_out(heights, headings, math.ceil(len(classes) / columns))
    for plane, row in zip(planes, panels, strict=True):
        for axes in row:
            draw_image(axes, plane, window)
        if plane.reference is not None:
            draw_mask(row[1], plane, plane.reference, classes)
        draw_mask(row[-1], plane, plane.prediction, classes)
        if plane.reference is not None:
            outline(row[-1], plane, plane.reference, "white", 0.8)
        row[0].set_title(plane.title, loc="left", fontsize=8, color=LIGHT, pad=4)
    add_legend(figure, classes, columns)
    return figure


def score_box_plot(scores: Mapping[str, Sequence[float]], metric: str = "Dice") -> Figure:
    """One box per class: quartiles and median, whiskers to the lowest and highest case, every case a point.

    Args:
        scores: Values from 0 to 1 of each class by its name; nan is left out and not counted in n.
        metric: Written below the axis.
    """
    figure = blank_figure(7.0, 0.9 + 0.42 * max(len(scores), 1))
    axes = figure.subplots()
    known = [np.asarray([value for value in values if not math.isnan(value)]) for values in scores.values()]
    for row, values in enumerate(known):
        if values.size:
            _draw_box(axes, row, values, nth_colour(row))
    names = [f"{shortened(name)}  (n = {values.size})" for name, values in zip(scores, known, strict=True)]
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
