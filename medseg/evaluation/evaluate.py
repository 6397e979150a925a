"""Two folders of masks to a table: every case and class scored, nothing left out in silence."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from medseg.data.labels import convert_labels
from medseg.data.splits import Split, read_split
from medseg.data.volume import Volume, check_affine
from medseg.errors import ImageError, LabelError, UsageError
from medseg.evaluation.metrics import METRICS, score
from medseg.evaluation.pairing import Pair, Pairing, pair_masks, strip_role
from medseg.evaluation.results import Evaluation, write_tables
from medseg.evaluation.score import (
    Counted,
    Counting,
    add_background,
    find_names,
    map_white,
    number_names,
    split_ignored,
)
from medseg.evaluation.summaries import ALL_CASES, EMPTY_TRUTH, Row, Summary, summarise
from medseg.findings import Finding
from medseg.options import EvaluateOptions

__all__ = ["EvaluateOptions", "Evaluation", "evaluate", "evaluate_cases"]

Progress = Callable[[int, int, str], None]

_NOT_OF_MASKS = ("LABEL_CHANNELS", "LABEL_NEGATIVE", "LABEL_NOT_INTEGER", "LABEL_TOO_MANY")


def evaluate(
    masks: str | Path,
    references: str | Path,
    *,
    output: str | Path | None = None,
    options: EvaluateOptions | None = None,
    progress: Progress | bool | None = None,
) -> Evaluation:
    """Compare masks with their references, case by case and class by class.

    A mask whose axes only run the other way is brought onto its reference's grid exactly;
    any other difference of grids is that case's error, and the others go on.

    Args:
        masks: Folder of masks to judge, or one file.
        references: Folder of reference masks, or one file, or a data set in any layout that
            ``medseg.data.cases`` knows; then masks go by its cases' ids, as `medseg predict` names them.
        output: Folder for cases.csv, summary.csv and evaluation.json.
        options: Names of the classes, held-out cases, missing masks, slices.
        progress: Called with (done, total, case); None shows a bar on a terminal, False nothing.

    Returns:
        Rows, summaries, errors and notes; ``to_text()`` gives the tables.

    Raises:
        UsageError: SAME_FOLDER, masks are to be compared with themselves.
        InputError: A folder is missing or empty, or names fit no case or two (DatasetError).
        OutputError: A table cannot be written.
    """
    options = options or EvaluateOptions()
    if Path(masks).exists() and Path(masks).resolve() == Path(references).resolve():
        problem = "is given for the masks and for the references, so every score would be 1"
        raise UsageError("SAME_FOLDER", masks, problem)
    pairing = pair_masks(Path(masks), Path(references))
    settings = {"masks": str(masks), "references": str(references), **options.to_record()}
    settings |= {"layout": pairing.layout} if pairing.layout else {}
    known = find_names(options.labels, Path(references), Path(masks)) or _name_values(pairing, options)
    counting = Counting(known, options.missing, options.slices, options.renamed)
    evaluation = _judge(pairing, counting, _read_parts(options.held_out), settings, progress)
    if output is not None:
        write_tables(evaluation, Path(output))
    return evaluation


def evaluate_cases(
    masks: Mapping[str, Path],
    read_reference: Callable[[str], tuple[NDArray, NDArray[np.float64]]],
    *,
    labels: Mapping[int, str],
    settings: Mapping[str, str],
    progress: Progress | bool | None = False,
) -> Evaluation:
    """Compare the masks of cases with references that need not lie in files, one case in memory at a time.

    Args:
        masks: File of each case's mask.
        read_reference: From a case to its reference: labels (X, Y) or (X, Y, Z), and their 4 by 4 matrix from voxel
            index to RAS+ millimetres.
        labels: Name of each value.
        settings: Where ``masks`` and ``references`` come from, as the evaluation tells it.
        progress: As ``evaluate`` takes it.

    Returns:
        As ``evaluate``; a reference that cannot be read is that case's error.
    """

    def read(pair: Pair) -> Volume:
        array, affine = read_reference(pair.case)
        return Volume(convert_labels(array, pair.case), affine, notes=check_affine(affine, array.shape, pair.case))

    pairing = Pairing(tuple(Pair(case, Path(case), masks[case], case) for case in sorted(masks)), ())
    options = EvaluateOptions()
    counting = Counting(add_background(dict(labels)), options.missing, read_reference=read)
    return _judge(pairing, counting, {}, {**settings, **options.to_record()}, progress)


def _name_values(pairing: Pairing, options: EvaluateOptions) -> dict[int, str] | None:
    """Name of each value as the references' data set has it, after values are read as others."""
    named = {options.renamed.get(value, value): name for value, name in pairing.labels.items()}
    return add_background(named) if named else None


def _judge(
    pairing: Pairing,
    counting: Counting,
    parts: Mapping[str, str],
    settings: Mapping[str, str],
    progress: Progress | bool | None,
) -> Evaluation:
    counted, errors = _count_all(pairing, counting, progress)
    tables = [table for case in counted for table in case.tables.values()]
    names, ignored = split_ignored(counting.known or number_names(tables))
    counted = [_relabel(case, names, ignored) for case in counted]
    rows, confusions, unclear = _score_cases(counted, names, _find_parts(pairing, parts))
    return Evaluation(
        labels=names,
        rows=tuple(rows),
        summaries=tuple(_summarise_parts(rows, confusions, names, "background" in settings)),
        confusions=confusions,
        errors=(*errors, *unclear),
        notes=(
            *_list_notes(counted, pairing, counting.missing),
            *_note_absent_values(counted, counting.renamed, settings["references"]),
            *_note_absent_cases(pairing, parts),
        ),
        missing=pairing.missing,
        unmatched=pairing.unmatched,
        settings=settings,
    )


def _count_all(
    pairing: Pairing, counting: Counting, progress: Progress | bool | None
) -> tuple[list[Counted], list[Finding]]:
    """Every case's tables, one case in memory at a time, and an error for each that cannot be trusted."""
    pairs = [pair for pair in pairing.pairs if pair.mask is not None or counting.missing != "skip"]
    counted: list[Counted] = []
    failed: list[tuple[Pair, ImageError]] = []
    for pair in _announce(pairs, progress):
        try:
            counted.append(counting.count(pair))
        except ImageError as error:
            failed.append((pair, error))
    are_images = bool(failed) and not counted and all(_is_no_mask(pair, error) for pair, error in failed)
    return counted, [_make_finding(pair, error, are_images) for pair, error in failed]


def _is_no_mask(pair: Pair, error: ImageError) -> bool:
    """Whether a case failed because its reference holds values that no mask has."""
    return error.code in _NOT_OF_MASKS and error.case in (str(pair.reference), "reference")


def _make_finding(pair: Pair, error: ImageError, are_images: bool) -> Finding:
    """A case's error; what to do about it is another thing where every reference is no mask."""
    images = "these look like images, not masks: give the folder of the reference masks, or " if are_images else ""
    return Finding(pair.case, error.code, f"{error.case}: {error.problem}; {images}{error.remedy}")


def _announce(pairs: list[Pair], progress: Progress | bool | None) -> Iterator[Pair]:
    """``pairs``, the progress told as each is done."""
    if progress is None or isinstance(progress, bool):
        # None lets tqdm show the bar on a terminal only.
        yield from tqdm(pairs, desc="evaluate", unit="case", disable=None if progress is None else not progress)
        return
    for done, pair in enumerate(pairs, start=1):
        yield pair
        progress(done, len(pairs), pair.case)


def _relabel(case: Counted, names: Mapping[int, str], ignored: int | None) -> Counted:
    """``case`` with 255 read as the foreground and without ignored voxels, where the labels ask for it."""
    read = {key: map_white(table.without_reference(ignored), names) for key, table in case.tables.items()}
    told = dict.fromkeys(text for _, texts in read.values() for text in texts)
    notes = [Finding(case.case, "LABEL_MAPPED", text) for text in told]
    return replace(case, tables={key: table for key, (table, _) in read.items()}, notes=(*case.notes, *notes))


def _score_cases(
    counted: list[Counted], names: Mapping[int, str], part_of: Mapping[str, str]
) -> tuple[list[Row], dict[str, NDArray[np.int64]], list[Finding]]:
    """Rows and confusion matrix of each case, and an error for each case with a value that has no name."""
    rows: list[Row] = []
    confusions: dict[str, NDArray[np.int64]] = {}
    errors = []
    for case in counted:
        try:
            tables = {key: table.to_confusion(list(names), case.case) for key, table in case.tables.items()}
        except LabelError as error:
            errors.append(Finding(case.case, error.code, f"{error.case}: {error.problem}; {error.remedy}"))
            continue
        for key, confusion in tables.items():
            confusions[key] = _add_missing_column(confusion, case.is_missing)
            rows += _make_rows(key, case, confusion, names, part_of.get(case.case, ""))
    return rows, confusions, errors


def _make_rows(key: str, case: Counted, confusion: NDArray[np.int64], names: Mapping[int, str], part: str) -> list[Row]:
    scores = score(confusion, case.voxel_volume_ml)
    in_reference = scores["reference_ml"] > 0
    status = ["missing" if case.is_missing else "scored"] * len(names)
    if case.is_missing:
        scores |= {name: np.where(in_reference, 0.0, np.nan) for name in METRICS}
        scores["prediction_ml"] = np.full(len(names), np.nan)
    elif case.is_sliced:
        scores |= {name: np.where(in_reference, scores[name], np.nan) for name in METRICS}
        status = ["scored" if is_there else EMPTY_TRUTH for is_there in in_reference]
    return [
        Row(key, part, value, name, status[index], {metric: float(each[index]) for metric, each in scores.items()})
        for index, (value, name) in enumerate(names.items())
    ]


def _add_missing_column(confusion: NDArray[np.int64], is_missing: bool) -> NDArray[np.int64]:
    """One more column: voxels for which there is no prediction, which then count as found nowhere."""
    none = np.zeros((len(confusion), 1), dtype=np.int64)
    if not is_missing:
        return np.hstack([confusion, none])
    return np.hstack([np.zeros_like(confusion), confusion.sum(axis=1, keepdims=True)])


def _summarise_parts(
    rows: list[Row], confusions: Mapping[str, NDArray[np.int64]], names: Mapping[int, str], background: bool
) -> Iterator[Summary]:
    parts = dict.fromkeys(row.part for row in rows)
    yield from summarise(rows, confusions, names, ALL_CASES, background)
    for part in parts if set(parts) != {""} else ():
        yield from summarise([row for row in rows if row.part == part], confusions, names, part or "other", background)


def _read_parts(held_out: Split | Collection[str] | str | Path | None) -> dict[str, str]:
    """The part of each case that is in one."""
    if held_out is None:
        return {}
    if isinstance(held_out, str | Path):
        held_out = read_split(Path(held_out))
    if isinstance(held_out, Split):
        return {case: part for part in ("train", "validation", "test") for case in getattr(held_out, part)}
    return dict.fromkeys(held_out, "test")


def _find_parts(pairing: Pairing, parts: Mapping[str, str]) -> dict[str, str]:
    """The part of each case that is in one, whichever of its names the split has."""
    found = {
        pair.case: next((parts[name] for name in _list_names(pair) if name in parts), "") for pair in pairing.pairs
    }
    return {case: part for case, part in found.items() if part}


def _list_names(pair: Pair) -> tuple[str, ...]:
    return (pair.case, strip_role(pair.case), pair.mask_name, strip_role(pair.mask_name))


def _list_notes(counted: list[Counted], pairing: Pairing, missing: str) -> Iterator[Finding]:
    for case in counted:
        yield from case.notes
    for pair in pairing.pairs:
        if pair.case in pairing.by_file_name:
            yield Finding(pair.case, "PAIRED_BY_NAME", f"its mask was found by file name alone: {pair.mask_name}")
    if missing != "error":
        treatment = {"zero": "scored 0", "skip": "left out"}[missing]
        for case_name in pairing.missing:
            others = ", ".join(pairing.doubtful.get(case_name, ())[:3])
            doubt = f" ({others}: the same file name, but not clearly its mask)" if others else ""
            yield Finding(case_name, "MASK_MISSING", f"there is no mask; {treatment}{doubt}")
    for path in pairing.unmatched:
        yield Finding(path, "REFERENCE_MISSING", "there is no reference for this mask; not scored")


def _note_absent_values(counted: list[Counted], renamed: Mapping[int, int], references: str) -> Iterator[Finding]:
    found = {value for case in counted for value in case.renamed}
    for old in sorted(set(renamed) - found):
        yield Finding(references, "LABEL_ABSENT", f"no reference holds {old}, to be read as {renamed[old]}")


def _note_absent_cases(pairing: Pairing, parts: Mapping[str, str]) -> Iterator[Finding]:
    known = {name for pair in pairing.pairs for name in _list_names(pair)}
    for name in sorted(name for name, part in parts.items() if part == "test" and name not in known):
        yield Finding(name, "HELD_OUT_MISSING", "this case of the test part has no reference here")
