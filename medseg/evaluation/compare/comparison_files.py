"""A comparison as files: comparison.csv, comparison.json, comparison.html and comparison.png.

The page shows the same cases by every row, side by side, and how each training went; it needs no other file.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from medseg.errors import MedsegError
from medseg.evaluation.compare.comparison_text import NONE_FITS, format_beside, group_beside, make_headline
from medseg.evaluation.compare.gather import Comparison
from medseg.evaluation.compare.rows import TRAINING, MetricSpread
from medseg.evaluation.figures.drawing import to_png
from medseg.evaluation.figures.gallery import compared_networks, draw_training_figures
from medseg.evaluation.html_report import make_data_uri, make_page
from medseg.evaluation.metrics import COMPARED, METRICS, POOLED
from medseg.evaluation.results import versions
from medseg.evaluation.summaries import FOREGROUND
from medseg.files import write_json, write_text, write_whole
from medseg.text import (
    DASH,
    format_cell,
    format_chance,
    format_count,
    format_duration,
    format_number,
    make_csv,
    replace_nan,
)

SPREAD_NAMES = tuple(item.name for item in fields(MetricSpread))


def write_comparison(comparison: Comparison, folder: Path, data: str | Path | None = None) -> tuple[Path, ...]:
    """Write the files into ``folder``, which is made where needed; the same comparison gives the same bytes.

    Where the examples cannot be drawn, the page says why, and comparison.png of an earlier call is removed.

    Args:
        comparison: What is written.
        folder: The folder for the files.
        data: The data set, where it is no longer where it was in training.

    Returns:
        The files.

    Raises:
        OutputError: The folder cannot be written to.
    """
    names = ("comparison.csv", "comparison.json", "comparison.html")
    table, record, html = (folder / name for name in names)
    pictures, picture = draw_pictures(comparison, data), folder / "comparison.png"
    write_text(_make_table(comparison), table)
    write_json(to_record(comparison), record)
    write_text(make_comparison_page(comparison, pictures), html)
    if pictures.examples:
        write_whole(picture, lambda file: file.write(pictures.examples))
        return table, record, html, picture
    with contextlib.suppress(OSError):  # Not there, most often; a picture of other rows is better gone than kept.
        picture.unlink()
    return table, record, html


def to_record(comparison: Comparison) -> dict[str, Any]:
    """Everything in ``comparison`` as plain values for JSON; nan becomes None."""
    record = {
        "versions": versions(),
        "bundles": list(comparison.bundles),
        "part": comparison.part,
        "folds": comparison.folds,
        "cases": comparison.cases,
        "patients": comparison.units if comparison.unit == "patient" else None,
        "policy": list(comparison.policy),
        "rows": [{**asdict(row), "parts": sorted(row.parts)} for row in comparison.rows],
        "tests": [asdict(test) for test in comparison.tests],
        "published": [asdict(each) for each in comparison.beside],
        "published_remarks": list(comparison.remarks),
        "left_out": [
            {"case": each.case, "code": each.code, "text": each.problem, "remedy": each.remedy}
            for each in comparison.failures
        ],
    }
    return {name: replace_nan(part) for name, part in record.items()}


def _make_table(comparison: Comparison) -> str:
    """comparison.csv: one line per row and class, with the row's own numbers repeated."""
    runs = [f"{key}{end}" for key in TRAINING for end in ("", "_sd")]
    scores = [f"{metric}_{spread}" for metric in COMPARED for spread in SPREAD_NAMES]
    head = ["row", "network", "loss", *comparison.rows[0].varied, "value", "class", "runs", "rank", "cases", "empty"]
    return make_csv([*head, *scores, *runs], _list_cells(comparison))


def _format_cell(value: float) -> str:
    """As in every CSV file, but a whole number as it is."""
    return str(int(value)) if not math.isnan(value) and value == int(value) else format_cell(value)


def _list_cells(comparison: Comparison) -> Iterable[list[Any]]:
    for row in comparison.rows:
        training = [_format_cell(number) for key in TRAINING for number in row.training[key]]
        for scores in row.classes:
            head = [row.name, row.network, row.loss, *row.varied.values()]
            value = "" if scores.value is None else scores.value
            numbers = [
                _format_cell(getattr(scores.metrics[metric], spread)) for metric in COMPARED for spread in SPREAD_NAMES
            ]
            counts = [row.folds, _format_cell(row.rank), scores.cases, scores.empty]
            yield [*head, value, scores.name, *counts, *numbers, *training]


def make_comparison_page(comparison: Comparison, pictures: Pictures) -> str:
    """The page as text; names are escaped, pictures are inside it."""
    groups = group_beside(comparison)
    return make_page(
        "comparison.html",
        policy=comparison.policy,
        headline=make_headline(comparison),
        comparison=comparison,
        metrics=METRICS,
        compared=COMPARED[1:],
        pooled=POOLED,
        classes=[scores.name for scores in comparison.rows[0].classes],
        foreground=FOREGROUND,
        tests=comparison.tests_by_measure,
        beside=groups,
        beside_cells=format_beside,
        none=DASH,
        none_fits="" if all(theirs and ours for theirs, ours, _ in groups) else NONE_FITS,
        examples=make_data_uri(pictures.examples) if pictures.examples else "",
        left_out=pictures.left_out,
        curves=[(row, [make_data_uri(png) for png in drawn]) for row, drawn in pictures.curves],
        format_number=format_number,
        format_chance=format_chance,
        format_duration=format_duration,
        format_count=format_count,
    )


COMPARED_CASES = 4


@dataclass(frozen=True)
class Pictures:
    """What is drawn beside the tables.

    Args:
        examples: PNG of the same cases by every row; empty where it could not be drawn.
        left_out: Why it could not; empty where it was.
        curves: PNGs of the epoch curves of each row's runs, those whose log can be read.
    """

    examples: bytes
    left_out: str
    curves: tuple[tuple[str, tuple[bytes, ...]], ...]


def draw_pictures(comparison: Comparison, data: str | Path | None = None) -> Pictures:
    """Draw them; the same runs and data give the same bytes.

    Args:
        comparison: What is drawn, with the folders of its runs.
        data: The data set, where it is no longer where it was in training.
    """
    examples, left_out = b"", ""
    try:
        examples = to_png(compared_networks(comparison.runs, comparison.part, data, count=COMPARED_CASES))
    except MedsegError as error:
        left_out = str(error)
    return Pictures(examples, left_out, _draw_curves(comparison))


def _draw_curves(comparison: Comparison) -> tuple[tuple[str, tuple[bytes, ...]], ...]:
    drawn = []
    for row, folders in comparison.runs.items():
        pictures: list[bytes] = []
        for folder in folders:
            with contextlib.suppress(MedsegError):
                pictures.append(to_png(draw_training_figures(folder)["epochs"]))
        drawn.append((row, tuple(pictures)))
    return tuple((row, pictures) for row, pictures in drawn if pictures)
