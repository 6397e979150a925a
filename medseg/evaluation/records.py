"""An evaluation as files: cases.csv, summary.csv and evaluation.json, each written whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import medseg
from medseg.evaluation.metrics import METRICS
from medseg.evaluation.tables import Evaluation, Row, Summary
from medseg.files import write_text

CASE_COLUMNS = ("case", "part", "value", "class", "status", *METRICS, "prediction_ml", "reference_ml")
SPREAD_COLUMNS = ("n", "mean", "sd", "median", "min", "max", "pooled")
SUMMARY_COLUMNS = ("part", "value", "class", "metric", "cases", "empty", "missing", *SPREAD_COLUMNS)


def write_tables(evaluation: Evaluation, folder: Path) -> None:
    """Write the three files into ``folder``, which is made where needed.

    Raises:
        OutputError: The folder cannot be written to.
    """
    write_text(_to_csv(CASE_COLUMNS, map(_case_cells, evaluation.rows)), folder / "cases.csv")
    write_text(_to_csv(SUMMARY_COLUMNS, _summary_cells(evaluation.summaries)), folder / "summary.csv")
    text = json.dumps(to_record(evaluation), indent=1, allow_nan=False)
    write_text(text + "\n", folder / "evaluation.json")


def to_record(evaluation: Evaluation) -> dict[str, Any]:
    """Everything in ``evaluation`` as plain values for JSON; nan becomes None."""
    columns = [*evaluation.labels.values(), "no mask"]
    return {
        "versions": versions(),
        "settings": dict(evaluation.settings),
        "policy": list(evaluation.policy),
        "labels": {str(value): name for value, name in evaluation.labels.items()},
        "summaries": [_plain(asdict(summary)) for summary in evaluation.summaries],
        "cases": [_plain(asdict(row)) for row in evaluation.rows],
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


def versions() -> dict[str, str]:
    """What computed the numbers."""
    return {"medseg": medseg.__version__, "python": platform.python_version(), "numpy": np.__version__}


def _to_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def _case_cells(row: Row) -> list[Any]:
    numbers = [_cell(row.scores[name]) for name in CASE_COLUMNS[5:]]
    return [row.case, row.part, row.value, row.name, row.status, *numbers]


def _summary_cells(summaries: Iterable[Summary]) -> Iterable[list[Any]]:
    for summary in summaries:
        for metric, spread in summary.metrics.items():
            numbers = (spread.mean, spread.sd, spread.median, spread.least, spread.most, spread.pooled)
            head = [summary.part, "" if summary.value is None else summary.value, summary.name, metric]
            yield [*head, summary.cases, summary.empty, summary.missing, spread.n, *map(_cell, numbers)]


def _cell(value: float) -> str:
    """Six decimals; ``nan`` is written out, since an empty cell would read as forgotten."""
    return "nan" if math.isnan(value) else f"{value:.6f}"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
