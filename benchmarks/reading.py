"""A scan of 512×512×300 voxels into memory: medseg's strict readers beside nibabel and SimpleITK."""

from __future__ import annotations

import tempfile
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from measuring import circumstances, in_child
from results import replace_rows
from workers import run_workers, summarise_workers

NAME = "reading"
REPEATS = 5
WORKER = str(Path(__file__).with_name("reading_worker.py"))
SHAPE = (512, 512, 300)
PEERS = {"NIfTI, .nii.gz": ("medseg", "nibabel", "SimpleITK"), "DICOM series": ("medseg", "SimpleITK")}


def measure(arguments: Namespace, results: Path) -> None:
    """Write a scan as NIfTI and as DICOM, read each in turns; write reading_runs.csv and reading.csv."""
    with tempfile.TemporaryDirectory(prefix="medseg-bench-") as folder:
        for group, path in in_child(write_scans, Path(folder)).items():
            voxels = {way: Path(folder, f"{way}.npy") for way in PEERS[group]}
            words = {way: [arguments.python, WORKER, way, path, str(voxels[way])] for way in voxels}
            rounds = (1 if arguments.skip_first_round else 0, arguments.repeats or REPEATS)
            runs = run_workers(group, words, rounds, {"OMP_NUM_THREADS": str(arguments.threads)})
            equal = in_child(equal_percents, voxels)
            summaries = summarise_workers(runs, "SimpleITK", arguments.clock)
            rows = [replace(row, equal_percent=equal[row.command]) for row in summaries]
            replace_rows(runs, results / f"{NAME}_runs.csv", group)
            size = "×".join(map(str, SHAPE))
            replace_rows(rows, results / f"{NAME}.csv", group, {"size": size, **circumstances()})


def write_scans(folder: Path) -> dict[str, str]:
    """Write a scan of whole numbers, noisy and with air around it; returns each form's path."""
    import numpy as np

    from medseg.data.write import write
    from medseg.demonstration.synthetic_ct import write_ct_series

    array = np.random.default_rng(0).normal(40, 20, SHAPE).astype(np.int16)
    array[:, :100], array[:60] = -1000, -1000
    affine = np.diag([-0.75, -0.75, 1.0, 1.0])
    write(array, affine, folder / "scan.nii.gz")
    write_ct_series(array, affine, folder / "series", seed_uid="benchmark")
    return dict(zip(PEERS, (str(folder / "scan.nii.gz"), str(folder / "series")), strict=True))


def equal_percents(voxels: dict[str, Path]) -> dict[str, float]:
    """For each way, the share of voxels that are SimpleITK's."""
    import numpy as np

    expected = np.load(voxels["SimpleITK"])
    return {way: round(100 * float((np.load(path) == expected).mean()), 6) for way, path in voxels.items()}
