"""Numbers, names, lines and tables as text, to the letter."""

from __future__ import annotations

import csv
import io
import json
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.text import (
    WIDTH,
    Column,
    draw_rule,
    format_cell,
    format_chance,
    format_count,
    format_duration,
    format_number,
    join_cells,
    join_titles,
    list_some,
    make_csv,
    make_printable,
    pluralise,
    replace_nan,
    shorten,
    wrap,
)

COLUMNS = (Column("class", 6, is_left=True), Column("n", 3, gap=1), Column("Dice", 5), Column("note", 6, is_left=True))


def test_a_table_has_names_on_the_left_and_numbers_on_the_right() -> None:
    assert join_titles(COLUMNS) == "class    n   Dice  note  "
    assert join_cells(COLUMNS, ["lung", "12", "0.912", "ok"]) == "lung    12  0.912  ok    "


def test_a_cell_that_is_too_long_moves_the_rest_of_its_line_and_loses_nothing() -> None:
    assert join_cells(COLUMNS[:2], ["myocardium", "12"]) == "myocardium  12"


def test_a_table_without_columns_is_an_empty_line() -> None:
    assert join_cells([], []) == join_titles([]) == ""


def test_a_first_column_that_is_empty_keeps_its_place() -> None:
    assert join_cells(COLUMNS[:2], ["", "1"]) == "         1"


def test_a_line_has_a_cell_for_every_column() -> None:
    with pytest.raises(ValueError):
        join_cells(COLUMNS, ["lung"])


def test_a_rule_has_its_title_in_the_middle_and_its_width() -> None:
    assert draw_rule("pooled", 12) == "── pooled ──"
    assert draw_rule("mean over cases", 41) == "─" * 12 + " mean over cases " + "─" * 12
    assert draw_rule("longer than it", 4) == " longer than it "


@pytest.mark.parametrize(
    ("value", "decimals", "sign", "text"),
    [
        (0.91249, 3, "", "0.912"),
        (1.0, 3, "", "1.000"),
        (-0.5, 3, "", "-0.500"),
        (math.nan, 3, "", "–"),
        (math.nan, 0, "+", "–"),
        (0.02, 2, "+", "+0.02"),
        (-0.02, 2, "+", "-0.02"),
        (86.4, 0, "", "86"),
        (0.12345, 4, "", "0.1235"),
        (math.inf, 3, "", "inf"),
    ],
)
def test_a_number_has_its_decimals_and_nan_is_a_dash(value: float, decimals: int, sign: str, text: str) -> None:
    assert format_number(value, decimals, sign) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (12.0, "12"), (68.5, "68.5"), (31402501.0, "31,402,501"), (1234.56, "1,234.6"), (math.nan, "–")],
)
def test_a_count_is_whole_unless_it_is_a_mean(value: float, text: str) -> None:
    assert format_count(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (59.4, "0:59"),
        (59.6, "1:00"),
        (3599, "59:59"),
        (3600, "1:00:00"),
        (3725.4, "1:02:05"),
        (math.nan, "–"),
    ],
)
def test_a_duration_has_hours_only_where_it_lasts_an_hour(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("p", "text"),
    [(1.0, "1.000"), (0.0314, "0.031"), (0.001, "0.001"), (0.00099, "<0.001"), (0, "<0.001"), (math.nan, "–")],
)
def test_a_chance_below_a_thousandth_is_said_to_be_smaller(p: float, text: str) -> None:
    assert format_chance(p) == text


@pytest.mark.parametrize(
    ("number", "noun", "several", "text"),
    [
        (0, "case", "", "0 cases"),
        (1, "case", "", "1 case"),
        (2, "case", "", "2 cases"),
        (2, "match", "matches", "2 matches"),
    ],
)
def test_a_noun_stands_in_the_number_of_what_it_counts(number: int, noun: str, several: str, text: str) -> None:
    assert pluralise(number, noun, several) == text


def test_names_beyond_the_first_are_counted_or_hinted_at() -> None:
    assert list_some([]) == ""
    assert list_some(["a", "b", "c"], 3) == "a, b, c"
    assert list_some(["a", "b", "c", "d"], 3) == "a, b, c and 1 more"
    assert list_some(["a", "b", "c", "d"], 3, ", …") == "a, b, c, …"
    assert list_some([str(n) for n in range(51)]).endswith("48, 49 and 1 more")


def test_control_characters_are_written_out() -> None:
    assert make_printable("a\x1b[31mb\nc\u202ed") == r"a\x1b[31mb\nc\u202ed"
    assert make_printable("Größe µ 肺") == "Größe µ 肺"
    assert make_printable("") == ""


@given(st.text(max_size=60), st.integers(1, 40))
def test_a_shortened_text_fits_and_is_printable(text: str, most: int) -> None:
    short = shorten(text, most)
    assert len(short) <= most and short.isprintable()
    assert short == make_printable(text) or short.endswith("…")


@given(st.text(max_size=400), st.sampled_from(["", "- ", "  "]))
def test_wrapped_lines_fit_the_terminal_and_begin_alike(text: str, first: str) -> None:
    lines = wrap(text, first)
    assert lines and all(len(line) <= WIDTH and line.isprintable() for line in lines)
    assert lines[0].startswith(first)
    assert all(line.startswith(" " * len(first)) for line in lines[1:])


def test_an_empty_paragraph_is_one_line() -> None:
    assert wrap("", "masks       ") == ["masks       "]


def test_lines_after_the_first_may_begin_otherwise() -> None:
    assert wrap("word " * 30, "masks       ", "  ")[1].startswith("  word word")


def test_a_command_to_copy_stays_whole() -> None:
    path = "/data/" + "very-long-name-" * 10
    assert wrap(f"score it: medseg compare {path}", "  ", keeps_words=True) == [
        "  score it: medseg compare",
        f"  {path}",
    ]
    assert len(wrap(path)) == 2


def test_a_cell_of_a_csv_file_has_six_decimals_and_says_nan() -> None:
    assert [format_cell(value) for value in (0.5, 1, 1 / 3, math.nan)] == ["0.500000", "1.000000", "0.333333", "nan"]


def test_a_csv_file_is_read_back_as_it_was_written() -> None:
    rows = [["a, b", 'say "x"', "2"], ["line\nbreak", "", "3"]]
    text = make_csv(["case", "note", "n"], rows)
    assert list(csv.reader(io.StringIO(text))) == [["case", "note", "n"], *rows]
    assert "\r" not in text
    assert make_csv(["case"], []) == "case\n"


def test_nan_is_replaced_at_any_depth_and_the_rest_kept() -> None:
    record = {"a": math.nan, 2: [0.5, (math.nan, "nan")], "c": {"d": None, "e": True, "f": 3}}
    plain = replace_nan(record)
    assert plain == {"a": None, "2": [0.5, [None, "nan"]], "c": {"d": None, "e": True, "f": 3}}
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


def test_it_needs_nothing_but_the_standard_library() -> None:
    code = "import sys, medseg.text; print([m for m in ('numpy', 'torch', 'monai', 'matplotlib') if m in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
