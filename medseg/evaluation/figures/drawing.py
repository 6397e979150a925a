"""What every figure is made of: palette, empty canvases, rows of panels, images and masks on axes."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from medseg.evaluation.figures.planes import Plane

CLASS_COLOURS = ("#56b4e9", "#e69f00", "#cc79a7", "#009e73", "#f0e442", "#d55e00", "#0072b2", "#b3b3b3")
"""Told apart with any colour vision (Okabe and Ito, 2008), in an order that sets neighbours far apart."""

LINE_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#202428", "#b3b3b3")
"""The same without yellow, which a thin line on white would lose; the dark ones first."""

PART_COLOURS = {"train": "#0072b2", "validation": "#d55e00", "test": "#009e73"}
"""Of the same palette: each part of a data set in its colour, in every plot."""

DARK, LIGHT, INK, SOFT, RULE = "#101418", "#e8eaed", "#202428", "#5b6670", "#d9dde1"
FILL_OPACITY = 0.4
LEGEND_ALL = 8
MOST_LETTERS = 30

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
"""Name and colour of each value to draw."""


def make_figure(width_inches: float, height_inches: float, colour: str = "white") -> Figure:
    """An empty figure that no interactive window knows of."""
    figure = Figure(figsize=(width_inches, height_inches), facecolor=colour)
    FigureCanvasAgg(figure)
    return figure


def to_png(figure: Figure, dpi: int = 120) -> bytes:
    """The figure as the bytes of a PNG file, the same each time."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi, facecolor=figure.get_facecolor(), metadata={"Software": None})
    return stream.getvalue()


def pick_class_colours(labels: Labels) -> dict[int, str]:
    """The colour of each foreground value, the same in every picture of these labels."""
    return {value: pick_colour(index) for index, value in enumerate(value for value in labels if value != 0)}


def pick_colour(index: int) -> str:
    """Of the index-th class; after the last colour come lighter, then darker ones."""
    base = np.asarray(to_rgb(CLASS_COLOURS[index % len(CLASS_COLOURS)]))
    towards, share = ((base, 0.0), (np.ones(3), 0.5), (np.zeros(3), 0.4))[index // len(CLASS_COLOURS) % 3]
    mixed = np.rint((base * (1 - share) + towards * share) * 255).astype(int)
    return "#{:02x}{:02x}{:02x}".format(*mixed)


def find_classes(masks: Iterable[NDArray | None], labels: Labels) -> Classes:
    """Name and colour of each class; of many labels only those that the masks hold."""
    seen = sorted({value for mask in masks if mask is not None for value in np.unique(mask).tolist()})
    named = {**labels, **{value: f"value {value}" for value in seen if value not in labels}}
    colours = pick_class_colours(named)
    shown = [value for value in colours if value in seen or len(colours) <= LEGEND_ALL]
    return {value: (shorten_label(named[value]), colours[value]) for value in shown}


def shorten_label(name: str, longest: int = MOST_LETTERS) -> str:
    """``name`` as matplotlib writes it out: on one line, at most ``longest`` letters, its end kept."""
    # matplotlib hides names that begin with an underscore, and reads dollar signs as formulas.
    name = "".join(letter if letter.isprintable() else "?" for letter in name.lstrip("_"))
    head = longest * 2 // 3
    name = name if len(name) <= longest else f"{name[:head]}…{name[len(name) - (longest - head - 1) :]}"
    return name.replace("$", r"\$")


def lay_out(
    heights_inches: Sequence[float],
    headings: Sequence[str],
    legend_lines: int = 0,
    column_inches: float = COLUMN_INCHES,
) -> tuple[Figure, list[list[Axes]]]:
    """A dark figure with a row of axes per height, a heading over each column and room for a legend below."""
    width = len(headings) * (column_inches + GAP_INCHES) + GAP_INCHES
    below = LINE_INCHES * (legend_lines + 0.6) if legend_lines else GAP_INCHES
    height = HEADING_INCHES + sum(heights_inches) + TITLE_INCHES * len(heights_inches) + below
    figure = make_figure(width, height, DARK)
    lefts = [GAP_INCHES + column * (column_inches + GAP_INCHES) for column in range(len(headings))]
    for left, heading in zip(lefts, headings, strict=True):
        middle = (left + column_inches / 2) / width
        figure.text(middle, 1 - 0.2 / height, heading, color=LIGHT, fontsize=10, ha="center", va="center")
    top, panels = height - HEADING_INCHES, []
    for row_height in heights_inches:
        top -= TITLE_INCHES + row_height
        boxes = [(left / width, top / height, column_inches / width, row_height / height) for left in lefts]
        panels.append([figure.add_axes(box) for box in boxes])
    return figure, panels


def draw_image(axes: Axes, plane: Plane, window: tuple[float, float]) -> None:
    """The plane's image in grey between the window's ends, or in its colours, with the letters at its edges."""
    extent = (0.0, plane.width_mm, plane.height_mm, 0.0)
    image = plane.image if plane.image.ndim == 2 else _scale_colours(plane.image)
    axes.imshow(image, cmap="gray", vmin=window[0], vmax=window[1], extent=extent, aspect="equal")
    axes.set_axis_off()
    for letter, (x, y, horizontal, vertical) in zip(plane.edges, EDGES, strict=False):
        write_on(axes, letter, (x, y), ha=horizontal, va=vertical)


def write_on(axes: Axes, text: str, place: tuple[float, float], ha: str = "left", va: str = "bottom") -> Text:
    """Text that can be read on any image; the place is in shares of the axes."""
    written = axes.text(*place, text, transform=axes.transAxes, ha=ha, va=va, fontsize=8, color="white")
    written.set_path_effects([patheffects.withStroke(linewidth=2, foreground="black")])
    return written


def draw_mask(axes: Axes, plane: Plane, mask: NDArray, classes: Classes) -> None:
    """Each class filled with its colour, half transparent, and outlined."""
    fill = np.zeros((*mask.shape, 4))
    for value, (_, colour) in classes.items():
        fill[mask == value] = (*to_rgb(colour), FILL_OPACITY)
    extent = (0.0, plane.width_mm, plane.height_mm, 0.0)
    axes.imshow(fill, extent=extent, aspect="equal", interpolation="nearest")
    for value, (_, colour) in classes.items():
        outline(axes, plane, np.where(mask == value, value, 0), colour, 1.2)


def outline(axes: Axes, plane: Plane, mask: NDArray, colour: str, width_points: float) -> None:
    """The edge of each class, along the voxels' borders."""
    rows, columns = mask.shape
    height_mm, width_mm = plane.height_mm / rows, plane.width_mm / columns
    padded = np.pad(mask, 1)
    across, down = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1]), np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1])
    axes.vlines(across[1] * width_mm, across[0] * height_mm, (across[0] + 1) * height_mm, colour, lw=width_points)
    axes.hlines(down[0] * height_mm, down[1] * width_mm, (down[1] + 1) * width_mm, colour, lw=width_points)


def count_legend_columns(classes: Classes, width_inches: float) -> int:
    """As many names beside each other as the width holds."""
    longest = max((len(name) for name, _ in classes.values()), default=1)
    return max(1, min(len(classes), int(width_inches / (0.7 + 0.085 * longest))))


def add_legend(figure: Figure, classes: Classes, columns: int) -> None:
    """The classes' names and colours, below the panels."""
    if classes:
        patches = [Patch(color=colour, label=name) for name, colour in classes.values()]
        style = {"frameon": False, "fontsize": 9, "labelcolor": LIGHT, "borderpad": 0.2}
        figure.legend(handles=patches, loc="lower center", ncols=columns, **style)


def make_plot(width_inches: float, height_inches: float, title: str) -> Figure:
    """An empty white figure with a title, whose panels make room for each other's words."""
    figure = make_figure(width_inches, height_inches)
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.06)
    figure.suptitle(title, fontsize=11, color=INK)
    return figure


def make_whole_ticks() -> MaxNLocator:
    """Ticks at whole numbers, in steps of 1, 2, 5, 10 …; around a single number, that one."""
    # Asked for two ticks, as by default, it would put broken numbers around a single one.
    return MaxNLocator(nbins=6, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1)


def name_axes(axes: Axes, title: str = "", x: str = "", y: str = "") -> None:
    """A panel's heading and the words at its axes; what is empty stays as it is."""
    if title:
        axes.set_title(title, fontsize=10, color=INK)
    if x:
        axes.set_xlabel(x, fontsize=9, color=INK)
    if y:
        axes.set_ylabel(y, fontsize=9, color=INK)


def draw_bars(axes: Axes, values: NDArray, edges: NDArray, colour: str) -> None:
    """How many values lie between each two edges, those beyond the last in the last bar; dashed: their median."""
    axes.hist(np.minimum(values, edges[-1]), bins=edges.tolist(), color=colour, edgecolor="white", lw=0.5)
    if values.size:
        axes.axvline(min(float(np.median(values)), edges[-1]), color=INK, lw=1.2, ls="--")
    axes.set_xlim(edges[0], edges[-1])
    axes.yaxis.set_major_locator(make_whole_ticks())
    style_plot(axes)


def add_median(name: str, values: NDArray, form: str) -> str:
    """The name of what bars show, with the median; the name alone where there are no values.

    >>> add_median("loss", np.asarray([1.0, 2.0]), ".3f")
    'loss; dashed: median 1.500'
    """
    return f"{name}; dashed: median {float(np.median(values)):{form}}" if values.size else name


def add_key(figure: Figure, handles: Sequence[Line2D], columns: int | None = None) -> None:
    """What each line of a plot is, below the panels; nothing where there are no lines."""
    if handles:
        figure.legend(
            handles=list(handles),
            loc="outside lower center",
            ncols=columns or len(handles),
            frameon=False,
            fontsize=9,
            labelcolor=INK,
        )


def style_plot(axes: Axes, grid: str = "y") -> None:
    """A plot's look on white: light lines behind the data, no box around it."""
    axes.grid(axis=grid, color=RULE, linewidth=0.8)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(SOFT)
    axes.tick_params(left=False, colors=INK, labelsize=9)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)


def _scale_colours(image: NDArray) -> NDArray:
    """Colours from 0 to 1; those of whole numbers are shares of what their type holds."""
    if image.dtype.kind in "ui":
        return image / np.iinfo(image.dtype).max
    known = np.nan_to_num(image, nan=0.0, posinf=0.0, neginf=0.0)
    return np.clip(known / max(1.0, float(known.max())), 0.0, 1.0)
