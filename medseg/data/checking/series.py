"""The DICOM series below a folder, and what their headers tell that reading the cases did not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from medseg.data.case import Case, split_slice
from medseg.data.checking.findings import WHOLE, Finding
from medseg.data.checking.report import SeriesRow
from medseg.data.dicom.inventory import FolderInventory, Series, SeriesFinding, inventory

JUNK = "DICOM_JUNK_SKIPPED"


def series_below(
    root: Path, cases: Sequence[Case], known: Sequence[Finding]
) -> tuple[tuple[SeriesRow, ...], tuple[Finding, ...]]:
    """The series of a folder in which some case is one; none where no case is.

    Args:
        root: The folder.
        cases: Found below it.
        known: What reading the cases brought; it is not told again.
    """
    folder_of = {path: case.id for case in cases for path in map(_folder, case.images) if path is not None}
    if not folder_of:
        return (), ()
    content = inventory(root)
    is_pure = all(_folder(path) is not None for case in cases for path in case.images)
    rows = tuple(_row(series, number, content) for number, series in enumerate(content.series, start=1))
    told = {(finding.case, finding.code) for finding in known}
    findings = []
    for each in _all_of(content):
        case = _case_at(root / each.where, folder_of)
        if (case, each.code) not in told and (is_pure or each.code != JUNK):
            findings.append(Finding(case or _place(each), each.code, each.severity, each.what, each.remedy))
    return rows, tuple(findings)


def _all_of(content: FolderInventory) -> Iterator[SeriesFinding]:
    yield from content.findings
    for series in content.series:
        yield from series.findings


def _folder(path: str) -> Path | None:
    """The folder of a DICOM series, if that is what the path of an image names."""
    file = Path(split_slice(path)[0])
    return file if file.is_dir() else None


def _case_at(place: Path, folder_of: dict[Path, str]) -> str:
    """The case whose folder a file or folder is or lies in; empty where there is none."""
    return next((folder_of[folder] for folder in (place, *place.parents) if folder in folder_of), WHOLE)


def _place(finding: SeriesFinding) -> str:
    return WHOLE if finding.where in ("", ".") else finding.where


def _row(series: Series, number: int, content: FolderInventory) -> SeriesRow:
    first = series.files[0].parent if series.files else content.folder
    place = first.relative_to(content.folder).as_posix() if first.is_relative_to(content.folder) else first.name
    count, is_readable = len(series.files), series.is_readable
    return SeriesRow(number, place, series.modality, count, series.shape, series.spacing_mm, is_readable)
