"""Verbs for scans and masks on a terminal: predict, evaluate, check, demo; each run, its progress and outcome told."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import medseg
from medseg.commands import CheckCommand, DemoCommand, EvaluateCommand, PredictCommand
from medseg.progress import Progress
from medseg.text import pluralise

if TYPE_CHECKING:
    from medseg.inference.predict import CaseRecord


def run_predict(command: PredictCommand) -> int:
    """Predict, tell of each case; returns the exit code."""
    if command.dry_run:
        return _dry_run(command)
    with Progress("predict", "case", command.quiet) as progress:

        def tell(record: CaseRecord, total: int) -> None:
            progress.step(total, f"{record.case}: {record.mask or 'failed'} ({record.seconds:.1f} s)")
            if record.notes and not command.quiet:
                progress.line(f"note: {record.case}: {record.notes}")

        found = medseg.predict(
            command.bundle,
            command.images,
            command.output,
            options=command.options,
            allow=command.allow,
            on_case=tell,
            on_window=progress.within,
        )
    for record in found.failed:
        _tell_failure(record.case, record.error or {})
    done = len(found.records) - len(found.failed)
    print(f"{done} of {len(found.records)} masks in {found.output} ({found.seconds:.1f} s); record: predictions.json")
    return found.exit_code


def _dry_run(command: PredictCommand) -> int:
    """Print what predicting would take; returns the exit code."""
    from medseg.inference.dry_run import dry_run, format_plans

    found = dry_run(command.bundle, command.images, options=command.options, allow=command.allow)
    for case, error in found.failed.items():
        _tell_failure(case, error.to_record())
    for line in format_plans(found):
        print(line)
    return found.exit_code


def _tell_failure(case: str, error: Mapping[str, str]) -> None:
    print(f"failed: {case}: {error['code']}: {error['problem']}; {error['remedy']}", file=sys.stderr)


def run_evaluate(command: EvaluateCommand) -> int:
    """Score, print the tables, write the page; returns the exit code."""
    from medseg.evaluation.html_report import illustrate, write_report
    from medseg.evaluation.runs import read_epochs

    if command.run_folder:
        read_epochs(Path(command.run_folder) / "logs" / "epochs.csv")  # refused before the long work, not after it
    options, held_out = command.options, command.options.held_out
    if isinstance(held_out, str):
        options = replace(options, held_out=_find_split_file(held_out))
    evaluation = medseg.evaluate(
        command.masks,
        command.references,
        output=command.output,
        options=options,
        progress=False if command.quiet else None,
    )
    print(evaluation.to_text())
    if command.report:
        pictures = illustrate(evaluation, command.images, command.masks, command.references) if command.images else {}
        page = write_report(evaluation, pictures, Path(command.report), "Evaluation", command.run_folder)
        print(f"page: {page}")
    return evaluation.exit_code


def _find_split_file(held_out: str) -> str:
    """A split's file, or that of a bundle: its own, or that of the form whose weights it ships."""
    if Path(held_out).is_file():
        return held_out
    from medseg.bundle.config import find_bundle

    configs = find_bundle(held_out) / "configs"
    own = configs / "split.json"
    return str(own if own.is_file() else next(configs.glob("split_*.json"), own))


def run_check(command: CheckCommand) -> int:
    """Examine, print the findings, write the files; returns the exit code."""
    from medseg.checking.check_report import format_report
    from medseg.files import write_json

    with Progress("check", "case", command.quiet) as looked, Progress("copy", "case", command.quiet) as copied:
        report = medseg.check(
            command.data,
            **vars(command.options),
            on_case=lambda case, total: looked.count(total),
            on_copied=lambda case, total: copied.count(total),
        )
    print(format_report(report, lists_all=command.all))
    if report.copy:
        copy = report.copy
        told = f"{pluralise(copy.cases, 'case')}, {copy.changed} corrected, {copy.left_out} left out"
        told += f", {copy.straightened} resampled onto perpendicular axes" if command.options.straighten else ""
        print(f"copy: {command.options.fix}: {told}; {copy.with_errors} of the copy still with errors; fix_log.json")
    if command.json:
        write_json(report.to_record(), Path(command.json))
        print(f"findings: {command.json}")
    return report.exit_code


def run_demo(command: DemoCommand) -> int:
    """Run the demonstration, print its scores; returns the exit code."""
    tell = (lambda text: None) if command.quiet else (lambda text: print(text, flush=True))
    shown = medseg.demo(command.output, tell=tell)
    print(shown.evaluation.to_text())
    print(f"\nopen this page in a browser: {shown.page.resolve()}")
    return shown.evaluation.exit_code
