"""What a check of a bundle found, one thing at a time."""

from __future__ import annotations

from dataclasses import dataclass

from medseg.errors import MedsegError


@dataclass(frozen=True)
class Finding:
    """An error in a bundle, or a note on it.

    Args:
        place: The file, and the section in it.
        code: A key of the tables in docs/reference/errors.md.
        problem: What was found, with the value.
        remedy: What to do about it.
        is_note: Whether the bundle is sound all the same.
    """

    place: str
    code: str
    problem: str
    remedy: str
    is_note: bool = True


def as_finding(error: MedsegError) -> Finding:
    """The error as an entry of a list, instead of the end of the work."""
    return Finding(error.case, error.code, error.problem, error.remedy, is_note=False)
