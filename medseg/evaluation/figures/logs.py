"""What a training wrote down, read back: one row per epoch, one per batch."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medseg.errors import DatasetError, InputError, first_line

EPOCHS_NAME, BATCHES_NAME = "epochs.csv", "batches.csv"


@dataclass(frozen=True)
class Batch:
    """The loss of one batch.

    Args:
        epoch: From 1.
        part: ``train`` or ``validation``.
        step: Within the epoch.
        loss: As the loss function gave it.
    """

    epoch: int
    part: str
    step: int
    loss: float


def read_epochs(path: str | Path) -> list[dict[str, float]]:
    """The rows of an epochs.csv by rising epoch; nan where nothing was measured.

    An epoch that was repeated, as after an interruption, counts as it ran last.

    Args:
        path: The file, or its folder.

    Raises:
        InputError: There is no such file.
        DatasetError: It has no column ``epoch``, or a cell that is no number.
    """
    file, rows = _read(Path(path), EPOCHS_NAME, ("epoch",))
    try:
        numbers = [{name: float(cell) if cell else math.nan for name, cell in row.items()} for row in rows]
        return [row for _, row in sorted({int(row["epoch"]): row for row in numbers}.items())]
    except ValueError as error:
        raise _unreadable(file, first_line(error)) from error


def read_batches(path: str | Path) -> list[Batch]:
    """The rows of a batches.csv, in its order.

    Args:
        path: The file, or its folder.

    Raises:
        InputError: There is no such file.
        DatasetError: A column is missing, or a cell is no number.
    """
    file, rows = _read(Path(path), BATCHES_NAME, ("epoch", "part", "step", "loss"))
    try:
        return [Batch(int(row["epoch"]), row["part"], int(row["step"]), float(row["loss"])) for row in rows]
    except ValueError as error:
        raise _unreadable(file, first_line(error)) from error


def _read(path: Path, name: str, needed: tuple[str, ...]) -> tuple[Path, list[Mapping[str, str]]]:
    file = path / name if path.is_dir() else path
    if not file.is_file():
        raise InputError("INPUT_MISSING", file, "there is no such file", "give a folder that medseg train made")
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            header, *table = csv.reader(lines, strict=True)
        lacking = [column for column in needed if column not in header]
        if lacking:
            raise _unreadable(file, f"it has no column {', '.join(lacking)}")
        return file, [dict(zip(header, cells, strict=True)) for cells in table]
    except (OSError, ValueError, csv.Error) as error:
        raise _unreadable(file, first_line(error)) from error


def _unreadable(file: Path, problem: str) -> DatasetError:
    return DatasetError("LOG_UNREADABLE", file, problem, "give the log that a training wrote, unchanged")
