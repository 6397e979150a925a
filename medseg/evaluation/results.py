"""What an evaluation found, and its text for a terminal of 100 columns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.evaluation.conventions import explain_evaluation
from medseg.evaluation.metrics import DICE, EVALUATED, METRICS, POOLED, POOLED_COLUMNS
from medseg.evaluation.summaries import ALL_CASES, Row, Summary
from medseg.text import Column, draw_rule, join_cells, join_titles, list_some, make_printable, shorten, wrap

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


@dataclass(frozen=True)
class Finding:
    """Something to know about a case: an error that left it out, or a note."""

    case: str
    code: str
    text: str


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
        return "\n".join(_lines(self)) + "\n"


def _lines(evaluation: Evaluation) -> list[str]:
    lines = [
        *wrap(evaluation.settings["masks"], "masks       "),
        *wrap(evaluation.settings["references"], "references  "),
        *wrap(evaluation.counted, "cases       "),
    ]
    for part, summaries in evaluation.summaries_by_part.items():
        lines += _part_lines(part, summaries, evaluation.unit)
        lines += _empty_lines(summaries, evaluation.unit)
    lines += _worst_lines(evaluation.worst())
    lines += _error_lines(evaluation.errors) + _note_lines(evaluation.notes)
    lines += ["", "How empty and missing masks count"]
    return lines + [line for sentence in evaluation.policy for line in wrap(sentence, "- ")]


def _worst_lines(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return []
    columns = (Column("", 7), Column("", NAME_WIDTH, is_left=True), Column("", 0, is_left=True))
    cells = [(DICE.format(row.scores["dice"]), shorten(row.name, NAME_WIDTH), shorten(row.case, 66)) for row in rows]
    return ["", "Lowest Dice (of masks that are there)", *(join_cells(columns, line) for line in cells)]


def _part_lines(part: str, summaries: Sequence[Summary], unit: str) -> list[str]:
    title = f"All {unit}" if part == ALL_CASES else f"Part: {make_printable(part)}"
    mean = draw_rule(f"mean over {unit}", len(join_titles(EVALUATED_COLUMNS)) + 2)
    pooled = draw_rule("pooled", len(join_titles(POOLED_COLUMNS)))
    lines = ["", f"{f'{title} ({summaries[0].cases})':34}{mean}  {pooled}", join_titles(SUMMARY_TABLE)]
    return lines + [_summary_line(summary) for summary in summaries]


def _summary_line(summary: Summary) -> str:
    dice = summary.metrics["dice"]
    counts, spread = ["", ""], f"{DICE.format(dice.mean):>5}"
    if summary.value is not None:
        counts = [str(dice.n), str(summary.empty)]
        spread += f" ± {DICE.format(dice.sd):5} ({DICE.format(dice.median)})"
    means = [METRICS[name].format(summary.metrics[name].mean) for name in EVALUATED[1:]]
    pooled = [METRICS[name].format(summary.metrics[name].pooled) for name in POOLED]
    return join_cells(SUMMARY_TABLE, [shorten(summary.name, NAME_WIDTH), *counts, spread, *means, *pooled])


def _empty_lines(summaries: Sequence[Summary], unit: str) -> list[str]:
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


def _error_lines(errors: Sequence[Finding]) -> list[str]:
    lines = ["", f"Errors: {len(errors)} cases are in no number above"] if errors else []
    return lines + [line for error in errors for line in wrap(f"{error.case}: {error.code}: {error.text}", "- ")]


def _note_lines(notes: Sequence[Finding]) -> list[str]:
    """One paragraph for all notes of a code: how many cases, the first few, and the first one's text."""
    lines = ["", "Notes (each case's own are in evaluation.json)"] if notes else []
    for code in dict.fromkeys(note.code for note in notes):
        same = [note for note in notes if note.code == code]
        cases = list(dict.fromkeys(note.case for note in same))
        told = list_some(cases, MOST_CASES_TOLD, ", …")
        lines += wrap(f"{code} × {len(cases)} ({told}): {same[0].text}", "- ")
    return lines
