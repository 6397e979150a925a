"""Steps of a training: medseg's configuration as shipped beside MONAI's parts with their defaults."""

from __future__ import annotations

import json
import statistics
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from measuring import circumstances, in_child
from results import replace_rows
from workers import WorkerRun, WorkerSummary, run_workers, summarise_workers

NAME = "training"
REPEATS = 3
GROUP = "phantom_ct_segmentation"
BASELINE = "MONAI, stock"
WAYS = {BASELINE: True, "MONAI, 2 workers": False, "medseg": True, "medseg, nothing ahead": True, "medseg, amp": True}
"""Each way, and whether it draws the baseline's numbers, so that losses can be compared; see ``training_ways``."""
SEED, CASES, EPOCHS = 900, 10, 3
WORKER = Path(__file__).resolve().parent / "training_worker.py"


@dataclass(frozen=True)
class TrainingSummary(WorkerSummary):
    """One way over its repeats, beside the baseline; its seconds are those of one step.

    Args:
        waited_percent: Of the time, in which the trainer waited for a batch; median.
        loss: Of the last step.
        loss_apart: Difference of that to the baseline's, as a share of it; None where other numbers are drawn.
    """

    waited_percent: float = 0.0
    loss: float = 0.0
    loss_apart: float | None = None


def measure(arguments: Namespace, results: Path) -> None:
    """Train every way on the same synthetic scans, in turns; write training_runs.csv and training.csv."""
    with tempfile.TemporaryDirectory(prefix="medseg-bench-") as place:
        folder = Path(place)
        in_child(write_cases, folder, CASES)
        runs = _runs(arguments, folder)
        rows = [_with_told(row, folder) for row in summarise_workers(runs, BASELINE, arguments.clock)]
    work = {"bundle": GROUP, "cases": CASES, "epochs": EPOCHS - 1, "threads": arguments.threads}
    replace_rows(runs, results / f"{NAME}_runs.csv", GROUP)
    replace_rows(rows, results / f"{NAME}.csv", GROUP, {**work, **circumstances()})


def _runs(arguments: Namespace, folder: Path) -> list[WorkerRun]:
    options = ["--epochs", str(EPOCHS), "--threads", str(arguments.threads)]
    words = {
        way: [arguments.python, str(WORKER), way, str(folder / "data"), str(_told(folder, way)), *options]
        for way in WAYS
    }
    rounds = (1 if arguments.skip_first_round else 0, arguments.repeats or REPEATS)
    return run_workers(GROUP, words, rounds, {"OMP_NUM_THREADS": str(arguments.threads)})


def _told(folder: Path, way: str) -> Path:
    return folder / f"{way}.jsonl".replace(", ", "_").replace(" ", "_")


def _with_told(row: WorkerSummary, folder: Path) -> TrainingSummary:
    """What each run told of itself beside its time; the last are those of the rounds that count."""
    told, baseline = (_read(_told(folder, way), row.repeats) for way in (row.command, BASELINE))
    loss, wanted = (each[-1]["losses"][-1] for each in (told, baseline))
    apart = abs(loss - wanted) / wanted if WAYS[row.command] else None
    waited = statistics.median(each["waited_percent"] for each in told)
    return TrainingSummary(**asdict(row), waited_percent=round(waited, 2), loss=loss, loss_apart=apart)


def _read(path: Path, count: int) -> Sequence[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf8").splitlines()][-count:]


def write_cases(folder: Path, cases: int) -> None:
    """Write synthetic CT scans with their labels."""
    from medseg.data.write import write
    from medseg.demonstration.phantom import make_phantom

    for index in range(cases):
        phantom = make_phantom(SEED + index)
        write(phantom.image, phantom.affine, folder / "data" / "images" / f"scan_{index}.nii.gz")
        write(phantom.labels, phantom.affine, folder / "data" / "labels" / f"scan_{index}.nii.gz")
