"""Look at every image and mask once before a long run, and name all that is wrong at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from medseg.checking.check_report import Group, format_groups, group_findings
from medseg.checking.read_case import Expected, read_case
from medseg.data.cases.case import Case, Dataset
from medseg.errors import DatasetError
from medseg.findings import WHOLE, Finding
from medseg.text import pluralise

CASES_AT_ONCE = 2
"""Pairs in memory at a time: reading is half inflating, which lets another thread work."""

OnCase = Callable[[str, int], None]
Looked = TypeVar("Looked")


def check_pairs(
    cases: Dataset | Iterable[Case],
    values: Collection[int] | None = None,
    channels: int | None = None,
    on_case: OnCase | None = None,
    segments: Mapping[int, Sequence[str]] | None = None,
    axes: int | None = None,
) -> list[Finding]:
    """Everything that would stop a training at some case: unreadable files, other grids, wrong labels or channels.

    Each file is read once, as the readers of a training would; two cases are in memory at a time.

    Args:
        cases: The cases to look at.
        values: The labels that may occur; None lets any pass.
        channels: How many an image must have; None lets any number pass.
        on_case: Called after each case with its id and the number of cases in all.
        segments: Names and codes by which segments of DICOM objects are recognised as labels.
        axes: How many axes in space an image must have; None lets any number pass.

    Returns:
        All findings that are errors, in the order of the cases; a case may have two, of its image
        and its mask. Empty where all can be used.
    """
    expected = Expected(values, channels, segments=segments or {}, axes=axes)
    return [finding for found in _look_at_all(cases, expected, on_case) for finding in found if finding.is_error]


def require_usable(
    cases: Dataset | Iterable[Case],
    values: Collection[int] | None = None,
    channels: int | None = None,
    on_case: OnCase | None = None,
    segments: Mapping[int, Sequence[str]] | None = None,
    axes: int | None = None,
) -> tuple[Finding, ...]:
    """Refuse cases that :func:`check_pairs` finds anything in, all in one error.

    Args:
        cases: The cases to look at.
        values: The labels that may occur.
        channels: How many an image must have.
        on_case: Called after each case.
        segments: Names and codes by which segments of DICOM objects are recognised as labels.
        axes: How many axes in space an image must have.

    Returns:
        What is odd about files that can be used all the same, such as soft edges of masks and
        where they are cut: one finding for each code, with the number of cases and an example.

    Raises:
        DatasetError: PAIRS_UNUSABLE with all findings by code, or the code of the only one.
    """
    expected = Expected(values, channels, segments=segments or {}, axes=axes)
    findings = [each for found in _look_at_all(cases, expected, on_case) for each in found]
    errors = [finding for finding in findings if finding.is_error]
    if len(errors) == 1:
        raise DatasetError(errors[0].code, errors[0].case, errors[0].problem, errors[0].remedy)
    if errors:
        raise _refuse_all(group_findings(errors))
    return tuple(_sum_up(group) for group in group_findings(findings))


def look_at_each(
    cases: Iterable[Case], look: Callable[[Case], Looked], on_case: OnCase | None = None
) -> Iterator[tuple[Case, Looked]]:
    """What ``look`` makes of each case, in order, two at a time in memory.

    Args:
        cases: The cases to look at.
        look: Called with each, in another thread.
        on_case: Called after each case with its id and the number of cases in all.
    """
    listed = tuple(cases)
    # A memory budget holds in the thread that states it, and so in these by copies of its context.
    contexts = [copy_context() for _ in listed]
    with ThreadPoolExecutor(CASES_AT_ONCE) as pool:
        looks = pool.map(lambda context, case: context.run(look, case), contexts, listed)
        for case, seen in zip(listed, looks, strict=True):
            yield case, seen
            if on_case:
                on_case(case.id, len(listed))


def _look_at_all(
    cases: Dataset | Iterable[Case], expected: Expected, on_case: OnCase | None
) -> Iterator[tuple[Finding, ...]]:
    listed = cases.cases if isinstance(cases, Dataset) else cases
    return (seen for _, seen in look_at_each(listed, lambda case: read_case(case, expected).findings, on_case))


def _refuse_all(groups: tuple[Group, ...]) -> DatasetError:
    cases = dict.fromkeys(case for group in groups for case in group.cases)
    count = sum(len(group.findings) for group in groups)
    listed = "\n".join(format_groups(groups, indent="    "))
    return DatasetError(
        "PAIRS_UNUSABLE",
        next(iter(cases)) if len(cases) == 1 else f"{len(cases)} cases",
        f"{pluralise(count, 'finding')} before anything is trained:\n{listed}\n",
    )


def _sum_up(group: Group) -> Finding:
    first = group.findings[0]
    return Finding(
        WHOLE, group.code, f"{pluralise(len(group.findings), 'file')}, such as {first.case}: {first.problem}"
    )
