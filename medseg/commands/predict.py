"""`medseg predict`: parse, predict, print."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import medseg
from medseg.commands.settings import read_size
from medseg.progress import Progress

if TYPE_CHECKING:
    from medseg.inference.options import PredictOptions
    from medseg.inference.predict import CaseRecord

BACKENDS = ("auto", "torch", "compile", "openvino", "onnx", "tensorrt")
MASK_FORMATS = ("image", "dicom-seg")
SEG_TYPES = ("binary", "labelmap")
"""As in ``medseg.inference``, which is not imported for its weight until a case is predicted."""

SUMMARY = "segment an image or a folder of images"
EXAMPLE = "medseg predict hippocampus_mr_segmentation scans masks --tta"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("bundle", metavar="BUNDLE", help="a bundle's folder, or the name of one that medseg ships")
    parser.add_argument("images", metavar="INPUT", help="image, folder (nested, any formats), DICOM case, or a list")
    parser.add_argument("output", metavar="OUTPUT", help="folder for the masks")
    parser.add_argument(
        "--device", default="auto", choices=("auto", "cpu", "cuda"), help="default: a GPU where there is one"
    )
    parser.add_argument("--amp", action="store_true", help="run the network in 16-bit floats")
    parser.add_argument("--tta", action="store_true", help="average over mirrored images, as the bundle was trained")
    parser.add_argument("--overlap", type=float, metavar="SHARE", help="overlap of windows, 0 to below 1")
    parser.add_argument("--crop", action="store_true", help="run the box around the patient alone (quicker)")
    parser.add_argument(
        "--locator",
        metavar="BUNDLE",
        help="coarse bundle that finds where to look, or none (default: the bundle's)",
    )
    parser.add_argument("--locator-margin", type=float, metavar="MM", help="kept around what it finds (default: 20)")
    parser.add_argument("--backend", default="auto", choices=BACKENDS, help="what runs the network (default: auto)")
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="of the network's passes; timed for large cases",
    )
    parser.add_argument("--probabilities", action="store_true", help="write the class probabilities as well")
    parser.add_argument(
        "--series",
        metavar="SUFFIX",
        help="DICOM series of a folder: its number, or the end of its UID; :N for a stack in it",
    )
    parser.add_argument("--max-ram", metavar="SIZE", help="most memory for one image, such as 4G; else what is free")
    parser.add_argument(
        "--format", default="image", choices=MASK_FORMATS, help="of the masks: as their images, or DICOM SEG"
    )
    parser.add_argument("--seg-type", default="binary", choices=SEG_TYPES, help="how a DICOM SEG holds the mask")
    parser.add_argument("--dry-run", action="store_true", help="print windows, memory and time; write nothing")
    parser.add_argument(
        "--allow", action="append", default=[], metavar="CODE", help="accept an error, such as BUNDLE_RUNS_CODE"
    )
    parser.set_defaults(run=run_predict)


def run_predict(parsed: argparse.Namespace) -> int:
    """Predict, tell of each case; returns the exit code."""
    from medseg.inference.options import PredictOptions

    options = PredictOptions(
        parsed.device,
        parsed.amp,
        parsed.tta,
        parsed.overlap,
        parsed.probabilities,
        parsed.backend,
        series=parsed.series,
        max_ram=None if parsed.max_ram is None else read_size(parsed.max_ram),
        mask_format=parsed.format,
        seg_type=parsed.seg_type,
        crop=parsed.crop,
        locator=parsed.locator,
        locator_margin_mm=parsed.locator_margin,
        threads=parsed.threads,
    )
    if parsed.dry_run:
        return _dry_run(parsed, options)
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
        _tell_failure(record.case, record.error or {})
    done = len(found.records) - len(found.failed)
    print(f"{done} of {len(found.records)} masks in {found.output} ({found.seconds:.1f} s); record: predictions.json")
    return found.exit_code


def _dry_run(parsed: argparse.Namespace, options: PredictOptions) -> int:
    """Print what predicting would take; returns the exit code."""
    from medseg.inference.planning.dry_run import dry_run, lines

    found = dry_run(parsed.bundle, parsed.images, options=options, allow=parsed.allow)
    for case, error in found.failed.items():
        _tell_failure(case, error.to_record())
    for line in lines(found):
        print(line)
    return found.exit_code


def _tell_failure(case: str, error: Mapping[str, str]) -> None:
    print(f"failed: {case}: {error['code']}: {error['problem']}; {error['remedy']}", file=sys.stderr)
