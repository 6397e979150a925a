"""What a check of a data set found: the data set in a few lines, and every finding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import medseg
from medseg.data.checking.facts import Facts
from medseg.data.checking.findings import Finding, Group, grouped
from medseg.data.checking.rules import SEVERITIES

SCHEMA = 1
"""Of the JSON; it rises when a key is removed or changes its meaning."""


@dataclass(frozen=True)
class SeriesRow:
    """One DICOM series of a folder.

    Args:
        number: From 1, in the order of the inventory.
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
        changed: In how many of them something was corrected.
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
        layout: As which it was recognised.
        cases: How many.
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
        return grouped(self.findings)

    @property
    def counts(self) -> dict[str, int]:
        """How many findings of each severity."""
        times = Counter(finding.severity for finding in self.findings)
        return {severity: times[severity] for severity in SEVERITIES}

    @property
    def exit_code(self) -> int:
        """1 where there is an error, else 0."""
        return 1 if self.counts["error"] else 0

    def to_record(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        summary = self.summary
        return {
            "schema": SCHEMA,
            "medseg": medseg.__version__,
            "data": self.data,
            "summary": {
                "layout": summary.layout,
                "cases": summary.cases,
                "patients": summary.patients,
                "masks": summary.masks,
                "shapes": [_range_record(axes, three) for axes, three in summary.shapes.items()],
                "spacings_mm": [_range_record(axes, three) for axes, three in summary.spacings_mm.items()],
                "orientations": summary.orientations,
                "channels": {str(count): times for count, times in summary.channels.items()},
                "labels": [
                    {"value": value, "name": self.label_names.get(value, ""), "masks": masks, "share": share}
                    for value, (masks, share) in summary.labels.items()
                ],
            },
            "counts": self.counts,
            "all_alike": self.all_alike,
            "series": [_series_record(row) for row in self.series],
            "findings": [finding.to_record() for finding in self.findings],
        }


def summarised(layout: str, facts: Sequence[Facts]) -> Summary:
    """The data set in a few numbers."""
    images = [each.image for each in facts if each.image]
    masks = [each.mask for each in facts if each.mask]
    axes = sorted({len(image.shape) for image in images})
    voxels: Counter[int] = Counter()
    shown: Counter[int] = Counter()
    for mask in masks:
        voxels.update(mask.voxels)
        shown.update(mask.voxels.keys())
    total = sum(voxels.values())
    return Summary(
        layout=layout,
        cases=len(facts),
        patients=len({each.group for each in facts}),
        masks=len(masks),
        shapes={n: _spread([image.shape for image in images if len(image.shape) == n]) for n in axes},
        spacings_mm={n: _spread([image.spacing_mm for image in images if len(image.shape) == n]) for n in axes},
        orientations=dict(Counter(image.orientation for image in images if len(image.shape) == 3).most_common()),
        channels=dict(sorted(Counter(max(image.channels) for image in images).items())),
        labels={value: (shown[value], voxels[value] / total) for value in sorted(voxels)},
    )


def _spread(rows: Iterable[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
    """Least, median and most of each column."""
    table = np.array(list(rows), dtype=float)
    return tuple(tuple(round(float(n), 4) for n in row) for row in (table.min(0), np.median(table, 0), table.max(0)))


def _range_record(axes: int, three: tuple[tuple[float, ...], ...]) -> dict[str, Any]:
    least, median, most = (list(row) for row in three)
    return {"axes": axes, "least": least, "median": median, "most": most}


def _series_record(row: SeriesRow) -> dict[str, Any]:
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
