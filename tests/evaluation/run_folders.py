"""Run folders as training and scoring leave them, made without either."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from medseg.data.splits import Split, write_split
from medseg.evaluation.evaluate import evaluate
from medseg.evaluation.results import write_tables
from medseg.options import EvaluateOptions
from tests.conftest import save_nifti

LABELS = {0: "background", 1: "ball", 2: "stick"}
LOG = (
    "epoch,loss,val_loss,train_mean_dice,val_mean_dice,learning_rate,seconds\n"
    "1,0.9,0.8,0.1,0.2,0.01,2.5\n2,0.5,0.4,0.3,0.4,0.01,1.5\n3,0.4,,,,0.01,1\n"
)


def mask(*voxels: int) -> np.ndarray:
    """Ten voxels in a row, the given ones first."""
    return np.array([*voxels, *[0] * (10 - len(voxels))], dtype=np.uint8).reshape(10, 1, 1)


TRUE = {"a": mask(1, 1, 2, 2), "b": mask(1, 1, 1, 1, 2, 2)}
GOOD = {"a": mask(1, 1, 2, 2), "b": mask(1, 1, 1, 0, 2, 2)}
POOR = {"a": mask(1, 0, 2, 0), "b": mask(1, 1, 0, 0, 2, 0)}


def make_run(folder: Path, found: dict, true: dict, *, fold: str = "", part: str = "test", labels=LABELS, **facts):
    """A scored run with these masks and references by case; ``facts`` are its network, loss and other overrides."""
    overrides = {"network_name": facts.pop("network", "unet"), "loss_name": facts.pop("loss", "dice"), **facts}
    work = folder / "work"
    for name, masks in (("masks", found), ("references", true)):
        for case, array in masks.items():
            save_nifti(array, work / name / f"{case}.nii.gz")
    evaluation = evaluate(work / "masks", work / "references", options=EvaluateOptions(labels=labels), progress=False)
    write_tables(evaluation, folder / f"scores_{part}")
    ids = {"train": ("other",), "validation": (), "test": (), part: tuple(sorted(true))}
    write_split(Split(**ids, seed=0, how=fold or "drawn"), folder / "configs" / "split.json")
    config = {"epochs": 3, "network_options": {"filters": 16}, **overrides}
    weights = folder.name.encode()
    (folder / "models").mkdir()
    (folder / "models" / "model.pt").write_bytes(weights)
    digest = hashlib.sha256(weights).hexdigest()
    scored = {"parameters": 1234, "best_epoch": 2, "groups": {}, "weights_sha256": digest}
    record = {"bundle": "ball_segmentation", "form": None, "overrides": overrides}
    for name, content in (
        ("configs/train.json", config),
        (f"scores_{part}/scored.json", scored),
        ("run.json", record),
    ):
        (folder / name).write_text(json.dumps(content))
    (folder / "logs").mkdir()
    (folder / "logs" / "epochs.csv").write_text(LOG)
    return folder
