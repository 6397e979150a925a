"""A comparison as files: comparison.csv, comparison.json, comparison.html and comparison.png.

The page shows the same cases by every row, side by side, and how each training went; it needs no other file.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from medseg.errors import MedsegError
from medseg.evaluation.compare.comparison_text import NONE, NONE_FITS, beside_cells, beside_groups, headline
from medseg.evaluation.compare.gather import Comparison
from medseg.evaluation.compare.rows import SHOWN, TRAINING, MetricSpread
from medseg.evaluation.figures.drawing import to_png
from medseg.evaluation.figures.gallery import compared_networks, training_figures
from medseg.evaluation.html_report import data_uri, page
from medseg.evaluation.score_files import versions
from medseg.evaluation.summaries import FOREGROUND
from medseg.files import write_text, write_whole
from medseg.text import format_chance, format_count, format_duration, format_number

SPREAD = tuple(item.name for item in fields(MetricSpread))


def write_comparison(comparison: Comparison, folder: Path, data: str | Path | None = None) -> tuple[Path, ...]:
    """Write the files into ``folder``, which is made where needed; the same comparison gives the same bytes.

    Where the examples cannot be drawn, the page says why, and comparison.png of an earlier call is removed.

    Args:
        comparison: To be written.
        folder: Where to.
        data: The data set, where it is no longer where it was in training.

    Returns:
        The files.

    Raises:
        OutputError: The folder cannot be written to.
    """
    names = ("comparison.csv", "comparison.json", "comparison.html")
    table, record, html = (folder / name for name in names)
    pictures, picture = draw_pictures(comparison, data), folder / "comparison.png"
    write_text(_csv(comparison), table)
    text = json.dumps(to_record(comparison), indent=1, ensure_ascii=False, allow_nan=False)
    write_text(text + "\n", record)
    write_text(comparison_page(comparison, pictures), html)
    if pictures.examples:
        write_whole(picture, lambda file: file.write(pictures.examples))
        return table, record, html, picture
    with contextlib.suppress(OSError):  # Not there, most often; a picture of other rows is better gone than kept.
        picture.unlink()
    return table, record, html


def to_record(comparison: Comparison) -> dict[str, Any]:
    """Everything in ``comparison`` as plain values for JSON; nan becomes None."""
    return {
        "versions": versions(),
        "bundles": list(comparison.bundles),
        "part": comparison.part,
        "folds": comparison.folds,
        "cases": comparison.cases,
        "patients": comparison.units if comparison.unit == "patient" else None,
        "policy": list(comparison.policy),
        "rows": [_plain({**asdict(row), "parts": sorted(row.parts)}) for row in comparison.rows],
        "tests": [_plain(asdict(test)) for test in comparison.tests],
        "published": [_plain(asdict(each)) for each in comparison.beside],
        "published_remarks": list(comparison.remarks),
        "left_out": [asdict(failure) for failure in comparison.failures],
    }


def _csv(comparison: Comparison) -> str:
    """One line per row and class, with the row's own numbers repeated."""
    varied = list(comparison.rows[0].varied)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    runs = [f"{key}{end}" for key in TRAINING for end in ("", "_sd")]
    scores = [f"{metric}_{spread}" for metric in SHOWN for spread in SPREAD]
    writer.writerow(
        ["row", "network", "loss", *varied, "value", "class", "runs", "rank", "cases", "empty", *scores, *runs]
    )
    writer.writerows(_lines(comparison))
    return text.getvalue()


def _lines(comparison: Comparison) -> Iterable[list[Any]]:
    for row in comparison.rows:
        training = [_cell(format_number) for key in TRAINING for format_number in row.training[key]]
        for scores in row.classes:
            head = [row.name, row.network, row.loss, *row.varied.values()]
            value = "" if scores.value is None else scores.value
            numbers = [_cell(getattr(scores.metrics[metric], spread)) for metric in SHOWN for spread in SPREAD]
            counts = [row.folds, _cell(row.rank), scores.cases, scores.empty]
            yield [*head, value, scores.name, *counts, *numbers, *training]


def _cell(value: float) -> str:
    """Six decimals, a whole number as it is; ``nan`` is written out, since an empty cell would read as forgotten."""
    if math.isnan(value):
        return "nan"
    return str(int(value)) if value == int(value) else f"{value:.6f}"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def comparison_page(comparison: Comparison, pictures: Pictures) -> str:
    """The page as text; names are escaped, pictures are inside it."""
    measures = dict.fromkeys(test.measure for test in comparison.tests)
    groups = beside_groups(comparison)
    return page(
        "comparison.html",
        policy=comparison.policy,
        headline=headline(comparison),
        comparison=comparison,
        classes=[scores.name for scores in comparison.rows[0].classes],
        foreground=FOREGROUND,
        tests={measure: [test for test in comparison.tests if test.measure == measure] for measure in measures},
        beside=groups,
        beside_cells=beside_cells,
        none=NONE,
        none_fits="" if all(theirs and ours for theirs, ours, _ in groups) else NONE_FITS,
        examples=data_uri(pictures.examples) if pictures.examples else "",
        left_out=pictures.left_out,
        curves=[(row, [data_uri(png) for png in drawn]) for row, drawn in pictures.curves],
        format_number=format_number,
        format_chance=format_chance,
        format_duration=format_duration,
        format_count=format_count,
    )


SHOWN_CASES = 4


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
        comparison: With the folders of its runs.
        data: The data set, where it is no longer where it was in training.
    """
    examples, left_out = b"", ""
    try:
        examples = to_png(compared_networks(comparison.runs, comparison.part, data, count=SHOWN_CASES))
    except MedsegError as error:
        left_out = str(error)
    return Pictures(examples, left_out, _curves(comparison))


def _curves(comparison: Comparison) -> tuple[tuple[str, tuple[bytes, ...]], ...]:
    drawn = []
    for row, folders in comparison.runs.items():
        pictures: list[bytes] = []
        for folder in folders:
            with contextlib.suppress(MedsegError):
                pictures.append(to_png(training_figures(folder)["epochs"]))
        drawn.append((row, tuple(pictures)))
    return tuple((row, pictures) for row, pictures in drawn if pictures)
