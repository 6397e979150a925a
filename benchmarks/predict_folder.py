"""A folder of scans to masks: `medseg predict` beside MONAI's own run of the very same bundle."""

from __future__ import annotations

import shutil
import sys
import tempfile
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path

from measuring import circumstances, in_child, run_in_turns, summarise, write_rows

REPEATS = 5
SEED = 700
MEDSEG = "medseg predict"
BASELINE = "monai.bundle run"


def measure(arguments: Namespace, results: Path) -> None:
    """Write scans, segment them both ways in turns; write predict_folder_runs.csv and predict_folder.csv."""
    with tempfile.TemporaryDirectory(prefix="medseg-bench-") as place:
        scans = Path(in_child(write_scans, place, arguments.cases, tuple(arguments.shape)))
        masks = {name: Path(place) / f"masks_{index}" for index, name in enumerate((MEDSEG, BASELINE))}
        runs = run_in_turns(
            _commands(arguments.bundle, scans, masks),
            arguments.repeats or REPEATS,
            before=lambda name: shutil.rmtree(masks[name], ignore_errors=True),
        )
        voxels, equal = in_child(compare_masks, masks[MEDSEG], masks[BASELINE])
    write_rows(runs, results / "predict_folder_runs.csv")
    work = {"bundle": Path(arguments.bundle).name, "cases": arguments.cases, "shape": _times(arguments.shape)}
    agreement = {"voxels": voxels, "equal_percent": round(100 * equal / voxels, 6)}
    write_rows(summarise(runs, BASELINE), results / "predict_folder.csv", {**work, **agreement, **circumstances()})


def _commands(bundle: str, scans: Path, masks: Mapping[str, Path]) -> dict[str, list[str]]:
    config = in_child(inference_config, bundle)
    places = ["--dataset_dir", str(scans), "--output_dir", str(masks[BASELINE])]
    ours = ["-m", "medseg", "predict", bundle, str(scans), str(masks[MEDSEG]), "--quiet"]
    theirs = ["-m", "monai.bundle", "run", "--config_file", config, *places]
    return {MEDSEG: [sys.executable, *ours], BASELINE: [sys.executable, *theirs]}


def write_scans(folder: str, cases: int, shape: tuple[int, int, int]) -> str:
    """Write synthetic CT scans that no training has seen; returns their folder."""
    from medseg.data.phantom import write_phantoms

    write_phantoms(folder, cases, seed=SEED, shape=shape)
    return str(Path(folder) / "imagesTr")


def inference_config(bundle: str) -> str:
    """The path of a bundle's inference configuration."""
    from medseg.bundle.load import find_bundle

    return str(find_bundle(bundle) / "configs" / "inference.json")


def compare_masks(ours: Path, theirs: Path) -> tuple[int, int]:
    """Voxels in all masks, and how many of them are equal.

    Raises:
        FileNotFoundError: The folders do not hold masks of the same names.
    """
    import numpy as np
    from nibabel import Nifti1Image

    names = sorted(path.name for path in ours.glob("*.nii.gz"))
    if not names or names != sorted(path.name for path in theirs.glob("*.nii.gz")):
        raise FileNotFoundError(f"{ours} and {theirs} do not hold masks of the same names")
    voxels = equal = 0
    for name in names:
        first, second = (np.asarray(Nifti1Image.from_filename(folder / name).dataobj) for folder in (ours, theirs))
        voxels += first.size
        equal += int((first == second).sum()) if first.shape == second.shape else 0
    return voxels, equal


def _times(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
