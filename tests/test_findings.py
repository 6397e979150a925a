"""One kind of finding, and one table of codes that says of each how grave it is and what to do."""

import ast
import re
from dataclasses import FrozenInstanceError, replace

import pytest

from medseg import errors
from medseg.findings import ALIASES, CODES, GROUPS, UNLISTED, WHOLE, Finding, canonical, explain, is_allowed, make_note
from medseg.run_codes import SEVERITIES
from tools.make_reference import PAGE, ROOT, TABLE_FILES, find_codes, main, make_page


@pytest.fixture(scope="module")
def told():
    """The codes of the source by what is called with them."""
    return find_codes(ROOT / "medseg")


def rows_of_page():
    """The cells of each code's row, by code."""
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in PAGE.read_text("utf8").splitlines() if line[:3] == "| `"]
    return [[cell.strip() for cell in row] for row in rows if len(row) == 4]


def texts_in_source():
    """Every text in the package but those of the table itself."""
    for path in (ROOT / "medseg").rglob("*.py"):
        if path.relative_to(ROOT / "medseg").parts[0] not in TABLE_FILES:
            tree = ast.parse(path.read_text(encoding="utf8"))
            yield from (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))


def test_every_code_of_the_source_is_in_the_table(told):
    assert len(told) > 200
    assert {canonical(code) for code in told} <= set(CODES)


def test_every_code_of_the_table_is_used_in_the_source():
    used = {canonical(text) for text in texts_in_source() if isinstance(text, str)}
    assert set(CODES) <= used


def test_a_code_stands_once_in_the_table():
    assert sum(len(rows) for rows in GROUPS.values()) == len(CODES) > 200


@pytest.mark.parametrize("code", CODES)
def test_each_code_says_how_grave_it_is_what_it_means_and_what_to_do(code):
    row = CODES[code]
    assert row.severity in SEVERITIES
    assert len(row.meaning) > 10
    assert row.remedy
    assert not row.remedy.endswith(".")
    assert "`" not in row.remedy, "remedies are printed: the page sets what is typed as code"
    assert row.remedy[0].islower() or row.remedy[0].isdigit()


def test_errors_that_are_raised_only_are_errors(told):
    for code, called in told.items():
        if all(name.endswith("Error") for name in called) and canonical(code) not in GROUPS["medseg check"]:
            assert explain(code).severity == "error", code


def test_what_is_only_noted_is_no_error(told):
    noted = {code for code, called in told.items() if called <= {"Note", "make_note"}}
    assert len(noted) > 30
    assert {code for code in noted if explain(code).severity == "error"} == set()


def test_the_page_is_in_step_with_the_table(capsys):
    assert PAGE.read_text(encoding="utf8") == make_page()
    assert main(["--check"]) == 0
    assert capsys.readouterr().out == ""


def test_a_page_out_of_step_is_told_and_left_alone(monkeypatch, tmp_path, capsys):
    page = tmp_path / "errors.md"
    page.write_text("old", encoding="utf8")
    monkeypatch.setattr("tools.make_reference.PAGE", page)
    monkeypatch.setattr("tools.make_reference.ROOT", tmp_path)
    assert main(["--check"]) == 1
    assert page.read_text(encoding="utf8") == "old"
    assert "out of step: errors.md" in capsys.readouterr().out
    assert main([]) == 0
    assert page.read_text(encoding="utf8").startswith("<!-- Made by")


def test_the_page_lists_every_code_once_with_the_exit_codes_of_its_classes(told):
    rows = rows_of_page()
    listed = {row[0].strip("`"): row for row in rows}
    assert len(listed) == len(rows), "a code is listed twice"
    assert set(listed) == set(CODES)
    for code, row in listed.items():
        classes = {name for old, names in told.items() if canonical(old) == code for name in names if "Error" in name}
        ends = re.search(r"exit ([\d, ]+)", row[1])
        told_ends = {int(number) for number in ends[1].split(",")} if ends else set()
        assert told_ends == {getattr(errors, name).exit_code for name in classes}, code
        assert ("fixable" in row[1]) == CODES[code].is_fixable, code
        assert all(len(cell) >= 4 for cell in row[1:]), code


def test_the_page_lists_every_earlier_name_with_the_one_of_today():
    text = PAGE.read_text(encoding="utf8").partition("## Earlier names")[2]
    assert dict(re.findall(r"^\| `(\w+)` \| `(\w+)` \|$", text, re.MULTILINE)) == ALIASES


def test_the_page_on_checking_says_what_a_copy_corrects():
    page = (ROOT / "docs" / "how-to" / "check.md").read_text(encoding="utf8")
    fixable = {code for code, row in CODES.items() if row.is_fixable}
    assert len(fixable) == 7
    assert not {code for code in fixable if f"| `{code}` |" not in page}


def test_earlier_names_lead_to_codes_of_today_in_one_step():
    assert not set(ALIASES) & set(CODES)
    assert set(ALIASES.values()) <= set(CODES)
    assert {canonical(old) for old in ALIASES} == set(ALIASES.values())
    assert canonical("IMAGE_GRID") == "IMAGE_GRID"
    assert explain("NETWORK_UNKNOWN") == CODES["NAME_UNKNOWN"]


@pytest.mark.parametrize(
    ("allow", "is_accepted"),
    [
        ((), False),
        ("", False),
        (["RUN_EXISTS"], True),
        (["OUTPUT_EXISTS"], True),
        ("OUTPUT_EXISTS", True),
        (["IMAGE_GRID"], False),
        ("IMAGE_GRID", False),
    ],
)
def test_a_code_is_allowed_under_either_name(allow, is_accepted):
    assert is_allowed("OUTPUT_EXISTS", allow) is is_accepted
    assert is_allowed("RUN_EXISTS", allow) is is_accepted


def test_a_finding_takes_from_the_table_what_is_not_said():
    finding = Finding("a", "GRID_NEAR", "0.05 voxels apart")
    row = CODES["GRID_NEAR"]
    assert (finding.remedy, finding.severity, finding.is_fixable) == (row.remedy, "warning", True)
    assert not finding.is_error
    said = Finding("a", "GRID_NEAR", "0.05 voxels apart", "look", "error")
    assert (said.remedy, said.severity, said.is_error, said.is_note) == ("look", "error", True, False)


def test_a_code_that_nobody_knows_is_a_warning():
    finding = Finding("a", "FROM_ELSEWHERE", "x")
    assert (finding.severity, finding.remedy, finding.is_fixable) == ("warning", UNLISTED.remedy, False)


def test_a_finding_reads_as_a_line():
    assert str(Finding("a", "GRID_MISMATCH", "moved")) == "a: GRID_MISMATCH: moved"
    assert str(Finding(WHOLE, "SPACING_NOMINAL", "1 mm")) == "SPACING_NOMINAL: 1 mm"


def test_a_note_is_about_the_file_that_is_read():
    assert make_note("TRAILING_DATA", "3 bytes") == Finding(WHOLE, "TRAILING_DATA", "3 bytes")
    assert str(make_note("TRAILING_DATA", "3 bytes")) == "TRAILING_DATA: 3 bytes"


def test_findings_are_values():
    finding = Finding("a", "GRID_NEAR", "x")
    assert finding == Finding("a", "GRID_NEAR", "x", CODES["GRID_NEAR"].remedy, "warning")
    assert len({finding, replace(finding, case="b"), Finding("a", "GRID_NEAR", "x")}) == 2
    with pytest.raises(FrozenInstanceError):
        finding.case = "b"


def test_the_table_needs_no_more_than_the_standard_library():
    for path in (ROOT / "medseg" / name for name in TABLE_FILES):
        named = re.findall(r"^(?:from|import) (\w+)", path.read_text(encoding="utf8"), re.MULTILINE)
        assert set(named) <= {"__future__", "collections", "dataclasses", "typing", "medseg"}, path


def test_no_earlier_name_is_left_in_the_source(told):
    assert not set(told) & set(ALIASES)
    assert not set(ALIASES) & {text for text in texts_in_source() if isinstance(text, str)}
