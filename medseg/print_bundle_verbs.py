"""Verbs for bundles on a terminal: train, compare, verify, export; each run, its progress and outcome told."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import medseg
from medseg.commands import CompareCommand, ExportCommand, TrainCommand, VerifyCommand
from medseg.errors import BundleError, MedsegError
from medseg.options import TrainOptions
from medseg.progress import Progress

if TYPE_CHECKING:
    from medseg.training.compare import Experiment, PlannedRun
    from medseg.training.train import TrainingRun


def run_train(command: TrainCommand) -> int:
    """Train, tell of each epoch; returns the exit code."""
    output = Path(command.output or Path("runs") / Path(command.bundle).name)
    with (
        Progress("look at the data", "case", command.quiet) as looked,
        Progress("epoch", "step", command.quiet) as progress,
    ):
        steps = _Steps(output, progress)
        run = medseg.train(
            command.bundle,
            command.data,
            output,
            options=command.options,
            on_epoch=lambda record: progress.line(_describe_epoch(record)),
            on_step=steps.show,
            on_case=lambda case, total: looked.count(total),
        )
    for note in run.notes if command.quiet else ():
        print(f"note: {note}")
    print(_describe_kept(run))
    print(f"trained bundle: {run.folder}\nnext: medseg predict {output} SCANS MASKS")
    return 0


class _Steps:
    """Shows how far an epoch is; before the first step, what is odd about the data or the settings."""

    def __init__(self, folder: Path, progress: Progress) -> None:
        self.folder, self.progress = folder, progress
        self.has_told_notes = False

    def show(self, step: int, length: int) -> None:
        """``step`` is done, of an epoch of ``length``."""
        if not self.has_told_notes:
            from medseg.training.run_folder import read_notes

            for note in read_notes(self.folder):
                self.progress.line(f"note: {note}")
            self.has_told_notes = True
        self.progress.to((step - 1) % length + 1, length)


def _describe_kept(run: TrainingRun) -> str:
    """Which epoch's weights were kept, and for what."""
    extreme = "lowest" if run.selected_by == "val_loss" else "highest"
    dice = "" if run.selected_by == "val_mean_dice" else f", val_mean_dice {run.best_dice:.4f}"
    of = f"epoch {run.best_epoch} of {run.epochs}"
    return f"weights kept: {of}, {extreme} {run.selected_by} {run.best_metric:.4f}{dice}; {run.seconds:.0f} s"


def _describe_epoch(record: Mapping[str, Any]) -> str:
    numbers = {name: record[name] for name in ("loss", "train_mean_dice", "val_mean_dice") if record[name] is not None}
    told = "  ".join(f"{name.replace('_mean', '').replace('_', ' ')} {value:.4f}" for name, value in numbers.items())
    return f"epoch {record['epoch']:3d}  {told}  ({record['seconds'] or 0:.0f} s)"


def run_compare(command: CompareCommand) -> int:
    """Train what is missing, or gather what there is; returns the exit code."""
    what: Experiment | Sequence[str] = command.runs
    if command.bundle is not None:
        what = _plan_experiment(command)
        if command.dry_run:
            return _list_runs(what, str(command.output))
    elif command.data:
        from medseg.training.compare import score_missing

        score_missing(command.runs, command.data, command.part)
    with Progress("compare", "run", command.quiet) as progress:

        def tell(run: PlannedRun, done: str, total: int) -> None:
            if done in ("training", "scoring"):
                progress.line(f"{run.name}: {done}")
            else:
                progress.step(total, f"{run.name}: {done}")

        found = medseg.compare(
            what, command.output, part=command.part, data=command.data, published=command.published, on_run=tell
        )
    print(found.to_text())
    if command.output:
        written = [f"comparison.{end}" for end in ("csv", "json", "html", "png")]
        print(
            f"files: {', '.join(name for name in written if Path(command.output, name).is_file())} in {command.output}"
        )
    if command.figures:
        _draw(found.runs, command.figures, command.data)
    return found.exit_code


def _draw(runs: Mapping[str, Sequence[Path]], output: str, data: str | None) -> None:
    """All figures of each run, in a folder for each; tells which could not be drawn."""
    from medseg.evaluation.figures.gallery import write_figures

    for row, folders in runs.items():
        for folder in folders:
            place = Path(output, row.strip("/"), *([folder.name] if len(folders) > 1 else []))
            drawn = write_figures(folder, place, data)
            print(f"figures: {', '.join(sorted(drawn.files))} in {place}")
            for name, reason in drawn.left_out.items():
                print(f"  {name} left out: {reason}")


def _plan_experiment(command: CompareCommand) -> Experiment:
    from medseg.training.compare import Experiment

    return Experiment(
        str(command.bundle),
        str(command.data),
        networks=command.networks,
        losses=command.losses,
        vary=command.vary,
        folds=command.folds,
        part=command.part,
        options=TrainOptions(
            epochs=command.epochs, settings=command.settings, form=command.form, new_split=command.new_split
        ),
    )


def _list_runs(experiment: Experiment, output: str) -> int:
    from medseg.training.compare import plan_runs

    runs = plan_runs(experiment, output)
    for run in runs:
        print(f"{run.state:8} {run.name}")
    done = sum(run.state == "scored" for run in runs)
    print(f"{done} of {len(runs)} runs are scored; {len(runs) - done} would be trained or go on")
    return 0


def run_verify(command: VerifyCommand) -> int:
    """Verify each bundle, print what was found; returns the exit code."""
    from medseg.bundle.verify import verify
    from medseg.errors import as_finding

    exit_code = 0
    for bundle in command.bundles:
        try:
            found = verify(bundle)
        except MedsegError as error:
            found = [as_finding(error)]
        errors = [finding for finding in found if not finding.is_note]
        exit_code = BundleError.exit_code if errors else exit_code
        print(f"{bundle}: {f'{len(errors)} errors' if errors else 'sound'}")
        for finding in errors if command.quiet else found:
            head = f"note: {finding.code}" if finding.is_note else finding.code
            print(f"  {head}\n    at   {finding.place}\n    what {finding.problem}\n    do   {finding.remedy}")
    return exit_code


def run_export(command: ExportCommand) -> int:
    """Export, tell of each step; returns the exit code."""

    def tell(step: str) -> None:
        if not command.quiet:
            print(f"{step} …", file=sys.stderr)

    done = medseg.export(command.bundle, command.output, to=command.to, allow=command.allow, on_step=tell)
    print(f"{done.description.name} {done.description.version} in {done.folder} ({done.bytes / 1e6:.1f} MB)")
    print(f"  logits: {done.logits_apart:.1g} of the largest apart from PyTorch's")
    print(f"  masks: {done.equal:.4%} of a phantom's voxels as the bundle has them")
    allowing = " --allow BUNDLE_RUNS_CODE" if command.to == "torchscript" else ""  # TorchScript is a program.
    print(f"next: medseg predict {done.folder} IMAGES MASKS{allowing}")
    return 0
