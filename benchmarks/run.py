#!/usr/bin/env python3
"""Measure, write benchmarks/results/*.csv, and set the tables of benchmarks/README.md from them."""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import predict_folder
import startup

BENCHMARKS = {"startup": startup.measure, "predict_folder": predict_folder.measure}
HERE = Path(__file__).resolve().parent
README = HERE / "README.md"
HEAD = ("command", "wall time [s]: median (least – most)", "ratio: median (least – most)", "peak memory [MiB]")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks named, or all; returns 0."""
    parsed = _parser().parse_args(arguments)
    for name in parsed.names or BENCHMARKS:
        print(f"measuring {name}", flush=True)
        BENCHMARKS[name](parsed, parsed.output)
        print(table_of(read_rows(parsed.output / f"{name}.csv")), flush=True)
    if parsed.output == HERE / "results":
        README.write_text(with_tables(README.read_text(encoding="utf8"), parsed.output), encoding="utf8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", type=_benchmark, metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--repeats", type=int, metavar="N", help="measured rounds (default: each benchmark's own)")
    parser.add_argument("--bundle", default="phantom_ct_segmentation", help="for predict_folder")
    parser.add_argument("--cases", type=int, default=6, metavar="N", help="scans in the folder (default: 6)")
    parser.add_argument("--shape", type=int, nargs=3, default=[96, 96, 64], metavar="N", help="voxels of a scan")
    parser.add_argument("--output", type=Path, default=HERE / "results", metavar="FOLDER")
    return parser


def _benchmark(name: str) -> str:
    if name not in BENCHMARKS:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(BENCHMARKS)}")
    return name


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a results file."""
    with path.open(newline="", encoding="utf8") as file:
        return list(csv.DictReader(file))


def table_of(rows: Sequence[Mapping[str, str]]) -> str:
    """A summary as a Markdown table, with a line on what was measured where."""
    lines = [f"| {' | '.join(cells)} |" for cells in (HEAD, ["---"] * len(HEAD), *map(_cells, rows))]
    first = rows[0]
    told = [f"{first['repeats']} rounds", first["date"], first["hardware"]]
    told += [f"{name} {first[name]}" for name in ("python", "torch", "monai", "medseg")]
    if "equal_percent" in first:
        told.insert(0, f"{first['cases']} scans of {first['shape']} voxels, bundle {first['bundle']}")
        told.append(f"{first['equal_percent']} % of {int(first['voxels']):,} voxels equal")
    return "\n".join([*lines, "", "; ".join(told) + "."])


def _cells(row: Mapping[str, str]) -> list[str]:
    spreads = [
        f"{_short(row[name])} ({_short(row[f'least_{name}'])} – {_short(row[f'most_{name}'])})"
        for name in ("seconds", "ratio")
    ]
    return [f"`{row['command']}`", *spreads, f"{float(row['peak_mib']):.0f}"]


def _short(number: str) -> str:
    """Three digits.

    >>> _short("0.01234"), _short("1234.5")
    ('0.0123', '1234')
    """
    value = float(number)
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def with_tables(page: str, results: Path) -> str:
    """``page`` with each `<!-- NAME -->` … `<!-- end -->` filled from that benchmark's results, if there are any."""

    def filled(match: re.Match[str]) -> str:
        path = results / f"{match[1]}.csv"
        return f"<!-- {match[1]} -->\n{table_of(read_rows(path))}\n<!-- end -->" if path.is_file() else match[0]

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- end -->", filled, page, flags=re.DOTALL)


if __name__ == "__main__":
    sys.exit(main())
