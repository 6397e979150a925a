"""Every error that medseg raises on purpose, as one tree.

    MedsegError
    ├── UsageError      exit 2   the command or call itself is wrong
    ├── InputError      exit 3   there is nothing to work on
    │   └── DatasetError         a data set's description or layout is wrong
    ├── ImageError      exit 1   one image or mask cannot be trusted; other cases go on
    │   ├── GridError            two images that should share a grid do not
    │   └── LabelError           a mask holds values that it should not
    ├── BundleError     exit 4   the model is refused
    ├── OutputError     exit 5   a result cannot be written
    └── LockedError     exit 6   another run is writing to the same folder

Each carries a stable ``code`` to search for, the ``case`` it is about, the
``problem`` as found, and a ``remedy``: what the reader can do about it. Codes and what
is to be done about each stand in one table, :data:`medseg.findings.CODES`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches

from medseg.findings import Finding, explain


class MedsegError(Exception):
    """An error with a code, the case, what was found and what to do about it.

    Args:
        code: Stable upper-case name, a key of :data:`medseg.findings.CODES`.
        case: The file, case or setting that the error is about.
        problem: What was found, with the value.
        remedy: What the user can do, as an imperative sentence without a full stop; the table's where none is given.
    """

    exit_code = 1

    def __init__(self, code: str, case: object, problem: str, remedy: str = "") -> None:
        super().__init__(code, case, problem, remedy)
        self.code = code
        self.case = str(case)
        self.problem = problem
        self.remedy = remedy or explain(code).remedy

    def __str__(self) -> str:
        return f"{self.code}: {self.case}: {self.problem}; {self.remedy}"

    def to_record(self) -> dict[str, str]:
        """The error as plain values, for a JSON record."""
        return {"code": self.code, "case": self.case, "problem": self.problem, "remedy": self.remedy}


class UsageError(MedsegError):
    """The command or call itself is wrong."""

    exit_code = 2


class InputError(MedsegError):
    """There is nothing to work on."""

    exit_code = 3


class DatasetError(InputError):
    """A data set's description or layout is wrong."""


class ImageError(MedsegError):
    """One image or mask cannot be trusted; other cases go on."""


class GridError(ImageError):
    """Two images that should lie on the same grid do not."""


class LabelError(ImageError):
    """A mask holds values that it should not."""


class BundleError(MedsegError):
    """A bundle or its weights are refused."""

    exit_code = 4


class OutputError(MedsegError):
    """A result cannot be written."""

    exit_code = 5


class LockedError(MedsegError):
    """Another run is writing to the same folder."""

    exit_code = 6


def coded_cause(error: BaseException) -> MedsegError | None:
    """The error of ours inside an error of a library, which wraps what was raised beneath it."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, MedsegError):
        cause = cause.__cause__ or cause.__context__
    return cause


def as_finding(error: MedsegError, case: str | None = None) -> Finding:
    """The error as an entry of a list, instead of the end of the work.

    Args:
        error: What was raised.
        case: The case that it is told of; the problem then begins with what the error names, where that is
            something else. None tells it of what the error names.
    """
    if case is None or error.case == case:
        return Finding(error.case, error.code, error.problem, error.remedy, "error")
    problem = f"{error.case}: {error.problem}" if error.case else error.problem
    return Finding(case, error.code, problem, error.remedy, "error")


def first_line(error: BaseException) -> str:
    """What an error of a library says, in one line, with its kind."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__


def check_known(code: str, names: Iterable[str], known: Collection[str], where: str = "") -> None:
    """Refuse a name that is not among the known ones, naming the nearest.

    Args:
        code: The code of the error that is raised, such as NAME_UNKNOWN.
        names: The names to be checked.
        known: The names that are allowed.
        where: The file or table in which the names are looked up, for the message.

    Raises:
        UsageError: With ``code``, for the first name that is not known.
    """
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=2, cutoff=0.6)
            remedy = f"did you mean {' or '.join(near)}?" if near else f"use one of {', '.join(known) or 'none'}"
            raise UsageError(code, name, f"is not known{f' in {where}' if where else ''}", remedy)
