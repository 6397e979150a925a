"""`medseg compare`: parse, compare, print."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import medseg
from medseg.commands.settings import read_choices, read_settings
from medseg.errors import UsageError
from medseg.progress import Progress

if TYPE_CHECKING:
    from medseg.training.compare import Experiment, PlannedRun

SUMMARY = "set ways of training side by side"
EXAMPLE = (
    "medseg compare --bundle acdc_mr_segmentation --data ACDC --network unet,res-unet --loss focal,dice-ce \\\n"
    "      --folds 3 --output comparison\n"
    "  medseg compare comparison\n"
    "  medseg compare runs/my_run --data ACDC --figures figures"
)
_OF_TRAINING = ("network", "loss", "vary", "set", "folds", "epochs", "form", "new_split", "dry_run")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("runs", nargs="*", metavar="RUN", help="folders of scored runs, or folders that hold some")
    parser.add_argument("--bundle", metavar="BUNDLE", help="train this bundle, one row for each choice")
    parser.add_argument("--data", metavar="DATA", help="the data set; with RUNs: score those that are not scored")
    parser.add_argument("--output", metavar="FOLDER", help="for comparison.csv, .json, .html, .png, and the runs")
    parser.add_argument("--network", metavar="NAME,…", help="networks, such as unet,res-unet")
    parser.add_argument("--loss", metavar="NAME,…", help="losses, such as focal,dice-ce")
    parser.add_argument(
        "--vary", action="append", default=[], metavar="KEY=V1,V2", help="values of any key of configs/train.json"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a key of configs/train.json, for all rows"
    )
    parser.add_argument("--folds", type=int, metavar="N", help="train every row on each of N folds, by patient")
    parser.add_argument("--part", choices=("train", "validation", "test"), help="default: test; of folds, validation")
    parser.add_argument("--epochs", type=int, metavar="N", help="epochs in all, of every run")
    parser.add_argument("--form", metavar="NAME", help="another form of the bundle, such as small")
    parser.add_argument("--new-split", action="store_true", help="draw a split instead of using the bundle's own")
    parser.add_argument("--published", metavar="TABLE", help="a CSV of published numbers to set beside")
    parser.add_argument("--figures", metavar="FOLDER", help="draw every figure of each run there, as PNG")
    parser.add_argument("--dry-run", action="store_true", help="list the runs and how far they are; train nothing")
    parser.set_defaults(run=run_compare)


def run_compare(parsed: argparse.Namespace) -> int:
    """Train what is missing, or gather what there is; returns the exit code."""
    what: Experiment | list[str] = parsed.runs
    if parsed.bundle is not None:
        what = _experiment(parsed)
        if parsed.dry_run:
            return _list_runs(what, parsed.output)
    elif not parsed.runs:
        raise UsageError("NOTHING_TO_COMPARE", "medseg compare", "there are neither RUNs nor a --bundle", "name some")
    else:
        _check_no_training(parsed)
        _score(parsed)
    with Progress("compare", "run", parsed.quiet) as progress:

        def tell(run: PlannedRun, done: str, total: int) -> None:
            if done in ("training", "scoring"):
                progress.line(f"{run.name}: {done}")
            else:
                progress.step(total, f"{run.name}: {done}")

        found = medseg.compare(
            what, parsed.output, part=parsed.part, data=parsed.data, published=parsed.published, on_run=tell
        )
    print(found.to_text())
    if parsed.output:
        written = [f"comparison.{end}" for end in ("csv", "json", "html", "png")]
        print(f"files: {', '.join(name for name in written if Path(parsed.output, name).is_file())} in {parsed.output}")
    if parsed.figures:
        _draw(found.runs, parsed.figures, parsed.data)
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


def _experiment(parsed: argparse.Namespace) -> Experiment:
    from medseg.training.compare import Experiment
    from medseg.training.options import TrainOptions

    if parsed.runs or not parsed.data or not parsed.output:
        problem = f"runs are named as well: {parsed.runs[0]}" if parsed.runs else "--data or --output is not given"
        raise UsageError("NOTHING_TO_COMPARE", "--bundle", problem, "give --bundle, --data and --output, and no RUN")
    return Experiment(
        parsed.bundle,
        parsed.data,
        networks=_names(parsed.network),
        losses=_names(parsed.loss),
        vary=read_choices(parsed.vary),
        folds=parsed.folds,
        part=parsed.part,
        options=TrainOptions(
            epochs=parsed.epochs, settings=read_settings(parsed.set), form=parsed.form, new_split=parsed.new_split
        ),
    )


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip()) if text else ()


def _check_no_training(parsed: argparse.Namespace) -> None:
    """Refuse options that would be without effect."""
    for name in _OF_TRAINING:
        given: Any = getattr(parsed, name)
        if given:
            option = f"--{name.replace('_', '-')}"
            raise UsageError("SETTING_INVALID", option, "goes with --bundle, not with RUNs", "leave it out")


def _score(parsed: argparse.Namespace) -> None:
    if parsed.data:
        from medseg.training.compare import score_missing

        score_missing(parsed.runs, parsed.data, parsed.part)


def _list_runs(experiment: Experiment, output: str) -> int:
    from medseg.training.compare import plan_runs

    runs = plan_runs(experiment, output)
    for run in runs:
        print(f"{run.state:8} {run.name}")
    done = sum(run.state == "scored" for run in runs)
    print(f"{done} of {len(runs)} runs are scored; {len(runs) - done} would be trained or go on")
    return 0
