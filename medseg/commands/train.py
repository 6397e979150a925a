"""`medseg train`: parse, train, print."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import medseg
from medseg.commands.settings import read_settings
from medseg.errors import UsageError
from medseg.progress import Progress

if TYPE_CHECKING:
    from medseg.training.train import TrainingRun

SUMMARY = "train a bundle on a data set"
EXAMPLE = "medseg train hippocampus_mr_segmentation --data Task04_Hippocampus --output my_bundle --epochs 50"
VOLUMETRIC = "volumetric"
"""The form of a bundle that takes volumes whole."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("bundle", metavar="BUNDLE", help="a bundle's folder, or the name of one that medseg ships")
    parser.add_argument("--data", required=True, metavar="DATA", help="folder or CSV of images and labels")
    parser.add_argument("--output", metavar="RUN", help="folder of the trained bundle (default: runs/BUNDLE)")
    parser.add_argument("--epochs", type=int, metavar="N", help="epochs in all")
    parser.add_argument(
        "--network", metavar="NAME", help="unet, res-unet, attention-unet, attention-res-unet, or MONAI's"
    )
    parser.add_argument("--loss", metavar="NAME", help="dice-ce, focal, dice-focal, unified-focal, tversky, …")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any key of the bundle's configs/train.json, such as learning_rate=0.001",
    )
    parser.add_argument("--form", metavar="NAME", help="another form of the bundle, such as small")
    parser.add_argument(
        "--spatial-dims",
        type=int,
        choices=(2, 3),
        help="3: the form that takes volumes whole, where the bundle has one",
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in the output folder")
    parser.add_argument("--new-split", action="store_true", help="draw a split instead of using the bundle's own")
    parser.set_defaults(run=run_train)


def run_train(parsed: argparse.Namespace) -> int:
    """Train, tell of each epoch; returns the exit code."""
    from medseg.training.options import TrainOptions

    settings = read_settings(parsed.set)
    form = _form(parsed)
    options = TrainOptions(parsed.epochs, parsed.network, parsed.loss, settings, parsed.resume, parsed.new_split, form)
    output = Path(parsed.output or Path("runs") / Path(parsed.bundle).name)
    with (
        Progress("look at the data", "case", parsed.quiet) as looked,
        Progress("epoch", "step", parsed.quiet) as progress,
    ):
        steps = _Steps(output, progress)
        run = medseg.train(
            parsed.bundle,
            parsed.data,
            output,
            options=options,
            on_epoch=lambda record: progress.line(_epoch_line(record)),
            on_step=steps.show,
            on_case=lambda case, total: looked.count(total),
        )
    for note in run.notes if parsed.quiet else ():
        print(f"note: {note}")
    print(_kept_line(run))
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


def _kept_line(run: TrainingRun) -> str:
    """Which epoch's weights were kept, and for what."""
    extreme = "lowest" if run.selected_by == "val_loss" else "highest"
    dice = "" if run.selected_by == "val_mean_dice" else f", val_mean_dice {run.best_dice:.4f}"
    of = f"epoch {run.best_epoch} of {run.epochs}"
    return f"weights kept: {of}, {extreme} {run.selected_by} {run.best_metric:.4f}{dice}; {run.seconds:.0f} s"


def _form(parsed: argparse.Namespace) -> str | None:
    """The form that is asked for, by its name or by the number of axes."""
    if parsed.spatial_dims == 3 and parsed.form not in (None, VOLUMETRIC):
        problem = f"goes against --form {parsed.form}"
        raise UsageError("SETTING_INVALID", "--spatial-dims 3", problem, "leave one of them out")
    return VOLUMETRIC if parsed.spatial_dims == 3 else parsed.form


def _epoch_line(record: Mapping[str, Any]) -> str:
    numbers = {name: record[name] for name in ("loss", "train_mean_dice", "val_mean_dice") if record[name] is not None}
    told = "  ".join(f"{name.replace('_mean', '').replace('_', ' ')} {value:.4f}" for name, value in numbers.items())
    return f"epoch {record['epoch']:3d}  {told}  ({record['seconds'] or 0:.0f} s)"
