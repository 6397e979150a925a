"""The whole examination of a data set: each case by itself, then all beside each other, then the split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medseg.data.cases import narrow_to_series
from medseg.data.cases.case import Case, Dataset
from medseg.data.checking.across import data_set_findings, with_white_as_one
from medseg.data.checking.dividing import copy_findings, parts_of, split_findings
from medseg.data.checking.each import case_findings
from medseg.data.checking.facts import Facts, facts_of
from medseg.data.checking.findings import Finding
from medseg.data.checking.mistaken import without_mistaken
from medseg.data.checking.opening import Opened, open_leniently
from medseg.data.checking.pairs import OnCase, each_looked_at
from medseg.data.checking.reading import Expected, read_case
from medseg.data.checking.report import CheckReport, summarised
from medseg.data.checking.series import series_below
from medseg.data.splits import Split


@dataclass(frozen=True)
class Examined:
    """A data set that was looked at.

    Args:
        opened: Its cases, with the channels that are wanted.
        report: What was found.
        expected: What its labels and channels should be.
        unreadable: Ids of cases with a file that cannot be read.
    """

    opened: Opened
    report: CheckReport
    expected: Expected
    unreadable: frozenset[str]


def examine(
    data: str | Path,
    expected_of: Callable[[Dataset], tuple[Dataset, Expected, Sequence[Finding]]],
    split: Split | None = None,
    on_case: OnCase | None = None,
    series: str | None = None,
) -> Examined:
    """Look at every case of a data set once, two at a time in memory.

    Args:
        data: A folder, a ``dataset.json``, a table or a folder of images alone.
        expected_of: From the data set to its cases as a bundle takes them, what is expected of
            them, and what is wrong already.
        split: To be held against the cases.
        on_case: Called after each case with its id and the number of cases in all.
        series: To which DICOM folders are narrowed: its number, or the end of its UID.

    Raises:
        DatasetError: There is no case.
    """
    opened = open_leniently(data)
    dataset, expected, findings = expected_of(opened.dataset)
    dataset = replace(dataset, cases=narrow_to_series(dataset.cases, series))
    opened = replace(opened, dataset=dataset)
    facts: list[Facts] = []
    found = [*opened.findings, *findings]
    looks = each_looked_at(dataset.cases, lambda case: _look(case, expected, opened.has_masks), on_case)
    for _, (own, told) in looks:
        facts.append(own)
        found += told
    unreadable = frozenset(each.case for each in facts if not each.is_readable)
    rows, of_headers = series_below(opened.root, dataset.cases, found, series)
    facts, found = without_mistaken(dataset.cases, with_white_as_one(facts, expected), found)
    found += [*of_headers, *data_set_findings(facts, expected), *copy_findings(facts, parts_of(split))]
    found += split_findings(split, dataset.cases, dataset.unlabelled) if split else ()
    told_from_root = tuple(_from_root(finding, opened.root) for finding in found)
    summary = summarised(dataset.layout, facts)
    report = CheckReport(Path(data).absolute().name, summary, told_from_root, dict(expected.names), rows)
    return Examined(opened, report, expected, unreadable)


def _look(case: Case, expected: Expected, needs_mask: bool) -> tuple[Facts, tuple[Finding, ...]]:
    reading = read_case(case, expected, needs_mask)
    facts = facts_of(reading)
    return facts, (*reading.findings, *case_findings(reading, facts, expected))


def _from_root(finding: Finding, root: Path) -> Finding:
    """Paths in the words told from the data set's folder, whose own place is nobody's business."""
    return replace(finding, what=finding.what.replace(f"{root}/", "").replace(str(root), root.name))
