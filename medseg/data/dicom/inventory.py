"""What a folder holds, as series: each with its files, its grid and what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from medseg.data.dicom.file import DicomFile, Found, read_series_number, read_series_uid, refuse_unreadable, show_value
from medseg.data.dicom.rules import INFORMATIVE, ExaminedSeries, examine, list_errors
from medseg.data.dicom.series import look_into
from medseg.errors import ImageError
from medseg.findings import Finding

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True)
class Series:
    """One image series of one patient; nothing that names the patient is kept.

    Args:
        uid: SeriesInstanceUID; empty where the files have none.
        modality: Such as CT or MR; empty where the files do not say.
        number: SeriesNumber, where the files have one.
        files: The files, as they lie in the folder.
        shape: Voxels (X, Y, Z), or (X, Y) of a picture without a position; None where it cannot be read.
        spacing_mm: Spacing along ``shape``'s axes; None where it cannot be read.
        findings: What is wrong or odd about it.
    """

    uid: str
    modality: str
    number: int | None
    files: tuple[Path, ...]
    shape: tuple[int, ...] | None = None
    spacing_mm: tuple[float, ...] | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def is_readable(self) -> bool:
        """Whether nothing was found for which ``read_dicom`` would refuse it before decoding its pixels."""
        return all(finding.severity != "error" for finding in self.findings)


@dataclass(frozen=True)
class FolderInventory:
    """What lies below a folder.

    Args:
        folder: The folder that was searched.
        series: The image series in it.
        other: DICOM files that hold no acquired image, by kind: SEG, RTSTRUCT, SR, PDF and so on.
        junk: Files that are no DICOM.
        findings: What concerns no single series.
    """

    folder: Path
    series: tuple[Series, ...] = ()
    other: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    junk: tuple[Path, ...] = ()
    findings: tuple[Finding, ...] = ()


def take_inventory(folder: str | Path) -> FolderInventory:
    """The series of a folder, at any depth, with what is wrong with each.

    Headers are read, pixels are not decoded. Never raises for what a file holds: that becomes a finding.
    """
    root = Path(folder)
    contents = look_into(root, at_any_depth=True)
    series = tuple(_describe_series(files, root) for files in contents.series)
    other: dict[str, tuple[Path, ...]] = {}
    for file in contents.other:
        other[file.kind] = (*other.get(file.kind, ()), file.path)
    return FolderInventory(root, series, other, tuple(contents.junk), _list_findings(contents.found, root, "."))


def _describe_series(files: Sequence[DicomFile], root: Path) -> Series:
    header = files[0].header
    where = Path(os.path.commonpath([file.path.parent for file in files]))
    try:
        with refuse_unreadable(where):
            examined = examine(files, where)
    except ImageError as error:
        examined = ExaminedSeries(tuple(files), (), None, (error,))
    return Series(
        read_series_uid(header),
        show_value(header.get("Modality") or ""),
        read_series_number(header),
        tuple(file.path for file in files),
        None if list_errors(examined.found) else examined.shape,
        None if list_errors(examined.found) else examined.spacing_mm,
        _list_findings(examined.found, root, where),
    )


def _list_findings(found: Sequence[Found], root: Path, where: str | Path) -> tuple[Finding, ...]:
    """What was found as findings; the same thing about several files is one."""
    places: dict[tuple[str, str, str, str], list[str]] = {}
    for each in found:
        if isinstance(each, ImageError):
            key = (each.code, "error", each.problem, each.remedy)
            places.setdefault(key, []).append(_make_relative(each.case, root))
        else:
            severity = "info" if each.code in INFORMATIVE else "warning"
            key = (each.code, severity, each.problem, "")  # The table says what to do.
            places.setdefault(key, []).append(_make_relative(str(where), root))
    return tuple(
        Finding(at[0], code, what if len(at) == 1 else f"{what} (and {len(at) - 1} more files)", remedy, severity)  # type: ignore[arg-type]
        for (code, severity, what, remedy), at in places.items()
    )


def _make_relative(place: str, root: Path) -> str:
    return Path(place).relative_to(root).as_posix() if Path(place).is_relative_to(root) else place
