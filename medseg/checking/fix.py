"""A copy of a data set in which all is corrected that is certain, and a log of what was done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import medseg
from medseg.checking.check_report import CheckReport, FixedCopy
from medseg.checking.copy_case import Target, find_sheared_grid, name_files, write_images, write_labels
from medseg.checking.examine import Examined
from medseg.checking.usable_pairs import OnCase
from medseg.data.cases.case import Case
from medseg.data.cases.descriptions import write_dataset
from medseg.data.deshear import SHEAR_CODES, make_perpendicular
from medseg.errors import MedsegError, OutputError
from medseg.files import LOCK_NAME, hold, write_json
from medseg.findings import Finding
from medseg.geometry import Grid

LOG_NAME = "fix_log.json"
LOG_SCHEMA = 1
"""Version of the log; it rises when a key is removed or changes its meaning."""


@dataclass(frozen=True)
class _Written:
    """The log of one case, and the case as it is in the copy; None where it was left out."""

    record: dict[str, Any]
    case: Case | None = None
    is_changed: bool = field(default=False)
    is_straightened: bool = field(default=False)
    has_errors: bool = field(default=False)


def write_fixed(
    examined: Examined, output: Path, on_case: OnCase | None = None, *, straightens: bool = False
) -> FixedCopy:
    """Write images and masks of all cases to ``output``, corrected where the report says that this is certain.

    All else is copied byte by byte. Cases whose files cannot be read, and images without the mask
    that the others have, are left out; the log says so.

    Args:
        examined: The data set, and what was found.
        output: An empty folder, or none.
        on_case: Called after each case with its id and the number of cases in all.
        straightens: Whether volumes on sheared grids are resampled onto perpendicular axes, masks with them.

    Raises:
        OutputError: OUTPUT_EXISTS, the folder is not empty; OUTPUT_INSIDE_INPUT; it cannot be written.
        LockedError: Another run is writing there.
    """
    dataset, report = examined.opened.dataset, examined.report
    _require_apart(output, dataset.root)
    findings: dict[str, list[Finding]] = {}
    for finding in report.findings:
        findings.setdefault(finding.case, []).append(finding)
    has_masks = any(case.label for case in dataset.cases)
    names = name_files(case.id for case in dataset.cases)
    written: list[_Written] = []
    with hold(output):
        for case in dataset.cases:
            own = findings.get(case.id, [])
            is_left_out = case.id in examined.unreadable or (has_masks and case.label is None)
            target = Target(output, names[case.id], examined.expected.segments)
            written.append(_leave_out(case, own) if is_left_out else _copy_case(case, own, target, straightens))
            if on_case:
                on_case(case.id, len(dataset.cases))
        kept = tuple(each.case for each in written if each.case is not None)
        if has_masks and kept:
            write_dataset(replace(dataset, root=output, cases=kept), output)
        ids = {case.id for case in dataset.cases}
        of_no_case = [finding for finding in report.findings if finding.case not in ids]
        write_json(_make_log(report, written, of_no_case), output / LOG_NAME)
    changed = sum(each.is_changed for each in written)
    wrong = sum(each.has_errors for each in written)
    straightened = sum(each.is_straightened for each in written)
    return FixedCopy(output, len(kept), changed, len(written) - len(kept), wrong, straightened)


def _require_apart(output: Path, root: Path) -> None:
    if root.resolve() in (output.resolve(), *output.resolve().parents):
        problem = f"lies inside {root}, which stays as it is"
        raise OutputError("OUTPUT_INSIDE_INPUT", output, problem, "give a folder beside the data set")
    is_folder = output.is_dir()
    if (is_folder and any(path.name != LOCK_NAME for path in output.iterdir())) or (output.exists() and not is_folder):
        raise OutputError("OUTPUT_EXISTS", output, "is not empty", "give a folder that is empty or not there")


def _copy_case(case: Case, findings: Sequence[Finding], target: Target, straightens: bool) -> _Written:
    codes = {finding.code for finding in findings if finding.is_fixable}
    try:
        sheared = find_sheared_grid(case, {finding.code for finding in findings}) if straightens else None
        images = write_images(case, target, sheared)
        labels = write_labels(case, codes, target, sheared)
    except OutputError:
        raise
    except MedsegError as error:
        return _Written(_make_record(case, (), findings, why=f"{error.code}: {error.problem}"))
    copied = replace(case, images=images, label=labels[0] if len(labels) == 1 else labels or None)
    done = {*codes, *(SHEAR_CODES if sheared else ())}
    fixed = [finding for finding in findings if finding.code in done]
    left = [finding for finding in findings if finding.code not in done]
    record = {**_make_record(case, fixed, left), "straightened": _record_grids(sheared) if sheared else None}
    places = [Path(path).relative_to(target.folder).as_posix() for path in (*images, *labels)]
    has_errors = any(finding.is_error for finding in left)
    return _Written({**record, "files": places}, copied, bool(fixed), sheared is not None, has_errors)


def _leave_out(case: Case, findings: Sequence[Finding]) -> _Written:
    why = "its files cannot be read" if case.label is not None else "it has no mask"
    return _Written(_make_record(case, (), findings, why))


def _make_record(case: Case, fixed: Sequence[Finding], left: Sequence[Finding], why: str = "") -> dict[str, Any]:
    return {
        "case": case.id,
        "files": [],
        "fixed": [_record_finding(finding) for finding in fixed],
        "left": [_record_finding(finding) for finding in left],
        "left_out": why,
        "straightened": None,
    }


def _record_grids(sheared: Grid) -> dict[str, Any]:
    """The grid that the images had, and the one that they have in the copy."""
    grids = {"old": sheared, "new": make_perpendicular(sheared)}
    return {name: {"shape": list(grid.shape), "affine": grid.affine.tolist()} for name, grid in grids.items()}


def _record_finding(finding: Finding) -> dict[str, str]:
    return {"code": finding.code, "severity": finding.severity, "what": finding.problem}


def _make_log(report: CheckReport, written: Sequence[_Written], of_no_case: Sequence[Finding]) -> dict[str, Any]:
    return {
        "schema": LOG_SCHEMA,
        "medseg": medseg.__version__,
        "data": report.data,
        "cases": [each.record for each in written],
        "left_of_the_data_set": [{**_record_finding(finding), "case": finding.case} for finding in of_no_case],
    }
