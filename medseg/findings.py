"""One thing that is wrong or odd, and the one table of codes by which it is known.

Every code that medseg raises or reports is a row of :data:`CODES`: how grave it is, what it means, what to do
about it, and whether ``medseg check --fix`` can mend it. docs/reference/errors.md is made of this table by
tools/make_reference.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from medseg.data_codes import CHECK, DATASETS, DICOM, DICOM_MASKS, EVALUATE, IMAGES
from medseg.run_codes import BUNDLES, COMPARE, EXPORT, OUTPUTS, PREDICT, SETTINGS, TRAIN, Code, Severity

GROUPS: Mapping[str, Mapping[str, Code]] = {
    "Settings and options": SETTINGS,
    "Images and masks": IMAGES,
    "DICOM": DICOM,
    "DICOM SEG and RTSTRUCT": DICOM_MASKS,
    "Data sets": DATASETS,
    "medseg check": CHECK,
    "Bundles, medseg bundle verify": BUNDLES,
    "medseg predict": PREDICT,
    "medseg export": EXPORT,
    "medseg train": TRAIN,
    "medseg evaluate, and figures": EVALUATE,
    "medseg compare": COMPARE,
    "Outputs": OUTPUTS,
}
"""The rows under the headings of the page, by verb; what several verbs tell comes under what it is about."""

CODES: Mapping[str, Code] = {code: row for group in GROUPS.values() for code, row in group.items()}
"""Every code that medseg raises or reports."""

ALIASES: Mapping[str, str] = {
    "BACKEND_UNKNOWN": "NAME_UNKNOWN",
    "CASE_IDS_REPEATED": "CASE_TWICE",
    "CSV_INVALID": "DESCRIPTION_INVALID",
    "DATASET_JSON_INVALID": "DESCRIPTION_INVALID",
    "DATASET_UNREADABLE": "DESCRIPTION_INVALID",
    "DEVICE_UNKNOWN": "NAME_UNKNOWN",
    "EXTRA_MISSING": "PACKAGE_MISSING",
    "FIX_MISSING": "SETTING_MISSING",
    "FOLDS_INVALID": "SETTING_INVALID",
    "FORM_UNKNOWN": "NAME_UNKNOWN",
    "LABEL_UNKNOWN": "LABEL_UNEXPECTED",
    "LOG_UNREADABLE": "RECORD_UNREADABLE",
    "LOSS_OPTION_INVALID": "SETTING_INVALID",
    "LOSS_OPTION_UNKNOWN": "SETTING_UNKNOWN",
    "LOSS_UNKNOWN": "NAME_UNKNOWN",
    "METRIC_UNKNOWN": "NAME_UNKNOWN",
    "MISSING_UNKNOWN": "NAME_UNKNOWN",
    "NETWORK_OPTION_INVALID": "SETTING_INVALID",
    "NETWORK_OPTION_UNKNOWN": "SETTING_UNKNOWN",
    "NETWORK_PACKAGE_MISSING": "PACKAGE_MISSING",
    "NETWORK_UNKNOWN": "NAME_UNKNOWN",
    "OPTIMIZER_UNKNOWN": "NAME_UNKNOWN",
    "OPTION_NOT_EXPORTED": "OPTION_NOT_OFFERED",
    "OVERLAP_INVALID": "SETTING_INVALID",
    "OVERLAP_NOT_OFFERED": "OPTION_NOT_OFFERED",
    "PART_UNKNOWN": "NAME_UNKNOWN",
    "PHANTOM_INVALID": "SETTING_INVALID",
    "RUNTIME_MISSING": "PACKAGE_MISSING",
    "RUN_EXISTS": "OUTPUT_EXISTS",
    "RUN_UNREADABLE": "RECORD_UNREADABLE",
    "SCHEDULE_UNKNOWN": "NAME_UNKNOWN",
    "SCORES_UNREADABLE": "RECORD_UNREADABLE",
    "SERIES_INVALID": "SETTING_INVALID",
    "SIZE_INVALID": "SETTING_INVALID",
    "TARGET_UNKNOWN": "NAME_UNKNOWN",
    "TTA_NOT_OFFERED": "OPTION_NOT_OFFERED",
}
"""Names that codes had in earlier versions, and the code that says the same today; ``--allow`` takes either."""

UNLISTED = Code("a code of another version", "look it up in docs/reference/errors.md", "warning")

WHOLE = ""
"""Stands for the case where a finding is about the data set as a whole, or where the file is known anyway."""


def canonical(code: str) -> str:
    """The name that a code has today.

    >>> canonical("NETWORK_UNKNOWN"), canonical("IMAGE_GRID")
    ('NAME_UNKNOWN', 'IMAGE_GRID')
    """
    return ALIASES.get(code, code)


def explain(code: str) -> Code:
    """What the table says of a code, by its name of today or an earlier one."""
    return CODES.get(canonical(code), UNLISTED)


def is_allowed(code: str, allow: Collection[str]) -> bool:
    """Whether ``code`` is among those that are accepted knowingly, or the only one, under whatever name it is given."""
    return canonical(code) in map(canonical, [allow] if isinstance(allow, str) else allow)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or odd about a case, a file, a setting or a whole data set.

    Args:
        case: The case, file or setting concerned; empty (:data:`WHOLE`) for all of them together, or where the
            finding belongs to a volume, as a reader's notes do.
        code: A key of :data:`CODES`.
        problem: What was found, with the value.
        remedy: What to do about it; the table's where none is given.
        severity: How grave it is; the table's where none is given.
    """

    case: str
    code: str
    problem: str
    remedy: str = ""
    severity: Severity = ""  # type: ignore[assignment]  # Never empty once made: the table fills it in.

    def __post_init__(self) -> None:
        known = explain(self.code)
        object.__setattr__(self, "remedy", self.remedy or known.remedy)
        object.__setattr__(self, "severity", self.severity or known.severity)

    def __str__(self) -> str:
        return f"{self.case}: {self.code}: {self.problem}" if self.case else f"{self.code}: {self.problem}"

    @property
    def place(self) -> str:
        """What is concerned, by another word where it is no case: a file, and the section in it."""
        return self.case

    @property
    def is_error(self) -> bool:
        """Whether work is refused for it, or would be misled by it."""
        return self.severity == "error"

    @property
    def is_note(self) -> bool:
        """Whether all is sound in spite of it."""
        return not self.is_error

    @property
    def is_fixable(self) -> bool:
        """Whether ``medseg check --fix`` can correct it for certain."""
        return explain(self.code).is_fixable


def make_note(code: str, problem: str) -> Finding:
    """What a reader notes about the file that it reads, whose name is known to whoever asked for it.

    Args:
        code: A key of :data:`CODES`.
        problem: What was found, with the value.
    """
    return Finding(WHOLE, code, problem)
