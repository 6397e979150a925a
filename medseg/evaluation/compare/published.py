"""A published table beside our own rows."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from medseg.errors import DatasetError, InputError
from medseg.evaluation.compare.rows import TRAINING, ComparedRow
from medseg.evaluation.metrics import COMPARED

PUBLISHED_COLUMNS = ("row", "class", "metric", "value")
COMPARABLE = (*COMPARED, "loss", *TRAINING[1:])
"""What may be in the column ``metric``; a loss stands beside our validation loss."""


@dataclass(frozen=True)
class Published:
    """One number of a published table.

    Args:
        row: The row it stands in, as ``unet_focal (remark)``: it fits each of our rows that has all of these parts.
        class_name: A class's value or name, ``foreground mean`` or ``all classes``; empty for a number of the run.
        metric: One of ``COMPARABLE``.
        value: The number as published; shares from 0 to 1, times in seconds.
    """

    row: str
    class_name: str
    metric: str
    value: float


@dataclass(frozen=True)
class PublishedTable:
    """Published numbers, and what their table says of them.

    Args:
        numbers: The numbers, in the order of the table.
        remarks: The comments of the table (source, conventions, caveats), a paragraph each.
    """

    numbers: tuple[Published, ...] = ()
    remarks: tuple[str, ...] = ()


NOTHING = PublishedTable()
"""Where nothing is to be set beside."""


@dataclass(frozen=True)
class Beside:
    """A published number, and ours; nan where there is none.

    Args:
        published: The number.
        row: Our row; empty where none fits.
        class_name: The class as we name it.
        mean: Ours, mean over cases; of a run's numbers, mean over runs.
        pooled: Ours, of all voxels together; nan for a run's numbers.
    """

    published: Published
    row: str
    class_name: str
    mean: float
    pooled: float


def read_published(path: str | Path) -> PublishedTable:
    """A table with the columns row, class, metric and value; lines that begin with ``#`` are remarks on it.

    Raises:
        InputError: INPUT_MISSING, there is no such file.
        DatasetError: PUBLISHED_INVALID, another header, an unknown metric or no number.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError("INPUT_MISSING", file, "there is no such file")
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
        reader = csv.DictReader([line for line in lines if line.strip() and not line.startswith("#")], strict=True)
        if tuple(reader.fieldnames or ()) != PUBLISHED_COLUMNS:
            raise _make_invalid_error(file, f"its columns are {', '.join(reader.fieldnames or ())}")
        return PublishedTable(tuple(_read_number(cells, file) for cells in reader), _read_remarks(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _make_invalid_error(file, str(error)) from error


def set_beside(numbers: Iterable[Published], rows: Iterable[ComparedRow]) -> tuple[Beside, ...]:
    """Each published number with each of our rows that it fits; once, alone, where it fits none."""
    rows = tuple(rows)
    found: list[Beside] = []
    for number in numbers:
        fitting = [row for row in rows if _fits(number, row)]
        found += [_compare_number(number, row) for row in fitting] or [
            Beside(number, "", number.class_name, math.nan, math.nan)
        ]
    return tuple(found)


def _read_remarks(lines: Iterable[str]) -> tuple[str, ...]:
    """Comments without their sign; lines that follow each other are one paragraph, which an empty one ends."""
    said = [line.lstrip("#").strip() if line.startswith("#") else "" for line in lines]
    return tuple(" ".join(together) for is_said, together in groupby(said, bool) if is_said)


def _read_number(cells: Mapping[str, str], file: Path) -> Published:
    where = f"row {cells['row']!r}, {cells['metric']!r}"
    if cells["metric"] not in COMPARABLE:
        raise _make_invalid_error(file, f"{where}: the metric is none of {', '.join(COMPARABLE)}")
    try:
        return Published(cells["row"].strip(), cells["class"].strip(), cells["metric"], float(cells["value"]))
    except (TypeError, ValueError) as error:
        raise _make_invalid_error(file, f"{where}: {cells['value']!r} is no number") from error


def _fits(number: Published, row: ComparedRow) -> bool:
    name = number.row.partition(" (")[0]
    return name == row.name or set(name.split("_")) <= row.parts


def _compare_number(number: Published, row: ComparedRow) -> Beside:
    if number.metric not in COMPARED:
        key = "val_loss" if number.metric == "loss" else number.metric
        return Beside(number, row.name, "", row.training[key][0], math.nan)
    wanted = number.class_name.casefold()
    for scores in row.classes:
        if wanted in (scores.name.casefold(), str(scores.value)):
            spread = scores.metrics[number.metric]
            return Beside(number, row.name, scores.name, spread.mean, spread.pooled)
    return Beside(number, row.name, number.class_name, math.nan, math.nan)


def _make_invalid_error(file: Path, problem: str) -> DatasetError:
    return DatasetError(
        "PUBLISHED_INVALID", file, problem, f"write the columns {','.join(PUBLISHED_COLUMNS)}; see benchmarks/published"
    )
