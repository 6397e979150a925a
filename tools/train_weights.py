#!/usr/bin/env python3
"""Train the weights of a shipped bundle, score them once on its test part, and put them into the bundle.

Interrupted, it goes on where it stopped when started again with the same --run.

    tools/train_weights.py phantom_ct_segmentation --run runs/phantom
    tools/train_weights.py hippocampus_mr_segmentation --data Task04_Hippocampus --run runs/hippocampus
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import medseg
from medseg.data.phantom import write_phantoms
from medseg.training.options import TrainOptions
from medseg.training.scoring import score_part

BUNDLES = Path(__file__).resolve().parents[1] / "bundles"
PHANTOMS = 70
PHANTOM_SEED = 2026


def main(arguments: list[str] | None = None) -> int:
    """Train, score, install; returns an exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", help="name of a bundle in bundles/")
    parser.add_argument("--data", type=Path, help="the data set; phantoms are made where it is left out")
    parser.add_argument("--run", type=Path, required=True, help="folder of the run, kept for resuming")
    parsed = parser.parse_args(arguments)
    data = parsed.data or _phantoms(parsed.run / "data")
    trained = parsed.run / "bundle"
    is_started = (trained / "models" / "checkpoint.pt").is_file()
    options = TrainOptions(resume=is_started, settings={} if is_started else {"amp": True})
    medseg.train(parsed.bundle, data, trained, options=options, on_epoch=lambda record: print(record, flush=True))
    print(score_part(trained, data).to_text())
    install(trained, BUNDLES / parsed.bundle)
    return 0


def install(trained: Path, bundle: Path) -> None:
    """Copy weights and log of a run into the bundle that is shipped."""
    (bundle / "models").mkdir(exist_ok=True)
    shutil.copy(trained / "models" / "model.pt", bundle / "models" / "model.pt")
    shutil.copy(trained / "logs" / "epochs.csv", bundle / "docs" / "training.csv")


def _phantoms(folder: Path) -> Path:
    if not (folder / "dataset.json").is_file():
        write_phantoms(folder, PHANTOMS, PHANTOM_SEED)
    return folder


if __name__ == "__main__":
    sys.exit(main())
