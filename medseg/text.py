"""Tables, numbers and lists as text, alike in every verb: for a terminal of 100 columns, and as CSV."""

from __future__ import annotations

import csv
import io
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH = 100
"""Columns of the terminal that all text is written for."""

DASH = "–"
"""Stands where there is no number and no name."""


@dataclass(frozen=True)
class Column:
    """One column of a table for a terminal.

    Args:
        title: What stands above it.
        width: Characters that its cells take; a longer cell moves the rest of its line.
        is_left: Whether cells begin at the column's left edge, as names do; numbers end at its right edge.
        gap: Spaces between it and the column before.
    """

    title: str
    width: int
    is_left: bool = False
    gap: int = 2


def join_titles(columns: Sequence[Column]) -> str:
    """The heading of a table.

    >>> join_titles([Column("class", 8, is_left=True), Column("n", 4, gap=1), Column("Dice", 5)])
    'class       n   Dice'
    """
    return join_cells(columns, [column.title for column in columns])


def join_cells(columns: Sequence[Column], cells: Sequence[str]) -> str:
    """One line of a table.

    >>> join_cells([Column("class", 8, is_left=True), Column("n", 4, gap=1), Column("Dice", 5)], ["lung", "12", "–"])
    'lung       12      –'

    Raises:
        ValueError: There are more cells than columns, or fewer.
    """
    line = ""
    for column, cell in zip(columns, cells, strict=True):
        filled = cell.ljust(column.width) if column.is_left else cell.rjust(column.width)
        line += f"{' ' * column.gap if line else ''}{filled}"
    return line


def draw_rule(title: str, width: int) -> str:
    """A line with a title in its middle, to stand above the columns that belong together.

    >>> draw_rule("pooled", 12)
    '── pooled ──'
    """
    return f"{f' {title} ':─^{width}}"


def make_printable(text: str) -> str:
    r"""``text`` with control characters written out, so that a file's name cannot steer the terminal.

    >>> make_printable("case\x1b[2J")
    'case\\x1b[2J'
    """
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def shorten(text: str, most: int) -> str:
    """``text`` without control characters, and with an ellipsis at its end where it is longer than ``most``.

    >>> shorten("left ventricle", 14), shorten("left ventricle", 8)
    ('left ventricle', 'left ve…')
    """
    text = make_printable(text)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def wrap(text: str, first: str = "", rest: str | None = None, *, keeps_words: bool = False) -> list[str]:
    """``text`` on lines of at most 100 columns, without control characters; at least one line.

    Args:
        text: One paragraph.
        first: What the first line begins with, such as ``- ``.
        rest: What the other lines begin with; otherwise spaces, as many as ``first`` is long.
        keeps_words: Whether a word that is longer than a line, and one with hyphens, stays whole: a path or a
            command that somebody may copy.
    """
    rest = " " * len(first) if rest is None else rest
    wrapper = textwrap.TextWrapper(
        WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=not keeps_words,
        break_on_hyphens=not keeps_words,
    )
    return wrapper.wrap(make_printable(text)) or [first]


def pluralise(number: int, noun: str, several: str = "") -> str:
    """A number and what it counts; ``several`` where the plural is not the noun with an s.

    >>> pluralise(1, "case"), pluralise(0, "case"), pluralise(2, "match", "matches")
    ('1 case', '0 cases', '2 matches')
    """
    return f"{number} {noun if number == 1 else several or f'{noun}s'}"


def list_some(names: Sequence[str], most: int = 50, rest: str = " and {} more") -> str:
    """The first names, and how many are left out.

    >>> list_some(["a", "b", "c"], 2), list_some(["a", "b"], 2), list_some(["a", "b", "c"], 2, ", …")
    ('a, b and 1 more', 'a, b', 'a, b, …')
    """
    left_out = rest.format(len(names) - most) if len(names) > most else ""
    return ", ".join(names[:most]) + left_out


def format_number(value: float, decimals: int = 3, sign: str = "") -> str:
    """A number with its decimals, or a dash for nan.

    Args:
        value: The number.
        decimals: How many stand behind the point.
        sign: ``+`` where positive numbers are to show their sign.

    >>> format_number(0.91249), format_number(float("nan")), format_number(0.02, 2, "+")
    ('0.912', '–', '+0.02')
    """
    return DASH if math.isnan(value) else f"{value:{sign}.{decimals}f}"


def format_count(value: float) -> str:
    """A count with separators; one decimal where it is a mean; a dash for nan.

    >>> format_count(31402501.0), format_count(68.5)
    ('31,402,501', '68.5')
    """
    if math.isnan(value):
        return DASH
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def format_duration(seconds: float) -> str:
    """Hours, minutes and seconds; a dash for nan.

    >>> format_duration(3725.4), format_duration(59)
    ('1:02:05', '0:59')
    """
    if math.isnan(seconds):
        return DASH
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def format_chance(p: float) -> str:
    """The p of a test: three decimals, or that it is smaller; a dash for nan.

    >>> format_chance(0.0314), format_chance(0.00002)
    ('0.031', '<0.001')
    """
    return "<0.001" if p < 0.001 else format_number(p)


def format_cell(value: float) -> str:
    """A number in a CSV file: six decimals; ``nan`` is written out, since an empty cell would read as forgotten.

    >>> format_cell(0.5), format_cell(float("nan"))
    ('0.500000', 'nan')
    """
    return "nan" if math.isnan(value) else f"{value:.6f}"


def make_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    r"""A table as the text of a CSV file, the names of its columns first.

    >>> make_csv(["case", "dice"], [["a, b", 1]])
    'case,dice\n"a, b",1\n'
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def replace_nan(value: Any) -> Any:
    """Plain values for JSON, which knows no nan: it becomes None, at any depth; keys become text, tuples lists.

    >>> replace_nan({1: (float("nan"), 0.5)})
    {'1': [None, 0.5]}
    """
    if isinstance(value, Mapping):
        return {str(key): replace_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [replace_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
