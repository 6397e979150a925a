"""`medseg demo`: segment and score synthetic scans."""

from __future__ import annotations

import argparse

import medseg

SUMMARY = "segment and score synthetic scans, with a page of pictures"
EXAMPLE = "medseg demo"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("--output", default="demo-output", metavar="FOLDER", help="default: demo-output")
    parser.set_defaults(run=run_demo)


def run_demo(parsed: argparse.Namespace) -> int:
    """Run the demonstration, print its scores; returns the exit code."""
    tell = (lambda text: None) if parsed.quiet else (lambda text: print(text, flush=True))
    shown = medseg.demo(parsed.output, tell=tell)
    print(shown.evaluation.to_text())
    print(f"\nopen this page in a browser: {shown.page.resolve()}")
    return shown.evaluation.exit_code
