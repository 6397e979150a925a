"""The whole examination of a data set: each case by itself, then all beside each other, then the split."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medseg.checking.case_statistics import CaseStatistics, apply_case_rules, measure_case
from medseg.checking.check_report import CheckReport, SeriesRow, summarise
from medseg.checking.dataset_rules import (
    apply_dataset_rules,
    check_split,
    drop_unlabelled_masks,
    find_copies,
    map_parts,
    take_white_as_one,
)
from medseg.checking.open_leniently import Opened, open_leniently
from medseg.checking.read_case import Expected, read_case
from medseg.checking.usable_pairs import OnCase, look_at_each
from medseg.data.cases import narrow_to_series
from medseg.data.cases.case import Case, Dataset
from medseg.data.dicom.file import ENDING_SHOWN
from medseg.data.dicom.series import SHORTEST_ENDING, FolderInventory, Series, split_stack, take_inventory
from medseg.data.image_files import split_part
from medseg.data.splits import Split
from medseg.findings import WHOLE, Finding


@dataclass(frozen=True)
class Examined:
    """A data set that was looked at.

    Args:
        opened: The data set with its cases, which have the channels that are wanted.
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
        expected_of: Gives for the data set its cases as a bundle takes them, what is expected of
            them, and what is wrong already.
        split: The split that is held against the cases.
        on_case: Called after each case with its id and the number of cases in all.
        series: The one series to which DICOM folders are narrowed: its number, or the end of its UID.

    Raises:
        DatasetError: There is no case.
    """
    opened = open_leniently(data)
    dataset, expected, findings = expected_of(opened.dataset)
    dataset = replace(dataset, cases=narrow_to_series(dataset.cases, series))
    opened = replace(opened, dataset=dataset)
    statistics: list[CaseStatistics] = []
    found = [*opened.findings, *findings]
    looks = look_at_each(dataset.cases, lambda case: _look_at(case, expected, opened.has_masks), on_case)
    for _, (own, told) in looks:
        statistics.append(own)
        found += told
    unreadable = frozenset(each.case for each in statistics if not each.is_readable)
    rows, of_headers = list_series(opened.root, dataset.cases, found, series)
    statistics, found = drop_unlabelled_masks(dataset.cases, take_white_as_one(statistics, expected), found)
    found += [*of_headers, *apply_dataset_rules(statistics, expected), *find_copies(statistics, map_parts(split))]
    found += check_split(split, dataset.cases, dataset.unlabelled) if split else ()
    told_from_root = tuple(_tell_from_root(finding, opened.root) for finding in found)
    summary = summarise(dataset.layout, statistics)
    report = CheckReport(Path(data).absolute().name, summary, told_from_root, dict(expected.names), rows)
    return Examined(opened, report, expected, unreadable)


def _look_at(case: Case, expected: Expected, needs_mask: bool) -> tuple[CaseStatistics, tuple[Finding, ...]]:
    reading = read_case(case, expected, needs_mask)
    statistics = measure_case(reading)
    return statistics, (*reading.findings, *apply_case_rules(reading, statistics, expected))


def _tell_from_root(finding: Finding, root: Path) -> Finding:
    """Paths in the words told from the data set's folder, whose own place is nobody's business."""
    return replace(finding, problem=finding.problem.replace(f"{root}/", "").replace(str(root), root.name))


JUNK = "DICOM_JUNK_SKIPPED"


def list_series(
    root: Path, cases: Sequence[Case], known: Sequence[Finding], wanted: str | None = None
) -> tuple[tuple[SeriesRow, ...], tuple[Finding, ...]]:
    """The series of a folder in which some case is one; none where no case is.

    Args:
        root: The folder.
        cases: The cases found below it.
        known: What reading the cases brought; it is not told again.
        wanted: The one series to which folders are narrowed: number or end of UID, and perhaps the stack; a folder
            without it shows all its series. What is true of a whole series is not told of one of its stacks.
    """
    folder_of = {path: case.id for case in cases for path in map(_find_series_folder, case.images) if path is not None}
    if not folder_of:
        return (), ()
    content = take_inventory(root)
    is_pure = all(_find_series_folder(path) is not None for case in cases for path in case.images)
    name, stack = split_stack(wanted)
    chosen = list(_choose_series(content, folder_of, name))
    of_whole = [] if stack else [finding for _, series, _ in chosen for finding in series.findings]
    told = {(finding.case, finding.code) for finding in known}
    findings = []
    for each in (*content.findings, *of_whole):
        case = _find_case(root / each.case, folder_of)
        if (case, each.code) not in told and (is_pure or each.code != JUNK):
            findings.append(Finding(case or _place_of(each), each.code, each.problem, each.remedy, each.severity))
    rows = [_make_row(series, number, content, group) for number, series, group in chosen]
    if stack:
        refused = {finding.case for finding in known if finding.is_error}
        homes = [_find_case(series.files[0], folder_of) for _, series, _ in chosen]
        rows = [replace(row, is_readable=home not in refused) for row, home in zip(rows, homes, strict=True)]
    return tuple(rows), tuple(findings)


def _choose_series(
    content: FolderInventory, folder_of: dict[Path, str], wanted: str | None
) -> Iterator[tuple[int, Series, list[Series]]]:
    """The series that are looked at, numbered as they lie, each with all that are read from its folder."""
    groups: dict[str | Path, list[Series]] = {}
    homes = [_find_case(series.files[0], folder_of) or series.files[0].parent for series in content.series]
    for home, series in zip(homes, content.series, strict=True):
        groups.setdefault(home, []).append(series)
    for number, (home, series) in enumerate(zip(homes, content.series, strict=True), start=1):
        if series in _pick_fitting(groups[home], wanted):
            yield number, series, groups[home]


def _pick_fitting(group: list[Series], wanted: str | None) -> list[Series]:
    """Those that the reader picks, by number, else by the end of the UID; all where none fits, which it refuses."""
    if wanted is None:
        return group
    numbered = [series for series in group if wanted.isdecimal() and series.number == int(wanted)]
    ending = [series for series in group if len(wanted) >= SHORTEST_ENDING and series.uid.endswith(wanted)]
    return numbered or ending or group


def _find_series_folder(path: str) -> Path | None:
    """The folder of a DICOM series, if that is what the path of an image names."""
    file = Path(split_part(path)[0])
    return file if file.is_dir() else None


def _find_case(place: Path, folder_of: dict[Path, str]) -> str:
    """The case whose folder a file or folder is or lies in; empty where there is none."""
    return next((folder_of[folder] for folder in (place, *place.parents) if folder in folder_of), WHOLE)


def _place_of(finding: Finding) -> str:
    return WHOLE if finding.case in ("", ".") else finding.case


def _make_row(series: Series, number: int, content: FolderInventory, group: list[Series]) -> SeriesRow:
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
        _name_series(series, group),
    )


def _name_series(series: Series, group: list[Series]) -> str:
    """What names this series among those of its folder: its own number, or the end of its UID."""
    if len(group) == 1:
        return ""
    is_number = series.number is not None and series.number >= 0
    if is_number and [each.number for each in group].count(series.number) == 1:
        return str(series.number)
    return series.uid[-ENDING_SHOWN:]
