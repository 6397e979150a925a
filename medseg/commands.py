"""What is typed: the arguments of each verb of the command line, around the options that Python has as well."""

# ruff: noqa: RUF009 - `option` and `include` are dataclasses.field with the words of argparse, and share no state.
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any, ClassVar

from medseg.errors import UsageError
from medseg.options import (
    FORM,
    NEW_SPLIT,
    SPLIT_PARTS,
    TARGETS,
    CheckOptions,
    EvaluateOptions,
    PredictOptions,
    TrainOptions,
    option,
)

VOLUMETRIC = "volumetric"
"""The form of a bundle that takes volumes whole."""

_BUNDLE = "a bundle's folder, or the name of one that medseg ships"


def argument(metavar: str, text: str, default: Any = MISSING, **words: Any) -> Any:
    """A field that is given by its place on the command line.

    Args:
        metavar: What stands for it in the help.
        text: Its help.
        default: What is taken where it may be left out.
        **words: What argparse is told besides, such as ``nargs``.
    """
    return field(default=default, metadata={"flag": "", "metavar": metavar, "help": text, **words})


def include(group: Callable[[], Any]) -> Any:
    """A field that holds another dataclass, each option of which is typed as one of the verb's own."""
    return field(default_factory=group, metadata={"group": group})


@dataclass(frozen=True, kw_only=True)
class Command:
    """What every verb takes on the command line; ``summary`` and ``example`` stand in its help."""

    summary: ClassVar[str]
    example: ClassVar[str]

    quiet: bool = option(False, "--quiet", "no progress")


@dataclass(frozen=True, kw_only=True)
class PredictCommand(Command):
    """`medseg predict`."""

    summary = "segment an image or a folder of images"
    example = "medseg predict hippocampus_mr_segmentation scans masks --tta"

    bundle: str = argument("BUNDLE", _BUNDLE)
    images: str = argument("INPUT", "image, folder (nested, any formats), DICOM case, or a list")
    output: str = argument("OUTPUT", "folder for the masks")
    options: PredictOptions = include(PredictOptions)
    dry_run: bool = option(False, "--dry-run", "print windows, memory and time; write nothing")
    allow: tuple[str, ...] = option((), "--allow CODE", "accept an error, such as BUNDLE_RUNS_CODE", action="append")


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand(Command):
    """`medseg evaluate`."""

    summary = "score masks against reference masks"
    example = "medseg evaluate masks references --output scores --report scores/report.html --images scans"

    masks: str = argument("MASKS", "folder of masks, or one mask")
    references: str = argument("REFERENCES", "folder of reference masks, one, or a data set")
    output: str | None = option(None, "--output FOLDER", "write cases.csv, summary.csv and evaluation.json there")
    options: EvaluateOptions = include(EvaluateOptions)
    report: str | None = option(None, "--report PAGE", "write a self-contained HTML page")
    images: str | None = option(None, "--images SCANS", "folder of the images, for pictures in the page")
    run_folder: str | None = option(None, "--run RUN", "folder of the training, for its curves in the page")


@dataclass(frozen=True, kw_only=True)
class TrainCommand(Command):
    """`medseg train`.

    Raises:
        UsageError: SETTING_INVALID: two forms are asked for.
    """

    summary = "train a bundle on a data set"
    example = "medseg train hippocampus_mr_segmentation --data Task04_Hippocampus --output my_bundle --epochs 50"

    bundle: str = argument("BUNDLE", _BUNDLE)
    data: str = option(MISSING, "--data DATA", "folder or CSV of images and labels")
    output: str | None = option(None, "--output RUN", "folder of the trained bundle (default: runs/BUNDLE)")
    options: TrainOptions = include(TrainOptions)
    spatial_dims: int | None = option(
        None, "--spatial-dims", "3: the form that takes volumes whole, where there is one", choices=(2, 3), type=int
    )

    def __post_init__(self) -> None:
        if self.spatial_dims != 3:
            return
        if self.options.form not in (None, VOLUMETRIC):
            problem = f"goes against --form {self.options.form}"
            raise UsageError("SETTING_INVALID", "--spatial-dims 3", problem, "leave one of them out")
        object.__setattr__(self, "options", replace(self.options, form=VOLUMETRIC))


@dataclass(frozen=True, kw_only=True)
class CompareCommand(Command):
    """`medseg compare`: folders of runs, or a bundle to be trained in several ways.

    Raises:
        UsageError: NOTHING_TO_COMPARE, or SETTING_INVALID: an option of training beside folders of runs.
    """

    summary = "set ways of training side by side"
    example = """\
medseg compare --bundle acdc_mr_segmentation --data ACDC --network unet,res-unet --loss focal,dice-ce \\
      --folds 3 --output comparison
  medseg compare comparison
  medseg compare runs/my_run --data ACDC --figures figures"""
    of_training: ClassVar[tuple[str, ...]] = (
        *("networks", "losses", "vary", "settings", "folds", "epochs", "form", "new_split", "dry_run"),
    )

    runs: tuple[str, ...] = argument("RUN", "folders of scored runs, or folders that hold some", (), nargs="*")
    bundle: str | None = option(None, "--bundle BUNDLE", "train this bundle, one row for each choice")
    data: str | None = option(None, "--data DATA", "the data set; with RUNs: score those that are not scored")
    output: str | None = option(None, "--output FOLDER", "for comparison.csv, .json, .html, .png, and the runs")
    networks: tuple[str, ...] = option((), "--network NAME,…", "networks, such as unet,res-unet")
    losses: tuple[str, ...] = option((), "--loss NAME,…", "losses, such as focal,dice-ce")
    vary: Mapping[str, tuple[Any, ...]] = option(
        dict, "--vary KEY=V1,V2", "values of any key of configs/train.json", action="append"
    )
    settings: Mapping[str, Any] = option(
        dict, "--set KEY=VALUE", "a key of configs/train.json, for all rows", action="append"
    )
    folds: int | None = option(None, "--folds N", "train every row on each of N folds, by patient")
    part: str | None = option(None, "--part", "default: test; of folds, validation", choices=SPLIT_PARTS)
    epochs: int | None = option(None, "--epochs N", "epochs in all, of every run")
    form: str | None = option(None, "--form NAME", FORM)
    new_split: bool = option(False, "--new-split", NEW_SPLIT)
    published: str | None = option(None, "--published TABLE", "a CSV of published numbers to set beside")
    figures: str | None = option(None, "--figures FOLDER", "draw every figure of each run there, as PNG")
    dry_run: bool = option(False, "--dry-run", "list the runs and how far they are; train nothing")

    def __post_init__(self) -> None:
        if self.bundle is None:
            self._check_runs()
        elif self.runs or not self.data or not self.output:
            problem = f"runs are named as well: {self.runs[0]}" if self.runs else "--data or --output is not given"
            remedy = "give --bundle, --data and --output, and no RUN"
            raise UsageError("NOTHING_TO_COMPARE", "--bundle", problem, remedy)

    def _check_runs(self) -> None:
        """Refuse a comparison of nothing, and options that would be without effect on runs that are there."""
        if not self.runs:
            raise UsageError(
                "NOTHING_TO_COMPARE", "medseg compare", "there are neither RUNs nor a --bundle", "name some"
            )
        for item in fields(self):
            if item.name in self.of_training and getattr(self, item.name):
                raise UsageError(
                    "SETTING_INVALID", item.metadata["flag"], "goes with --bundle, not with RUNs", "leave it out"
                )


@dataclass(frozen=True, kw_only=True)
class CheckCommand(Command):
    """`medseg check`."""

    summary = "list all that is wrong or odd with a data set"
    example = "medseg check Task04_Hippocampus --bundle hippocampus_mr_segmentation --json findings.json"

    data: str = argument("DATA", "folder of images and masks, of images alone, of DICOM, or a list")
    options: CheckOptions = include(CheckOptions)
    json: str | None = option(None, "--json FILE", "write everything there")
    all: bool = option(False, "--all", "print every case of every finding")


@dataclass(frozen=True, kw_only=True)
class DemoCommand(Command):
    """`medseg demo`."""

    summary = "segment and score synthetic scans, with a page of pictures"
    example = "medseg demo"

    output: str = option("demo-output", "--output FOLDER", "default: demo-output")


@dataclass(frozen=True, kw_only=True)
class VerifyCommand(Command):
    """`medseg bundle verify`."""

    summary = "check that bundles are what they say, without running their code"
    example = "medseg bundle verify hippocampus_mr_segmentation my_bundle"

    bundles: tuple[str, ...] = argument("BUNDLE", "a bundle's folder, or the name of one shipped", nargs="+")


@dataclass(frozen=True, kw_only=True)
class ExportCommand(Command):
    """`medseg bundle export`."""

    summary = "export a bundle whole, so that it predicts without PyTorch"
    example = "medseg bundle export hippocampus_mr_segmentation hippocampus --to openvino"

    bundle: str = argument("BUNDLE", _BUNDLE)
    output: str = argument("OUTPUT", "the exported bundle's folder; must not be there yet")
    to: str = option(MISSING, "--to", "what will run the network", choices=TARGETS)
    allow: tuple[str, ...] = option((), "--allow CODE", "accept an error code knowingly", action="append")
