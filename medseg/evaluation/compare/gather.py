"""Runs beside each other: one row for each way of training, its scores, and how sure the differences are.

The runs of one row (its folds) are taken together. Rows are compared only where they were
scored on the same cases.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.data.cases.case import guess_group
from medseg.errors import InputError, UsageError
from medseg.evaluation.compare.comparison_text import format_comparison
from medseg.evaluation.compare.paired_tests import PairedTest, average_ranks, compare_pairs
from medseg.evaluation.compare.published import NOTHING, Beside, PublishedTable, set_beside
from medseg.evaluation.compare.rows import (
    TRAIN_FIRST,
    ComparedRow,
    ScoredRun,
    format_setting,
    make_row,
    read_run,
)
from medseg.evaluation.runs import choose_part, find_runs
from medseg.evaluation.summaries import FOREGROUND, average
from medseg.findings import Finding
from medseg.text import list_some

_ALWAYS = (
    "Mean and sd over cases: every case once; with folds, each case by the fold that held it out.",
    "Over folds: mean and sd of the folds' means over cases. Pooled: one value from the voxels of all cases together.",
    "Foreground mean: of each case, over the classes that have a value in it. All classes: with the background, and "
    "accuracy as the share of all voxels that were given their class.",
    "Loss: the lowest validation loss of any epoch. Parameters: trainable ones and running means and variances.",
)
_COUNTED = {
    "patient": "cases of one patient are averaged first, then each patient counts once",
    "case": "each case counts once",
}
_TESTS = (
    "Paired tests: {counted}. Wilcoxon's signed-rank test, two-sided, Holm's correction over all pairs of rows for "
    "each measure; median difference with the 95 % interval of 2000 bootstrap resamples.",
    "Where a class is not in the reference, a row that rightly finds nothing has no Dice; beside a row that finds "
    "something there (Dice 0) it counts 1 in tests and ranks.",
    "Rank: of a row among all rows by foreground Dice, 1 the best, averaged over {unit}s.",
)
_FOLDS = (
    "The folds share training cases: their scores are not independent, and the sd over folds understates how much "
    "another training set would change the result. The tests count {unit}s, not folds, but their p holds for the "
    "networks that were trained, not for every training."
)
_VALIDATION = (
    "The validation part is scored, which also chose each run's weights: the values are a little too high, in every "
    "row alike."
)


@dataclass(frozen=True)
class Comparison:
    """What ``compare`` found.

    Args:
        bundles: The bundles that were trained.
        part: The part of the split that was scored.
        folds: Number of folds; 0 without.
        cases: Number of cases.
        units: What the tests count: patients, or cases where no two are of one patient.
        rows: The rows, in the order of their names.
        tests: Foreground mean first, then each foreground class.
        failures: Rows that are left out, with the reason.
        beside: Published numbers, and ours.
        remarks: What the published table says of its numbers, a paragraph each.
        runs: The run folders of each row.
    """

    bundles: tuple[str, ...]
    part: str
    folds: int
    cases: int
    units: int
    rows: tuple[ComparedRow, ...]
    tests: tuple[PairedTest, ...]
    failures: tuple[Finding, ...] = ()
    beside: tuple[Beside, ...] = ()
    remarks: tuple[str, ...] = ()
    runs: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0, or 1 where a row is left out."""
        return 1 if self.failures else 0

    @property
    def tests_by_measure(self) -> dict[str, list[PairedTest]]:
        """The tests of the foreground mean, then those of each class."""
        measures: dict[str, list[PairedTest]] = {}
        for test in self.tests:
            measures.setdefault(test.measure, []).append(test)
        return measures

    @property
    def policy(self) -> tuple[str, ...]:
        """How the numbers are made, in sentences."""
        return explain_comparison(self.unit, self.part, self.folds > 0)

    @property
    def unit(self) -> str:
        """What the tests count: ``patient`` where several cases are of one, else ``case``."""
        return "patient" if self.units < self.cases else "case"

    @property
    def alone(self) -> tuple[str, ...]:
        """Rows that no published number fits; none where nothing is set beside."""
        fitted = {each.row for each in self.beside}
        return tuple(row.name for row in self.rows if row.name not in fitted) if self.beside else ()

    def to_text(self) -> str:
        """Tables for a terminal, at most 100 columns wide."""
        return format_comparison(self)


def gather(places: Iterable[str | Path], part: str | None = None, published: PublishedTable = NOTHING) -> Comparison:
    """Compare the scored runs in some folders, from these folders alone.

    Args:
        places: Run folders, or folders that hold some.
        part: The part of the split whose scores count; by default `validation` of folds, else `test`.
        published: Numbers to set beside.

    Raises:
        InputError: RUN_NOT_FOUND; RUN_UNSCORED, where no row is left.
        UsageError: CASES_DIFFER or CLASSES_DIFFER, the rows cannot be compared.
        DatasetError: RECORD_UNREADABLE.
    """
    folders = find_runs(places)
    part = part or choose_part(next(iter(folders.values()))[0])
    rows: dict[str, list[ScoredRun]] = {}
    failures: list[Finding] = []
    for name, places_of_row in folders.items():
        try:
            rows[name] = _check_folds([read_run(folder, part) for folder in places_of_row], name)
        except InputError as error:
            if error.code != "RUN_UNSCORED":
                raise
            run = Path(error.case).name
            text = error.problem if name.endswith(run) else f"{run}: {error.problem}"
            failures.append(Finding(name, error.code, text, error.remedy))
            unscored = error
    if not rows:
        raise unscored
    comparison = compare_runs(rows, part, failures)
    return replace(comparison, beside=set_beside(published.numbers, comparison.rows), remarks=published.remarks)


def compare_runs(rows: Mapping[str, Sequence[ScoredRun]], part: str, failures: Sequence[Finding] = ()) -> Comparison:
    """Compare rows, each given by its runs.

    Raises:
        UsageError: CASES_DIFFER or CLASSES_DIFFER.
    """
    _check_comparable(rows)
    keys, first = _find_varied_keys(rows), next(iter(rows.values()))
    groups = _find_patients(first)
    measures = _collect_measures(rows, groups)
    ranks = average_ranks(measures[FOREGROUND])
    return Comparison(
        bundles=tuple(dict.fromkeys(run.bundle for runs in rows.values() for run in runs)),
        part=part,
        folds=first[0].fold[1] if first[0].fold else 0,
        cases=len(groups),
        units=len(set(groups.values())),
        rows=tuple(make_row(name, runs, keys, ranks[name]) for name, runs in rows.items()),
        tests=tuple(test for measure, scores in measures.items() for test in compare_pairs(measure, scores)),
        failures=tuple(failures),
        runs={name: tuple(run.folder for run in runs) for name, runs in rows.items()},
    )


def _check_folds(runs: Sequence[ScoredRun], name: str) -> list[ScoredRun]:
    """The runs of a row, if they are all of its folds."""
    folds = runs[0].fold[1] if runs[0].fold else 1
    if len(runs) < folds:
        raise InputError("RUN_UNSCORED", name, f"{len(runs)} of {folds} folds are there", TRAIN_FIRST)
    return list(runs)


def _check_comparable(rows: Mapping[str, Sequence[ScoredRun]]) -> None:
    (reference, runs), *others = rows.items()
    labels, cases = runs[0].labels, _list_cases(runs)
    for name, other in others:
        if any(run.labels != labels for run in other):
            raise UsageError(
                "CLASSES_DIFFER",
                name,
                f"has the classes {list(other[0].labels.values())}, {reference} has {list(labels.values())}",
            )
        if _list_cases(other) != cases:
            only = sorted(_list_cases(other) ^ cases)
            raise UsageError(
                "CASES_DIFFER",
                name,
                f"{len(only)} cases are scored in only one of {name} and {reference}: {list_some(only, 5)}",
                "compare rows of one split, or train this one on the others' split",
            )


def _list_cases(runs: Sequence[ScoredRun]) -> set[str]:
    return {case for run in runs for case in run.scores}


def _find_patients(runs: Sequence[ScoredRun]) -> dict[str, str]:
    """The patient of each case."""
    return {case: run.groups.get(case, guess_group(case)) for run in runs for case in run.scores}


def _find_varied_keys(rows: Mapping[str, Sequence[ScoredRun]]) -> list[str]:
    """The settings that differ between rows, beside network and loss."""
    runs = [row[0] for row in rows.values()]
    keys = dict.fromkeys(key for run in runs for key in run.overrides)
    differing = [key for key in keys if len({format_setting(run, key) for run in runs}) > 1]
    return [key for key in differing if key not in ("network_name", "loss_name")]


def _collect_measures(
    rows: Mapping[str, Sequence[ScoredRun]], groups: Mapping[str, str]
) -> dict[str, dict[str, dict[str, float]]]:
    """Dice per measure, row and patient: of the foreground mean, and of each foreground class."""
    labels = next(iter(rows.values()))[0].labels
    tables = {name: _make_dice_table(runs, list(groups), list(labels)) for name, runs in rows.items()}
    is_known = np.any([~np.isnan(table) for table in tables.values()], axis=0)
    foreground = [index for index, value in enumerate(labels) if value != 0]
    measures: dict[str, dict[str, dict[str, float]]] = {FOREGROUND: {}}
    for name, table in tables.items():
        filled = np.where(np.isnan(table) & is_known, 1.0, table)
        cases = [average(case[foreground]) for case in filled]
        measures[FOREGROUND][name] = _average_by_patient(groups, cases)
        for index in foreground:
            label = list(labels.values())[index]
            measures.setdefault(label, {})[name] = _average_by_patient(groups, filled[:, index].tolist())
    # With one class the mean is that class.
    return measures if len(foreground) > 1 else {FOREGROUND: measures[FOREGROUND]}


def _make_dice_table(runs: Sequence[ScoredRun], cases: Sequence[str], values: Sequence[int]) -> NDArray[np.float64]:
    scores = {case: found for run in runs for case, found in run.scores.items()}
    return np.array([[scores[case][value]["dice"] for value in values] for case in cases])


def _average_by_patient(groups: Mapping[str, str], values: Iterable[float]) -> dict[str, float]:
    members: dict[str, list[float]] = {}
    for group, value in zip(groups.values(), values, strict=True):
        members.setdefault(group, []).append(value)
    return {group: average(found) for group, found in members.items()}


def explain_comparison(unit: str, part: str, has_folds: bool) -> tuple[str, ...]:
    """The sentences for one comparison.

    Args:
        unit: What the tests count, ``patient`` or ``case``.
        part: The part of the split that was scored.
        has_folds: Whether rows have folds.
    """
    sentences = [*_ALWAYS, *_TESTS, *([_FOLDS] if has_folds else []), *([_VALIDATION] if part == "validation" else [])]
    return tuple(sentence.format(unit=unit, counted=_COUNTED[unit]) for sentence in sentences)
