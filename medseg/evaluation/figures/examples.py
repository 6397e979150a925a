"""Cases as pictures: best and worst beside their truth, class by class, network by network, and cuts of a volume.

Of a volume that has one picture the slice is drawn that shows the most of every class, in the plane in which the
slices lie. Pictures with three channels are drawn in their colours. Planes are drawn as a radiologist reads them:
the patient's right on the picture's left, front and head at the top; letters at the edges say so. Sizes are true
in millimetres.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from medseg.errors import ImageError, InputError
from medseg.evaluation.figures.drawing import (
    COLUMN_INCHES,
    LEAST_ROW_INCHES,
    LIGHT,
    MOST_ROW_INCHES,
    PART_COLOURS,
    Classes,
    Labels,
    add_legend,
    count_legend_columns,
    draw_image,
    draw_mask,
    find_classes,
    lay_out,
    outline,
    shorten_label,
    write_on,
)
from medseg.evaluation.figures.example_cases import (
    Example,
    ExampleFiles,
    Judged,
    calculate_foreground_dice,
    find_examples,
    rank_cases,
    read_chosen_cases,
    spread_cases,
)
from medseg.evaluation.figures.planes import Cut, Plane, build_scene, choose_cut, choose_planes, draw_cut, window_around
from medseg.evaluation.score import find_names
from medseg.geometry import Grid
from medseg.text import format_number

PANEL_INCHES = 2.3
LEAST_INCHES, MOST_INCHES = 0.6, 3.4
WRONG_COLOUR = PART_COLOURS["validation"]
OUTLINE = -1
"""Stands for the truth's outline among the values of a legend."""

MOST_CLASSES = 6
"""Classes with a column of their own; of more, those with the largest area in the slice."""

LONGEST_HEADING = 26

Window = tuple[float, float]


def example_rows(
    evaluation: Judged,
    images: str | Path,
    masks: str | Path,
    references: str | Path,
    count: int = 3,
    part: str | None = None,
) -> Figure:
    """The best, some in-between and the worst cases by mean foreground Dice: image, truth, prediction in a row.

    Left out are cases without an image, a mask or a defined Dice, and those whose image cannot be
    read or lies on another grid.

    Args:
        evaluation: The evaluation of ``masks`` and ``references``.
        images: Folder of the images, or what else ``medseg.data.cases.open_images`` opens.
        masks: The masks that ``evaluate`` was given.
        references: The references that ``evaluate`` was given.
        count: How many of each kind; fewer where there are fewer than three times as many cases.
        part: Only cases of this part, such as ``test``.

    Raises:
        InputError: No case can be drawn (EXAMPLES_NONE).
    """
    files = find_examples(images, [masks], references, evaluation.labels, evaluation.settings)
    return draw_examples(evaluation, files, count, part)


def draw_examples(evaluation: Judged, files: ExampleFiles, count: int = 3, part: str | None = None) -> Figure:
    """As ``example_rows``, of files that were found before.

    Raises:
        InputError: No case can be drawn (EXAMPLES_NONE).
    """
    rows = [row for row in evaluation.rows if part in (None, row.part)]
    part_of = {row.case: f" of {row.part}" for row in rows if row.part}
    drawn = [
        (
            f"{kind}{part_of.get(example.case, '')}: {shorten_label(example.case, 50)}, Dice {format_number(dice)}",
            example,
        )
        for kind, dice, example in read_chosen_cases(rank_cases(rows, files), files, count)
    ]
    return _draw_rows(drawn, evaluation.labels, ["prediction"])


def networks_side_by_side(
    images: str | Path,
    masks: Mapping[str, str | Path],
    references: str | Path,
    labels: Labels | None = None,
    cases: Sequence[str] = (),
    count: int = 4,
) -> Figure:
    """The same cases by several networks: image, truth and one column per network, with each one's Dice.

    Args:
        images: Folder of the images, or what else ``medseg.data.cases.open_images`` opens.
        masks: Folder of masks of each network, by its name.
        references: The references that ``evaluate`` was given.
        labels: Name of each value; otherwise found as ``evaluate`` finds them.
        cases: What to draw; otherwise cases spread evenly from the highest mean Dice to the lowest,
            of those with a mask by every network.
        count: How many cases, where ``cases`` does not say.

    Raises:
        InputError: No case can be drawn (EXAMPLES_NONE).
    """
    first = Path(next(iter(masks.values())))
    labels = labels or find_names(None, Path(references), first) or {}
    files = find_examples(images, masks.values(), references, labels)
    return draw_networks(files, list(masks), labels, cases, count)


def draw_networks(
    files: ExampleFiles, names: Sequence[str], labels: Labels, cases: Sequence[str] = (), count: int = 4
) -> Figure:
    """As ``networks_side_by_side``, of files that were found before.

    Args:
        files: The files of the cases, with one folder of masks per network.
        names: The names of the networks, in that order.
        labels: Name of each value.
        cases: What to draw; otherwise spread evenly over the ranks.
        count: How many, where ``cases`` does not say.

    Raises:
        InputError: No case can be drawn (EXAMPLES_NONE).
    """
    drawn = []
    for case in cases or spread_cases(files, labels, count):
        with contextlib.suppress(ImageError):
            drawn.append((shorten_label(case, 50), files.read(case)))
    return _draw_rows(drawn, labels, _tell_apart(names), with_dice=True)


def class_columns(
    image: NDArray,
    truth: NDArray,
    prediction: NDArray,
    labels: Labels,
    grid: Grid | NDArray | Sequence[float] | None = None,
) -> Figure:
    """Truth above prediction: a column for each class in the slice, and one with all of them.

    Below the image itself the voxels are marked that the prediction gives another class than the truth.

    Args:
        image: (X, Y[, Z]), or with channels first; three channels in 2D are colours.
        truth: The true mask, on the image's grid.
        prediction: The predicted mask, on the image's grid.
        labels: Name of each value.
        grid: The grid of the arrays; or its 4 by 4 affine; or the spacing in mm of arrays in RAS order. Otherwise 1 mm.

    Raises:
        GridError: The arrays' shapes differ.
    """
    scene = build_scene(image, truth, prediction, (1.0,) * truth.ndim if grid is None else grid)
    plane = draw_cut(scene, choose_cut(scene))
    masks = [read_truth(plane), plane.prediction]
    classes = find_classes(masks, labels)
    shown = _choose_largest(classes, masks)
    headings = ["image", *(shorten_label(classes[value][0], 24) for value in shown), "all classes"]
    figure, panels = lay_out([_measure_row(plane)] * 2, headings, column_inches=PANEL_INCHES)
    left_out = f"; {len(shown)} largest of {len(classes)} classes" if len(shown) < len(classes) else ""
    for name, mask, row in zip(("truth", "prediction"), masks, panels, strict=True):
        for axes, kept in zip(row, [{}, *({value: classes[value]} for value in shown), classes], strict=True):
            draw_image(axes, plane, window_around(scene))
            draw_mask(axes, plane, mask, kept)
        told = plane.title if name == "truth" else "left: where it differs from the truth"
        row[0].set_title(
            f"{'; '.join(filter(None, [name, told]))}{left_out}", loc="left", fontsize=8, color=LIGHT, pad=4
        )
    differs = np.asarray(masks[0] != masks[1], dtype=np.uint8)
    draw_mask(panels[1][0], plane, differs, {1: ("differs", WRONG_COLOUR)})
    return figure


def _tell_apart(names: Sequence[str]) -> list[str]:
    """Names that fit above a column; numbered in their order where cut ones would be alike."""
    short = [shorten_label(name, LONGEST_HEADING) for name in names]
    if len(set(short)) == len(short):
        return short
    return [f"{place}: {shorten_label(name, LONGEST_HEADING - 4)}" for place, name in enumerate(names, start=1)]


def read_truth(plane: Plane) -> NDArray:
    """The plane's reference, all background where there is none."""
    return np.zeros_like(plane.prediction) if plane.reference is None else plane.reference


def _draw_rows(
    drawn: Sequence[tuple[str, Example]],
    labels: Labels,
    names: Sequence[str],
    with_dice: bool = False,
) -> Figure:
    """A row per example: image, truth and each prediction."""
    if not drawn:
        raise InputError(
            "EXAMPLES_NONE",
            "examples",
            "no case has an image, a mask and a reference that can be drawn",
        )
    rows = [_cut_planes(example) for _, example in drawn]
    classes = find_classes(
        [mask for planes, _ in rows for plane in planes for mask in (plane.reference, plane.prediction)], labels
    )
    headings = ["image", "truth", *names]
    legend = {**classes, OUTLINE: ("white line: truth", "white")}
    columns = count_legend_columns(legend, len(headings) * PANEL_INCHES)
    heights = [_measure_row(planes[0]) for planes, _ in rows]
    figure, panels = lay_out(heights, headings, math.ceil(len(legend) / columns), PANEL_INCHES)
    for (title, example), (planes, window), row in zip(drawn, rows, panels, strict=True):
        _draw_row(row, planes, window, classes)
        told = "; ".join(filter(None, [title, planes[0].title]))
        row[0].set_title(told, loc="left", fontsize=8, color=LIGHT, pad=4)
        for axes, prediction in zip(row[2:], example.predictions if with_dice else (), strict=False):
            write_on(
                axes,
                f"Dice {format_number(calculate_foreground_dice(prediction, example.truth, labels))}",
                (0.02, 0.02),
            )
    add_legend(figure, legend, columns)
    return figure


def _cut_planes(example: Example) -> tuple[list[Plane], Window]:
    """One plane per prediction, all through the same cut, and the window for its image."""
    scenes = [build_scene(example.image, example.truth, each, example.grid) for each in example.predictions]
    # The truth alone chooses, so that no network has the slice that suits it.
    by_truth = build_scene(example.image, example.truth, example.truth, example.grid)
    guide = by_truth if example.truth.any() or len(scenes) > 1 else scenes[0]
    cut: Cut = choose_cut(guide)
    return [draw_cut(scene, cut) for scene in scenes], window_around(guide)


def _draw_row(row: Sequence[Axes], planes: Sequence[Plane], window: Window, classes: Classes) -> None:
    masks = [None, read_truth(planes[0]), *(plane.prediction for plane in planes)]
    for axes, mask in zip(row, masks, strict=True):
        draw_image(axes, planes[0], window)
        if mask is not None:
            draw_mask(axes, planes[0], mask, classes)
    for axes in row[2:]:
        outline(axes, planes[0], read_truth(planes[0]), "white", 0.6)


def _choose_largest(classes: Classes, masks: Sequence[NDArray]) -> list[int]:
    """The classes with a column: those in the slice, in the labels' order; of many the largest."""
    areas = {value: sum(int((mask == value).sum()) for mask in masks) for value in classes}
    seen = [value for value in classes if areas[value]]
    kept = sorted(seen, key=lambda value: -areas[value])[:MOST_CLASSES]
    return [value for value in seen if value in kept] or list(classes)[:MOST_CLASSES]


def _measure_row(plane: Plane) -> float:
    return min(max(PANEL_INCHES * plane.height_mm / plane.width_mm, LEAST_INCHES), MOST_INCHES)


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
        grid: The grid of the arrays; or its 4 by 4 affine; or the spacing in mm of arrays in RAS order.
        window: Intensities drawn black and white; else from the region around the masks.

    Raises:
        GridError: The arrays' shapes differ.
    """
    scene = build_scene(image, reference, prediction, grid)
    planes = choose_planes(scene)
    classes = find_classes([mask for plane in planes for mask in (plane.reference, plane.prediction)], labels)
    window = window or window_around(scene)
    headings = ["image", "prediction"]
    if reference is not None:
        headings = ["image", "reference", "prediction (white line: reference)"]
    columns = count_legend_columns(classes, len(headings) * COLUMN_INCHES)
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
