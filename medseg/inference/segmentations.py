"""Predicted masks as DICOM SEG: which cases can have one, what it refers to, and how it is written."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import medseg
from medseg.data.cases import Case
from medseg.data.dicom.sniff import is_dicom_file
from medseg.data.dicom.source import SourceSeries, read_source
from medseg.data.dicom.write_seg import Author, Meaning, write_segmentation
from medseg.data.image_files import SERIES_PART, split_part
from medseg.data.volume import Volume
from medseg.errors import UsageError
from medseg.inference.prediction import Model, Prediction

SUFFIX = ".dcm"
SERIAL_CHARACTERS = 16
"""So much of the weights' checksum tells them apart."""


def check_dicom(cases: Iterable[Case]) -> None:
    """Refuse cases that are no DICOM series, for a DICOM SEG refers to one.

    Raises:
        UsageError: ``FORMAT_NEEDS_DICOM``.
    """
    for case in cases:
        file, part = split_part(case.images[0])
        if (part and not part.startswith(SERIES_PART)) or not _is_dicom(Path(file)):
            problem = f"{case.images[0]} is no DICOM series, which a DICOM SEG must refer to"
            raise UsageError("FORMAT_NEEDS_DICOM", case.id, problem, "leave --format out, or give DICOM series only")


def source_of(case: Case) -> SourceSeries:
    """The series that a case's mask refers to: that of its first channel.

    Raises:
        ImageError: As ``medseg.data.dicom.source.read_source``.
    """
    file, part = split_part(case.images[0])
    return read_source(Path(file), part.removeprefix(SERIES_PART) or None)


def write_dicom_seg(prediction: Prediction, source: SourceSeries, target: Path, model: Model, kind: str) -> str:
    """Write a mask as DICOM SEG; returns what is odd about it, with codes.

    Args:
        prediction: The mask.
        source: The series that it was made from.
        target: The file.
        model: What made it.
        kind: One of ``medseg.options.SEG_TYPES``.

    Raises:
        GridError: It does not lie on the series.
        OutputError: It cannot be written, or reads back otherwise.
    """
    author = Author(model.name, model.version, model.weights_sha256[:SERIAL_CHARACTERS], medseg.__version__)
    mask = Volume(prediction.labels, prediction.affine)
    notes = write_segmentation(mask, source, target, Meaning(model.labels, model.terms), author, kind)
    return "; ".join(str(note) for note in notes)


def _is_dicom(path: Path) -> bool:
    return path.is_dir() or (path.is_file() and is_dicom_file(path))
