#!/usr/bin/env python3
"""Run a chain over a folder of scans, in this process; the last line tells what it took, as JSON."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from chains import CHAINS
from watches import Growth, Stopwatch


def main(arguments: Sequence[str] | None = None) -> int:
    """Import, run; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("chain", choices=CHAINS)
    parser.add_argument("scans", type=Path)
    parser.add_argument("masks", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parsed = parser.parse_args(arguments)
    for module in CHAINS[parsed.chain].modules:
        importlib.import_module(module)
    sys.modules["torch"].set_num_threads(parsed.threads)
    growth, watch = Growth(), Stopwatch()
    CHAINS[parsed.chain].run(parsed.scans, parsed.masks)
    seconds, cpu_seconds = watch.lap()
    grown = round(growth.mib(), 1)
    parts = {"label_seconds": 0.0, "prepare_seconds": 0.0, "growth_mib": grown, "run_growth_mib": grown}
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, **parts}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
