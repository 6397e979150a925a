"""What a check of a data set found, as values, as a JSON record and as text for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import medseg
from medseg.checking.case_statistics import CaseStatistics
from medseg.findings import Finding
from medseg.run_codes import SEVERITIES, Severity
from medseg.text import WIDTH, list_some, pluralise, wrap

REPORT_SCHEMA = 1
"""Version of the JSON record; it rises when a key is removed or changes its meaning."""

FIRST_CASES = 3
MOST_LABELS = 12
MOST_SERIES = 30
LONGEST_EXAMPLE = 400
"""Characters; an example is no list."""

FIRST = ("IMAGE_NOT_2D", "IMAGE_NOT_3D")
"""Where the bundle is for other data, what else is found says little."""

HEADINGS: dict[Severity, tuple[str, str]] = {
    "error": ("error", "errors"),
    "warning": ("warning", "warnings"),
    "info": ("good to know", "good to know"),
}
"""What findings of each severity are called, one of them and several."""


@dataclass(frozen=True)
class SeriesRow:
    """One DICOM series of a folder.

    Args:
        number: A number from 1, in the order of the inventory.
        folder: Where its first file lies, from the folder that was checked.
        modality: Such as CT.
        files: How many it has.
        shape: Voxels; None where it is no volume.
        spacing_mm: Along each axis; None where it is no volume.
        is_readable: Whether nothing keeps it from being read.
        pick: What ``--series`` takes to choose it among several of its folder; empty where it is the only one.
    """

    number: int
    folder: str
    modality: str
    files: int
    shape: tuple[int, ...] | None
    spacing_mm: tuple[float, ...] | None
    is_readable: bool
    pick: str = ""


@dataclass(frozen=True)
class FixedCopy:
    """A corrected copy of a data set.

    Args:
        folder: Where it is.
        cases: How many it has.
        changed: How many of them had something corrected.
        left_out: How many cases it lacks, since they cannot be read or have no mask.
        with_errors: How many of its cases have an error that could not be corrected for certain.
        straightened: How many were resampled from a sheared grid onto perpendicular axes.
    """

    folder: Path
    cases: int
    changed: int
    left_out: int
    with_errors: int = 0
    straightened: int = 0


@dataclass(frozen=True)
class Summary:
    """The data set in a few numbers.

    Args:
        layout: The name of the layout as which it was recognised.
        cases: How many there are.
        patients: How many groups of cases.
        masks: How many cases have a mask that could be read.
        shapes: Least, median and most voxels along each axis, by number of axes.
        spacings_mm: The same of spacings.
        orientations: How many images of each.
        channels: How many images of each number.
        labels: For each value: in how many masks, and its share of all voxels of the masks.
    """

    layout: str
    cases: int
    patients: int
    masks: int
    shapes: dict[int, tuple[tuple[float, ...], ...]]
    spacings_mm: dict[int, tuple[tuple[float, ...], ...]]
    orientations: dict[str, int]
    channels: dict[int, int]
    labels: dict[int, tuple[int, float]]


@dataclass(frozen=True)
class CheckReport:
    """The outcome of a check.

    Args:
        data: The name of what was checked.
        summary: The data set in a few numbers.
        findings: All of them, in the order of the cases.
        label_names: Name of each label, as far as known.
        series: The DICOM series of the folder, if it is one.
        copy: The corrected copy; None where none was asked for.
        all_alike: How many cases there are where all of them fail alike against a bundle; else 0.
    """

    data: str
    summary: Summary
    findings: tuple[Finding, ...]
    label_names: dict[int, str]
    series: tuple[SeriesRow, ...] = ()
    copy: FixedCopy | None = None
    all_alike: int = 0

    @property
    def groups(self) -> tuple[Group, ...]:
        """The findings by code, the gravest first."""
        return group_findings(self.findings)

    @property
    def counts(self) -> dict[str, int]:
        """How many findings of each severity."""
        times = Counter(finding.severity for finding in self.findings)
        return {severity: times[severity] for severity in SEVERITIES}

    @property
    def exit_code(self) -> int:
        """1 where there is an error, else 0."""
        return int(any(finding.is_error for finding in self.findings))

    def to_record(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        summary = self.summary
        return {
            "schema": REPORT_SCHEMA,
            "medseg": medseg.__version__,
            "data": self.data,
            "summary": {
                "layout": summary.layout,
                "cases": summary.cases,
                "patients": summary.patients,
                "masks": summary.masks,
                "shapes": [_record_range(axes, three) for axes, three in summary.shapes.items()],
                "spacings_mm": [_record_range(axes, three) for axes, three in summary.spacings_mm.items()],
                "orientations": summary.orientations,
                "channels": {str(count): times for count, times in summary.channels.items()},
                "labels": [
                    {"value": value, "name": self.label_names.get(value, ""), "masks": masks, "share": share}
                    for value, (masks, share) in summary.labels.items()
                ],
            },
            "counts": self.counts,
            "all_alike": self.all_alike,
            "series": [_record_series(row) for row in self.series],
            "findings": [_record_finding(finding) for finding in self.findings],
        }


def summarise(layout: str, statistics: Sequence[CaseStatistics]) -> Summary:
    """The data set in a few numbers."""
    images = [each.image for each in statistics if each.image]
    masks = [each.mask for each in statistics if each.mask]
    axes = sorted({len(image.shape) for image in images})
    voxels: Counter[int] = Counter()
    shown: Counter[int] = Counter()
    for mask in masks:
        voxels.update(mask.voxels)
        shown.update(mask.voxels.keys())
    total = sum(voxels.values())
    return Summary(
        layout=layout,
        cases=len(statistics),
        patients=len({each.group for each in statistics}),
        masks=len(masks),
        shapes={n: _summarise_columns([image.shape for image in images if len(image.shape) == n]) for n in axes},
        spacings_mm={
            n: _summarise_columns([image.spacing_mm for image in images if len(image.shape) == n]) for n in axes
        },
        orientations=dict(Counter(image.orientation for image in images if len(image.shape) == 3).most_common()),
        channels=dict(sorted(Counter(max(image.channels) for image in images).items())),
        labels={value: (shown[value], voxels[value] / total) for value in sorted(voxels)},
    )


def _summarise_columns(rows: Iterable[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
    """Least, median and most of each column."""
    table = np.array(list(rows), dtype=float)
    return tuple(tuple(round(float(n), 4) for n in row) for row in (table.min(0), np.median(table, 0), table.max(0)))


def _record_range(axes: int, three: tuple[tuple[float, ...], ...]) -> dict[str, Any]:
    least, median, most = (list(row) for row in three)
    return {"axes": axes, "least": least, "median": median, "most": most}


def _record_finding(finding: Finding) -> dict[str, str | bool]:
    return {
        "code": finding.code,
        "severity": finding.severity,
        "case": finding.case,
        "what": finding.problem,
        "remedy": finding.remedy,
        "fixable": finding.is_fixable,
    }


def _record_series(row: SeriesRow) -> dict[str, Any]:
    return {
        "number": row.number,
        "folder": row.folder,
        "modality": row.modality,
        "files": row.files,
        "shape": list(row.shape) if row.shape else None,
        "spacing_mm": list(row.spacing_mm) if row.spacing_mm else None,
        "readable": row.is_readable,
        "pick": row.pick,
    }


@dataclass(frozen=True)
class Group:
    """All findings of one code and gravity.

    Args:
        code: The code that they share.
        severity: How grave they are.
        findings: The findings, at least one, in the order of the cases.
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
        """What to do about the first of them."""
        return self.findings[0].remedy

    def name_cases(self) -> str:
        """How many cases, and the first of them.

        >>> Group("X", "info", tuple(Finding(name, "X", "") for name in "abcde")).name_cases()
        '5 cases: a, b, c and 2 more'
        """
        cases = self.cases
        if not cases:
            return "the data set"
        if len(cases) == 1:
            return cases[0] if len(self.findings) == 1 else f"{cases[0]} ({len(self.findings)} times)"
        return f"{len(cases)} cases: {list_some(cases, FIRST_CASES)}"


def group_findings(findings: Iterable[Finding]) -> tuple[Group, ...]:
    """The findings by code, the gravest first, then what explains others, those with most cases, and by name."""
    by_code: dict[tuple[Severity, str], list[Finding]] = {}
    for finding in findings:
        by_code.setdefault((finding.severity, finding.code), []).append(finding)
    groups = [Group(code, severity, tuple(members)) for (severity, code), members in by_code.items()]
    return tuple(sorted(groups, key=_rank_group))


def _rank_group(group: Group) -> tuple[int, bool, int, str]:
    return SEVERITIES.index(group.severity), group.code not in FIRST, -len(group.findings), group.code


def format_groups(groups: Sequence[Group], indent: str = "  ") -> list[str]:
    """Each group in a few lines: code and cases, an example, what to do."""
    lines: list[str] = []
    for group in groups:
        first = group.findings[0]
        what = first.problem if len(first.problem) <= LONGEST_EXAMPLE else f"{first.problem[:LONGEST_EXAMPLE]} …"
        example = f"{first.case}: {what}" if len(group.findings) > 1 and first.case else what
        lines += [
            f"{indent}{group.code}  {group.name_cases()}",
            f"{indent}  what {example}",
            f"{indent}  do   {group.remedy}",
        ]
    return lines


def format_report(report: CheckReport, *, lists_all: bool = False) -> str:
    """The data set in a few lines, then each kind of finding with its first cases, then the count.

    Args:
        report: What a check found.
        lists_all: Whether every case of every finding stands on a line of its own.
    """
    lines = [*_describe_summary(report), *_format_series(report)]
    for severity, (_, heading) in HEADINGS.items():
        groups = [group for group in report.groups if group.severity == severity]
        if not groups:
            continue
        lines += ["", heading]
        for group in groups:
            lines += format_groups([group])
            if lists_all and len(group.findings) > 1:
                lines += [f"         {finding.case or 'the data set'}: {finding.problem}" for finding in group.findings]
    counts = report.counts
    told = ", ".join(pluralise(counts[each], *names) for each, names in HEADINGS.items() if counts[each])
    alike = [f"all {report.all_alike} cases fail alike: is it another bundle's data?"] if report.all_alike else []
    return "\n".join([*(short for line in lines for short in _wrap(line)), "", told or "nothing found", *alike])


def _describe_summary(report: CheckReport) -> Iterator[str]:
    summary = report.summary
    patients = f" of {pluralise(summary.patients, 'patient')}" if summary.patients != summary.cases else ""
    yield f"{report.data}: {pluralise(summary.cases, 'case')}{patients}, {summary.masks} with masks ({summary.layout})"
    for axes in summary.shapes:
        voxels, mm = (_format_ranges(sizes[axes]) for sizes in (summary.shapes, summary.spacings_mm))
        yield f"  {axes}D  {voxels} voxels of {mm} mm"
    yield from _describe_kinds(summary)
    labels = list(summary.labels.items())
    for value, (masks, share) in labels[:MOST_LABELS]:
        name = f" ({report.label_names[value]})" if value in report.label_names else ""
        yield f"  label {value}{name}: in {pluralise(masks, 'mask')}, {share:.3%} of the voxels"
    if len(labels) > MOST_LABELS:
        yield f"  and {pluralise(len(labels) - MOST_LABELS, 'more label')}"


def _describe_kinds(summary: Summary) -> Iterator[str]:
    if summary.channels:
        counted = ", ".join(f"{times} × {count}" for count, times in summary.channels.items())
        yield f"  channels {counted}" if len(summary.channels) > 1 else f"  {next(iter(summary.channels))} channel(s)"
    if summary.orientations:
        yield f"  stored as {', '.join(f'{times} × {letters}' for letters, times in summary.orientations.items())}"


def _format_ranges(three: tuple[tuple[float, ...], ...]) -> str:
    """Each axis' least, median and most, once where they are the same."""
    axes = zip(*three, strict=True)
    return " × ".join(f"{a:g}" if a == c else f"{a:g}…{b:g}…{c:g}" for a, b, c in axes)


def _format_series(report: CheckReport) -> Iterator[str]:
    yield from (_format_row(row) for row in report.series[:MOST_SERIES])
    if len(report.series) > MOST_SERIES:
        yield f"  and {len(report.series) - MOST_SERIES} more series"


def _format_row(row: SeriesRow) -> str:
    size = "×".join(map(str, row.shape or ())) or ("several volumes" if row.is_readable else "no volume")
    spacing = f" of {'×'.join(f'{mm:.4g}' for mm in row.spacing_mm)} mm" if row.spacing_mm else ""
    state = "" if row.is_readable else ", cannot be read"
    files = pluralise(row.files, "file")
    pick = f" (--series {row.pick})" if row.pick else ""
    return f"  series {row.number}: {row.modality or '?'}, {files}, {size}{spacing}, in {row.folder}{state}{pick}"


def _wrap(line: str) -> list[str]:
    """A line on as many as it takes; what follows the first is indented as far as what is said behind ``what``."""
    indent = " " * (len(line) - len(line.lstrip()) + 7)
    return [line] if len(line) <= WIDTH else wrap(line, rest=indent, keeps_words=True)
