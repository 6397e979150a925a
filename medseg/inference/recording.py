"""The record beside the masks of a folder, which several runs may have written."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import medseg
from medseg.errors import OutputError, first_line
from medseg.files import write_json
from medseg.inference.prediction import Model
from medseg.options import PredictOptions

RECORD_NAME = "predictions.json"
_OF_A_RUN = ("medseg", "bundle", "labels", "options")
"""What is said once of all cases; a case of an earlier run in which it differed says it itself."""


def heading(model: Model, options: PredictOptions) -> dict[str, Any]:
    """What a run's record says of all its cases."""
    return {
        "medseg": medseg.__version__,
        "bundle": {"name": model.name, "version": model.version, "weights_sha256": model.weights_sha256},
        "labels": {str(value): name for value, name in model.labels.items()},
        "options": asdict(options),
    }


def earlier_masks(folder: Path) -> dict[str, dict[str, Any]]:
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
        raise OutputError("OUTPUT_RECORD_UNREADABLE", path, first_line(error), "give another output folder") from error


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
