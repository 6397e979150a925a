"""A comparison as tables for a terminal of 100 columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from medseg.evaluation.compare.paired_tests import PairedTest
from medseg.evaluation.compare.published import Beside
from medseg.evaluation.compare.rows import ComparedRow, MetricSpread
from medseg.evaluation.metrics import COMPARED, DICE, METRICS, POOLED, POOLED_COLUMNS
from medseg.evaluation.summaries import FOREGROUND
from medseg.text import (
    DASH,
    Column,
    draw_rule,
    format_chance,
    format_count,
    format_duration,
    format_number,
    join_cells,
    join_titles,
    pluralise,
    shorten,
    wrap,
)

if TYPE_CHECKING:
    from medseg.evaluation.compare.gather import Comparison

ROW_WIDTH = 28
TESTS_SHOWN = 20
NONE_FITS = f"{DASH}: none fits. A row of ours fits a published one if it has all parts of its name, brackets apart."

SPREAD = Column("Dice ± sd", 13, is_left=True)
COMPARED_COLUMNS = (SPREAD, *(METRICS[name].column for name in COMPARED[1:]))
ROW_COLUMNS = (Column("row", ROW_WIDTH, is_left=True), Column("rank", 4, gap=1))
CLASS_COLUMNS = (Column("row", ROW_WIDTH, is_left=True), Column("n", 4, gap=1), Column("empty", 5, gap=1))
RUN_COLUMNS = (
    Column("Training (mean of runs)", ROW_WIDTH, is_left=True),
    Column("runs", 4, gap=1),
    Column("val. loss ± sd", 17, is_left=True),
    Column("epochs", 6),
    Column("best", 6),
    Column("time", 9),
    Column("parameters", 12),
)
TEST_COLUMNS = (
    Column("Paired tests (Dice)", 57, is_left=True),
    Column("n", 4, gap=1),
    Column("median difference", 23, is_left=True),
    Column("p (Holm)", 8, gap=1),
)
BESIDE_COLUMNS = (
    Column("published row → our row", 40, is_left=True),
    Column("metric", 10, is_left=True, gap=1),
    Column("published", 10, gap=1),
    *(Column("value", 8, gap=1), Column("differs", 9, gap=1)) * 2,
)


def format_comparison(comparison: Comparison) -> str:
    """The tables: rows, runs, classes, paired tests, published numbers, rows left out."""
    lines = [
        *wrap(make_headline(comparison)),
        *_write_rows(comparison.rows),
        *_write_runs(comparison.rows),
        *_write_classes(comparison.rows),
        *_write_tests(comparison),
        *_write_beside(comparison),
        *_write_failures(comparison),
    ]
    return "\n".join(lines) + "\n"


def make_headline(comparison: Comparison) -> str:
    """What was compared, in one sentence."""
    scored = f"{comparison.part} part" + (f" of {comparison.folds} folds" if comparison.folds else "")
    rows, cases = pluralise(len(comparison.rows), "row"), pluralise(comparison.cases, "case")
    patients = f" of {pluralise(comparison.units, 'patient')}" if comparison.unit == "patient" else ""
    return f"{rows} of {', '.join(comparison.bundles)}: {scored}, {cases}{patients}"


def format_beside(each: Beside) -> tuple[str, str, str, str, str]:
    """A published number, our mean and its difference, our pooled value and its difference."""
    value, decimals = each.published.value, 4 if each.published.metric in (*COMPARED, "loss") else 0
    return (
        format_number(value, decimals),
        format_number(each.mean, decimals),
        format_number(each.mean - value, decimals, "+"),
        format_number(each.pooled, decimals),
        format_number(each.pooled - value, decimals, "+"),
    )


def _write_rows(rows: Sequence[ComparedRow]) -> Iterator[str]:
    yield ""
    mean, folds = _draw_mean_rule(COMPARED_COLUMNS), draw_rule("folds", SPREAD.width)
    yield f"{'Foreground mean':{ROW_WIDTH}}      {mean}  {folds}  {'pooled':>6}"
    columns = (*ROW_COLUMNS, *COMPARED_COLUMNS, SPREAD, Column(DICE.title, 6))
    yield join_titles(columns)
    for row in rows:
        metrics = row.of(FOREGROUND).metrics
        dice = metrics["dice"]
        head = [shorten(row.name, ROW_WIDTH), format_number(row.rank, 2)]
        yield join_cells(
            columns,
            [*head, *_list_means(metrics), _join_spread(dice.fold_mean, dice.fold_sd), DICE.format(dice.pooled)],
        )


def _write_runs(rows: Sequence[ComparedRow]) -> Iterator[str]:
    yield ""
    yield join_titles(RUN_COLUMNS)
    for row in rows:
        loss, sd = row.training["val_loss"]
        shown = DASH if math.isnan(loss) else f"{loss:.4f} ± {format_number(sd, 4)}"
        means = {key: mean for key, (mean, _) in row.training.items()}
        counts = [format_count(means["epochs"]), format_count(means["best_epoch"])]
        rest = [format_duration(means["seconds"]), format_count(means["parameters"])]
        yield join_cells(RUN_COLUMNS, [shorten(row.name, ROW_WIDTH), str(row.folds), shown, *counts, *rest])
        if row.varied:
            yield from wrap(", ".join(f"{key} = {value}" for key, value in row.varied.items()), "  ")


def _write_classes(rows: Sequence[ComparedRow]) -> Iterator[str]:
    mean, pooled = _draw_mean_rule(COMPARED_COLUMNS), draw_rule("pooled", len(join_titles(POOLED_COLUMNS)))
    columns = (*CLASS_COLUMNS, *COMPARED_COLUMNS, *POOLED_COLUMNS)
    for index, shown in enumerate(rows[0].classes):
        if shown.name == FOREGROUND:
            continue
        yield ""
        yield f"{shorten(shown.name, ROW_WIDTH):{ROW_WIDTH}}             {mean}  {pooled}"
        yield join_titles(columns)
        for row in rows:
            scores = row.classes[index]
            head = [shorten(row.name, ROW_WIDTH), str(scores.metrics["dice"].n), str(scores.empty)]
            numbers = [METRICS[name].format(scores.metrics[name].pooled) for name in POOLED]
            yield join_cells(columns, [*head, *_list_means(scores.metrics), *numbers])


def _draw_mean_rule(columns: Sequence[Column]) -> str:
    return draw_rule("mean over cases", len(join_titles(columns)) - 1)


def _list_means(metrics: Mapping[str, MetricSpread]) -> list[str]:
    """The means over cases, of Dice with its spread."""
    others = [METRICS[name].format(metrics[name].mean) for name in COMPARED[1:]]
    return [_join_spread(metrics["dice"].mean, metrics["dice"].sd), *others]


def _join_spread(mean: float, sd: float) -> str:
    return f"{DICE.format(mean):>5} ± {DICE.format(sd):5}"


def _write_tests(comparison: Comparison) -> Iterator[str]:
    if not comparison.tests:
        return
    yield ""
    yield join_titles(TEST_COLUMNS)
    shown = 0
    for measure, tests in comparison.tests_by_measure.items():
        # Whole measures as long as there is room, but always the first.
        if shown and shown + len(tests) > TESTS_SHOWN:
            break
        yield shorten(measure, ROW_WIDTH)
        yield from map(_write_test, tests[:TESTS_SHOWN])
        shown += len(tests[:TESTS_SHOWN])
    if len(comparison.tests) > shown:
        yield f"  and {len(comparison.tests) - shown} more, in comparison.json and comparison.html"
    least = min(test.n for test in comparison.tests)
    told = f"n: {comparison.unit}s. Of {pluralise(least, comparison.unit)} no p before correction is below"
    yield from wrap(
        "p: Wilcoxon's signed-rank test, corrected by Holm over the pairs of a measure; interval: 95 %, bootstrap; "
        f"{told} {2 / 2.0**least:.2g}." + (" Folds share training cases." if comparison.folds else "")
    )


def _write_test(test: PairedTest) -> str:
    difference, low, high = (f"{format_number(v, 3, '+'):>6}" for v in (test.median_difference, test.low, test.high))
    pair = f"  {shorten(test.first, 26)} − {shorten(test.second, 26)}"
    return join_cells(TEST_COLUMNS, [pair, str(test.n), f"{difference} [{low}, {high}]", format_chance(test.p_holm)])


def group_beside(comparison: Comparison) -> list[tuple[str, str, list[Beside]]]:
    """Published row, our row and their numbers; a name is empty where none fits, last of them ours without a match."""
    groups: dict[tuple[str, str], list[Beside]] = {}
    for each in comparison.beside:
        groups.setdefault((each.published.row, each.row), []).append(each)
    groups |= {("", row): [] for row in comparison.alone}
    return [(*names, numbers) for names, numbers in groups.items()]


def _write_beside(comparison: Comparison) -> Iterator[str]:
    if not comparison.beside:
        return
    yield ""
    yield f"{'Beside the published':62} {draw_rule('our mean', 18)} {draw_rule('our pooled', 18)}"
    yield join_titles(BESIDE_COLUMNS)
    groups = group_beside(comparison)
    for theirs, our, numbers in groups:
        yield f"{shorten(theirs, 56) or DASH} → {shorten(our, 40) or DASH}"
        for each in numbers:
            head = f"  {shorten(each.class_name, 38)}"
            yield join_cells(BESIDE_COLUMNS, [head, each.published.metric, *format_beside(each)])
    if not all(theirs and our for theirs, our, _ in groups):
        yield NONE_FITS
    for remark in comparison.remarks:
        yield from wrap(remark)


def _write_failures(comparison: Comparison) -> Iterator[str]:
    if comparison.failures:
        yield ""
        yield f"Left out: {len(comparison.failures)}"
        for failure in comparison.failures:
            yield from wrap(f"{failure.case}: {failure.code}: {failure.problem}", "- ")
            # On lines of its own and with paths whole, for it may be a command to copy.
            yield from wrap(failure.remedy, "  ", keeps_words=True)
