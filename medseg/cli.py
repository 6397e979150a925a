"""The command line: parse, call the function of the same name, print what came out."""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import medseg
from medseg.errors import MedsegError, UsageError, first_line
from medseg.progress import Progress

if TYPE_CHECKING:
    from medseg.inference.cohort import CaseRecord

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code.

    0 all went well, 1 some cases failed, 2 the command is wrong, 3 no input, 4 the model is
    refused, 5 the output cannot be written, 6 another run holds the folder, 130 interrupted.
    """
    parsed = _parser().parse_args(arguments)
    _hush_libraries()
    try:
        exit_code = parsed.run(parsed)
        sys.stdout.flush()
        return exit_code
    except MedsegError as error:
        print(
            f"medseg: {error.code}\n  at   {error.case}\n  what {error.problem}\n  do   {error.remedy}", file=sys.stderr
        )
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output has seen enough (`medseg evaluate … | head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("medseg: interrupted; what was finished is kept", file=sys.stderr)
        return INTERRUPTED


def _hush_libraries() -> None:
    """Leave out what libraries say of themselves and no user can act on."""
    for name in ("monai.data.nvimgcodec_pydicom_plugin", "ignite"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="medseg",
        description="Medical image segmentation with MONAI bundles: masks that can be trusted.",
        epilog="example: medseg predict hippocampus_mr_segmentation scans masks && medseg evaluate masks references",
    )
    parser.add_argument("--version", action="version", version=f"medseg {medseg.__version__}")
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_predict(verbs)
    _add_evaluate(verbs)
    _add_train(verbs)
    _add_demo(verbs)
    return parser


def _verb(verbs: Any, name: str, summary: str, example: str) -> argparse.ArgumentParser:
    parser = verbs.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")
    return parser


def _add_predict(verbs: Any) -> None:
    parser = _verb(
        verbs,
        "predict",
        "segment an image or a folder of images",
        "medseg predict hippocampus_mr_segmentation scans masks --tta",
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="a bundle's folder, or the name of one that medseg ships")
    parser.add_argument("images", metavar="INPUT", help="image, folder (nested, any formats), DICOM case, or a list")
    parser.add_argument("output", metavar="OUTPUT", help="folder for the masks")
    parser.add_argument(
        "--device", default="auto", choices=("auto", "cpu", "cuda"), help="default: a GPU where there is one"
    )
    parser.add_argument("--amp", action="store_true", help="run the network in 16-bit floats")
    parser.add_argument("--tta", action="store_true", help="average over mirrored images, as the bundle was trained")
    parser.add_argument("--overlap", type=float, metavar="SHARE", help="overlap of windows, 0 to below 1")
    parser.add_argument("--probabilities", action="store_true", help="write the class probabilities as well")
    parser.add_argument("--allow", action="append", default=[], metavar="CODE", help="accept an error code knowingly")
    parser.set_defaults(run=_predict)


def _add_evaluate(verbs: Any) -> None:
    parser = _verb(
        verbs,
        "evaluate",
        "score masks against reference masks",
        "medseg evaluate masks references --output scores --report scores/report.html --images scans",
    )
    parser.add_argument("masks", metavar="MASKS", help="folder of masks, or one mask")
    parser.add_argument("references", metavar="REFERENCES", help="folder of reference masks, or one")
    parser.add_argument("--output", metavar="FOLDER", help="write cases.csv, summary.csv and evaluation.json there")
    parser.add_argument("--held-out", metavar="SPLIT", help="a split.json, or a bundle's name: mark its test cases")
    parser.add_argument(
        "--missing", default="zero", choices=("zero", "skip", "error"), help="what a missing mask counts"
    )
    parser.add_argument("--report", metavar="PAGE", help="write a self-contained HTML page")
    parser.add_argument("--images", metavar="SCANS", help="folder of the images, for pictures in the page")
    parser.set_defaults(run=_evaluate)


def _add_train(verbs: Any) -> None:
    parser = _verb(
        verbs,
        "train",
        "train a bundle on a data set",
        "medseg train hippocampus_mr_segmentation --data Task04_Hippocampus --output my_bundle --epochs 50",
    )
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
    parser.add_argument("--resume", action="store_true", help="go on with the run in the output folder")
    parser.add_argument("--new-split", action="store_true", help="draw a split instead of using the bundle's own")
    parser.set_defaults(run=_train)


def _add_demo(verbs: Any) -> None:
    parser = _verb(verbs, "demo", "segment and score synthetic scans, with a page of pictures", "medseg demo")
    parser.add_argument("--output", default="demo-output", metavar="FOLDER", help="default: demo-output")
    parser.set_defaults(run=_demo)


def _predict(parsed: argparse.Namespace) -> int:
    from medseg.inference.predict import PredictOptions

    options = PredictOptions(parsed.device, parsed.amp, parsed.tta, parsed.overlap, parsed.probabilities)
    with Progress("predict", "case", parsed.quiet) as progress:

        def tell(record: CaseRecord, total: int) -> None:
            progress.step(total, f"{record.case}: {record.mask or 'failed'} ({record.seconds:.1f} s)")
            if record.notes and not parsed.quiet:
                progress.line(f"note: {record.case}: {record.notes}")

        found = medseg.predict(
            parsed.bundle,
            parsed.images,
            parsed.output,
            options=options,
            allow=parsed.allow,
            on_case=tell,
            on_window=progress.within,
        )
    for record in found.failed:
        error: Mapping[str, str] = record.error or {}
        print(f"failed: {record.case}: {error['code']}: {error['problem']}; {error['remedy']}", file=sys.stderr)
    done = len(found.records) - len(found.failed)
    print(f"{done} of {len(found.records)} masks in {found.output} ({found.seconds:.1f} s); record: predictions.json")
    return found.exit_code


def _evaluate(parsed: argparse.Namespace) -> int:
    from medseg.evaluation.report import illustrate, write_report

    evaluation = medseg.evaluate(
        parsed.masks,
        parsed.references,
        output=parsed.output,
        held_out=_split_file(parsed.held_out),
        missing=parsed.missing,
        progress=False if parsed.quiet else None,
    )
    print(evaluation.to_text())
    if parsed.report:
        pictures = illustrate(evaluation, parsed.images, parsed.masks, parsed.references) if parsed.images else {}
        print(f"page: {write_report(evaluation, pictures, Path(parsed.report), title='Evaluation')}")
    return evaluation.exit_code


def _split_file(held_out: str | None) -> str | None:
    if held_out is None or Path(held_out).is_file():
        return held_out
    from medseg.bundle.load import find_bundle

    return str(find_bundle(held_out) / "configs" / "split.json")


def _train(parsed: argparse.Namespace) -> int:
    from medseg.training.engine import TrainOptions

    settings = _settings(parsed.set)
    options = TrainOptions(parsed.epochs, parsed.network, parsed.loss, settings, parsed.resume, parsed.new_split)
    output = Path(parsed.output or Path("runs") / Path(parsed.bundle).name)
    with Progress("epoch", "step", parsed.quiet) as progress:
        run = medseg.train(
            parsed.bundle,
            parsed.data,
            output,
            options=options,
            on_epoch=lambda record: progress.line(_epoch_line(record)),
            on_step=lambda step, length: progress.to((step - 1) % length + 1, length),
        )
    print(
        f"best mean Dice {run.best_dice:.4f} (validation, epoch {run.best_epoch} of {run.epochs}), {run.seconds:.0f} s"
    )
    print(f"trained bundle: {run.folder}\nnext: medseg predict {output} SCANS MASKS")
    return 0


def _settings(pairs: Sequence[str]) -> dict[str, Any]:
    import yaml

    class Loader(yaml.SafeLoader):
        """YAML 1.1, with 1e-3 as a number and not as text."""

    number = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+.0123456789"))
    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError("SETTING_INVALID", pair, "is not KEY=VALUE", "write for example learning_rate=0.001")
        try:
            settings[key] = Loader(value).get_single_data()
        except yaml.YAMLError as error:
            raise UsageError("SETTING_INVALID", pair, first_line(error), "write the value as YAML has it") from error
    return settings


def _epoch_line(record: Mapping[str, Any]) -> str:
    numbers = {name: record[name] for name in ("loss", "train_mean_dice", "val_mean_dice") if record[name] is not None}
    told = "  ".join(f"{name.replace('_mean', '').replace('_', ' ')} {value:.4f}" for name, value in numbers.items())
    return f"epoch {record['epoch']:3d}  {told}  ({record['seconds'] or 0:.0f} s)"


def _demo(parsed: argparse.Namespace) -> int:
    tell = (lambda text: None) if parsed.quiet else (lambda text: print(text, flush=True))
    shown = medseg.demo(parsed.output, tell=tell)
    print(shown.evaluation.to_text())
    print(f"\nopen this page in a browser: {shown.page.resolve()}")
    return shown.evaluation.exit_code
