"""The DICOM series below a folder, one of them chosen, and what their headers tell that reading did not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from medseg.data.cases.case import Case
from medseg.data.checking.findings import WHOLE, Finding
from medseg.data.checking.report import SeriesRow
from medseg.data.dicom.file import ENDING_SHOWN
from medseg.data.dicom.inventory import FolderInventory, Series, SeriesFinding, take_inventory
from medseg.data.dicom.series import SHORTEST_ENDING, split_stack
from medseg.data.image_files import split_part

JUNK = "DICOM_JUNK_SKIPPED"


def series_below(
    root: Path, cases: Sequence[Case], known: Sequence[Finding], wanted: str | None = None
) -> tuple[tuple[SeriesRow, ...], tuple[Finding, ...]]:
    """The series of a folder in which some case is one; none where no case is.

    Args:
        root: The folder.
        cases: Found below it.
        known: What reading the cases brought; it is not told again.
        wanted: To which folders are narrowed: number or end of UID, and perhaps the stack; a folder without it
            shows all its series. What is true of a whole series is not told of one of its stacks.
    """
    folder_of = {path: case.id for case in cases for path in map(_folder, case.images) if path is not None}
    if not folder_of:
        return (), ()
    content = take_inventory(root)
    is_pure = all(_folder(path) is not None for case in cases for path in case.images)
    name, stack = split_stack(wanted)
    chosen = list(_chosen(content, folder_of, name))
    of_whole = [] if stack else [finding for _, series, _ in chosen for finding in series.findings]
    told = {(finding.case, finding.code) for finding in known}
    findings = []
    for each in (*content.findings, *of_whole):
        case = _case_at(root / each.where, folder_of)
        if (case, each.code) not in told and (is_pure or each.code != JUNK):
            findings.append(Finding(case or _place(each), each.code, each.severity, each.what, each.remedy))
    rows = [_row(series, number, content, group) for number, series, group in chosen]
    if stack:
        refused = {finding.case for finding in known if finding.severity == "error"}
        homes = [_case_at(series.files[0], folder_of) for _, series, _ in chosen]
        rows = [replace(row, is_readable=home not in refused) for row, home in zip(rows, homes, strict=True)]
    return tuple(rows), tuple(findings)


def _chosen(
    content: FolderInventory, folder_of: dict[Path, str], wanted: str | None
) -> Iterator[tuple[int, Series, list[Series]]]:
    """The series that are looked at, numbered as they lie, each with all that are read from its folder."""
    groups: dict[str | Path, list[Series]] = {}
    homes = [_case_at(series.files[0], folder_of) or series.files[0].parent for series in content.series]
    for home, series in zip(homes, content.series, strict=True):
        groups.setdefault(home, []).append(series)
    for number, (home, series) in enumerate(zip(homes, content.series, strict=True), start=1):
        if series in _fitting(groups[home], wanted):
            yield number, series, groups[home]


def _fitting(group: list[Series], wanted: str | None) -> list[Series]:
    """As the reader picks: by number, else by the end of the UID; all where none fits, which the reader refuses."""
    if wanted is None:
        return group
    numbered = [series for series in group if wanted.isdecimal() and series.number == int(wanted)]
    ending = [series for series in group if len(wanted) >= SHORTEST_ENDING and series.uid.endswith(wanted)]
    return numbered or ending or group


def _folder(path: str) -> Path | None:
    """The folder of a DICOM series, if that is what the path of an image names."""
    file = Path(split_part(path)[0])
    return file if file.is_dir() else None


def _case_at(place: Path, folder_of: dict[Path, str]) -> str:
    """The case whose folder a file or folder is or lies in; empty where there is none."""
    return next((folder_of[folder] for folder in (place, *place.parents) if folder in folder_of), WHOLE)


def _place(finding: SeriesFinding) -> str:
    return WHOLE if finding.where in ("", ".") else finding.where


def _row(series: Series, number: int, content: FolderInventory, group: list[Series]) -> SeriesRow:
    first = series.files[0].parent
    place = first.relative_to(content.folder).as_posix() if first.is_relative_to(content.folder) else first.name
    return SeriesRow(
        number,
        place,
        series.modality,
        len(series.files),
        series.shape,
        series.spacing_mm,
        series.is_readable,
        _pick(series, group),
    )


def _pick(series: Series, group: list[Series]) -> str:
    """What names this series among those of its folder: its own number, or the end of its UID."""
    if len(group) == 1:
        return ""
    is_number = series.number is not None and series.number >= 0
    if is_number and [each.number for each in group].count(series.number) == 1:
        return str(series.number)
    return series.uid[-ENDING_SHOWN:]
