"""A comparison as files: comparison.csv, comparison.json, comparison.html and comparison.png."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from medseg.evaluation.comparison.gather import Comparison
from medseg.evaluation.comparison.page import comparison_page
from medseg.evaluation.comparison.pictures import draw_pictures
from medseg.evaluation.comparison.row import TRAINING, MetricSpread
from medseg.evaluation.comparison.runs import SHOWN
from medseg.evaluation.records import versions
from medseg.files import write_text, write_whole

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
        training = [_cell(number) for key in TRAINING for number in row.training[key]]
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
