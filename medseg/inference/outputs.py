"""Where masks are written, one file each and none over anything else; the record beside them; masks as DICOM SEG.

What writes DICOM is imported where it is asked for alone.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import medseg
from medseg.data.cases import Case
from medseg.data.image_files import SERIES_PART, split_part
from medseg.data.volume import Volume
from medseg.errors import OutputError, UsageError, first_line
from medseg.files import write_json
from medseg.inference.prediction import Model, Prediction
from medseg.options import DICOM_SEG, PredictOptions

if TYPE_CHECKING:
    from medseg.data.dicom.source import SourceSeries

SEG_SUFFIX = ".dcm"

SERIAL_CHARACTERS = 16
"""So much of the weights' checksum tells them apart."""

RECORD_NAME = "predictions.json"
_OF_A_RUN = ("medseg", "bundle", "labels", "options")
"""What is said once of all cases; a case of an earlier run in which it differed says it itself."""


def describe_run(model: Model, options: PredictOptions) -> dict[str, Any]:
    """What a run's record says of all its cases."""
    return {
        "medseg": medseg.__version__,
        "bundle": {"name": model.name, "version": model.version, "weights_sha256": model.weights_sha256},
        "labels": {str(value): name for value, name in model.labels.items()},
        "options": asdict(options),
    }


def read_earlier_masks(folder: Path) -> dict[str, dict[str, Any]]:
    """The record of each mask that earlier runs wrote into a folder, with how it was made; by the mask's path.

    Raises:
        OutputError: OUTPUT_RECORD_UNREADABLE.
    """
    path = folder / RECORD_NAME
    if not path.is_file():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf8"))
        made_by = {key: record[key] for key in _OF_A_RUN if key in record}
        return {str(case["mask"]): {**made_by, **case} for case in record["cases"] if case["mask"] is not None}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise OutputError("OUTPUT_RECORD_UNREADABLE", path, first_line(error)) from error


def check_labels(
    earlier: Mapping[str, dict[str, Any]], folder: Path, made_again: Collection[str], labels: Mapping[str, str]
) -> None:
    """Refuse labels that would give a new meaning to the masks that stay.

    Raises:
        OutputError: OUTPUT_EXISTS.
    """
    for mask, case in earlier.items():
        if mask not in made_again and (folder / mask).is_file() and case.get("labels", labels) != labels:
            problem = "was made by an earlier prediction with other labels, and would stay"
            raise OutputError("OUTPUT_EXISTS", folder / mask, problem, "give another output folder")


def write_record(
    folder: Path, head: Mapping[str, Any], cases: Sequence[Mapping[str, Any]], earlier: Sequence[Mapping[str, Any]]
) -> None:
    """Write a run's record, with the cases of earlier runs whose masks are still there.

    Raises:
        OutputError: It cannot be written.
    """
    kept = (case for case in earlier if (folder / case["mask"]).is_file())
    everything = [*(dict(_without_repetition(case, head)) for case in kept), *cases]
    write_json({**head, "cases": everything}, folder / RECORD_NAME)


def _without_repetition(case: Mapping[str, Any], head: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((key, value) for key, value in case.items() if key not in head or value != head[key])


KEPT_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".png", ".tif", ".tiff")
"""Formats in which a mask is written as its image came; any other image gets a NIfTI or PNG mask."""


def path_beside(target: Path, what: str) -> Path:
    """The file beside a mask that holds its class probabilities, channel first."""
    ending = ".npz" if target.suffix.lower() in {".png", ".tif", ".tiff"} else ".nii.gz"
    return target.with_name(f"{target.name.removesuffix(_suffix(target) or SEG_SUFFIX)}_{what}{ending}")


def choose_targets(cases: Sequence[Case], folder: Path, mask_format: str) -> dict[str, Path]:
    """Each case's mask file: the case's id with the ending of the mask's format.

    Raises:
        OutputError: Two cases would share a file, or a mask would overwrite a file that is none of ours.
    """
    images = {Path(image).resolve() for case in cases for image in case.images}
    earlier = read_earlier_masks(folder)
    targets: dict[str, Path] = {}
    taken: set[str] = set()
    for case in cases:
        target = folder / f"{case.id}{SEG_SUFFIX if mask_format == DICOM_SEG else _mask_suffix(case)}"
        names = {str(target).lower(), str(path_beside(target, "probabilities")).lower()}
        if target.resolve() in images or names & taken:
            raise OutputError("OUTPUT_COLLISION", target, "would overwrite an image or another mask")
        for file in (target, path_beside(target, "probabilities")):
            if file.exists() and path_below(target, folder) not in earlier:
                raise OutputError(
                    "OUTPUT_EXISTS", file, "was not made by an earlier prediction", "give another output folder"
                )
        taken |= names
        targets[case.id] = target
    return targets


def path_below(target: Path, folder: Path) -> str:
    """A mask's path relative to the output folder, as records name it."""
    return target.relative_to(folder).as_posix()


def check_outside(folder: Path, images: Path) -> None:
    """Refuse an output folder among the images.

    Raises:
        OutputError: ``OUTPUT_INSIDE_INPUT``.
    """
    if images.is_dir() and images.resolve() in folder.resolve().parents:
        raise OutputError(
            "OUTPUT_INSIDE_INPUT",
            folder,
            f"lies inside {images}, where its masks would be the next run's images",
        )


def _mask_suffix(case: Case) -> str:
    file, part = split_part(case.images[0])
    first = Path(file)
    if _suffix(first):
        return ".png" if part and not part.startswith("#t") else _suffix(first)
    return ".png" if first.suffix.lower() in {".jpg", ".jpeg", ".bmp"} else ".nii.gz"


def _suffix(path: Path) -> str:
    return next((suffix for suffix in KEPT_SUFFIXES if path.name.lower().endswith(suffix)), "")


def check_dicom(cases: Iterable[Case]) -> None:
    """Refuse cases that are no DICOM series, for a DICOM SEG refers to one.

    Raises:
        UsageError: ``FORMAT_NEEDS_DICOM``.
    """
    for case in cases:
        file, part = split_part(case.images[0])
        if (part and not part.startswith(SERIES_PART)) or not _is_dicom(Path(file)):
            problem = f"{case.images[0]} is no DICOM series, which a DICOM SEG must refer to"
            raise UsageError("FORMAT_NEEDS_DICOM", case.id, problem)


def find_source(case: Case) -> SourceSeries:
    """The series that a case's mask refers to: that of its first channel.

    Raises:
        ImageError: As ``medseg.data.dicom.source.read_source``.
    """
    from medseg.data.dicom.source import read_source

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
    from medseg.data.dicom.write_seg import Author, Meaning, write_segmentation

    author = Author(model.name, model.version, model.weights_sha256[:SERIAL_CHARACTERS], medseg.__version__)
    mask = Volume(prediction.labels, prediction.affine)
    notes = write_segmentation(mask, source, target, Meaning(model.labels, model.terms), author, kind)
    return "; ".join(str(note) for note in notes)


def _is_dicom(path: Path) -> bool:
    from medseg.data.dicom.sniff import is_dicom_file

    return path.is_dir() or (path.is_file() and is_dicom_file(path))
