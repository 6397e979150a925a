#!/usr/bin/env python3
"""Make docs/reference/errors.md of the table of codes; with --check, only say whether the page is out of step."""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from medseg import errors
from medseg.findings import ALIASES, GROUPS, canonical
from medseg.run_codes import Code

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "errors.md"
TABLE_FILES = ("run_codes.py", "data_codes.py", "findings.py")
"""The table itself, in which every code stands."""

CODE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+")
LITERAL = re.compile(
    r"--[a-z][a-z-]*(?: (?:[A-Z_]{3,}(?::N)?|cpu|none|torch|\w+=…))?|(?:FILE|FOLDER)#[\w=]+(?::N)?"
    r"|TMPDIR|~?[\w./]*\w\.(?:json|csv|cfg|pt)\b|(?<!\w)\.(?:nii\.gz|npz)\b|_(?:mask|seg|gt|label)\b"
    r"|\b[a-z]+_[a-z_]+\b|\b[A-Z]+_[A-Z_]+\b|\b(?:images|labels)Tr\b"
)
"""What a reader types, or finds in a file: set as code."""

FIRST = ("Note", "make_note", "check_known")
SECOND = ("Finding", "LeftOut")
"""Calls whose first or second argument is a code; of errors it is the first."""

INTRODUCTION = """\
<!-- Made by tools/make_reference.py of medseg/run_codes.py and medseg/data_codes.py; do not edit. -->

# Errors and notes

Every message carries a code that stays the same between versions. Find it here.

On the command line an error looks like this: the code, the case, what was found, and what to do.

```text
medseg: SETTING_UNKNOWN
  at   learing_rate
  what is not known in train.json: learing_rate
  do   did you mean learning_rate?
```

In Python it is an exception, a subclass of `medseg.MedsegError`, with the attributes `code`,
`case`, `problem`, `remedy` and `exit_code`.

An error that concerns one image stops that case only: `predict` and `evaluate` go on with the
others, list it, and return 1.

What is no error is a note: the file was read, or the case scored. Notes on images and masks appear in
`Volume.notes` and in the records; those on cases in `evaluation.json`. [`medseg check`](../how-to/check.md) lists
errors and notes on a whole data set at once.

## Exit codes

| exit code | class | meaning |
| --- | --- | --- |
"""

CODES_OF_EXIT = """\

## How to read the tables

A code stands under what tells it, or what it is about. Severity: **error**, work is refused or would be misled, with
the exit code where a command ends with it (in a run over many cases, 1); **warning**, someone should look; **info**,
good to know. Fixable: `medseg check --fix` corrects it for certain in its copy. What is to be done is said in general
here; a message says it of its case.
"""

RENAMED = """\

## Earlier names

These codes say the same as others did, and have one name with them. `--allow` takes either.

| earlier | now |
| --- | --- |
"""


def find_codes(root: Path) -> dict[str, set[str]]:
    """The codes that the source raises or reports, each with the names of what is called with it.

    Args:
        root: The package's folder. The table itself is left out.

    Returns:
        For each code such as IMAGE_GRID: ``ImageError``, ``make_note``, ``Finding`` and so on.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted(root.rglob("*.py")):
        if path.relative_to(root).parts[0] not in TABLE_FILES:
            for called, code in _calls(ast.parse(path.read_text(encoding="utf8"))):
                found[code].add(called)
    return dict(found)


def _calls(tree: ast.Module) -> Iterator[tuple[str, str]]:
    constants = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
        place = 1 if name in SECOND else 0
        if len(call.args) <= place or not (name.endswith("Error") or name in (*SECOND, *FIRST)):
            continue
        for code in _strings(call.args[place], constants):
            if CODE.fullmatch(code) or code in GROUPS["medseg check"]:
                yield "UsageError" if name == "check_known" else name, code


def _strings(node: ast.expr, constants: Mapping[str, ast.expr]) -> Iterator[str]:
    """The texts that an argument can be: a constant, a name for one, or either side of a choice."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.Name) and isinstance(constants.get(node.id), ast.Constant):
        yield from _strings(constants[node.id], {})
    elif isinstance(node, ast.IfExp):
        yield from _strings(node.body, constants)
        yield from _strings(node.orelse, constants)


def make_page() -> str:
    """The page as it should be."""
    raised: dict[str, set[int]] = defaultdict(set)
    for code, called in find_codes(ROOT / "medseg").items():
        raised[canonical(code)] |= {getattr(errors, name).exit_code for name in called if name.endswith("Error")}
    parts = [INTRODUCTION, *_exit_rows(), CODES_OF_EXIT]
    for title, rows in GROUPS.items():
        parts += [f"\n## {title}\n\n| code | severity | meaning | what to do |\n| --- | --- | --- | --- |\n"]
        parts += [_row(code, row, sorted(raised[code])) for code, row in sorted(rows.items())]
    parts += [RENAMED, *(f"| `{old}` | `{new}` |\n" for old, new in sorted(ALIASES.items()))]
    return "".join(parts)


def _row(code: str, row: Code, exit_codes: list[int]) -> str:
    """One line: a code that is both raised and reported has two severities."""
    ends = f"error (exit {', '.join(map(str, exit_codes))})" if exit_codes else ""
    told = [ends] if ends and row.severity == "error" else [*filter(None, [ends, row.severity])]
    severity = "; ".join([*told, *(["fixable"] if row.is_fixable else [])])
    return f"| `{code}` | {severity} | {row.meaning} | {LITERAL.sub(lambda found: f'`{found[0]}`', row.remedy)} |\n"


def _exit_rows() -> Iterator[str]:
    """The tree of exceptions by exit code."""
    classes: dict[int, list[str]] = defaultdict(list)
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.MedsegError) and kind is not errors.MedsegError:
            classes[kind.exit_code].append(f"`{name}`")
    meanings = {
        1: "some cases failed; the others are done",
        2: "the command or call is wrong",
        3: "there is nothing to work on, or a data set is not as it should be",
        4: "the model is refused",
        5: "a result cannot be written",
        6: "another run is writing to the same folder",
    }
    yield "| 0 | | all went well |\n"
    yield from (f"| {number} | {', '.join(classes[number])} | {said} |\n" for number, said in meanings.items())
    yield "| 130 | | interrupted with Ctrl-C; what was finished is kept |\n"


def main(arguments: list[str] | None = None) -> int:
    """Write or check the page; returns 1 where --check finds it out of step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if the page is out of step")
    check = parser.parse_args(arguments).check
    page = make_page()
    if page == PAGE.read_text(encoding="utf8"):
        return 0
    print(f"{'out of step' if check else 'written'}: {PAGE.relative_to(ROOT)}")
    if not check:
        PAGE.write_text(page, encoding="utf8")
    return int(check)


if __name__ == "__main__":
    sys.exit(main())
