"""One thing that is wrong or odd about a data set, and many of them grouped for reading."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from medseg.data.checking.rules import RULES, SEVERITIES, Severity, rule_of_note
from medseg.data.volume import Note
from medseg.errors import MedsegError

CASES_NAMED = 3
LONGEST_EXAMPLE = 400
"""Characters; an example is no list."""

FIRST = ("IMAGE_NOT_2D", "IMAGE_NOT_3D")
"""Where the bundle is for other data, what else is found says little."""

WHOLE = ""
"""Stands for the case where a finding is about the data set as a whole."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or odd.

    Args:
        case: The id of the case; empty where the data set as a whole is meant.
        code: As in docs/reference/errors.md.
        severity: ``error``, ``warning`` or ``info``.
        what: What was found, with the file and the value.
        remedy: What the user can do.
        is_fixable: Whether ``medseg check --fix`` can correct it for certain.
    """

    case: str
    code: str
    severity: Severity
    what: str
    remedy: str
    is_fixable: bool = False

    def __str__(self) -> str:
        return f"{self.case or 'the data set'}: {self.code}: {self.what}"

    def to_record(self) -> dict[str, str | bool]:
        """The finding as plain values, for JSON."""
        return {
            "code": self.code,
            "severity": self.severity,
            "case": self.case,
            "what": self.what,
            "remedy": self.remedy,
            "fixable": self.is_fixable,
        }


def found(code: str, case: str, what: str) -> Finding:
    """A finding whose gravity and remedy :data:`medseg.data.checking.rules.RULES` has."""
    rule = RULES[code]
    return Finding(case, code, rule.severity, what, rule.remedy, rule.is_fixable)


def of_note(note: Note, case: str, where: str = "") -> Finding:
    """A reader's note on one of the case's files; ``where`` says which, where that is not plain."""
    rule = rule_of_note(note.code)
    return Finding(case, note.code, rule.severity, _at(where, note.text), rule.remedy, rule.is_fixable)


def of_error(error: MedsegError, case: str) -> Finding:
    """A refusal by a reader, as an entry of a list instead of the end of the work."""
    where = "" if error.case == case else error.case
    return Finding(case, error.code, "error", _at(where, error.problem), error.remedy)


@dataclass(frozen=True)
class Group:
    """All findings of one code and gravity.

    Args:
        code: Theirs.
        severity: Theirs.
        findings: At least one, in the order of the cases.
    """

    code: str
    severity: Severity
    findings: tuple[Finding, ...]

    @property
    def cases(self) -> tuple[str, ...]:
        """The cases concerned, each once; none where the data set as a whole is meant."""
        return tuple(dict.fromkeys(finding.case for finding in self.findings if finding.case))

    @property
    def remedy(self) -> str:
        """What to do, of the first."""
        return self.findings[0].remedy

    def counted(self) -> str:
        """How many, and the first cases.

        >>> Group("X", "info", tuple(Finding(name, "X", "info", "", "") for name in "abcde")).counted()
        '5 cases: a, b, c and 2 more'
        """
        cases = self.cases
        if not cases:
            return "the data set"
        if len(cases) == 1:
            return cases[0] if len(self.findings) == 1 else f"{cases[0]} ({len(self.findings)} times)"
        more = f" and {len(cases) - CASES_NAMED} more" if len(cases) > CASES_NAMED else ""
        return f"{len(cases)} cases: {', '.join(cases[:CASES_NAMED])}{more}"


def grouped(findings: Iterable[Finding]) -> tuple[Group, ...]:
    """The findings by code, the gravest first, then what explains others, those with most cases, and by name."""
    by_code: dict[tuple[Severity, str], list[Finding]] = {}
    for finding in findings:
        by_code.setdefault((finding.severity, finding.code), []).append(finding)
    groups = [Group(code, severity, tuple(members)) for (severity, code), members in by_code.items()]
    return tuple(sorted(groups, key=_rank))


def _rank(group: Group) -> tuple[int, bool, int, str]:
    return SEVERITIES.index(group.severity), group.code not in FIRST, -len(group.findings), group.code


def lines_of(groups: Sequence[Group], indent: str = "  ") -> list[str]:
    """Each group in a few lines: code and cases, an example, what to do."""
    lines: list[str] = []
    for group in groups:
        first = group.findings[0]
        what = first.what if len(first.what) <= LONGEST_EXAMPLE else f"{first.what[:LONGEST_EXAMPLE]} …"
        example = f"{first.case}: {what}" if len(group.findings) > 1 and first.case else what
        lines += [
            f"{indent}{group.code}  {group.counted()}",
            f"{indent}  what {example}",
            f"{indent}  do   {group.remedy}",
        ]
    return lines


def counted(number: int, noun: str, several: str = "") -> str:
    """A number and what it counts.

    >>> counted(1, "case"), counted(0, "case")
    ('1 case', '0 cases')
    """
    return f"{number} {noun if number == 1 else several or f'{noun}s'}"


def _at(where: str, text: str) -> str:
    return f"{where}: {text}" if where else text
