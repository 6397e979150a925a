"""A report of a check as text for a terminal of 100 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from medseg.data.checking.findings import counted, lines_of
from medseg.data.checking.report import CheckReport, SeriesRow, Summary

WIDTH = 100
ONE = {"error": "error", "warning": "warning", "info": "good to know"}
HEADINGS = {"error": "errors", "warning": "warnings", "info": "good to know"}
ALL_ALIKE = "all {} cases fail alike: is it another bundle's data?"
MOST_LABELS = 12
MOST_SERIES = 30


def text_of(report: CheckReport, *, lists_all: bool = False) -> str:
    """The data set in a few lines, then each kind of finding with its first cases, then the count.

    Args:
        report: Of a check.
        lists_all: Whether every case of every finding stands on a line of its own.
    """
    lines = [*_about(report), *_series_lines(report)]
    for severity, heading in HEADINGS.items():
        groups = [group for group in report.groups if group.severity == severity]
        if not groups:
            continue
        lines += ["", heading]
        for group in groups:
            lines += lines_of([group])
            if lists_all and len(group.findings) > 1:
                lines += [f"         {finding.case or 'the data set'}: {finding.what}" for finding in group.findings]
    counts = report.counts
    told = ", ".join(counted(counts[each], ONE[each], HEADINGS[each]) for each in HEADINGS if counts[each])
    alike = [ALL_ALIKE.format(report.all_alike)] if report.all_alike else []
    return "\n".join([*(_wrapped(line) for line in lines), "", told or "nothing found", *alike])


def _about(report: CheckReport) -> Iterator[str]:
    summary = report.summary
    patients = f" of {counted(summary.patients, 'patient')}" if summary.patients != summary.cases else ""
    yield f"{report.data}: {counted(summary.cases, 'case')}{patients}, {summary.masks} with masks ({summary.layout})"
    for axes in summary.shapes:
        yield f"  {axes}D  {_ranges(summary.shapes[axes])} voxels of {_ranges(summary.spacings_mm[axes])} mm"
    yield from _kinds(summary)
    labels = list(summary.labels.items())
    for value, (masks, share) in labels[:MOST_LABELS]:
        name = f" ({report.label_names[value]})" if value in report.label_names else ""
        yield f"  label {value}{name}: in {counted(masks, 'mask')}, {share:.3%} of the voxels"
    if len(labels) > MOST_LABELS:
        yield f"  and {counted(len(labels) - MOST_LABELS, 'more label')}"


def _kinds(summary: Summary) -> Iterator[str]:
    if summary.channels:
        counted = ", ".join(f"{times} × {count}" for count, times in summary.channels.items())
        yield f"  channels {counted}" if len(summary.channels) > 1 else f"  {next(iter(summary.channels))} channel(s)"
    if summary.orientations:
        yield f"  stored as {', '.join(f'{times} × {letters}' for letters, times in summary.orientations.items())}"


def _ranges(three: tuple[tuple[float, ...], ...]) -> str:
    """Each axis' least, median and most, once where they are the same."""
    axes = zip(*three, strict=True)
    return " × ".join(f"{a:g}" if a == c else f"{a:g}…{b:g}…{c:g}" for a, b, c in axes)


def _series_lines(report: CheckReport) -> Iterator[str]:
    yield from (_series_line(row) for row in report.series[:MOST_SERIES])
    if len(report.series) > MOST_SERIES:
        yield f"  and {len(report.series) - MOST_SERIES} more series"


def _series_line(row: SeriesRow) -> str:
    size = "×".join(map(str, row.shape or ())) or ("several volumes" if row.is_readable else "no volume")
    spacing = f" of {'×'.join(f'{mm:.4g}' for mm in row.spacing_mm)} mm" if row.spacing_mm else ""
    state = "" if row.is_readable else ", cannot be read"
    files = counted(row.files, "file")
    pick = f" (--series {row.pick})" if row.pick else ""
    return f"  series {row.number}: {row.modality or '?'}, {files}, {size}{spacing}, in {row.folder}{state}{pick}"


def _wrapped(line: str) -> str:
    if len(line) <= WIDTH:
        return line
    indent = " " * (len(line) - len(line.lstrip()) + 7)
    return textwrap.fill(line, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
