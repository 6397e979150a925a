"""How time and memory of medseg's windows grow with the volume: in all directions, and in depth alone."""

from __future__ import annotations

import math
import statistics
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from measuring import circumstances, in_child
from results import replace_rows
from sliding_window import OVERLAP, WORKER
from targets import Measured, Target, judged_by
from window_networks import BATCH
from workers import Spread, WorkerSummary, run_workers, summarise_workers

NAME = "scaling"
REPEATS = 3
NETWORK, WAY = "unet", "medseg, torch"
WINDOW = (64, 64, 64)
VOLUMES = {
    "sizes": ((96, 96, 96), (128, 128, 128), (160, 160, 160), (192, 192, 192), (224, 224, 224)),
    "depths": ((128, 128, 160), (128, 128, 224), (128, 128, 288), (128, 128, 352), (128, 128, 416)),
}
"""Voxels of the volumes of each group, from small to large."""


def measure(arguments: Namespace, results: Path) -> None:
    """Run medseg's windows over each volume; write scaling_runs.csv and scaling.csv."""
    with tempfile.TemporaryDirectory(prefix="medseg-bench-") as place:
        for group, sizes in VOLUMES.items():
            words = {_times(size): _words(arguments, Path(place), size) for size in sizes}
            rounds = (1 if arguments.skip_first_round else 0, arguments.repeats or REPEATS)
            runs = run_workers(group, words, rounds, {"OMP_NUM_THREADS": str(arguments.threads)})
            rows = sorted(summarise_workers(runs, _times(sizes[0]), arguments.clock), key=_voxels)
            work = {"network": NETWORK, "way": WAY, "window": _times(WINDOW), "overlap": OVERLAP, "batch": BATCH}
            extra = {**work, "threads": arguments.threads, **circumstances()}
            replace_rows(runs, results / f"{NAME}_runs.csv", group)
            replace_rows(rows, results / f"{NAME}.csv", group, extra)
            verdict = judged_by(f"{NAME} {group}", TARGETS[group], Measured(runs, rows))
            replace_rows([verdict], results / "targets.csv", f"{NAME} {group}")


def _words(arguments: Namespace, place: Path, size: tuple[int, int, int]) -> list[str]:
    volume, labels = in_child(write_noise, place, size), place / "labels.npy"
    options = ["--overlap", OVERLAP, "--batch", BATCH, "--threads", arguments.threads, "--window", *WINDOW]
    words = [arguments.python, WORKER, WAY, NETWORK, volume, labels, *options, "--cache", place / "cache"]
    return list(map(str, words))


def write_noise(folder: Path, size: tuple[int, int, int]) -> str:
    """Write a volume of noise; returns the file."""
    import numpy as np

    path = folder / f"noise_{_times(size)}.npy"
    np.save(path, np.random.default_rng(0).random(size, dtype=np.float32))
    return str(path)


def linearity(sizes: Sequence[float], times: Sequence[float]) -> float:
    """R² of a straight line through times over sizes: 1 where they lie on it.

    >>> linearity([1, 2, 3], [5, 7, 9])
    1.0
    """
    return statistics.correlation(sizes, times) ** 2


def _straight(measured: Measured) -> Spread:
    found = linearity([_voxels(row) for row in measured.rows], [row.seconds for row in measured.rows])
    return Spread(found, found, found)


def _rise(measured: Measured) -> Spread:
    """Growth of memory in the run proper, at the last volume over that at the first."""
    first, last = (
        {run.repeat: run.run_growth_mib for run in measured.runs if run.command == row.command and run.repeat}
        for row in (measured.rows[0], measured.rows[-1])
    )
    rises = sorted(last[repeat] / first[repeat] for repeat in first)
    return Spread(statistics.median(rises), rises[0], rises[-1])


def _voxels(row: WorkerSummary) -> int:
    return math.prod(map(int, row.command.split("×")))


def _times(numbers: Sequence[int]) -> str:
    return "×".join(map(str, numbers))


TARGETS = {
    "sizes": Target("time over voxels, five sizes: R² of a straight line", 0.99, True, _straight),
    "depths": Target("growth of memory, greatest depth over least", 1.1, False, _rise),
}
