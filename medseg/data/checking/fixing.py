"""A copy of a data set in which all is corrected that is certain, and a log of what was done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import medseg
from medseg.data.case import Case
from medseg.data.checking.copying import Target, write_images, write_labels
from medseg.data.checking.doctor import Examined
from medseg.data.checking.findings import WHOLE, Finding
from medseg.data.checking.naming import file_names
from medseg.data.checking.pairs import OnCase
from medseg.data.checking.report import CheckReport, FixedCopy
from medseg.data.descriptions import write_dataset
from medseg.errors import MedsegError, OutputError
from medseg.files import LOCK_NAME, held, write_json

LOG_NAME = "fix_log.json"
LOG_SCHEMA = 1


@dataclass(frozen=True)
class _Written:
    """The log of one case, and the case as it is in the copy; None where it was left out."""

    record: dict[str, Any]
    case: Case | None = None
    is_changed: bool = field(default=False)
    has_errors: bool = field(default=False)


def write_fixed(examined: Examined, output: Path, on_case: OnCase | None = None) -> FixedCopy:
    """Write images and masks of all cases to ``output``, corrected where the report says that this is certain.

    All else is copied byte by byte. Cases whose files cannot be read, and images without the mask
    that the others have, are left out; the log says so.

    Args:
        examined: The data set, and what was found.
        output: An empty folder, or none.
        on_case: Called after each case with its id and the number of cases in all.

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
    names = file_names(case.id for case in dataset.cases)
    written: list[_Written] = []
    with held(output):
        for case in dataset.cases:
            own = findings.get(case.id, [])
            is_left_out = case.id in examined.unreadable or (has_masks and case.label is None)
            target = Target(output, names[case.id], examined.expected.segments)
            written.append(_left_out(case, own) if is_left_out else _one(case, own, target))
            if on_case:
                on_case(case.id, len(dataset.cases))
        kept = tuple(each.case for each in written if each.case is not None)
        if has_masks and kept:
            write_dataset(replace(dataset, root=output, cases=kept), output)
        write_json(_log(report, written, findings.get(WHOLE, [])), output / LOG_NAME)
    changed = sum(each.is_changed for each in written)
    wrong = sum(each.has_errors for each in written)
    return FixedCopy(output, len(kept), changed, len(written) - len(kept), wrong)


def _require_apart(output: Path, root: Path) -> None:
    if root.resolve() in (output.resolve(), *output.resolve().parents):
        problem = f"lies inside {root}, which stays as it is"
        raise OutputError("OUTPUT_INSIDE_INPUT", output, problem, "give a folder beside the data set")
    is_folder = output.is_dir()
    if (is_folder and any(path.name != LOCK_NAME for path in output.iterdir())) or (output.exists() and not is_folder):
        raise OutputError("OUTPUT_EXISTS", output, "is not empty", "give a folder that is empty or not there")


def _one(case: Case, findings: Sequence[Finding], target: Target) -> _Written:
    codes = {finding.code for finding in findings if finding.is_fixable}
    try:
        images = write_images(case, target)
        labels = write_labels(case, codes, target)
    except OutputError:
        raise
    except MedsegError as error:
        return _Written(_record(case, (), findings, why=f"{error.code}: {error.problem}"))
    copied = replace(case, images=images, label=labels[0] if len(labels) == 1 else labels or None)
    fixed = [finding for finding in findings if finding.is_fixable]
    left = [finding for finding in findings if not finding.is_fixable]
    record = _record(case, fixed, left)
    places = [Path(path).relative_to(target.folder).as_posix() for path in (*images, *labels)]
    has_errors = any(finding.severity == "error" for finding in left)
    return _Written({**record, "files": places}, copied, bool(fixed), has_errors)


def _left_out(case: Case, findings: Sequence[Finding]) -> _Written:
    why = "its files cannot be read" if case.label is not None else "it has no mask"
    return _Written(_record(case, (), findings, why))


def _record(case: Case, fixed: Sequence[Finding], left: Sequence[Finding], why: str = "") -> dict[str, Any]:
    return {
        "case": case.id,
        "files": [],
        "fixed": [_told(finding) for finding in fixed],
        "left": [_told(finding) for finding in left],
        "left_out": why,
    }


def _told(finding: Finding) -> dict[str, str]:
    return {"code": finding.code, "severity": finding.severity, "what": finding.what}


def _log(report: CheckReport, written: Sequence[_Written], of_all: Sequence[Finding]) -> dict[str, Any]:
    return {
        "schema": LOG_SCHEMA,
        "medseg": medseg.__version__,
        "data": report.data,
        "cases": [each.record for each in written],
        "left_of_the_data_set": [_told(finding) for finding in of_all],
    }
