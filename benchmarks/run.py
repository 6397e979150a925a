#!/usr/bin/env python3
"""Measure, write benchmarks/results/*.csv, and set the tables of benchmarks/README.md from them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pipeline
import reading
import scaling
import sliding_window
import startup
import training
from results import read_rows
from tables import TABLES, with_tables
from workers import CLOCKS

BENCHMARKS = {
    "startup": startup.measure,
    reading.NAME: reading.measure,
    sliding_window.NAME: sliding_window.measure,
    pipeline.NAME: pipeline.measure,
    scaling.NAME: scaling.measure,
    training.NAME: training.measure,
}
HERE = Path(__file__).resolve().parent
README = HERE / "README.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks named, or all; returns 0."""
    parsed = _parser().parse_args(arguments)
    for name in parsed.names or BENCHMARKS:
        print(f"measuring {name}", flush=True)
        BENCHMARKS[name](parsed, parsed.output)
        print(TABLES[name](read_rows(parsed.output / f"{name}.csv")), flush=True)
    if (parsed.output / "targets.csv").is_file():
        print(TABLES["targets"](read_rows(parsed.output / "targets.csv")), flush=True)
    if parsed.output == HERE / "results":
        README.write_text(with_tables(README.read_text(encoding="utf8"), parsed.output), encoding="utf8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", type=_benchmark, metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--repeats", type=int, metavar="N", help="measured rounds (default: each benchmark's own)")
    parser.add_argument("--skip-first-round", action="store_true", help="no round that only fills caches: a first look")
    parser.add_argument("--python", default=sys.executable, metavar="PATH", help="interpreter that has the peers")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), metavar="N", help="default: all cores")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="time compared; cpu where other programs run")
    parser.add_argument("--output", type=Path, default=HERE / "results", metavar="FOLDER")
    windows = parser.add_argument_group("sliding_window")
    windows.add_argument("--networks", nargs="+", choices=sliding_window.NETWORKS, help="default: all")
    windows.add_argument(
        "--size", type=int, nargs=3, metavar="N", help="voxels of the volume (default: each network's own)"
    )
    windows.add_argument("--window", type=int, nargs=3, default=[96, 96, 96], metavar="N", help="voxels of a window")
    scans = parser.add_argument_group("pipeline")
    scans.add_argument("--folders", nargs="+", choices=pipeline.FOLDERS, help="default: all")
    scans.add_argument("--cases", type=int, metavar="N", help="scans in a folder (default: each folder's own)")
    scans.add_argument("--shape", type=int, nargs=3, metavar="N", help="voxels of a scan (default: each folder's own)")
    return parser


def _benchmark(name: str) -> str:
    if name not in BENCHMARKS:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(BENCHMARKS)}")
    return name


if __name__ == "__main__":
    sys.exit(main())
