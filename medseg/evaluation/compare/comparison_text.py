"""A comparison as tables for a terminal of 100 columns."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from medseg.evaluation.compare.paired_tests import PairedTest
from medseg.evaluation.compare.published import Beside
from medseg.evaluation.compare.rows import SHOWN, ComparedRow
from medseg.evaluation.summaries import FOREGROUND
from medseg.text import WIDTH, format_chance, format_count, format_duration, format_number, make_printable, pluralise

if TYPE_CHECKING:
    from medseg.evaluation.compare.gather import Comparison

NAME = 28
TESTS_SHOWN = 20
NONE = "–"
NONE_FITS = f"{NONE}: none fits. A row of ours fits a published one if it has all parts of its name, brackets apart."


def comparison_text(comparison: Comparison) -> str:
    """The tables: rows, runs, classes, paired tests, published numbers, rows left out."""
    lines = [
        *_wrapped(headline(comparison)),
        *_row_lines(comparison.rows),
        *_run_lines(comparison.rows),
        *_class_lines(comparison.rows),
        *_test_lines(comparison),
        *_beside_lines(comparison),
        *_failure_lines(comparison),
    ]
    return "\n".join(lines) + "\n"


def headline(comparison: Comparison) -> str:
    """What was compared, in one sentence."""
    scored = f"{comparison.part} part" + (f" of {comparison.folds} folds" if comparison.folds else "")
    rows, cases = pluralise(len(comparison.rows), "row"), pluralise(comparison.cases, "case")
    patients = f" of {pluralise(comparison.units, 'patient')}" if comparison.unit == "patient" else ""
    return f"{rows} of {', '.join(comparison.bundles)}: {scored}, {cases}{patients}"


def beside_cells(each: Beside) -> tuple[str, str, str, str, str]:
    """A published number, our mean and its difference, our pooled value and its difference."""
    value, decimals = each.published.value, 4 if each.published.metric in (*SHOWN, "loss") else 0
    return (
        _fixed(value, decimals),
        _fixed(each.mean, decimals),
        _fixed(each.mean - value, decimals, "+"),
        _fixed(each.pooled, decimals),
        _fixed(each.pooled - value, decimals, "+"),
    )


def _row_lines(rows: Sequence[ComparedRow]) -> Iterator[str]:
    yield ""
    yield f"{'Foreground mean':{NAME}}      {' mean over cases ':─^41}  {' folds ':─^13}  {'pooled':>6}"
    yield (
        f"{'row':{NAME}} {'rank':>4}  {'Dice ± sd':13}  {'IoU':>5}  {'prec.':>5}  {'recall':>6}  {'acc.':>5}  "
        f"{'Dice ± sd':13}  {'Dice':>6}"
    )
    for row in rows:
        scores = row.of(FOREGROUND).metrics
        dice = scores["dice"]
        yield (
            f"{_cut(row.name):{NAME}} {_fixed(row.rank, 2):>4}  {_spread(dice.mean, dice.sd)}  "
            f"{format_number(scores['iou'].mean):>5}  {format_number(scores['precision'].mean):>5}  "
            f"{format_number(scores['recall'].mean):>6}  {format_number(scores['accuracy'].mean):>5}  "
            f"{_spread(dice.fold_mean, dice.fold_sd)}  {format_number(dice.pooled):>6}"
        )


def _run_lines(rows: Sequence[ComparedRow]) -> Iterator[str]:
    yield ""
    yield (
        f"{'Training (mean of runs)':{NAME}} {'runs':>4}  {'val. loss ± sd':17}  {'epochs':>6}  {'best':>6}  "
        f"{'time':>9}  {'parameters':>12}"
    )
    for row in rows:
        loss, sd = row.training["val_loss"]
        shown = "–" if math.isnan(loss) else f"{loss:.4f} ± {_fixed(sd, 4)}"
        yield (
            f"{_cut(row.name):{NAME}} {row.folds:>4}  {shown:17}  {format_count(row.training['epochs'][0]):>6}  "
            f"{format_count(row.training['best_epoch'][0]):>6}  {format_duration(row.training['seconds'][0]):>9}  "
            f"{format_count(row.training['parameters'][0]):>12}"
        )
        if row.varied:
            yield from _wrapped(", ".join(f"{key} = {value}" for key, value in row.varied.items()), "  ")


def _class_lines(rows: Sequence[ComparedRow]) -> Iterator[str]:
    for index, shown in enumerate(rows[0].classes):
        if shown.name == FOREGROUND:
            continue
        yield ""
        yield f"{_cut(shown.name):{NAME}}             {' mean over cases ':─^41}  {' pooled ':─^12}"
        yield (
            f"{'row':{NAME}} {'n':>4} {'empty':>5}  {'Dice ± sd':13}  {'IoU':>5}  {'prec.':>5}  {'recall':>6}  "
            f"{'acc.':>5}  {'Dice':>5}  {'IoU':>5}"
        )
        for row in rows:
            scores = row.classes[index]
            metrics, dice = scores.metrics, scores.metrics["dice"]
            yield (
                f"{_cut(row.name):{NAME}} {dice.n:>4} {scores.empty:>5}  {_spread(dice.mean, dice.sd)}  "
                f"{format_number(metrics['iou'].mean):>5}  {format_number(metrics['precision'].mean):>5}  "
                f"{format_number(metrics['recall'].mean):>6}  {format_number(metrics['accuracy'].mean):>5}  "
                f"{format_number(dice.pooled):>5}  {format_number(metrics['iou'].pooled):>5}"
            )


def _test_lines(comparison: Comparison) -> Iterator[str]:
    if not comparison.tests:
        return
    yield ""
    yield f"{'Paired tests (Dice)':57} {'n':>4}  {'median difference':23} {'p (Holm)':>8}"
    shown = _shown_tests(comparison.tests)
    for measure in dict.fromkeys(test.measure for test in shown):
        yield _cut(measure)
        yield from (_test_line(test) for test in shown if test.measure == measure)
    if len(comparison.tests) > len(shown):
        yield f"  and {len(comparison.tests) - len(shown)} more, in comparison.json and comparison.html"
    least = min(test.n for test in comparison.tests)
    told = f"n: {comparison.unit}s. Of {pluralise(least, comparison.unit)} no p before correction is below"
    yield from _wrapped(
        "p: Wilcoxon's signed-rank test, corrected by Holm over the pairs of a measure; interval: 95 %, bootstrap; "
        f"{told} {2 / 2.0**least:.2g}." + (" Folds share training cases." if comparison.folds else "")
    )


def _shown_tests(tests: Sequence[PairedTest]) -> list[PairedTest]:
    """The tests of the first measures that have room, whole measures but for the first."""
    shown: list[PairedTest] = []
    for measure in dict.fromkeys(test.measure for test in tests):
        found = [test for test in tests if test.measure == measure]
        if shown and len(shown) + len(found) > TESTS_SHOWN:
            break
        shown += found[:TESTS_SHOWN]
    return shown


def _test_line(test: PairedTest) -> str:
    pair = f"{_cut(test.first, 26)} − {_cut(test.second, 26)}"
    interval = f"[{_signed(test.low)}, {_signed(test.high)}]"
    return f"  {pair:55} {test.n:>4}  {_signed(test.median_difference)} {interval:16} {format_chance(test.p_holm):>8}"


def beside_groups(comparison: Comparison) -> list[tuple[str, str, list[Beside]]]:
    """Published row, our row and their numbers; a name is empty where none fits, last of them ours without a match."""
    groups: dict[tuple[str, str], list[Beside]] = {}
    for each in comparison.beside:
        groups.setdefault((each.published.row, each.row), []).append(each)
    groups |= {("", row): [] for row in comparison.alone}
    return [(*names, numbers) for names, numbers in groups.items()]


def _beside_lines(comparison: Comparison) -> Iterator[str]:
    if not comparison.beside:
        return
    yield ""
    yield f"{'Beside the published':62} {' our mean ':─^18} {' our pooled ':─^18}"
    ours = f"{'value':>8} {'differs':>9}"
    yield f"{'published row → our row':40} {'metric':10} {'published':>10} {ours} {ours}"
    groups = beside_groups(comparison)
    for theirs, our, numbers in groups:
        yield f"{_cut(theirs, 56) or NONE} → {_cut(our, 40) or NONE}"
        yield from (_beside_line(each) for each in numbers)
    if not all(theirs and our for theirs, our, _ in groups):
        yield NONE_FITS
    for remark in comparison.remarks:
        yield from _wrapped(remark)


def _beside_line(each: Beside) -> str:
    published, mean, differs, pooled, pooled_differs = beside_cells(each)
    return (
        f"  {_cut(each.class_name, 38):38} {each.published.metric:10} {published:>10} "
        f"{mean:>8} {differs:>9} {pooled:>8} {pooled_differs:>9}"
    )


def _failure_lines(comparison: Comparison) -> Iterator[str]:
    if comparison.failures:
        yield ""
        yield f"Left out: {len(comparison.failures)}"
        for failure in comparison.failures:
            yield from _wrapped(f"{failure.case}: {failure.code}: {failure.text}", "- ")
            yield from _remedy_lines(failure.remedy)


def _remedy_lines(remedy: str) -> list[str]:
    """On lines of their own and with paths whole, for it may be a command to copy."""
    wrapper = textwrap.TextWrapper(
        WIDTH, initial_indent="  ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    return wrapper.wrap(make_printable(remedy))


def _spread(mean: float, sd: float) -> str:
    return f"{format_number(mean):>5} ± {format_number(sd):5}"


def _signed(value: float) -> str:
    return f"{_fixed(value, 3, '+'):>6}"


def _fixed(value: float, decimals: int, sign: str = "") -> str:
    return "–" if math.isnan(value) else f"{value:{sign}.{decimals}f}"


def _cut(text: str, most: int = NAME) -> str:
    text = make_printable(text)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _wrapped(text: str, first: str = "") -> list[str]:
    return textwrap.wrap(make_printable(text), WIDTH, initial_indent=first, subsequent_indent=" " * len(first))
