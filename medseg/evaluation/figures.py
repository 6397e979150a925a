"""Pictures of masks on their images, and box plots of scores, as matplotlib figures.

Planes are drawn as a radiologist reads them: the patient's right on the picture's left,
front and head at the top; letters at the edges say so. Sizes are true in millimetres.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from medseg.evaluation.planes import Plane, build_scene, choose_planes, window_around
from medseg.geometry import Grid

COLOURS = ("#56b4e9", "#e69f00", "#cc79a7", "#009e73", "#f0e442", "#d55e00", "#0072b2", "#b3b3b3")
"""Told apart with any colour vision (Okabe and Ito, 2008), in an order that sets neighbours far apart."""

DARK, LIGHT, INK = "#101418", "#e8eaed", "#202428"
FILL_OPACITY = 0.4
LEGEND_ALL = 8
LONGEST_NAME = 30

COLUMN_INCHES, GAP_INCHES, HEADING_INCHES, TITLE_INCHES, LINE_INCHES = 3.2, 0.08, 0.34, 0.26, 0.25
LEAST_ROW_INCHES, MOST_ROW_INCHES = 0.6, 4.2

EDGES = (
    (0.015, 0.5, "left", "center"),
    (0.985, 0.5, "right", "center"),
    (0.5, 0.985, "center", "top"),
    (0.5, 0.015, "center", "bottom"),
)
"""Where a plane's letters stand: left, right, top, bottom; as shares of the axes, and aligned to that edge."""

Labels = Mapping[int, str]
Classes = Mapping[int, tuple[str, str]]


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
    classes = _classes(labels, planes)
    window = window or window_around(scene)
    headings = ["image", "prediction"]
    if reference is not None:
        headings = ["image", "reference", "prediction (white line: reference)"]
    lines = math.ceil(len(classes) / _legend_columns(classes, len(headings)))
    figure, panels = _panels(planes, headings, lines)
    for plane, row in zip(planes, panels, strict=True):
        for axes in row:
            _draw_image(axes, plane, window)
        if plane.reference is not None:
            _draw_mask(row[1], plane, plane.reference, classes)
        _draw_mask(row[-1], plane, plane.prediction, classes)
        if plane.reference is not None:
            _outline(row[-1], plane, plane.reference, "white", 0.8)
        row[0].set_title(plane.title, loc="left", fontsize=8, color=LIGHT, pad=4)
    _add_legend(figure, classes, _legend_columns(classes, len(headings)))
    return figure


def score_box_plot(scores: Mapping[str, Sequence[float]], metric: str = "Dice") -> Figure:
    """One box per class: quartiles and median, whiskers to the lowest and highest case, every case a point.

    Args:
        scores: Values from 0 to 1 of each class by its name; nan is left out and not counted in n.
        metric: Written below the axis.
    """
    figure = _figure(7.0, 0.9 + 0.42 * max(len(scores), 1), "white")
    axes = figure.subplots()
    known = [np.asarray([value for value in values if not math.isnan(value)]) for values in scores.values()]
    for row, values in enumerate(known):
        if values.size:
            _draw_box(axes, row, values, _colour(row))
    names = [f"{_short(name)}  (n = {values.size})" for name, values in zip(scores, known, strict=True)]
    axes.set_yticks(range(len(names)), names, color=INK)
    axes.set_ylim(max(len(names), 1) - 0.5, -0.5)
    axes.set_xlim(min([0.0, *(float(values.min()) for values in known if values.size)]) - 0.02, 1.02)
    axes.set_xlabel(f"{metric} per case", color=INK)
    axes.grid(axis="x", color="#d9dde1", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False, colors=INK)
    figure.tight_layout()
    return figure


def to_png(figure: Figure, dpi: int = 120) -> bytes:
    """The figure as the bytes of a PNG file, the same each time."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi, facecolor=figure.get_facecolor(), metadata={"Software": None})
    return stream.getvalue()


def class_colours(labels: Labels) -> dict[int, str]:
    """The colour of each foreground value, the same in every picture of these labels."""
    return {value: _colour(index) for index, value in enumerate(value for value in labels if value != 0)}


def _colour(index: int) -> str:
    """Of the index-th class; after the last colour come lighter, then darker ones."""
    base = np.asarray(to_rgb(COLOURS[index % len(COLOURS)]))
    towards, share = ((base, 0.0), (np.ones(3), 0.5), (np.zeros(3), 0.4))[index // len(COLOURS) % 3]
    mixed = np.rint((base * (1 - share) + towards * share) * 255).astype(int)
    return "#{:02x}{:02x}{:02x}".format(*mixed)


def _classes(labels: Labels, planes: Sequence[Plane]) -> Classes:
    """Name and colour of each value to draw; of many labels only those in the planes."""
    masks = [mask for plane in planes for mask in (plane.reference, plane.prediction) if mask is not None]
    seen = sorted({value for mask in masks for value in np.unique(mask).tolist()})
    named = {**labels, **{value: f"value {value}" for value in seen if value not in labels}}
    colours = class_colours(named)
    shown = [value for value in colours if value in seen or len(colours) <= LEGEND_ALL]
    return {value: (_short(named[value]), colours[value]) for value in shown}


def _figure(width_inches: float, height_inches: float, colour: str) -> Figure:
    figure = Figure(figsize=(width_inches, height_inches), facecolor=colour)
    FigureCanvasAgg(figure)
    return figure


def _panels(planes: Sequence[Plane], headings: Sequence[str], legend_lines: int) -> tuple[Figure, list[list[Axes]]]:
    """A figure with a row of axes per plane, all rows to one scale as far as the page allows."""
    scale = COLUMN_INCHES / max(plane.width_mm for plane in planes)
    heights = [min(max(plane.height_mm * scale, LEAST_ROW_INCHES), MOST_ROW_INCHES) for plane in planes]
    width = len(headings) * (COLUMN_INCHES + GAP_INCHES) + GAP_INCHES
    below = LINE_INCHES * (legend_lines + 0.6)
    height = HEADING_INCHES + sum(heights) + TITLE_INCHES * len(planes) + below
    figure = _figure(width, height, DARK)
    for column, heading in enumerate(headings):
        middle = GAP_INCHES + column * (COLUMN_INCHES + GAP_INCHES) + COLUMN_INCHES / 2
        figure.text(middle / width, 1 - 0.2 / height, heading, color=LIGHT, fontsize=10, ha="center", va="center")
    top, panels = height - HEADING_INCHES, []
    for row_height in heights:
        top -= TITLE_INCHES + row_height
        lefts = [GAP_INCHES + column * (COLUMN_INCHES + GAP_INCHES) for column in range(len(headings))]
        boxes = [(left / width, top / height, COLUMN_INCHES / width, row_height / height) for left in lefts]
        panels.append([figure.add_axes(box) for box in boxes])
    return figure, panels


def _draw_image(axes: Axes, plane: Plane, window: tuple[float, float]) -> None:
    extent = (0.0, plane.width_mm, plane.height_mm, 0.0)
    axes.imshow(plane.image, cmap="gray", vmin=window[0], vmax=window[1], extent=extent, aspect="equal")
    axes.set_axis_off()
    for letter, (x, y, horizontal, vertical) in zip(plane.edges, EDGES, strict=False):
        text = axes.text(x, y, letter, transform=axes.transAxes, ha=horizontal, va=vertical, fontsize=8, color="white")
        text.set_path_effects([patheffects.withStroke(linewidth=2, foreground="black")])


def _draw_mask(axes: Axes, plane: Plane, mask: NDArray, classes: Classes) -> None:
    fill = np.zeros((*mask.shape, 4))
    for value, (_, colour) in classes.items():
        fill[mask == value] = (*to_rgb(colour), FILL_OPACITY)
    extent = (0.0, plane.width_mm, plane.height_mm, 0.0)
    axes.imshow(fill, extent=extent, aspect="equal", interpolation="nearest")
    for value, (_, colour) in classes.items():
        _outline(axes, plane, np.where(mask == value, value, 0), colour, 1.2)


def _outline(axes: Axes, plane: Plane, mask: NDArray, colour: str, width_points: float) -> None:
    """The edge of each class, along the voxels' borders."""
    rows, columns = mask.shape
    height_mm, width_mm = plane.height_mm / rows, plane.width_mm / columns
    padded = np.pad(mask, 1)
    across, down = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1]), np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1])
    axes.vlines(across[1] * width_mm, across[0] * height_mm, (across[0] + 1) * height_mm, colour, lw=width_points)
    axes.hlines(down[0] * height_mm, down[1] * width_mm, (down[1] + 1) * width_mm, colour, lw=width_points)


def _legend_columns(classes: Classes, panels: int) -> int:
    """As many names beside each other as the figure's width holds."""
    longest = max((len(name) for name, _ in classes.values()), default=1)
    return max(1, min(len(classes), int(panels * COLUMN_INCHES / (0.7 + 0.085 * longest))))


def _add_legend(figure: Figure, classes: Classes, columns: int) -> None:
    if classes:
        patches = [Patch(color=colour, label=name) for name, colour in classes.values()]
        style = {"frameon": False, "fontsize": 9, "labelcolor": LIGHT, "borderpad": 0.2}
        figure.legend(handles=patches, loc="lower center", ncols=columns, **style)


def _draw_box(axes: Axes, row: int, values: NDArray, colour: str) -> None:
    low, first, middle, third, high = np.percentile(values, [0, 25, 50, 75, 100])
    axes.hlines(row, low, high, INK, lw=1)
    axes.add_patch(Rectangle((first, row - 0.28), third - first, 0.56, facecolor=colour, edgecolor=INK, zorder=2))
    axes.vlines(middle, row - 0.28, row + 0.28, INK, lw=2, zorder=3)
    jitter = np.random.default_rng(0).uniform(-0.2, 0.2, values.size)
    axes.scatter(values, row + jitter, s=9, color=INK, alpha=0.6, linewidths=0, zorder=4)


def _short(name: str) -> str:
    # matplotlib hides names that begin with an underscore, and reads dollar signs as formulas.
    name = "".join(letter if letter.isprintable() else "?" for letter in name.lstrip("_"))
    name = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
    return name.replace("$", r"\$")
