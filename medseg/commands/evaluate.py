"""`medseg evaluate`: parse, score, print."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import medseg
from medseg.errors import UsageError

SUMMARY = "score masks against reference masks"
EXAMPLE = "medseg evaluate masks references --output scores --report scores/report.html --images scans"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("masks", metavar="MASKS", help="folder of masks, or one mask")
    parser.add_argument("references", metavar="REFERENCES", help="folder of reference masks, one, or a data set")
    parser.add_argument("--output", metavar="FOLDER", help="write cases.csv, summary.csv and evaluation.json there")
    parser.add_argument("--held-out", metavar="SPLIT", help="a split.json, or a bundle's name: mark its test cases")
    parser.add_argument(
        "--missing", default="zero", choices=("zero", "skip", "error"), help="what a missing mask counts"
    )
    parser.add_argument("--background", action="store_true", help="count value 0 as a class, with a mean over all")
    parser.add_argument(
        "--slices", nargs="?", type=int, const=2, metavar="AXIS", help="score every slice along an axis (default: 2)"
    )
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="VALUE=CLASS",
        help="read a value of the references as another, such as 4=3",
    )
    parser.add_argument("--report", metavar="PAGE", help="write a self-contained HTML page")
    parser.add_argument("--images", metavar="SCANS", help="folder of the images, for pictures in the page")
    parser.add_argument(
        "--run", dest="run_folder", metavar="RUN", help="folder of the training, for its curves in the page"
    )
    parser.set_defaults(run=run_evaluate)


def run_evaluate(parsed: argparse.Namespace) -> int:
    """Score, print the tables, write the page; returns the exit code."""
    from medseg.evaluation.evaluate import EvaluateOptions
    from medseg.evaluation.figures.logs import read_epochs
    from medseg.evaluation.report import illustrate, write_report

    if parsed.run_folder:
        read_epochs(Path(parsed.run_folder) / "logs" / "epochs.csv")  # refused before the long work, not after it
    options = EvaluateOptions(
        held_out=_split_file(parsed.held_out),
        missing=parsed.missing,
        background=parsed.background,
        slices=parsed.slices,
        renamed=_renamed(parsed.map),
    )
    evaluation = medseg.evaluate(
        parsed.masks,
        parsed.references,
        output=parsed.output,
        options=options,
        progress=False if parsed.quiet else None,
    )
    print(evaluation.to_text())
    if parsed.report:
        pictures = illustrate(evaluation, parsed.images, parsed.masks, parsed.references) if parsed.images else {}
        page = write_report(evaluation, pictures, Path(parsed.report), "Evaluation", parsed.run_folder)
        print(f"page: {page}")
    return evaluation.exit_code


def _renamed(pairs: Sequence[str]) -> dict[int, int]:
    renamed: dict[int, int] = {}
    for pair in pairs:
        numbers = re.fullmatch(r"(\d+)=(\d+)", pair, re.ASCII)
        if numbers is None or int(numbers[1]) in renamed:
            problem = "is not VALUE=CLASS" if numbers is None else "names a value for the second time"
            raise UsageError("SETTING_INVALID", f"--map {pair}", problem, "write for example --map 4=3")
        renamed[int(numbers[1])] = int(numbers[2])
    return renamed


def _split_file(held_out: str | None) -> str | None:
    """A split's file, or that of a bundle: its own, or that of the form whose weights it ships."""
    if held_out is None or Path(held_out).is_file():
        return held_out
    from medseg.bundle.config import find_bundle

    configs = find_bundle(held_out) / "configs"
    own = configs / "split.json"
    return str(own if own.is_file() else next(configs.glob("split_*.json"), own))
