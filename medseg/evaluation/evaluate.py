"""Two folders of masks to a table: every case and class scored, nothing left out in silence."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from medseg.data.images import Volume, read_mask
from medseg.data.splits import Split, read_split
from medseg.errors import ImageError, LabelError, UsageError
from medseg.evaluation.classes import known_names, map_white, names_found, split_ignored
from medseg.evaluation.metrics import METRICS, Tabulation, score, tabulate
from medseg.evaluation.pairs import Pair, Pairing, pair_masks, plain_name
from medseg.evaluation.records import write_tables
from medseg.evaluation.tables import ALL_CASES, MISSING_POLICY, Evaluation, Finding, Row, Summary, summarise
from medseg.geometry import SAME_GRID_VOXELS, Grid, corner_distance_voxels, reindex

Progress = Callable[[int, int, str], None]
Missing = Literal["zero", "skip", "error"]

NEAR_GRID_VOXELS = 0.1
"""Corners closer than this are taken for the same grid, with a note: a header rounded in saving."""


@dataclass(frozen=True)
class _Counted:
    """A case's voxels by value, before it is known what the values mean."""

    case: str
    table: Tabulation
    voxel_volume_ml: float
    is_missing: bool
    notes: tuple[Finding, ...]


def evaluate(
    masks: str | Path,
    references: str | Path,
    *,
    labels: Mapping[int, str] | None = None,
    output: str | Path | None = None,
    held_out: Split | Collection[str] | str | Path | None = None,
    missing: Missing = "zero",
    progress: Progress | bool | None = None,
) -> Evaluation:
    """Compare masks with their references, case by case and class by class.

    A mask whose axes only run the other way is brought onto its reference's grid exactly;
    any other difference of grids is that case's error, and the others go on.

    Args:
        masks: Folder of masks to judge, or one file.
        references: Folder of reference masks, or one file.
        labels: Name of each value; otherwise from a dataset.json in or above ``references``,
            from the record that `medseg predict` left beside ``masks``, or ``class 1`` ….
        output: Folder for cases.csv, summary.csv and evaluation.json.
        held_out: Split, or its JSON file, or the names of the test cases; adds a column and a table per part.
        missing: What a reference without a mask counts: ``zero``, ``skip`` or ``error``.
        progress: Called with (done, total, case); None shows a bar on a terminal, False nothing.

    Returns:
        Rows, summaries, errors and notes; ``to_text()`` gives the tables.

    Raises:
        UsageError: ``missing`` is not one of the three.
        InputError: A folder is missing or empty, or names fit no case or two (DatasetError).
        OutputError: A table cannot be written.
    """
    if missing not in MISSING_POLICY:
        raise UsageError("MISSING_UNKNOWN", "missing", f"{missing!r}", f"choose one of {', '.join(MISSING_POLICY)}")
    settings = {"masks": str(masks), "references": str(references), "missing": missing}
    pairing, parts = pair_masks(Path(masks), Path(references)), _parts(held_out)
    known = known_names(labels, Path(references), Path(masks))
    counted, errors = _count_all(pairing, known, progress, missing)
    names, ignored = split_ignored(known or names_found([case.table for case in counted]))
    counted = [_read_with(case, names, ignored) for case in counted]
    evaluation = _assemble(counted, errors, names, pairing, parts, settings)
    if output is not None:
        write_tables(evaluation, Path(output))
    return evaluation


def _assemble(
    counted: list[_Counted],
    errors: list[Finding],
    names: Mapping[int, str],
    pairing: Pairing,
    parts: Mapping[str, str],
    settings: Mapping[str, str],
) -> Evaluation:
    rows, confusions, unclear = _case_results(counted, names, parts)
    return Evaluation(
        labels=names,
        rows=tuple(rows),
        summaries=tuple(_summaries(rows, confusions, names)),
        confusions=confusions,
        errors=(*errors, *unclear),
        notes=tuple(_notes(counted, pairing, parts, settings["missing"])),
        missing=pairing.missing,
        unmatched=pairing.unmatched,
        settings=settings,
    )


def _count_all(
    pairing: Pairing, known: Mapping[int, str] | None, progress: Progress | bool | None, missing: str
) -> tuple[list[_Counted], list[Finding]]:
    """Every case's table, one case in memory at a time, and an error for each that cannot be trusted."""
    # Reading can cut a picture's soft edges and read 255 as 1, but only where 1 is the one class.
    values = tuple(known) if known and set(known) == {0, 1} else None
    pairs = [pair for pair in pairing.pairs if pair.mask is not None or missing != "skip"]
    counted, errors = [], []
    for pair in _announced(pairs, progress):
        try:
            counted.append(_count_case(pair, values, missing))
        except ImageError as error:
            errors.append(Finding(pair.case, error.code, f"{error.case}: {error.problem}; {error.remedy}"))
    return counted, errors


def _announced(pairs: list[Pair], progress: Progress | bool | None) -> Iterator[Pair]:
    """``pairs``, the progress told as each is done."""
    if progress is None or isinstance(progress, bool):
        # None lets tqdm show the bar on a terminal only.
        yield from tqdm(pairs, desc="evaluate", unit="case", disable=None if progress is None else not progress)
        return
    for done, pair in enumerate(pairs, start=1):
        yield pair
        progress(done, len(pairs), pair.case)


def _count_case(pair: Pair, values: Collection[int] | None, missing: str) -> _Counted:
    if pair.mask is None and missing == "error":
        raise ImageError("MASK_MISSING", pair.reference, "there is no mask for this reference", "predict the case")
    reference = read_mask(pair.reference, values)
    notes = [Finding(pair.case, note.code, f"reference: {note.text}") for note in reference.notes]
    if pair.mask is None:
        prediction = np.zeros_like(reference.array)
    else:
        mask = read_mask(pair.mask, values)
        notes += [Finding(pair.case, note.code, f"mask: {note.text}") for note in mask.notes]
        prediction = aligned(mask, reference.grid, pair.mask)
        notes += _grid_notes(mask.grid, reference.grid, pair.case)
    table = tabulate(prediction, reference.array)
    return _Counted(pair.case, table, reference.grid.voxel_volume_ml, pair.mask is None, tuple(notes))


def aligned(mask: Volume, target: Grid, case: object) -> NDArray:
    """The mask's voxels in the order of ``target``'s; corners may lie up to 0.1 voxel apart.

    Raises:
        GridError: The grids do not hold the same voxels.
    """
    if corner_distance_voxels(mask.grid, target) <= NEAR_GRID_VOXELS:
        return mask.array
    return reindex(mask.array, mask.grid, target, case)


def _grid_notes(mask: Grid, reference: Grid, case: str) -> list[Finding]:
    """What ``aligned`` did to a mask."""
    apart = corner_distance_voxels(mask, reference)
    if apart <= SAME_GRID_VOXELS:
        return []
    if apart <= NEAR_GRID_VOXELS:
        return [Finding(case, "GRID_NEAR", f"mask and reference lie {apart:.2g} voxels apart")]
    change = f"mask is stored as {mask.orientation}, reference as {reference.orientation}"
    return [Finding(case, "GRID_REINDEXED", f"{change}; its axes were turned, no voxel changed")]


def _read_with(case: _Counted, names: Mapping[int, str], ignored: int | None) -> _Counted:
    """``case`` with 255 read as the foreground and without ignored voxels, where the labels ask for it."""
    table, told = map_white(case.table.without_reference(ignored), names)
    notes = [Finding(case.case, "LABEL_MAPPED", text) for text in told]
    return replace(case, table=table, notes=(*case.notes, *notes))


def _case_results(
    counted: list[_Counted], names: Mapping[int, str], part_of: Mapping[str, str]
) -> tuple[list[Row], dict[str, NDArray[np.int64]], list[Finding]]:
    """Rows and confusion matrix of each case, and an error for each case with a value that has no name."""
    rows: list[Row] = []
    confusions: dict[str, NDArray[np.int64]] = {}
    errors = []
    for case in counted:
        try:
            confusion = case.table.to_confusion(list(names), case.case)
        except LabelError as error:
            errors.append(Finding(case.case, error.code, f"{error.case}: {error.problem}; {error.remedy}"))
            continue
        confusions[case.case] = _with_missing_column(confusion, case.is_missing)
        rows += _case_rows(case, confusion, names, _part(case.case, part_of))
    return rows, confusions, errors


def _case_rows(case: _Counted, confusion: NDArray[np.int64], names: Mapping[int, str], part: str) -> list[Row]:
    scores = score(confusion, case.voxel_volume_ml)
    if case.is_missing:
        in_reference = scores["reference_ml"] > 0
        scores |= {name: np.where(in_reference, 0.0, np.nan) for name in METRICS}
        scores["prediction_ml"] = np.full(len(names), np.nan)
    status = "missing" if case.is_missing else "scored"
    return [
        Row(case.case, part, value, name, status, {key: float(numbers[index]) for key, numbers in scores.items()})
        for index, (value, name) in enumerate(names.items())
    ]


def _with_missing_column(confusion: NDArray[np.int64], is_missing: bool) -> NDArray[np.int64]:
    """One more column: voxels for which there is no prediction, which then count as found nowhere."""
    none = np.zeros((len(confusion), 1), dtype=np.int64)
    if not is_missing:
        return np.hstack([confusion, none])
    return np.hstack([np.zeros_like(confusion), confusion.sum(axis=1, keepdims=True)])


def _summaries(
    rows: list[Row], confusions: Mapping[str, NDArray[np.int64]], names: Mapping[int, str]
) -> Iterator[Summary]:
    parts = dict.fromkeys(row.part for row in rows)
    yield from summarise(rows, confusions, names, ALL_CASES)
    for part in parts if set(parts) != {""} else ():
        yield from summarise([row for row in rows if row.part == part], confusions, names, part or "other")


def _parts(held_out: Split | Collection[str] | str | Path | None) -> dict[str, str]:
    """The part of each case that is in one."""
    if held_out is None:
        return {}
    if isinstance(held_out, str | Path):
        held_out = read_split(Path(held_out))
    if isinstance(held_out, Split):
        return {case: part for part in ("train", "validation", "test") for case in getattr(held_out, part)}
    return dict.fromkeys(held_out, "test")


def _part(case: str, part_of: Mapping[str, str]) -> str:
    return part_of.get(case) or part_of.get(plain_name(case), "")


def _notes(counted: list[_Counted], pairing: Pairing, part_of: Mapping[str, str], missing: str) -> Iterator[Finding]:
    for case in counted:
        yield from case.notes
    if missing != "error":
        treatment = {"zero": "scored 0", "skip": "left out"}[missing]
        yield from (Finding(case, "MASK_MISSING", f"there is no mask; {treatment}") for case in pairing.missing)
    for path in pairing.unmatched:
        yield Finding(path, "REFERENCE_MISSING", "there is no reference for this mask; not scored")
    known = {pair.case for pair in pairing.pairs} | {plain_name(pair.case) for pair in pairing.pairs}
    for name in sorted(name for name, part in part_of.items() if part == "test" and name not in known):
        yield Finding(name, "HELD_OUT_MISSING", "this case of the test part has no reference here")
