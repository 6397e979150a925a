"""A network over a volume's windows: medseg beside MONAI, nnU-Net and the forward passes alone."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from agreement import alike
from measuring import circumstances, in_child
from results import replace_rows
from targets import judged
from window_networks import NETWORKS as MEASURED
from workers import WorkerRun, WorkerSummary, run_workers, summarise_workers

NAME = "sliding_window"
REPEATS = 3
SEED = 31
OVERLAP = 0.5
BASELINE = "MONAI, batch 1"
NETWORKS = tuple(MEASURED)
NEEDED = {
    BASELINE: None,
    "MONAI, batch 4": None,
    "nnU-Net": "nnunetv2",
    "medseg, torch": None,
    "medseg, openvino": "openvino",
    "passes, torch": None,
    "passes, torch as medseg": None,
    "passes, openvino": "openvino",
    "arithmetic": None,
}
"""Each way, and the module without which it is left out; ``window_variants`` says how each is run."""
WORKER = Path(__file__).resolve().parent / "window_worker.py"


def measure(arguments: Namespace, results: Path) -> None:
    """Run every way over one volume, network by network; write sliding_window_runs.csv and sliding_window.csv."""
    ways = available(arguments.python, NEEDED)
    with tempfile.TemporaryDirectory(prefix="medseg-bench-") as place:
        for network in arguments.networks or NETWORKS:
            size = tuple(arguments.size or MEASURED[network].size)
            volume = Path(in_child(write_volume, place, size))
            runs = _runs(arguments, network, ways, volume)
            summaries = summarise_workers(runs, BASELINE, arguments.clock)
            rows = [_with_agreement(row, volume.parent, network) for row in summaries]
            work = {"size": _times(size), "window": _times(arguments.window), "overlap": OVERLAP}
            extra = {**work, "batch": MEASURED[network].batch, "threads": arguments.threads, **circumstances()}
            replace_rows(runs, results / f"{NAME}_runs.csv", network)
            replace_rows(rows, results / f"{NAME}.csv", network, extra)
            replace_rows(judged(NAME, network, runs, rows), results / "targets.csv", f"{NAME} {network}")


def available(python: str, needed: Mapping[str, str | None]) -> list[str]:
    """The ways whose module that interpreter finds; a line tells of each other."""
    found = {module: _has(python, module) for module in set(filter(None, needed.values()))}
    for name, module in needed.items():
        if module and not found[module]:
            print(f"  {name} is left out: {python} has no {module}", file=sys.stderr, flush=True)
    return [name for name, module in needed.items() if not module or found[module]]


def _has(python: str, module: str) -> bool:
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return subprocess.run([python, "-c", code], check=False).returncode == 0


def _runs(arguments: Namespace, network: str, ways: Sequence[str], volume: Path) -> list[WorkerRun]:
    options = ["--overlap", OVERLAP, "--batch", MEASURED[network].batch, "--threads", arguments.threads]
    options += ["--window", *arguments.window, "--cache", volume.parent / "cache"]
    commands = {
        way: [arguments.python, WORKER, way, network, volume, _labels(volume.parent, network, way), *options]
        for way in ways
    }
    words = {way: list(map(str, command)) for way, command in commands.items()}
    rounds = (1 if arguments.skip_first_round else 0, arguments.repeats or REPEATS)
    return run_workers(network, words, rounds, {"OMP_NUM_THREADS": str(arguments.threads)})


def _with_agreement(row: WorkerSummary, folder: Path, network: str) -> WorkerSummary:
    labels, baseline = _labels(folder, network, row.command), _labels(folder, network, BASELINE)
    if not labels.is_file():
        return row
    equal_percent, dice = in_child(alike, [(labels, baseline)])
    return replace(row, equal_percent=equal_percent, dice=dice)


def _labels(folder: Path, network: str, way: str) -> Path:
    return folder / f"{network} {way}.npy".replace(" ", "_").replace(",", "")


def write_volume(folder: str, size: tuple[int, int, int]) -> str:
    """Write a synthetic CT scan as a network takes it, from 0 to 1; returns the file."""
    import numpy as np

    from medseg.demonstration.phantom import make_phantom

    path = Path(folder) / "volume.npy"
    np.save(path, np.clip((make_phantom(SEED, size).image + 1000) / 1600, 0, 1).astype(np.float32))
    return str(path)


def _times(numbers: Sequence[int]) -> str:
    return "×".join(map(str, numbers))
