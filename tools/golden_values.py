"""What a scene's results come to in a few numbers that every machine should find again, nearly."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from PIL import Image, ImageSequence

VOXELS_SHARE = 0.01
"""How far a class's number of voxels may be off on another machine, as a share of it."""

VOXELS_LEAST = 3
SCORE_APART = 0.005

MASK_ENDINGS = (".nii.gz", ".png", ".tif")

CODE = re.compile(r"\b[A-Z]{3,}(?:_[A-Z]+)+\b")


def tell_values(folder: Path) -> dict[str, Any]:
    """Of a scene's folder: exit codes and codes that were named, voxels of each class, summaries and findings."""
    return {
        "exit_codes": {path.stem: _exit_code(path) for path in sorted(folder.glob("said_*.txt"))},
        "codes": {path.stem: sorted(set(CODE.findall(_text(path)))) for path in sorted(folder.glob("said_*.txt"))},
        "voxels": {str(path.relative_to(folder)): _count(path) for path in _masks(folder)},
        "scores": {str(path.relative_to(folder)): _scores(path) for path in sorted(folder.rglob("summary.csv"))},
        "records": sorted(str(path.relative_to(folder)) for path in folder.rglob("*.json")),
    }


def value_differences(kept: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Where a scene's values are not those that were kept; numbers of voxels and scores may be off a little."""
    found = [
        f"{name}: {kept[name]} is {now[name]}" for name in ("exit_codes", "codes", "records") if kept[name] != now[name]
    ]
    for name, is_near in (("voxels", _is_near_count), ("scores", _is_near_score)):
        if kept[name].keys() != now[name].keys():
            found.append(f"{name}: of {sorted(kept[name])}, now of {sorted(now[name])}")
            continue
        for place, values in kept[name].items():
            other = now[name][place]
            if values.keys() != other.keys() or not all(is_near(values[key], other[key]) for key in values):
                found.append(f"{name} of {place}: {values} is {other}")
    return found


def _is_near_count(kept: int, now: int) -> bool:
    return abs(kept - now) <= max(VOXELS_LEAST, VOXELS_SHARE * kept)


def _is_near_score(kept: str, now: str) -> bool:
    if not kept or not now:
        return kept == now
    return bool(np.isclose(float(kept), float(now), rtol=0, atol=SCORE_APART, equal_nan=True))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf8")


def _exit_code(path: Path) -> int:
    return int(_text(path).partition("\nexit code ")[2].split("\n")[0])


def _masks(folder: Path) -> list[Path]:
    paths = sorted(path for path in folder.rglob("*") if path.name.endswith(MASK_ENDINGS))
    return [path for path in paths if "probabilities" not in path.name]


def _count(path: Path) -> dict[str, int]:
    """Voxels of each label, of a file whose voxels are whole numbers; of another, none."""
    if path.suffix == ".gz":
        voxels = np.asanyarray(nibabel.nifti1.load(path).dataobj)
    else:
        with Image.open(path) as picture:
            voxels = np.stack([np.asarray(page) for page in ImageSequence.Iterator(picture)])
    if not np.issubdtype(voxels.dtype, np.integer):
        return {}
    return {str(value): int(count) for value, count in zip(*np.unique(voxels, return_counts=True), strict=True)}


def _scores(path: Path) -> dict[str, str]:
    with path.open(newline="", encoding="utf8") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "dice"]
    return {f"{row['part']} {row['class']}": row["mean"] for row in rows}


def read_values(path: Path) -> dict[str, dict[str, Any]]:
    """Kept values, by scene."""
    return dict(json.loads(_text(path)))
