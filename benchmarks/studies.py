#!/usr/bin/env python3
"""Gather the runs of the studies: score those that are not, write results/studies.csv and draw their curves.

The runs are made by the commands in docs/studies.md, one folder of runs for each study:

    benchmarks/studies.py --runs runs --data acdc=ACDC --data isbi=isbi_em --data polyp=kvasir --data xray=montgomery
    benchmarks/studies.py --runs runs            # from the run folders alone
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import medseg
from medseg.data.splits import read_split
from medseg.evaluation.compare.gather import Comparison
from medseg.evaluation.compare.rows import ClassScores, ComparedRow
from medseg.evaluation.figures.curves import network_curves
from medseg.evaluation.figures.drawing import to_png
from medseg.evaluation.figures.gallery import compared_networks
from medseg.options import SPLIT_PARTS
from medseg.training.compare import score_missing

HERE = Path(__file__).resolve().parent
STUDIES = {"acdc": "acdc_mr", "isbi": "isbi_em", "polyp": "polyp_endoscopy", "xray": "lung2d_xray"}
"""Folder of a study's runs, and its published table."""
METRICS = ("dice", "iou", "precision", "recall", "accuracy")
TRAINING = ("epochs", "best_epoch", "seconds", "parameters", "val_loss")


def main(arguments: Sequence[str] | None = None) -> int:
    """Score, gather, write; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, help="folder with the runs of each study")
    parser.add_argument("--data", action="append", default=[], metavar="STUDY=FOLDER", help="a study's data set")
    parser.add_argument("--output", type=Path, default=HERE / "results", metavar="FOLDER")
    parser.add_argument("--pictures", type=Path, default=HERE.parent / "docs" / "images", metavar="FOLDER")
    parsed = parser.parse_args(arguments)
    data = dict(pair.split("=", 1) for pair in parsed.data)
    lines = [line for name in STUDIES if (parsed.runs / name).is_dir() for line in _study(name, parsed, data)]
    with (parsed.output / "studies.csv").open("w", newline="", encoding="utf8") as file:
        writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    return 0


def _study(name: str, parsed: argparse.Namespace, data: Mapping[str, str]) -> Iterator[dict[str, object]]:
    """One line for each row and class of a study; its tables are printed and its pictures drawn."""
    place = parsed.runs / name
    if name in data:
        score_missing([place], data[name], "test")
    comparison = medseg.compare([place], part="test", published=HERE / "published" / f"{STUDIES[name]}.csv")
    print(comparison.to_text(), flush=True)
    runs = {row: folders[0] for row, folders in comparison.runs.items()}
    logs = {row: folder / "logs" / "epochs.csv" for row, folder in runs.items()}
    parsed.pictures.mkdir(parents=True, exist_ok=True)
    (parsed.pictures / f"study_{name}_epochs.png").write_bytes(to_png(network_curves(logs, "val_mean_dice")))
    # Pictures of the data stay with the runs: most licences do not let them be passed on.
    examples = compared_networks(runs, "test", data.get(name), count=3)
    (place / "examples.png").write_bytes(to_png(examples))
    for row in comparison.rows:
        for scores in row.classes:
            yield {**_head(name, comparison, row, runs[row.name]), **_numbers(comparison, row, scores)}


def _head(name: str, comparison: Comparison, row: ComparedRow, run: Path) -> dict[str, object]:
    config = json.loads((run / "configs" / "train.json").read_text(encoding="utf8"))
    record = json.loads((run / "run.json").read_text(encoding="utf8"))
    split = read_split(run / "configs" / "split.json")
    counts = {part: len(getattr(split, part)) for part in SPLIT_PARTS}
    said = {"study": name, "bundle": record["bundle"], "form": record["form"], "row": row.name}
    options = config["network_options"]
    said |= {"network": row.network, "filters": options["filters"], "loss": row.loss, "seed": config["seed"]}
    return {**said, **counts, "part": comparison.part}


def _numbers(comparison: Comparison, row: ComparedRow, scores: ClassScores) -> dict[str, object]:
    found: dict[str, object] = {"class": scores.name, "cases": scores.cases}
    for metric in METRICS:
        spread = scores.metrics[metric]
        found |= {f"{metric}_mean": spread.mean, f"{metric}_sd": spread.sd, f"{metric}_pooled": spread.pooled}
    for metric in ("dice", "iou"):
        values = [
            f"{each.published.value} ({each.published.row})"
            for each in comparison.beside
            if (each.row, each.class_name, each.published.metric) == (row.name, scores.name, metric)
        ]
        found[f"published_{metric}"] = "; ".join(values)
    found |= {key: row.training[key][0] for key in TRAINING}
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in found.items()}


if __name__ == "__main__":
    sys.exit(main())
