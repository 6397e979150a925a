"""An evaluation as files: cases.csv, summary.csv and evaluation.json, each written whole or not at all."""

from __future__ import annotations

import csv
import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import medseg
from medseg.errors import DatasetError, InputError, first_line
from medseg.evaluation.metrics import METRICS, VOLUMES
from medseg.evaluation.results import Evaluation
from medseg.evaluation.summaries import Row, Summary
from medseg.files import write_text
from medseg.text import format_cell, make_csv, replace_nan

NUMBERS = (*METRICS, *VOLUMES)
CASE_COLUMNS = ("case", "part", "value", "class", "status", *NUMBERS)
SPREAD_COLUMNS = ("n", "mean", "sd", "median", "min", "max", "pooled")
TRUTH_COLUMNS = ("empty_truth", "false_positive_voxels")
SUMMARY_COLUMNS = ("part", "value", "class", "metric", "cases", "empty", "missing", *SPREAD_COLUMNS, *TRUTH_COLUMNS)


def write_tables(evaluation: Evaluation, folder: Path) -> None:
    """Write the three files into ``folder``, which is made where needed.

    Raises:
        OutputError: The folder cannot be written to.
    """
    write_text(make_csv(CASE_COLUMNS, map(_case_cells, evaluation.rows)), folder / "cases.csv")
    write_text(make_csv(SUMMARY_COLUMNS, _summary_cells(evaluation.summaries)), folder / "summary.csv")
    text = json.dumps(to_record(evaluation), indent=1, allow_nan=False)
    write_text(text + "\n", folder / "evaluation.json")


def read_cases(path: str | Path) -> list[Row]:
    """The rows of a cases.csv, in its order; writing them again gives the same file.

    Args:
        path: The file, or the folder that ``write_tables`` filled.

    Raises:
        InputError: There is no such file.
        DatasetError: It is no cases.csv, or a line is damaged.
    """
    file = Path(path) / "cases.csv" if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise InputError("INPUT_MISSING", file, "there is no such file", "give the cases.csv of an evaluation")
    try:
        return [_make_row(cells) for cells in read_csv(file)[1]]
    except (OSError, ValueError, KeyError, csv.Error) as error:
        remedy = "evaluate again with an output folder, and leave the file as it is"
        raise DatasetError("SCORES_UNREADABLE", file, first_line(error), remedy) from error


def read_csv(file: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The names of a table's columns, and its lines as cells by these names.

    Raises:
        OSError: The file cannot be read.
        ValueError: It has no heading, or a line with more or fewer cells.
        csv.Error: A line is damaged.
    """
    with file.open(encoding="utf-8", newline="") as lines:
        header, *table = csv.reader(lines, strict=True)
    return header, [dict(zip(header, cells, strict=True)) for cells in table]


def _make_row(cells: Mapping[str, str]) -> Row:
    scores = {name: float(cells[name]) for name in NUMBERS}
    return Row(cells["case"], cells["part"], int(cells["value"]), cells["class"], cells["status"], scores)


def to_record(evaluation: Evaluation) -> dict[str, Any]:
    """Everything in ``evaluation`` as plain values for JSON; nan becomes None."""
    columns = [*evaluation.labels.values(), "no mask"]
    record = {
        "versions": versions(),
        "settings": dict(evaluation.settings),
        "policy": list(evaluation.policy),
        "labels": {str(value): name for value, name in evaluation.labels.items()},
        "summaries": [asdict(summary) for summary in evaluation.summaries],
        "cases": [asdict(row) for row in evaluation.rows],
        "confusion": {
            "rows": "reference",
            "columns": columns,
            "per_case": {case: table.tolist() for case, table in evaluation.confusions.items()},
        },
        "missing": list(evaluation.missing),
        "unmatched": list(evaluation.unmatched),
        "errors": [asdict(finding) for finding in evaluation.errors],
        "notes": [asdict(finding) for finding in evaluation.notes],
    }
    return {name: replace_nan(part) for name, part in record.items()}


def versions() -> dict[str, str]:
    """What computed the numbers."""
    return {"medseg": medseg.__version__, "python": platform.python_version(), "numpy": np.__version__}


def _case_cells(row: Row) -> list[Any]:
    numbers = [format_cell(row.scores[name]) for name in NUMBERS]
    return [row.case, row.part, row.value, row.name, row.status, *numbers]


def _summary_cells(summaries: Iterable[Summary]) -> Iterable[list[Any]]:
    for summary in summaries:
        for metric, spread in summary.metrics.items():
            numbers = (spread.mean, spread.sd, spread.median, spread.least, spread.most, spread.pooled)
            head = [summary.part, "" if summary.value is None else summary.value, summary.name, metric]
            counts = [summary.cases, summary.empty, summary.missing, spread.n]
            yield [*head, *counts, *map(format_cell, numbers), summary.empty_truth, summary.false_positive_voxels]
