"""Rows of results files."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a results file."""
    with path.open(newline="", encoding="utf8") as file:
        return list(csv.DictReader(file))


def replace_rows(rows: Sequence[Any], path: Path, group: str, extra: Mapping[str, object] | None = None) -> None:
    """Write dataclass ``rows`` in place of those of their ``group`` in the file, and leave the others.

    Args:
        rows: With a field ``group``, the same in each.
        path: CSV; made where missing.
        group: Whose rows are replaced; none are where ``rows`` is empty.
        extra: The same further columns behind each row.
    """
    made = [{**asdict(row), **(extra or {})} for row in rows]
    earlier = read_rows(path) if path.is_file() else []
    kept = [row for row in earlier if row["group"] != group]
    if not made:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf8") as file:
        writer = csv.DictWriter(file, list(made[0]), lineterminator="\n", restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows([*kept, *made])
