"""Which label a segment of a DICOM SEG, or a structure of an RTSTRUCT, stands for.

Where the labels are known by name and code, a segment is the label whose name it has, or
whose code. Where not one segment is recognised, its number is its label.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from medseg.data.formats.payload import check_memory
from medseg.data.labels import BACKGROUND
from medseg.data.terminology import Names, drop_modifier, make_key
from medseg.errors import LabelError
from medseg.findings import Finding, make_note
from medseg.text import list_some


@dataclass(frozen=True)
class Segment:
    """One structure that a file describes.

    Args:
        number: The number by which its voxels or contours are found.
        name: What its author called it.
        code: Type and modifier as :func:`medseg.data.terminology.make_key` has them; empty without.
    """

    number: int
    name: str
    code: str = ""

    def __str__(self) -> str:
        return f"{self.number} {self.name!r}"


def read_code_key(item: Dataset) -> str:
    """The key of a ``SegmentedPropertyTypeCodeSequence``'s item, its modifier included; empty without a code."""
    modifiers = list(item.get("SegmentedPropertyTypeModifierCodeSequence") or [])
    modifier = str(modifiers[0].get("CodeValue", "")) if modifiers else ""
    value = item.get("CodeValue") or item.get("LongCodeValue") or ""
    return make_key(str(item.get("CodingSchemeDesignator", "")), str(value), modifier) if value else ""


def match_labels(
    segments: Sequence[Segment], names: Names | None, case: object
) -> tuple[dict[int, int], tuple[Finding, ...]]:
    """The label of each segment number; segments that stand for no label are left out, and noted.

    Args:
        segments: The segments that the file describes.
        names: The names and codes of each label, by which segments are recognised; without, numbers are labels.
        case: Named in the error.

    Raises:
        LabelError: ``SEGMENTS_AMBIGUOUS``: a segment could be two labels, or some segments are
            recognised while others could be the labels that are not found.
    """
    if not names:
        return _label_by_number(segments), ()
    found = {segment: _recognise(segment, names, case) for segment in segments}
    if not any(value is not None for value in found.values()):
        told = ", ".join(f"{segment} as {_describe_label(segment.number, names)}" for segment in segments[:8])
        return _label_by_number(segments), (make_note("SEGMENTS_BY_NUMBER", f"no name or code is known: {told}"),)
    strange = [segment for segment, value in found.items() if value is None]
    lacking = sorted(set(names) - set(found.values()) - {BACKGROUND})
    if strange and lacking:
        raise LabelError(
            "SEGMENTS_AMBIGUOUS",
            case,
            f"segments {_list_segments(strange)} have no known name or code, and could be "
            f"{', '.join(_describe_label(value, names) for value in lacking)}",
            "name or code each segment like its label, or leave the others out",
        )
    left_out = (
        (make_note("SEGMENTS_LEFT_OUT", f"segments {_list_segments(strange)} are no label here"),) if strange else ()
    )
    known = {segment.number: value for segment, value in found.items() if value is not None}
    return known, (*left_out, *_note_merged(found))


def make_planes(shape: tuple[int, ...], labels: Collection[int], case: Path) -> NDArray:
    """Background to paint labels on, (plane, row, column), of the smallest type that holds them.

    Args:
        shape: Columns, rows and planes.
        labels: What will be painted.
        case: Named in the error.

    Raises:
        ImageError: ``MEMORY_BUDGET``.
    """
    dtype = np.dtype(np.uint8 if max(labels, default=0) < 256 else np.uint16)
    check_memory(math.prod(shape) * dtype.itemsize, case)
    return np.zeros(shape[::-1], dtype=dtype)


def _label_by_number(segments: Sequence[Segment]) -> dict[int, int]:
    return {segment.number: segment.number for segment in segments}


def _recognise(segment: Segment, names: Names, case: object) -> int | None:
    """The label whose name or code the segment has; a name tells apart what one code covers."""
    by_name = {value for value, texts in names.items() if _normalise(segment.name) in map(_normalise, texts)}
    codes = {segment.code, drop_modifier(segment.code)} - {""}
    by_code = {value for value, texts in names.items() if codes & set(texts)}
    both = by_name & by_code
    found = both or (by_name | by_code)
    if len(found) > 1:
        told = " and ".join(_describe_label(value, names) for value in sorted(found))
        problem = f"segment {segment} (code {segment.code or 'none'}) could be {told}"
        raise LabelError("SEGMENTS_AMBIGUOUS", case, problem)
    return next(iter(found), None)


def _normalise(text: str) -> str:
    return re.sub(r"[\W_]+", " ", text).strip().casefold()


def _describe_label(value: int, names: Names) -> str:
    texts = names.get(value, ())
    return f"label {value}" + (f" ({texts[0]})" if texts else "")


def _note_merged(found: Mapping[Segment, int | None]) -> tuple[Finding, ...]:
    together: dict[int, list[Segment]] = {}
    for segment, value in found.items():
        if value is not None:
            together.setdefault(value, []).append(segment)
    told = [f"{_list_segments(several)} as label {value}" for value, several in together.items() if len(several) > 1]
    return (make_note("SEGMENTS_MERGED", f"segments {'; '.join(told)}"),) if told else ()


def _list_segments(segments: Sequence[Segment]) -> str:
    return list_some([str(segment) for segment in segments], most=8)
