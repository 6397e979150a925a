"""What an evaluation found: its text for a terminal of 100 columns, its files, and the sentences below both.

The files are cases.csv, summary.csv and evaluation.json, each written whole or not at all. The sentences say what
empty masks, missing masks and the background count.
"""

from __future__ import annotations

import csv
import json
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import medseg
from medseg.errors import DatasetError, InputError, first_line
from medseg.evaluation.metrics import DICE, EVALUATED, METRICS, POOLED, POOLED_COLUMNS, VOLUMES
from medseg.evaluation.summaries import ALL_CASES, Row, Summary
from medseg.files import write_text
from medseg.findings import Finding
from medseg.text import (
    Column,
    draw_rule,
    format_cell,
    join_cells,
    join_titles,
    list_some,
    make_csv,
    make_printable,
    replace_nan,
    shorten,
    wrap,
)

NUMBERS = (*METRICS, *VOLUMES)
CASE_COLUMNS = ("case", "part", "value", "class", "status", *NUMBERS)
SPREAD_COLUMNS = ("n", "mean", "sd", "median", "min", "max", "pooled")
TRUTH_COLUMNS = ("empty_truth", "false_positive_voxels")
SUMMARY_COLUMNS = ("part", "value", "class", "metric", "cases", "empty", "missing", *SPREAD_COLUMNS, *TRUTH_COLUMNS)

WORST_SHOWN = 5
MOST_CASES_TOLD = 3
"""Cases that a note names; all of them are in evaluation.json."""

NAME_WIDTH = 22
EVALUATED_COLUMNS = (
    Column(" Dice ± sd    (median)", 22, is_left=True),
    *(METRICS[name].column for name in EVALUATED[1:]),
)
SUMMARY_TABLE = (
    Column("class", NAME_WIDTH, is_left=True),
    Column("n", 4, gap=1),
    Column("empty", 5, gap=1),
    *EVALUATED_COLUMNS,
    *POOLED_COLUMNS,
)


def _name_undefined() -> tuple[str, str]:
    """Which metrics have no value of a class that neither mask holds, and where else one has none."""
    *titles, last = [metric.title for metric in METRICS.values() if metric.needs_structure]
    first, *others = [(metric.title, metric.undefined) for metric in METRICS.values() if metric.undefined]
    where = [f"{first[0].capitalize()} is nan where {first[1]}", *(f"{title} where {place}" for title, place in others)]
    return (
        f"A class empty in both masks has no {', '.join(titles)} or {last}: nan, left out of means and counted apart.",
        f"{', '.join(where)}; pooled values follow the same rules.",
    )


_NEITHER, _ELSEWHERE = _name_undefined()

EMPTY_POLICY = (
    _NEITHER,
    "A class in only one of the two masks has Dice 0 and IoU 0: an extra structure costs as much as a missed one.",
    _ELSEWHERE,
    "Per case: the mean over cases of each case's value. Pooled: one value from the voxels of all cases together.",
    "The background is scored and shown, but is no part of the foreground mean.",
)
SLICE_POLICY = (
    "Every slice is a case. For each class the table covers the slices whose reference holds it, pooled values too; "
    "the others are counted apart as empty truth and are in no mean.",
    "A slice whose reference holds the class and whose mask does not has Dice 0 and IoU 0.",
    *EMPTY_POLICY[2:],
)
"""What ``EMPTY_POLICY`` says, where slices are scored one by one."""

MISSING_POLICY = {
    "zero": "A case without a mask scores 0 in every metric for each class in its reference; pooled, its voxels count "
    "as not found.",
    "skip": "A case without a mask is listed and left out of every number.",
    "error": "A case without a mask is an error and left out of every number.",
}

BACKGROUND_POLICY = "The mean with background is the mean over all classes, value 0 among them."


def explain_evaluation(settings: Mapping[str, str]) -> tuple[str, ...]:
    """The sentences that hold for an evaluation with these settings."""
    empty = SLICE_POLICY if "slices" in settings else EMPTY_POLICY
    of_means = (BACKGROUND_POLICY,) if "background" in settings else ()
    return (*empty, *of_means, MISSING_POLICY[settings["missing"]])


@dataclass(frozen=True)
class Evaluation:
    """What ``evaluate`` found.

    Args:
        labels: Name of each value.
        rows: One per case and class; a case is a slice where ``settings`` names ``slices``.
        summaries: One per part and class, and the foreground's mean; where ``settings`` names
            ``background``, the mean of all classes as well.
        confusions: Per case, voxels by reference class (row) and predicted class (column); the
            last column holds voxels of cases without a mask.
        errors: Cases left out, and why.
        notes: What was done to a case or noticed about it.
        missing: Cases without a mask.
        unmatched: Masks without a reference.
        settings: What was compared and how.
    """

    labels: Mapping[int, str]
    rows: tuple[Row, ...]
    summaries: tuple[Summary, ...]
    confusions: Mapping[str, NDArray[np.int64]]
    errors: tuple[Finding, ...]
    notes: tuple[Finding, ...]
    missing: tuple[str, ...]
    unmatched: tuple[str, ...]
    settings: Mapping[str, str]

    @property
    def exit_code(self) -> int:
        """0 where every case could be judged, 1 where some could not, 3 where none; skipped masks are no failures."""
        if self.errors and not self.rows:
            return 3
        return 1 if self.errors or (self.missing and self.settings["missing"] != "skip") else 0

    @property
    def unit(self) -> str:
        """What is scored: ``cases`` or ``slices``."""
        return "slices" if "slices" in self.settings else "cases"

    @property
    def summaries_by_part(self) -> dict[str, list[Summary]]:
        """The summaries of all cases, then those of each part."""
        parts: dict[str, list[Summary]] = {}
        for summary in self.summaries:
            parts.setdefault(summary.part, []).append(summary)
        return parts

    @property
    def policy(self) -> tuple[str, ...]:
        """How empty and missing masks count, in sentences."""
        return explain_evaluation(self.settings)

    @property
    def counted(self) -> str:
        """One line: how many cases were scored, missing and refused."""
        scored = {row.case for row in self.rows if row.status != "missing"}
        treatment = {"zero": "scored 0", "skip": "left out", "error": "errors"}[self.settings["missing"]]
        return (
            f"{len(scored)} {'slices ' if 'slices' in self.settings else ''}scored, "
            f"{len(self.missing)} without a mask ({treatment}), "
            f"{len(self.errors)} errors, {len(self.unmatched)} masks without a reference"
        )

    def worst(self, most: int = WORST_SHOWN, metric: str = "dice") -> list[Row]:
        """The rows of existing masks with the worst values of a metric, worst first; at most ``most``.

        Of the foreground, unless the background was asked for as a class.
        """
        has_background = "background" in self.settings
        scored = [row for row in self.rows if row.status == "scored" and (row.value != 0 or has_background)]
        rows = [row for row in scored if not math.isnan(row.scores[metric])]
        return sorted(rows, key=lambda row: row.scores[metric], reverse=not METRICS[metric].is_higher_better)[:most]

    def to_text(self) -> str:
        """Tables for a terminal, at most 100 columns wide."""
        return "\n".join(_write_lines(self)) + "\n"


def _write_lines(evaluation: Evaluation) -> list[str]:
    lines = [
        *wrap(evaluation.settings["masks"], "masks       "),
        *wrap(evaluation.settings["references"], "references  "),
        *wrap(evaluation.counted, "cases       "),
    ]
    for part, summaries in evaluation.summaries_by_part.items():
        lines += _write_part(part, summaries, evaluation.unit)
        lines += _write_empty_truth(summaries, evaluation.unit)
    lines += _write_worst(evaluation.worst())
    lines += _write_errors(evaluation.errors) + _write_notes(evaluation.notes)
    lines += ["", "How empty and missing masks count"]
    return lines + [line for sentence in evaluation.policy for line in wrap(sentence, "- ")]


def _write_worst(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return []
    columns = (Column("", 7), Column("", NAME_WIDTH, is_left=True), Column("", 0, is_left=True))
    cells = [(DICE.format(row.scores["dice"]), shorten(row.name, NAME_WIDTH), shorten(row.case, 66)) for row in rows]
    return ["", "Lowest Dice (of masks that are there)", *(join_cells(columns, line) for line in cells)]


def _write_part(part: str, summaries: Sequence[Summary], unit: str) -> list[str]:
    title = f"All {unit}" if part == ALL_CASES else f"Part: {make_printable(part)}"
    mean = draw_rule(f"mean over {unit}", len(join_titles(EVALUATED_COLUMNS)) + 2)
    pooled = draw_rule("pooled", len(join_titles(POOLED_COLUMNS)))
    lines = ["", f"{f'{title} ({summaries[0].cases})':34}{mean}  {pooled}", join_titles(SUMMARY_TABLE)]
    return lines + [_write_summary(summary) for summary in summaries]


def _write_summary(summary: Summary) -> str:
    dice = summary.metrics["dice"]
    counts, spread = ["", ""], f"{DICE.format(dice.mean):>5}"
    if summary.value is not None:
        counts = [str(dice.n), str(summary.empty)]
        spread += f" ± {DICE.format(dice.sd):5} ({DICE.format(dice.median)})"
    means = [METRICS[name].format(summary.metrics[name].mean) for name in EVALUATED[1:]]
    pooled = [METRICS[name].format(summary.metrics[name].pooled) for name in POOLED]
    return join_cells(SUMMARY_TABLE, [shorten(summary.name, NAME_WIDTH), *counts, spread, *means, *pooled])


def _write_empty_truth(summaries: Sequence[Summary], unit: str) -> list[str]:
    """A line for each class that some references lack, and one for references without any."""
    told = [summary for summary in summaries if summary.empty_truth and summary.value != 0]
    lines = ["", f"Empty truth ({unit} whose reference lacks the class)"] if told else []
    for summary in told:
        wrong = summary.empty_truth - summary.empty - summary.empty_truth_missing
        name = summary.name if summary.value is not None else "any structure"
        text = f"{name}: {summary.empty_truth} of {summary.cases}: {summary.empty} predicted empty (true negatives), "
        text += f"{wrong} with {summary.false_positive_voxels} voxels of it"
        text += f", {summary.empty_truth_missing} without a mask" if summary.empty_truth_missing else ""
        lines += wrap(text, "- ")
    return lines


def _write_errors(errors: Sequence[Finding]) -> list[str]:
    lines = ["", f"Errors: {len(errors)} cases are in no number above"] if errors else []
    return lines + [line for error in errors for line in wrap(f"{error.case}: {error.code}: {error.problem}", "- ")]


def _write_notes(notes: Sequence[Finding]) -> list[str]:
    """One paragraph for all notes of a code: how many cases, the first few, and the first one's text."""
    lines = ["", "Notes (each case's own are in evaluation.json)"] if notes else []
    for code in dict.fromkeys(note.code for note in notes):
        same = [note for note in notes if note.code == code]
        cases = list(dict.fromkeys(note.case for note in same))
        told = list_some(cases, MOST_CASES_TOLD, ", …")
        lines += wrap(f"{code} × {len(cases)} ({told}): {same[0].problem}", "- ")
    return lines


def write_tables(evaluation: Evaluation, folder: Path) -> None:
    """Write the three files into ``folder``, which is made where needed.

    Raises:
        OutputError: The folder cannot be written to.
    """
    write_text(make_csv(CASE_COLUMNS, map(_list_case_cells, evaluation.rows)), folder / "cases.csv")
    write_text(make_csv(SUMMARY_COLUMNS, _list_summary_cells(evaluation.summaries)), folder / "summary.csv")
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
        raise DatasetError("RECORD_UNREADABLE", file, first_line(error), remedy) from error


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
        "errors": [{"case": each.case, "code": each.code, "text": each.problem} for each in evaluation.errors],
        "notes": [{"case": each.case, "code": each.code, "text": each.problem} for each in evaluation.notes],
    }
    return {name: replace_nan(part) for name, part in record.items()}


def versions() -> dict[str, str]:
    """What computed the numbers."""
    return {"medseg": medseg.__version__, "python": platform.python_version(), "numpy": np.__version__}


def _list_case_cells(row: Row) -> list[Any]:
    numbers = [format_cell(row.scores[name]) for name in NUMBERS]
    return [row.case, row.part, row.value, row.name, row.status, *numbers]


def _list_summary_cells(summaries: Iterable[Summary]) -> Iterable[list[Any]]:
    for summary in summaries:
        for metric, spread in summary.metrics.items():
            numbers = (spread.mean, spread.sd, spread.median, spread.least, spread.most, spread.pooled)
            head = [summary.part, "" if summary.value is None else summary.value, summary.name, metric]
            counts = [summary.cases, summary.empty, summary.missing, spread.n]
            yield [*head, *counts, *map(format_cell, numbers), summary.empty_truth, summary.false_positive_voxels]
