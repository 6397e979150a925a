"""A folder of CT scans to masks on their own grids: medseg beside MONAI's stock chain."""

from __future__ import annotations

import shutil
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agreement import alike
from measuring import circumstances, in_child
from results import replace_rows
from sliding_window import available
from targets import judged
from workers import WorkerRun, WorkerSummary, run_workers, summarise_workers

NAME = "pipeline"
REPEATS = 3
SEED = 700


@dataclass(frozen=True)
class Folder:
    """Scans to segment.

    Args:
        cases: How many.
        shape: Voxels of one.
        field_mm: What one shows; the chest is 200 mm wide and 140 deep.
    """

    cases: int
    shape: tuple[int, int, int]
    field_mm: tuple[float, float, float]


FOLDERS = {
    "folder": Folder(6, (192, 192, 112), (240.0, 240.0, 210.0)),
    "wide": Folder(3, (320, 320, 160), (300.0, 300.0, 210.0)),
}
"""Six small scans that the patient fills but for the corners, and three larger ones with air at the sides."""
BASELINE = "MONAI, stock chain"
NEEDED = {BASELINE: None, "medseg, torch": None, "medseg, openvino": "openvino", "medseg, torch, cropped": None}
"""Each chain, and the module without which it is left out; ``chains`` says how each is run."""
WORKER = Path(__file__).resolve().parent / "chain_worker.py"


def measure(arguments: Namespace, results: Path) -> None:
    """Write scans, segment them every way in turns; write pipeline_runs.csv and pipeline.csv."""
    for group in arguments.folders or FOLDERS:
        planned = FOLDERS[group]
        scans = replace(planned, cases=arguments.cases or planned.cases, shape=tuple(arguments.shape or planned.shape))
        with tempfile.TemporaryDirectory(prefix="medseg-bench-") as place:
            folder = Path(place)
            in_child(write_scans, folder, scans)
            runs = _runs(arguments, group, folder)
            rows = [_with_agreement(row, folder) for row in summarise_workers(runs, BASELINE, arguments.clock)]
        work = {"bundle": "phantom_ct_segmentation", "cases": scans.cases, "shape": _times(scans.shape)}
        extra = {**work, "field_mm": _times(scans.field_mm), "threads": arguments.threads, **circumstances()}
        replace_rows(runs, results / f"{NAME}_runs.csv", group)
        replace_rows(rows, results / f"{NAME}.csv", group, extra)
        replace_rows(judged(NAME, group, runs, rows), results / "targets.csv", f"{NAME} {group}")


def _times(numbers: Sequence[float]) -> str:
    return "×".join(f"{each:g}" for each in numbers)


def _runs(arguments: Namespace, group: str, folder: Path) -> list[WorkerRun]:
    commands = {
        chain: [arguments.python, str(WORKER), chain, str(folder / "scans"), str(_masks(folder, chain))]
        for chain in available(arguments.python, NEEDED)
    }
    words = {chain: [*command, "--threads", str(arguments.threads)] for chain, command in commands.items()}
    rounds = (1 if arguments.skip_first_round else 0, arguments.repeats or REPEATS)
    # Converted networks are kept from one round to the next, but the first one converts.
    environment = {"XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": str(arguments.threads)}
    return run_workers(group, words, rounds, environment, lambda name: _clear(_masks(folder, name)))


def _clear(masks: Path) -> None:
    shutil.rmtree(masks, ignore_errors=True)


def _masks(folder: Path, chain: str) -> Path:
    return folder / "masks" / chain.replace(", ", "_").replace(" ", "_")


def _with_agreement(row: WorkerSummary, folder: Path) -> WorkerSummary:
    masks, baseline, truth = _masks(folder, row.command), _masks(folder, BASELINE), folder / "truth"
    equal_percent, dice = in_child(alike, _pairs(masks, baseline))
    _, truth_dice = in_child(alike, _pairs(masks, truth))
    return replace(row, equal_percent=equal_percent, dice=dice, truth_dice=truth_dice)


def _pairs(first: Path, second: Path) -> list[tuple[Path, Path]]:
    """Files of the same name in two folders.

    Raises:
        FileNotFoundError: The folders do not hold masks of the same names.
    """
    names = sorted(path.name for path in first.glob("*.nii.gz"))
    if not names or names != sorted(path.name for path in second.glob("*.nii.gz")):
        raise FileNotFoundError(f"{first} and {second} do not hold masks of the same names")
    return [(first / name, second / name) for name in names]


def write_scans(folder: Path, scans: Folder) -> None:
    """Write synthetic CT scans, stored LPS as scanners do, with air around the body; and the truth."""
    from medseg.data.write import write
    from medseg.demonstration.phantom import make_phantom

    spacing_mm = tuple(length / size for length, size in zip(scans.field_mm, scans.shape, strict=True))
    for part in ("scans", "truth"):
        (folder / part).mkdir()
    for index in range(scans.cases):
        phantom = make_phantom(SEED + index, scans.shape, spacing_mm, orientation="LPS")
        write(phantom.image, phantom.affine, folder / "scans" / f"scan_{index}.nii.gz")
        write(phantom.labels, phantom.affine, folder / "truth" / f"scan_{index}.nii.gz")
