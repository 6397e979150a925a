"""Scores of a trained run on a part of its own split, kept in the run's folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import medseg
from medseg.bundle.config import merge_files
from medseg.bundle.load import Bundle, open_bundle
from medseg.data.cases import Case, open_dataset
from medseg.errors import BundleError, ImageError, MedsegError, check_known, coded_cause, first_line
from medseg.evaluation.evaluate import Evaluation, evaluate_cases
from medseg.evaluation.results import write_tables
from medseg.evaluation.runs import SCORED_NAME
from medseg.files import hold, write_json
from medseg.inference.predict import predict
from medseg.networks import count_parameters
from medseg.options import SPLIT_PARTS
from medseg.training.run_folder import read_checkpoint

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
        UsageError: NAME_UNKNOWN.
        DatasetError: PART_EMPTY, or what is wrong with the data set.
        BundleError: The run has no weights, or its configuration cannot be read.
        ImageError: SCORING_FAILED, a case could not be segmented or scored.
        LockedError: Another run is writing to the folder.
    """
    check_known("NAME_UNKNOWN", [part], SPLIT_PARTS)
    folder = Path(run_folder).resolve()
    masks, scores = folder / f"masks_{part}", folder / f"scores_{part}"
    parser = _read_parser(folder, Path(data).resolve(), part)
    records = _build(parser, "validate::dataset::data")
    with hold(folder):
        (scores / SCORED_NAME).unlink(missing_ok=True)
        shutil.rmtree(masks, ignore_errors=True)
        predictions = predict(folder, list(map(_case, records)), masks)
        for record in predictions.failed:
            error = record.error or {}
            raise _failed(record.case, error.get("code", ""), error.get("problem", ""))
        masks_of = {record.case: masks / str(record.mask) for record in predictions.records}
        reader, bundle = _reference_reader(parser, records), open_bundle(folder)
        settings = {"masks": str(masks), "references": str(data)}
        evaluation = evaluate_cases(masks_of, reader, labels=bundle.labels, settings=settings)
        for finding in evaluation.errors:
            raise _failed(finding.case, finding.code, finding.problem)
        write_tables(evaluation, scores)
        write_json(_describe_run(bundle, Path(data), part), scores / SCORED_NAME)
    return evaluation


def _read_parser(folder: Path, dataset_dir: Path, part: str) -> ConfigParser:
    """The run's training configuration, for the cases of one part."""
    from monai.bundle import ConfigParser

    path = folder / "configs" / "train.json"
    parser = ConfigParser(merge_files(path))
    parser.update({"bundle_root": str(folder), "dataset_dir": str(dataset_dir), "part": part})
    return parser


def _build(parser: ConfigParser, key: str) -> Any:
    try:
        return parser.get_parsed_content(key)
    except MedsegError:
        raise
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, OSError) as error:
        raise coded_cause(error) or BundleError(
            "BUNDLE_UNREADABLE", f"train.json: {key}", first_line(error), "score runs that medseg train made"
        ) from error


def _case(record: Record) -> Case:
    image = record["image"]
    return Case(record["case_id"], (image,) if isinstance(image, str) else tuple(image), None, record["case_id"])


def _reference_reader(parser: ConfigParser, records: Sequence[Record]) -> Callable[[str], tuple[NDArray, NDArray]]:
    """What gives a case's reference as training reads it, before it is resampled."""
    from monai.transforms import EnsureChannelFirstd, LoadImaged, MapLabelValued

    from medseg.data.transforms import AlignToImaged

    kept = (LoadImaged, EnsureChannelFirstd, AlignToImaged, MapLabelValued)
    chain = _build(parser, "validate::preprocessing").transforms
    steps = list(takewhile(lambda step: isinstance(step, kept), chain))
    pair_of = {record["case_id"]: {key: record[key] for key in ("image", "label")} for record in records}

    def read(case: str) -> tuple[NDArray, NDArray]:
        sample: Any = pair_of[case]
        for step in steps:
            sample = step(sample)
        return np.asarray(sample["label"])[0], np.asarray(sample["label"].affine, dtype=float)

    return read


def _describe_run(bundle: Bundle, data: Path, part: str) -> dict[str, Any]:
    """What a comparison needs to know of the run beyond its scores and its log."""
    last = bundle.root / "models" / "checkpoint.pt"
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
    return ImageError("SCORING_FAILED", case, f"{code}: {problem}")
