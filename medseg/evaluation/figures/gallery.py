"""All figures of a run or of an evaluation at once, by name: as figures, or as PNG files in a folder."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

from matplotlib.figure import Figure

from medseg.data.splits import PARTS
from medseg.errors import DatasetError, InputError, MedsegError, first_line
from medseg.evaluation.figures.cases import overlay
from medseg.evaluation.figures.choice import Judged, ranked, read_chosen
from medseg.evaluation.figures.curves import epoch_curves, loss_histograms
from medseg.evaluation.figures.drawing import to_png
from medseg.evaluation.figures.examples import class_columns, draw_examples, draw_networks
from medseg.evaluation.figures.files import ExampleFiles, examples_of_dataset, find_examples
from medseg.evaluation.figures.logs import BATCHES_NAME, EPOCHS_NAME
from medseg.evaluation.figures.scores import Scores, rows_of, sample_curves, sample_distributions, score_histogram
from medseg.evaluation.records import read_cases
from medseg.evaluation.tables import Row, number
from medseg.files import write_whole

SCORE_FIGURES: dict[str, Callable[[Scores], Figure]] = {
    "iou_histogram": score_histogram,
    "sample_curves": sample_curves,
    "sample_distributions": sample_distributions,
}
"""What is drawn of any cases.csv."""


@dataclass(frozen=True)
class FigureFiles:
    """What ``write_figures`` wrote.

    Args:
        files: Path of each PNG by the figure's name.
        left_out: Why a figure could not be drawn, by its name.
    """

    files: Mapping[str, Path]
    left_out: Mapping[str, str]


@dataclass(frozen=True)
class PartScores:
    """The scores of one part of a run's split, and where its masks lie."""

    part: str
    labels: Mapping[int, str]
    rows: tuple[Row, ...]
    settings: Mapping[str, str]
    masks: Path


def training_figures(run: str | Path) -> dict[str, Figure]:
    """How a run was trained: ``epochs``, and ``batch_losses`` where every batch's loss was written down.

    Args:
        run: Folder of a run.

    Raises:
        InputError: RUN_NOT_FOUND, the folder holds no log.
        DatasetError: A log is damaged.
    """
    logs = Path(run) / "logs"
    if not (logs / EPOCHS_NAME).is_file():
        raise _no_run(run, f"there is no logs/{EPOCHS_NAME}")
    figures = {"epochs": epoch_curves(logs, _train_config(Path(run)).get("select_by"))}
    return figures | ({"batch_losses": loss_histograms(logs)} if (logs / BATCHES_NAME).is_file() else {})


def score_figures(scores: Scores) -> dict[str, Figure]:
    """How the scores of single cases lie: the keys of ``SCORE_FIGURES``; none without a foreground class.

    Raises:
        InputError: There is no such file.
        DatasetError: It is no cases.csv.
    """
    rows = rows_of(scores)
    return {name: draw(rows) for name, draw in SCORE_FIGURES.items()} if any(row.value != 0 for row in rows) else {}


def illustrate(
    evaluation: Judged, images: str | Path, masks: str | Path, references: str | Path, most: int = 3
) -> dict[str, Figure]:
    """Examples with their captions: rows of the best to the worst, one class by class, and cuts of volumes.

    Cases without an image of their name, and those whose image cannot be read or lies on
    another grid than its masks, are left out.

    Args:
        evaluation: Of ``masks`` and ``references``.
        images: Folder of the images, or what else ``medseg.data.cases.open_images`` opens.
        masks: As given to ``evaluate``.
        references: As given to ``evaluate``.
        most: How many cases; fewer where there are fewer.
    """
    files = find_examples(images, [masks], references, evaluation.labels, evaluation.settings)
    figures: dict[str, Figure] = {}
    with contextlib.suppress(InputError):
        figures |= _example_figures(evaluation, files, max(1, most // 3))
    for kind, dice, shown in read_chosen(ranked(evaluation.rows, files), files, max(1, most // 3))[:most]:
        if sum(n > 1 for n in shown.truth.shape) == 3:
            caption = f"{shown.case} ({kind}, mean foreground Dice {number(dice)})"
            figures[caption] = overlay(shown.image, shown.truth, shown.predictions[0], evaluation.labels, shown.grid)
    return figures


def write_figures(run: str | Path, folder: str | Path, data: str | Path | None = None) -> FigureFiles:
    """Draw everything that a run's folder holds, as PNG files: logs, scores and examples of every scored part.

    What cannot be drawn is named with the reason; the others are drawn all the same.

    Args:
        run: Folder of a run; scored parts are its folders ``scores`` or ``scores_PART``, each with
            the masks beside it in ``masks`` or ``masks_PART``.
        folder: Where the files go; made where missing.
        data: The data set, where it is no longer where it was in training.

    Raises:
        InputError: RUN_NOT_FOUND, the folder holds neither logs nor scores.
        OutputError: A file cannot be written.
    """
    run, folder = Path(run), Path(folder)
    scored = read_parts(run)
    if not scored and not (run / "logs" / EPOCHS_NAME).is_file():
        raise _no_run(run, "there are neither logs nor scores")
    left_out: dict[str, str] = {}
    figures = _or_reason(partial(training_figures, run), "epochs", left_out)
    rows = [row for each in scored for row in each.rows]
    figures |= _or_reason(partial(score_figures, rows), "scores", left_out) if rows else {}
    for each in scored:
        figures |= _or_reason(partial(_part_figures, run, each, data), _ended("examples", each.part), left_out)
    files = {name: folder / f"{name}.png" for name in figures}
    for name, figure in figures.items():
        write_whole(files[name], partial(_write_png, figure))
    return FigureFiles(files, left_out)


def compared_networks(
    runs: Mapping[str, str | Path],
    part: str = "test",
    data: str | Path | None = None,
    cases: Sequence[str] = (),
    count: int = 4,
) -> Figure:
    """The same cases by several scored runs, side by side.

    Args:
        runs: Folder of each run, by the name to write above its column.
        part: Whose masks are drawn.
        data: The data set, where it is no longer where it was in training.
        cases: What to draw; otherwise cases from the highest mean Dice to the lowest.
        count: How many cases, where ``cases`` does not say.

    Raises:
        InputError: RUN_NOT_FOUND, a run has no scores of the part; EXAMPLES_NONE, no case can be drawn.
        DatasetError: The data set cannot be used.
    """
    scored = []
    for run in map(Path, runs.values()):
        found = [each for each in read_parts(run) if each.part == part]
        if not found:
            raise _no_run(run, f"its {part} part has no scores")
        scored.append(found[0])
    first = Path(next(iter(runs.values())))
    labels = scored[0].labels
    files = examples_of_dataset(data or _data_of(first), [each.masks for each in scored], labels, _renamed(first))
    return draw_networks(files, list(runs), labels, cases, count)


def read_parts(run: Path) -> list[PartScores]:
    """Every scored part of a run: train, validation, test, then what says no part.

    Raises:
        DatasetError: A file of scores is damaged.
    """
    names = [*(f"scores_{part}" for part in PARTS), "scores"]
    return [each for name in names if (run / name / "cases.csv").is_file() for each in _read_scores(run / name)]


def _read_scores(folder: Path) -> list[PartScores]:
    """The parts in one folder of scores."""
    ending = folder.name.partition("_")[2]
    rows = [replace(row, part=row.part or ending) for row in read_cases(folder)]
    settings = _loaded(folder / "evaluation.json").get("settings", {})
    masks = folder.with_name(folder.name.replace("scores", "masks", 1))
    masks = masks if masks.is_dir() else Path(settings.get("masks", masks))
    labels = {row.value: row.name for row in rows}
    return [
        PartScores(part, labels, tuple(row for row in rows if row.part == part), settings, masks)
        for part in dict.fromkeys(row.part for row in rows)
    ]


def _part_figures(run: Path, scored: PartScores, data: str | Path | None) -> dict[str, Figure]:
    files = examples_of_dataset(data or _data_of(run), [scored.masks], scored.labels, _renamed(run))
    figures = _example_figures(scored, files, 3).values()
    return {_ended(name, scored.part): figure for name, figure in zip(("examples", "classes"), figures, strict=False)}


def _ended(name: str, part: str) -> str:
    return f"{name}_{part}" if part else name


def _example_figures(evaluation: Judged, files: ExampleFiles, count: int) -> dict[str, Figure]:
    """Rows of examples, and of several classes the middle case class by class.

    Raises:
        InputError: No case can be drawn.
    """
    figures = {"Best, in-between and worst cases": draw_examples(evaluation, files, count)}
    if sum(value != 0 for value in evaluation.labels) > 1:
        examples = read_chosen(ranked(evaluation.rows, files), files, 1)
        _, dice, shown = examples[len(examples) // 2]
        caption = f"Class by class: {shown.case} (mean foreground Dice {number(dice)})"
        columns = class_columns(shown.image, shown.truth, shown.predictions[0], evaluation.labels, shown.grid)
        figures[caption] = columns
    return figures


def _write_png(figure: Figure, file: IO[bytes]) -> None:
    file.write(to_png(figure))


def _or_reason(draw: Callable[[], dict[str, Figure]], name: str, left_out: dict[str, str]) -> dict[str, Figure]:
    """What ``draw`` gives; where it fails, nothing, and the reason under ``name``."""
    try:
        return draw()
    except MedsegError as error:
        left_out[name] = str(error)
        return {}


def _data_of(run: Path) -> str:
    data = _loaded(run / "run.json").get("data")
    if not isinstance(data, str):
        raise _no_run(run, "its run.json names no data set")
    return data


def _train_config(run: Path) -> dict[str, Any]:
    path = run / "configs" / "train.json"
    return _loaded(path) if path.is_file() else {}


def _renamed(run: Path) -> dict[int, int]:
    """The labels that training read as others, as its configuration says."""
    waiting: list[Any] = [_train_config(run)]
    while waiting:
        place = waiting.pop()
        if isinstance(place, dict) and place.get("_target_") == "MapLabelValued":
            return dict(zip(place["orig_labels"], place["target_labels"], strict=True))
        waiting += place.values() if isinstance(place, dict) else place if isinstance(place, list) else []
    return {}


def _loaded(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
    except ValueError as error:
        raise DatasetError("RUN_UNREADABLE", path, first_line(error), "restore the run's folder") from error


def _no_run(run: str | Path, problem: str) -> InputError:
    return InputError("RUN_NOT_FOUND", run, problem, "give a folder that medseg train made")
