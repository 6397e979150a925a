import math
from dataclasses import replace

import numpy as np
import pytest

from medseg.errors import DatasetError, InputError
from medseg.evaluation.metrics import METRICS
from medseg.evaluation.results import Evaluation
from medseg.evaluation.score_files import CASE_COLUMNS, read_cases, write_tables
from medseg.evaluation.summaries import Row

SETTINGS = {"masks": "m", "references": "r", "missing": "zero"}


def row(case="a", value=1, dice=0.25, status="scored"):
    scores = dict.fromkeys([*METRICS, "prediction_ml", "reference_ml"], math.nan) | {"dice": dice, "reference_ml": 2.5}
    return Row(case, "test", value, f"class {value}", status, scores)


def written(rows, folder):
    write_tables(Evaluation({}, tuple(rows), (), {}, (), (), (), (), SETTINGS), folder)
    return folder


def test_rows_are_read_back_as_they_were(tmp_path):
    rows = [row('a, "b"\nc', 0), row("=1+1", 3, math.nan, "missing"), row("site/ä#007", 2, -0.125)]
    back = read_cases(written(rows, tmp_path / "scores"))
    for ours, wanted in zip(back, rows, strict=True):
        assert replace(ours, scores={}) == replace(wanted, scores={})
        assert list(ours.scores) == list(wanted.scores)
        np.testing.assert_equal(dict(ours.scores), dict(wanted.scores))


def test_writing_what_was_read_gives_the_same_file(tmp_path):
    first = written([row(dice=1 / 3), row("b", dice=math.nan)], tmp_path / "first") / "cases.csv"
    again = written(read_cases(first), tmp_path / "again") / "cases.csv"
    assert again.read_bytes() == first.read_bytes()


def test_a_table_without_rows_gives_none(tmp_path):
    assert read_cases(written([], tmp_path)) == []


def test_a_file_that_is_not_there_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="INPUT_MISSING"):
        read_cases(tmp_path / "absent.csv")


@pytest.mark.parametrize(
    "text",
    [
        "image,label\na,b\n",
        ",".join(CASE_COLUMNS) + "\na,,1,x,scored,0.5\n",
        ",".join(CASE_COLUMNS) + "\na,,one,x,scored" + ",0.5" * 9 + "\n",
        ",".join(CASE_COLUMNS) + "\na,,1,x,scored" + ",0.5" * 10 + "\n",
        ",".join(CASE_COLUMNS) + '\n"a,,1,x\n',
        "",
    ],
    ids=["other columns", "a line cut off", "a word for a number", "a cell too many", "an open quote", "no header"],
)
def test_what_is_no_table_of_cases_is_refused(tmp_path, text):
    (tmp_path / "cases.csv").write_text(text)
    with pytest.raises(DatasetError, match="SCORES_UNREADABLE"):
        read_cases(tmp_path / "cases.csv")
