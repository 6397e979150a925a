"""Scores of a trained run on a part of its own split, kept in the run's folder."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

import medseg
from medseg.bundle.forms import read_config
from medseg.bundle.load import open_bundle
from medseg.data.cases import open_dataset
from medseg.data.images import write
from medseg.data.labels import whole_labels
from medseg.data.splits import PARTS
from medseg.errors import BundleError, ImageError, MedsegError, check_known, coded_cause, first_line
from medseg.evaluation.comparison.folders import SCORED_NAME
from medseg.evaluation.evaluate import evaluate
from medseg.evaluation.records import write_tables
from medseg.evaluation.tables import Evaluation
from medseg.files import held, write_json, write_text
from medseg.inference.predict import CaseRecord, predict
from medseg.networks import count_parameters
from medseg.training.resuming import read_checkpoint

if TYPE_CHECKING:
    from monai.bundle import ConfigParser

Record = Mapping[str, Any]


def score_part(run_folder: str | Path, data: str | Path, part: str = "test") -> Evaluation:
    """Segment the cases of one part of a run's split, and score the masks on the images' own grids.

    The cases and their references are read as the run's training reads them: the same
    channels, classes and cases left out. Masks go to `masks_PART` in the run's folder, scores
    to `scores_PART`; what an unfinished scoring left there is replaced.

    Args:
        run_folder: What ``medseg.train`` made.
        data: The data set that it was trained on.
        part: ``train``, ``validation`` or ``test``.

    Raises:
        UsageError: PART_UNKNOWN.
        DatasetError: PART_EMPTY, or what is wrong with the data set.
        BundleError: The run has no weights, or its configuration cannot be read.
        ImageError: SCORING_FAILED, a case could not be segmented or scored.
        LockedError: Another run is writing to the folder.
    """
    check_known("PART_UNKNOWN", [part], PARTS)
    folder = Path(run_folder).resolve()
    masks, scores = folder / f"masks_{part}", folder / f"scores_{part}"
    parser = _parser(folder, Path(data).resolve(), part)
    records = _parsed(parser, "validate::dataset::data")
    with held(folder):
        (scores / SCORED_NAME).unlink(missing_ok=True)
        shutil.rmtree(masks, ignore_errors=True)
        scans = scores / "scans.csv"
        write_text(_table(records), scans)
        predictions = predict(folder, scans, masks)
        for record in predictions.failed:
            error = record.error or {}
            raise _failed(record.case, error.get("code", ""), error.get("problem", ""))
        with TemporaryDirectory(dir=folder, prefix=".references_") as references:
            _write_references(parser, records, predictions.records, Path(references))
            evaluation = evaluate(masks, references, progress=False)
        for finding in evaluation.errors:
            raise _failed(finding.case, finding.code, finding.text)
        evaluation = replace(evaluation, settings={**evaluation.settings, "references": str(data)})
        write_tables(evaluation, scores)
        write_json(_scored(folder, Path(data), part), scores / SCORED_NAME)
    return evaluation


def _parser(folder: Path, dataset_dir: Path, part: str) -> ConfigParser:
    """The run's training configuration, for the cases of one part."""
    from monai.bundle import ConfigParser

    path = folder / "configs" / "train.json"
    read_config(path)  # MONAI's own reading has no coded errors.
    parser = ConfigParser()
    parser.read_config(str(path))
    parser.update({"bundle_root": str(folder), "dataset_dir": str(dataset_dir), "part": part})
    return parser


def _parsed(parser: ConfigParser, key: str) -> Any:
    try:
        return parser.get_parsed_content(key)
    except MedsegError:
        raise
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, OSError) as error:
        raise coded_cause(error) or BundleError(
            "BUNDLE_UNREADABLE", f"train.json: {key}", first_line(error), "score runs that medseg train made"
        ) from error


def _table(records: Iterable[Record]) -> str:
    """The images as a table that ``medseg predict`` takes; one column per channel."""
    rows = [(record["case_id"], *_listed(record["image"])) for record in records]
    channels = max(len(row) for row in rows) - 1
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "image", *(f"image_{index}" for index in range(2, channels + 1))])
    writer.writerows(rows)
    return text.getvalue()


def _listed(paths: str | Sequence[str]) -> list[str]:
    return [paths] if isinstance(paths, str) else list(paths)


def _write_references(
    parser: ConfigParser, records: Sequence[Record], predicted: Sequence[CaseRecord], folder: Path
) -> None:
    """Each reference as training reads it, before it is resampled, under the name of its mask."""
    from monai.transforms import EnsureChannelFirstd, LoadImaged, MapLabelValued

    from medseg.data.transforms import AlignToImaged

    kept = (LoadImaged, EnsureChannelFirstd, AlignToImaged, MapLabelValued)
    chain = _parsed(parser, "validate::preprocessing").transforms
    steps = list(takewhile(lambda step: isinstance(step, kept), chain))
    mask_of = {record.case: str(record.mask) for record in predicted}
    for record in records:
        sample: Any = {key: record[key] for key in ("image", "label")}
        for step in steps:
            sample = step(sample)
        label = sample["label"]
        array = whole_labels(np.asarray(label)[0], record["case_id"])
        write(array, np.asarray(label.affine, dtype=float), folder / mask_of[record["case_id"]])


def _scored(folder: Path, data: Path, part: str) -> dict[str, Any]:
    """What a comparison needs to know of the run beyond its scores and its log."""
    bundle, last = open_bundle(folder), folder / "models" / "checkpoint.pt"
    groups = {case.id: case.group for case in open_dataset(data).cases}
    return {
        "medseg": medseg.__version__,
        "part": part,
        "weights_sha256": bundle.weights_sha256,
        "parameters": count_parameters(bundle.network),
        "best_epoch": read_checkpoint(last).get("best_epoch") if last.is_file() else None,
        "groups": groups,
    }


def _failed(case: str, code: str, problem: str) -> ImageError:
    return ImageError("SCORING_FAILED", case, f"{code}: {problem}", "see what the code means, then repeat")
