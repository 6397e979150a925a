"""Data sets that a CSV table describes, one case on each line."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Mapping
from pathlib import Path

from medseg.data.case import Dataset, Labels
from medseg.data.listing import Pair, cases_of, check_present, names_in_list, one_or_more
from medseg.errors import DatasetError

TABLE = "dataset.csv"


def read_table(path: Path, needs_label: bool = True, needs_files: bool = True) -> Dataset:
    """The data set of a CSV: columns ``image`` (``image_2`` …), ``label``, and perhaps ``id`` and ``group``.

    Where a mask lies in several files, the others stand under ``label_2`` ….

    Relative paths count from the CSV's folder. The separator is a comma or a semicolon.

    Args:
        path: The CSV file, UTF-8.
        needs_label: Whether a row without a mask is an error.
        needs_files: Whether a file that is not there is an error.

    Raises:
        DatasetError: CSV_INVALID or FILES_MISSING.
    """
    rows = _rows(path)
    image_columns, label_columns = _columns(path, rows[0], needs_label)
    pairs, groups = [], []
    for line, row in enumerate(rows, start=2):
        cells = {key: (value or "").strip() for key, value in row.items() if key}
        images = [cells[column] for column in image_columns]
        if not all(images) or (needs_label and not cells["label"]):
            raise _invalid_table(path, f"line {line} has an empty cell")
        found = [_from(path.parent, text) for text in images]
        names = (cells["id"],) if cells.get("id") else names_in_list(found[0], path.parent)
        masks = [_from(path.parent, cells[column]) for column in label_columns if cells.get(column)]
        pairs.append(Pair(names, tuple(found), one_or_more(masks)))
        groups.append(cells.get("group") or None)
    if needs_files:
        check_present(path, pairs)
    return Dataset(path.parent, cases_of(pairs, groups), Labels(), (), "csv")


def _from(folder: Path, text: str) -> str:
    return os.path.normpath(folder / text)


def _rows(path: Path) -> list[dict[str | None, str | None]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        first = text.split("\n", 1)[0]
        delimiter = ";" if first.count(";") > first.count(",") else ","
        rows: list[dict[str | None, str | None]] = list(csv.DictReader(io.StringIO(text), delimiter=delimiter))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _invalid_table(path, f"cannot be read ({error})") from error
    if not rows:
        raise _invalid_table(path, "has no rows")
    return rows


def _columns(path: Path, row: Mapping[str | None, object], needs_label: bool) -> tuple[list[str], list[str]]:
    """The columns of images, ``image``, ``image_2`` …, and those of masks."""
    columns = [str(column) for column in row if column]
    if "image" not in columns or (needs_label and "label" not in columns):
        raise _invalid_table(path, f"has the columns {', '.join(columns)}, but 'image' and 'label' are needed")
    more = sorted((c for c in columns if re.fullmatch(r"(image|label)_\d+", c)), key=lambda c: int(c[6:]))
    images, masks = ([c for c in more if c.startswith(kind)] for kind in ("image", "label"))
    return ["image", *images], ["label", *masks]


def _invalid_table(path: Path, problem: str) -> DatasetError:
    return DatasetError("CSV_INVALID", path, problem, "give a header line with image,label and one line for each case")
