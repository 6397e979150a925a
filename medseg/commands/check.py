"""`medseg check`: parse, examine, print."""

from __future__ import annotations

import argparse
from pathlib import Path

import medseg
from medseg.commands.settings import read_size
from medseg.progress import Progress

SUMMARY = "list all that is wrong or odd with a data set"
EXAMPLE = "medseg check Task04_Hippocampus --bundle hippocampus_mr_segmentation --json findings.json"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("data", metavar="DATA", help="folder of images and masks, of images alone, of DICOM, or a list")
    parser.add_argument("--bundle", metavar="BUNDLE", help="whose labels and channels the data should have")
    parser.add_argument("--split", metavar="SPLIT", help="a split.json: look for patients and images in two parts")
    parser.add_argument(
        "--series", metavar="SUFFIX", help="DICOM series of a folder: number or end of UID; :N for stack N"
    )
    parser.add_argument("--max-ram", metavar="SIZE", help="most memory for one image, such as 4G; else what is free")
    parser.add_argument("--json", metavar="FILE", help="write everything there")
    parser.add_argument("--all", action="store_true", help="print every case of every finding")
    parser.add_argument("--fix", metavar="OUT", help="write a copy there with all corrected that is certain")
    parser.add_argument(
        "--straighten", action="store_true", help="with --fix: resample sheared volumes onto perpendicular axes"
    )
    parser.set_defaults(run=run_check)


def run_check(parsed: argparse.Namespace) -> int:
    """Examine, print the findings, write the files; returns the exit code."""
    from medseg.checking.check_report import format_report
    from medseg.files import write_json
    from medseg.text import pluralise

    with Progress("check", "case", parsed.quiet) as looked, Progress("copy", "case", parsed.quiet) as copied:
        report = medseg.check(
            parsed.data,
            bundle=parsed.bundle,
            split=parsed.split,
            series=parsed.series,
            max_ram=None if parsed.max_ram is None else read_size(parsed.max_ram),
            fix=parsed.fix,
            straighten=parsed.straighten,
            on_case=lambda case, total: looked.count(total),
            on_copied=lambda case, total: copied.count(total),
        )
    print(format_report(report, lists_all=parsed.all))
    if report.copy:
        copy = report.copy
        told = f"{pluralise(copy.cases, 'case')}, {copy.changed} corrected, {copy.left_out} left out"
        told += f", {copy.straightened} resampled onto perpendicular axes" if parsed.straighten else ""
        print(f"copy: {parsed.fix}: {told}; {copy.with_errors} of the copy still with errors; fix_log.json")
    if parsed.json:
        write_json(report.to_record(), Path(parsed.json))
        print(f"findings: {parsed.json}")
    return report.exit_code
