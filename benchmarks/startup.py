"""How long `medseg --help` keeps one waiting, beside a bare Python and beside importing PyTorch."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from measuring import circumstances, run_in_turns, summarise, write_rows

REPEATS = 15
BASELINE = "python -c 'import torch'"
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "python -c 'import medseg'": ["-c", "import medseg"],
    "python -m medseg --help": ["-m", "medseg", "--help"],
    BASELINE: ["-c", "import torch"],
}


def measure(arguments: Namespace, results: Path) -> None:
    """Run the commands in turns; write startup_runs.csv and startup.csv."""
    commands = {name: [sys.executable, *words] for name, words in COMMANDS.items()}
    runs = run_in_turns(commands, arguments.repeats or REPEATS)
    write_rows(runs, results / "startup_runs.csv")
    write_rows(summarise(runs, BASELINE), results / "startup.csv", circumstances())
