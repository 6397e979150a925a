#!/usr/bin/env python3
"""Run the command line of two revisions on the same made scans, and name every difference between their results.

    git worktree add ../old REVISION
    python tools/goldens.py compare ../old . --work /tmp/goldens
    python tools/goldens.py compare ../old . --work /tmp/goldens --only hippocampus --scores-may-round
    python tools/goldens.py prove --work /tmp/goldens        # each golden fails on a planted fault
    python tools/goldens.py values . --work /tmp/values      # keep the few numbers that the slow tests hold

Both sides run on one machine with the same Python: CPU, PyTorch's own passes, one thread, fixed seeds, a cache folder
of their own. Results of the old side are kept in the work folder and used again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.golden_compare import Rules, differences
from tools.golden_faults import plant
from tools.golden_scans import write_all
from tools.golden_values import tell_values

KEPT_VALUES = Path(__file__).resolve().parents[1] / "tests" / "end_to_end" / "golden_values.json"
SCENES_OF_VALUES = ("hippocampus", "hearts", "pictures", "check", "evaluate", "refused")
"""Quick scenes that start from made scans alone."""

TORCH = "--backend torch --threads 1 --device cpu"


@dataclass(frozen=True)
class Scene:
    """One use of the command line.

    Args:
        name: Of its folder.
        commands: Lines behind ``medseg``, run in the scene's own folder; ``{made}`` is the folder of made scans and
            ``{demo}`` what the demonstration of the old side left. Their results are told by relative paths.
    """

    name: str
    commands: tuple[str, ...]


SCENES = (
    Scene("demo", ("demo --output shown",)),
    Scene(
        "phantom",
        (
            f"predict phantom_ct_segmentation {{demo}}/scans masks {TORCH} --probabilities",
            f"predict phantom_ct_segmentation {{demo}}/scans/straight.nii.gz mirrored {TORCH} --tta --overlap 0.5",
            f"predict phantom_ct_segmentation {{demo}}/scans/oblique.nii.gz cropped {TORCH} --crop",
            f"predict phantom_ct_segmentation {{demo}}/scans dry {TORCH} --dry-run --max-ram 2G",
        ),
    ),
    Scene(
        "hippocampus",
        (f"predict hippocampus_mr_segmentation {{made}}/hippocampus masks {TORCH} --probabilities",),
    ),
    Scene("hearts", (f"predict acdc_mr_segmentation {{made}}/hearts masks {TORCH} --probabilities",)),
    Scene(
        "pictures",
        (
            f"predict lung2d_xray_segmentation {{made}}/grey grey {TORCH}",
            f"predict polyp_endoscopy_segmentation {{made}}/colour colour {TORCH}",
            f"predict isbi_em_segmentation {{made}}/pages/pages.tif#1 page {TORCH}",
        ),
    ),
    Scene(
        "dicom_seg",
        (
            f"predict phantom_ct_segmentation {{demo}}/scans/dicom_series binary {TORCH} --format dicom-seg",
            f"predict phantom_ct_segmentation {{demo}}/scans/dicom_series map {TORCH} --format dicom-seg "
            "--seg-type labelmap",
            "evaluate binary {demo}/references/dicom_series.nii.gz --output scores",
            "check {demo}/scans/dicom_series --json series.json",
        ),
    ),
    Scene(
        "onnx",
        (
            "bundle export hippocampus_mr_segmentation exported --to onnx",
            "predict exported {made}/hippocampus masks --threads 1 --probabilities",
            "bundle export acdc_mr_segmentation hearts --to onnx",
            "predict hearts {made}/hearts heart_masks --threads 1",
        ),
    ),
    Scene(
        "openvino",
        (
            "bundle export phantom_ct_segmentation exported --to openvino",
            "predict exported {demo}/scans masks --threads 1",
        ),
    ),
    Scene(
        "check",
        (
            "check {made}/faulty --json findings.json",
            "check {made}/faulty --all --bundle hippocampus_mr_segmentation",
            "check {made}/faulty --fix fixed",
            "check {made}/scored --split {made}/scored/split.json",
        ),
    ),
    Scene(
        "evaluate",
        (
            "evaluate {made}/scored/masks {made}/scored/labels --output plain --report plain/report.html",
            "evaluate {made}/scored/masks {made}/scored/labels --output held_out --held-out {made}/scored/split.json",
            "evaluate {made}/scored/masks {made}/scored/labels --output slices --slices --background --missing skip",
        ),
    ),
    Scene(
        "train",
        (
            "train hippocampus_mr_segmentation --data {made}/train --output run --epochs 1 --new-split "
            "--set cache_rate=0.0",
            "train hippocampus_mr_segmentation --data {made}/train --output run --epochs 2 --resume "
            "--set cache_rate=0.0",
            f"predict run {{made}}/hippocampus masks {TORCH}",
            "compare run --data {made}/train --output comparison",
            "train acdc_mr_segmentation --data {made}/hearts --output refused --epochs 1",
        ),
    ),
    Scene("verify", ("bundle verify hippocampus_mr_segmentation acdc_mr_segmentation phantom_ct_segmentation",)),
    Scene(
        "refused",
        (
            "predict no_such_bundle {made}/hippocampus masks",
            "predict hippocampus_mr_segmentation {made}/nothing masks",
            f"predict hippocampus_mr_segmentation {{made}}/faulty/images masks {TORCH}",
            "predict hippocampus_mr_segmentation {made}/hippocampus masks --overlap 2",
            "predict hippocampus_mr_segmentation {made}/hippocampus masks --device quantum",
            "predict hippocampus_mr_segmentation {made}/hippocampus masks --locatr none",
            "evaluate {made}/nothing {made}/scored/labels",
            "train hippocampus_mr_segmentation --data {made}/train --output run --set learning_rat=1",
        ),
    ),
)


def run_scene(scene: Scene, tree: Path, side: Path, made: Path) -> Path:
    """Run a scene's commands with the code of ``tree``; returns the folder of its results."""
    folder, environment = side / scene.name, _environment(tree, side)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number, line in enumerate(scene.commands, start=1):
        given = line.format(made=made, demo=made.parent / "old" / "demo" / "shown").split()
        words = [sys.executable, "-m", "medseg", *given]
        done = subprocess.run(words, cwd=folder, env=environment, text=True, capture_output=True, check=False)
        said = f"medseg {line}\nexit code {done.returncode}\n{done.stdout}\n--- errors\n{done.stderr}"
        (folder / f"said_{number}.txt").write_text(said, encoding="utf8")
    return folder


def _environment(tree: Path, side: Path) -> dict[str, str]:
    fixed = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "100", "PYTHONHASHSEED": "0"}
    return {**os.environ, **fixed, "PYTHONPATH": str(tree), "XDG_CACHE_HOME": str(side / "cache")}


def renamed_codes(tree: Path) -> dict[str, str]:
    """Old error codes and what they are called in ``tree``; empty where it has no such table."""
    asked = "import json; from medseg.findings import ALIASES; print(json.dumps(dict(ALIASES)))"
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    words = [sys.executable, "-c", asked]
    done = subprocess.run(words, env=environment, text=True, capture_output=True, cwd=tree, check=False)
    return dict(json.loads(done.stdout)) if done.returncode == 0 else {}


def compare_trees(old: Path, new: Path, work: Path, scenes: Sequence[Scene], rules: Rules) -> Iterator[str]:
    """Every difference between the results of two trees, scene by scene."""
    made = work / "made"
    if not made.is_dir():
        write_all(made)
    for scene in scenes:
        if not (work / "old" / scene.name).is_dir():
            run_scene(scene, old, work / "old", made)
        results = work / "old" / scene.name, run_scene(scene, new, work / "new", made)
        yield from (f"{scene.name}/{what}" for what in differences(*results, rules))


def values_of(tree: Path, work: Path) -> dict[str, Any]:
    """What the quick scenes come to with the code of ``tree``, by scene."""
    write_all(work / "made")
    scenes = [scene for scene in SCENES if scene.name in SCENES_OF_VALUES]
    return {scene.name: tell_values(run_scene(scene, tree, work / "new", work / "made")) for scene in scenes}


def prove(work: Path, scenes: Sequence[Scene], rules: Rules) -> Iterator[str]:
    """The goldens in which a planted fault is not seen: none, if they are worth something."""
    for scene in scenes:
        copy = work / "planted"
        kept = work / "old" / scene.name
        for fault in plant(kept, copy):
            if not any(differences(kept, copy, rules)):
                yield f"{scene.name}: {fault} is not seen"
        shutil.rmtree(copy, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare two trees or prove the goldens; returns 1 where something differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("compare", "prove", "values"))
    parser.add_argument("trees", nargs="*", type=Path, metavar="OLD NEW", help="two checkouts; for values one")
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="for made scans and results")
    parser.add_argument("--only", nargs="+", choices=[scene.name for scene in SCENES], metavar="SCENE")
    parser.add_argument(
        "--scores-may-round", action="store_true", help="masks may differ where scores are as good as equal"
    )
    parsed = parser.parse_args(arguments)
    work, trees = parsed.work.resolve(), [tree.resolve() for tree in parsed.trees]
    scenes = [scene for scene in SCENES if not parsed.only or scene.name in parsed.only]
    folders = tuple(str(folder) for folder in (work / "old", work / "new", work / "planted", work, *trees))
    if parsed.verb == "values":
        KEPT_VALUES.write_text(json.dumps(values_of(trees[0], work), indent=1, sort_keys=True) + "\n", encoding="utf8")
        print(f"written: {KEPT_VALUES}")
        return 0
    if parsed.verb == "prove":
        found = prove(work, scenes, Rules(folders=folders))
    else:
        if len(trees) != 2:
            parser.error("compare takes two trees: OLD NEW")
        rules = Rules(renamed_codes(trees[1]), folders, parsed.scores_may_round)
        found = compare_trees(trees[0], trees[1], work, scenes, rules)
    lines = []
    for line in found:
        print(line, flush=True)
        lines.append(line)
    print(f"{len(lines)} differences" if parsed.verb == "compare" else f"{len(lines)} faults not seen")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
