"""What the values in the masks are called: by the caller, a dataset.json, a record beside the masks, or by number."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from medseg.errors import DatasetError
from medseg.evaluation.tabulation import Tabulation

BACKGROUND_NAME = "background"
IGNORED_NAME = "ignore"
"""Name of the value that marks voxels without a reference (nnU-Net); they count nowhere."""

WHITE = 255
"""What picture editors write for the one foreground class."""


def find_names(labels: Mapping[int, str] | None, references: Path, masks: Path) -> dict[int, str] | None:
    """Name of each value, rising, with the background; None where nothing names them.

    Args:
        labels: The names that the caller gave; else a dataset.json in or above ``references`` is read,
            else the record that `medseg predict` leaves beside its masks.
        references: The folder or file of the reference masks.
        masks: The folder or file of the masks to judge.

    Raises:
        DatasetError: The dataset.json or the record cannot be read.
    """
    named = labels or _names_beside(references) or _names_predicted(masks)
    return add_background({int(value): str(name) for value, name in named.items()}) if named else None


def number_names(tables: Sequence[Tabulation]) -> dict[int, str]:
    """``class 1`` … for each value in any mask, where nothing names them; always with the background."""
    return add_background({value: f"class {value}" for value in _values_found(tables) if value != 0})


def split_ignored(names: Mapping[int, str]) -> tuple[dict[int, str], int | None]:
    """The names to score, and the value whose voxels are left out, if one is named ``ignore``."""
    ignored = next((value for value, name in names.items() if name == IGNORED_NAME), None)
    return {value: name for value, name in names.items() if value != ignored}, ignored


def add_background(names: dict[int, str]) -> dict[int, str]:
    """The names, rising by value; 0 is the background where nothing else is said of it."""
    return dict(sorted({0: BACKGROUND_NAME, **names}.items()))


def _values_found(tables: Sequence[Tabulation]) -> list[int]:
    """Every value in any mask; 1 stands for 255 where masks hold nothing else but 0."""
    sides = (
        {value for table in tables for value in table.reference_values},
        {value for table in tables for value in table.prediction_values},
    )
    if all(side <= {0, 1} or side <= {0, WHITE} for side in sides):
        return [0, 1] if sides[0] | sides[1] > {0} else [0]
    return sorted(sides[0] | sides[1])


def _names_beside(references: Path) -> dict[int, str] | None:
    folder = references if references.is_dir() else references.parent
    places = [folder / "dataset.json", folder.parent / "dataset.json"]
    for place in [references, *places] if references.suffix == ".json" else places:
        if place.is_file():
            return _names_in(place)
    return None


def _names_predicted(masks: Path) -> dict[int, str] | None:
    record = (masks if masks.is_dir() else masks.parent) / "predictions.json"
    return _names_in(record) if record.is_file() else None


def _names_in(path: Path) -> dict[int, str] | None:
    """Value to name from ``labels`` of a dataset.json, written either way round; None where it has none.

    Labels of overlapping regions (lists of values) name no single value: None as well.
    """
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError("DATASET_UNREADABLE", path, str(error), "correct the file, or give the labels") from error
    labels = description.get("labels") if isinstance(description, dict) else None
    if not isinstance(labels, dict) or not labels:
        return None
    if all(_is_whole(value) for value in labels.values()):
        return {int(value): str(name) for name, value in labels.items()}
    if all(_is_whole(value) for value in labels):
        return {int(value): str(name) for value, name in labels.items()}
    return None


def _is_whole(value: object) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool) and str(value).isdecimal()
