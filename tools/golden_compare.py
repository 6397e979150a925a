"""Whether two folders of results say the same: arrays and values are compared, never bytes.

Left out: UIDs, dates, times, durations, versions and paths. Error codes are compared by their new names.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image

VALUE_TOLERANCE = 1e-6
"""Relative difference of two numbers in a table or record that is the order of floating point sums."""

SCORE_TOLERANCE = 1e-5
"""Two best scores that lie closer than this may exchange their places; probabilities may differ by as much."""

UNCOMPARED_KEYS = re.compile(r"(^|_)(seconds|date|time|started|finished|created|version|versions|uid|sha256|host)(_|$)")
UNCOMPARED_COLUMNS = ("seconds",)
UNCOMPARED_FILES = re.compile(r"\.(pt|pth|onnx|bin|xml|ts|lock|jinja)$|events\.out|(^|/)\.")

DURATION = re.compile(r"\b\d+(\.\d+)?\s?(s|seconds|ms|min|minutes)\b|\b\d+:\d\d\b")
PROGRESS = re.compile(r"^.*\d+%\|.*$\n?", re.MULTILINE)
UID = re.compile(r"\b[0-2](\.\d+){5,}\b")
DATE = re.compile(r"\b20\d\d-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?)?\S*")
PICTURE = re.compile(r"data:image/[^\"')\s]+")


@dataclass(frozen=True)
class Rules:
    """What may differ between two results.

    Args:
        renamed: Old error codes and the new ones that stand for them.
        folders: Folders whose path is left out of texts, such as the work folder of either side.
        scores_may_round: Whether masks may differ where the two best scores are closer than SCORE_TOLERANCE, and
            probabilities by as much; else arrays have to be equal.
    """

    renamed: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[str, ...] = ()
    scores_may_round: bool = False

    def plain(self, text: str) -> str:
        """A text without what may differ."""
        for folder in sorted(self.folders, key=len, reverse=True):
            text = text.replace(folder, "<folder>")
        for pattern, word in (
            (PROGRESS, ""),
            (PICTURE, "<picture>"),
            (UID, "<uid>"),
            (DATE, "<date>"),
            (DURATION, "<t>"),
        ):
            text = pattern.sub(word, text)
        if self.renamed:
            names = "|".join(map(re.escape, sorted(self.renamed, key=len, reverse=True)))
            text = re.sub(rf"\b({names})\b", lambda found: self.renamed[found[1]], text)
        return re.sub(r"[ \t]+", " ", text).strip()


def differences(old: Path, new: Path, rules: Rules) -> Iterator[str]:
    """Every difference between two folders, as ``path: what``."""
    names = sorted({str(p.relative_to(root)) for root in (old, new) for p in root.rglob("*") if p.is_file()})
    for name in names:
        if UNCOMPARED_FILES.search(name):
            continue
        paths = old / name, new / name
        if not all(path.is_file() for path in paths):
            yield f"{name}: only in the {'old' if paths[0].is_file() else 'new'} result"
            continue
        for what in _compare(name, *paths, rules):
            yield f"{name}: {what}"


def _compare(name: str, old: Path, new: Path, rules: Rules) -> Iterator[str]:
    for pattern, compare in COMPARERS.items():
        if re.search(pattern, name):
            yield from compare(old, new, rules)
            return
    if old.read_bytes() != new.read_bytes():
        yield "bytes differ"


def compare_volumes(old: Path, new: Path, rules: Rules) -> Iterator[str]:
    """Voxels, their type and the affine of two NIfTI files."""
    one, other = nibabel.nifti1.load(old), nibabel.nifti1.load(new)
    if not np.allclose(one.affine, other.affine, rtol=0, atol=1e-6):
        yield "affines differ"
    voxels, other_voxels = np.asanyarray(one.dataobj), np.asanyarray(other.dataobj)
    if voxels.dtype != other_voxels.dtype:
        yield f"type {voxels.dtype} is {other_voxels.dtype}"
    may_round = rules.scores_may_round and "probabilities" in old.name
    tolerance = SCORE_TOLERANCE if may_round else 0.0
    may_differ = None if may_round else _close_scores(old, rules)
    yield from compare_arrays(voxels, other_voxels, tolerance, may_differ)


def _close_scores(old: Path, rules: Rules) -> NDArray[np.bool_] | None:
    """Where the two best of a mask's probabilities beside it are as good as equal; None: nowhere."""
    name = old.name.replace(".nii", "_probabilities.nii")
    if not rules.scores_may_round or not (old.parent / name).is_file():
        return None
    ranked = np.sort(np.asanyarray(nibabel.nifti1.load(old.parent / name).dataobj), axis=-1)
    return ranked[..., -1] - ranked[..., -2] < SCORE_TOLERANCE


def compare_arrays(
    old: NDArray, new: NDArray, tolerance: float = 0.0, may_differ: NDArray[np.bool_] | None = None
) -> Iterator[str]:
    """Shape and values of two arrays."""
    if old.shape != new.shape:
        yield f"shape {old.shape} is {new.shape}"
        return
    if np.issubdtype(old.dtype, np.inexact) or np.issubdtype(new.dtype, np.inexact):
        differs = ~np.isclose(old, new, rtol=0, atol=tolerance, equal_nan=True)
    else:
        differs = old != new
    if may_differ is not None and may_differ.shape == differs.shape:
        differs &= ~may_differ
    if differs.any():
        yield f"{int(differs.sum())} of {differs.size} values differ"


def compare_archives(old: Path, new: Path, rules: Rules) -> Iterator[str]:
    """Every array of two NPZ files."""
    with np.load(old) as one, np.load(new) as other:
        if sorted(one.files) != sorted(other.files):
            yield f"arrays {sorted(one.files)} are {sorted(other.files)}"
            return
        for name in one.files:
            yield from compare_arrays(one[name], other[name])


def compare_pictures(old: Path, new: Path, rules: Rules) -> Iterator[str]:
    """Pixels of two pictures, every page."""
    pages: list[list[NDArray]] = []
    for path in (old, new):
        with Image.open(path) as picture:
            pages.append([])
            for page in range(getattr(picture, "n_frames", 1)):
                picture.seek(page)
                pages[-1].append(np.asarray(picture))
    if len(pages[0]) != len(pages[1]):
        yield f"{len(pages[0])} pages are {len(pages[1])}"
    for one, other in zip(*pages, strict=False):
        yield from compare_arrays(one, other)


def compare_dicom(old: Path, new: Path, rules: Rules) -> Iterator[str]:
    """Pixels, frames' places, segments and references of two DICOM SEG objects."""
    import pydicom

    one, other = (pydicom.dcmread(path) for path in (old, new))
    yield from compare_arrays(one.pixel_array, other.pixel_array)
    for name in ("SegmentSequence", "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        texts = [rules.plain(str(dataset.get(name))) for dataset in (one, other)]
        if texts[0] != texts[1]:
            yield f"{name} differs"
    for name in ("Rows", "Columns", "SegmentationType", "Modality", "SOPClassUID", "PatientID"):
        if one.get(name) != other.get(name):
            yield f"{name} {one.get(name)} is {other.get(name)}"


def compare_records(old: Path, new: Path, rules: Rules) -> Iterator[str]:
    """Every value of two JSON files, by key."""
    one, other = (json.loads(path.read_text(encoding="utf8")) for path in (old, new))
    yield from _compare_values("", one, other, rules)


def _compare_values(place: str, old: Any, new: Any, rules: Rules) -> Iterator[str]:
    if UNCOMPARED_KEYS.search(place.rsplit(".", 1)[-1]):
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            if key not in old or key not in new:
                yield f"{place}.{key} only in the {'old' if key in old else 'new'}"
            else:
                yield from _compare_values(f"{place}.{key}", old[key], new[key], rules)
    elif isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            yield f"{place}: {len(old)} entries are {len(new)}"
        for number, (one, other) in enumerate(zip(old, new, strict=False)):
            yield from _compare_values(f"{place}.{number}", one, other, rules)
    elif not _is_same(old, new, rules):
        yield f"{place}: {old!r} is {new!r}"


def _is_same(old: Any, new: Any, rules: Rules) -> bool:
    if isinstance(old, bool) or isinstance(new, bool):
        return old is new
    if isinstance(old, int | float) and isinstance(new, int | float):
        return (math.isnan(old) and math.isnan(new)) or math.isclose(
            old, new, rel_tol=VALUE_TOLERANCE, abs_tol=VALUE_TOLERANCE
        )
    if isinstance(old, str) and isinstance(new, str):
        return rules.plain(old) == rules.plain(new)
    return bool(old == new)


def compare_tables(old: Path, new: Path, rules: Rules) -> Iterator[str]:
    """Header and cells of two CSV files."""
    tables = [list(csv.reader(io.StringIO(path.read_text(encoding="utf8")))) for path in (old, new)]
    if len(tables[0]) != len(tables[1]):
        yield f"{len(tables[0])} lines are {len(tables[1])}"
    for line, (one, other) in enumerate(zip(*tables, strict=False), start=1):
        if len(one) != len(other):
            yield f"line {line}: {len(one)} cells are {len(other)}"
        for column, (was, now) in enumerate(zip(one, other, strict=False)):
            if tables[0][0][column : column + 1] and tables[0][0][column] in UNCOMPARED_COLUMNS:
                continue
            if not _is_same(_number_or_text(was), _number_or_text(now), rules):
                yield f"line {line}, column {column + 1}: {was!r} is {now!r}"


def _number_or_text(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell


def compare_texts(old: Path, new: Path, rules: Rules) -> Iterator[str]:
    """Two texts, line by line."""
    lines = [rules.plain(path.read_text(encoding="utf8")).splitlines() for path in (old, new)]
    if len(lines[0]) != len(lines[1]):
        yield f"{len(lines[0])} lines are {len(lines[1])}"
    for number, (one, other) in enumerate(zip(*lines, strict=False), start=1):
        if one.rstrip() != other.rstrip():
            yield f"line {number}: {one.strip()!r} is {other.strip()!r}"


COMPARERS: dict[str, Callable[[Path, Path, Rules], Iterator[str]]] = {
    r"\.nii(\.gz)?$": compare_volumes,
    r"\.npz$": compare_archives,
    r"\.(png|tiff?)$": compare_pictures,
    r"\.dcm$": compare_dicom,
    r"\.json$": compare_records,
    r"\.csv$": compare_tables,
    r"\.(txt|md|html|log|conf)$": compare_texts,
}
"""How a result is compared, by its file's name."""
