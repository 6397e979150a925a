"""All figures of a run or of an evaluation at once, by name: as figures, or as PNG files in a folder."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from matplotlib.figure import Figure

from medseg.errors import InputError, MedsegError
from medseg.evaluation.figures.curves import epoch_curves, loss_histograms
from medseg.evaluation.figures.drawing import to_png
from medseg.evaluation.figures.example_cases import (
    ExampleFiles,
    Judged,
    find_dataset_examples,
    find_examples,
    rank_cases,
    read_chosen_cases,
    spread_cases_by_scores,
)
from medseg.evaluation.figures.examples import class_columns, draw_examples, draw_networks, overlay
from medseg.evaluation.figures.score_plots import (
    Scores,
    read_rows,
    sample_curves,
    sample_distributions,
    score_histogram,
)
from medseg.evaluation.runs import (
    BATCHES_NAME,
    EPOCHS_NAME,
    PartScores,
    find_data,
    make_no_run_error,
    read_part,
    read_parts,
    read_renamed,
    read_train_config,
)
from medseg.files import write_whole
from medseg.text import format_number

SCORE_FIGURES: dict[str, Callable[[Scores], Figure]] = {
    "iou_histogram": score_histogram,
    "sample_curves": sample_curves,
    "sample_distributions": sample_distributions,
}
"""What is drawn of any cases.csv."""

EXAMPLE_FIGURES = ("examples", "classes")
NO_BATCHES = f"the training kept no {BATCHES_NAME}"
NO_SCORES = "no part of the split is scored, or none has a foreground class"
ONE_CLASS = "there is one foreground class: it is in the examples"


@dataclass(frozen=True)
class FigureFiles:
    """What ``write_figures`` wrote.

    Args:
        files: Path of each PNG by the figure's name.
        left_out: Why a figure could not be drawn, by its name.
    """

    files: Mapping[str, Path]
    left_out: Mapping[str, str]


def draw_training_figures(run: str | Path) -> dict[str, Figure]:
    """How a run was trained: ``epochs``, and ``batch_losses`` where every batch's loss was written down.

    Args:
        run: Folder of a run.

    Raises:
        InputError: RUN_NOT_FOUND, the folder holds no log.
        DatasetError: A log is damaged.
    """
    return _draw_epochs(Path(run)) | _draw_batch_losses(Path(run))


def draw_score_figures(scores: Scores) -> dict[str, Figure]:
    """How the scores of single cases lie: the keys of ``SCORE_FIGURES``; none without a foreground class.

    Raises:
        InputError: There is no such file.
        DatasetError: It is no cases.csv.
    """
    rows = read_rows(scores)
    return {name: draw(rows) for name, draw in SCORE_FIGURES.items()} if any(row.value != 0 for row in rows) else {}


def illustrate(
    evaluation: Judged, images: str | Path, masks: str | Path, references: str | Path, most: int = 3
) -> dict[str, Figure]:
    """Examples with their captions: rows of the best to the worst, one class by class, and cuts of volumes.

    Cases without an image of their name, and those whose image cannot be read or lies on
    another grid than its masks, are left out.

    Args:
        evaluation: The evaluation of ``masks`` and ``references``.
        images: Folder of the images, or what else ``medseg.data.cases.open_images`` opens.
        masks: The masks that ``evaluate`` was given.
        references: The references that ``evaluate`` was given.
        most: How many cases; fewer where there are fewer.
    """
    files = find_examples(images, [masks], references, evaluation.labels, evaluation.settings)
    figures: dict[str, Figure] = {}
    with contextlib.suppress(InputError):
        figures |= _draw_example_figures(evaluation, files, max(1, most // 3))
    for kind, dice, shown in read_chosen_cases(rank_cases(evaluation.rows, files), files, max(1, most // 3))[:most]:
        if sum(n > 1 for n in shown.truth.shape) == 3:
            caption = f"{shown.case} ({kind}, mean foreground Dice {format_number(dice)})"
            figures[caption] = overlay(shown.image, shown.truth, shown.predictions[0], evaluation.labels, shown.grid)
    return figures


def write_figures(run: str | Path, folder: str | Path, data: str | Path | None = None) -> FigureFiles:
    """Draw everything that a run's folder holds, as PNG files: logs, scores and examples of every scored part.

    What cannot be drawn is named with the reason; the others are drawn all the same.

    Args:
        run: Folder of a run; scored parts are its folders ``scores`` or ``scores_PART``, each with
            the masks beside it in ``masks`` or ``masks_PART``.
        folder: The folder for the files; made where it is missing.
        data: The data set, where it is no longer where it was in training.

    Raises:
        InputError: RUN_NOT_FOUND, the folder holds neither logs nor scores.
        OutputError: A file cannot be written.
    """
    run, folder = Path(run), Path(folder)
    scored = read_parts(run)
    if not scored and not (run / "logs" / EPOCHS_NAME).is_file():
        raise make_no_run_error(run, "there are neither logs nor scores")
    left_out: dict[str, str] = {}
    figures = _draw_or_tell(partial(_draw_epochs, run), {"epochs": ""}, left_out)
    figures |= _draw_or_tell(partial(_draw_batch_losses, run), {"batch_losses": NO_BATCHES}, left_out)
    rows = [row for each in scored for row in each.rows]
    figures |= _draw_or_tell(partial(draw_score_figures, rows), dict.fromkeys(SCORE_FIGURES, NO_SCORES), left_out)
    for each in scored:
        names = {_add_part("examples", each.part): "", _add_part("classes", each.part): ONE_CLASS}
        figures |= _draw_or_tell(partial(_draw_part, run, each, data), names, left_out)
    left_out |= {} if scored else dict.fromkeys(EXAMPLE_FIGURES, NO_SCORES)
    files = {name: folder / f"{name}.png" for name in figures}
    for name, figure in figures.items():
        write_whole(files[name], partial(_write_png, figure))
    return FigureFiles(files, left_out)


def compared_networks(
    runs: Mapping[str, str | Path | Sequence[str | Path]],
    part: str = "test",
    data: str | Path | None = None,
    cases: Sequence[str] = (),
    count: int = 4,
) -> Figure:
    """The same cases by several scored runs, side by side.

    Args:
        runs: Folder of each run, or the folders of its folds, by the name to write above its column.
        part: Whose masks are drawn.
        data: The data set, where it is no longer where it was in training.
        cases: What to draw; otherwise cases from the highest mean Dice to the lowest.
        count: How many cases, where ``cases`` does not say.

    Raises:
        InputError: RUN_NOT_FOUND, a run has no scores of the part; EXAMPLES_NONE, no case can be drawn.
        DatasetError: The data set cannot be used.
    """
    folders = [[Path(run)] if isinstance(run, str | Path) else [Path(fold) for fold in run] for run in runs.values()]
    scored = [[read_part(folder, part) for folder in folds] for folds in folders]
    labels, every = scored[0][0].labels, [folder for folds in folders for folder in folds]
    masks = [[each.masks for each in folds] for folds in scored]
    files = find_dataset_examples(data or find_data(every), masks, labels, read_renamed(every[0]))
    rows = [[row for each in folds for row in each.rows] for folds in scored]
    return draw_networks(files, list(runs), labels, cases or spread_cases_by_scores(rows, files, count))


def _draw_part(run: Path, scored: PartScores, data: str | Path | None) -> dict[str, Figure]:
    files = find_dataset_examples(data or find_data([run]), [scored.masks], scored.labels, read_renamed(run))
    figures = _draw_example_figures(scored, files, 3).values()
    return {_add_part(name, scored.part): figure for name, figure in zip(EXAMPLE_FIGURES, figures, strict=False)}


def _add_part(name: str, part: str) -> str:
    return f"{name}_{part}" if part else name


def _draw_example_figures(evaluation: Judged, files: ExampleFiles, count: int) -> dict[str, Figure]:
    """Rows of examples, and of several classes the middle case class by class.

    Raises:
        InputError: No case can be drawn.
    """
    figures = {"Best, in-between and worst cases": draw_examples(evaluation, files, count)}
    if sum(value != 0 for value in evaluation.labels) > 1:
        examples = read_chosen_cases(rank_cases(evaluation.rows, files), files, 1)
        _, dice, shown = examples[len(examples) // 2]
        caption = f"Class by class: {shown.case} (mean foreground Dice {format_number(dice)})"
        columns = class_columns(shown.image, shown.truth, shown.predictions[0], evaluation.labels, shown.grid)
        figures[caption] = columns
    return figures


def _write_png(figure: Figure, file: IO[bytes]) -> None:
    file.write(to_png(figure))


def _draw_or_tell(
    draw: Callable[[], dict[str, Figure]], names: Mapping[str, str], left_out: dict[str, str]
) -> dict[str, Figure]:
    """What ``draw`` gives; the names that are not among it are left out, for its error or else for the reason given."""
    figures: dict[str, Figure] = {}
    reasons = names
    try:
        figures = draw()
    except MedsegError as error:
        reasons = dict.fromkeys(names, str(error))
    left_out |= {name: reason for name, reason in reasons.items() if name not in figures}
    return figures


def _draw_epochs(run: Path) -> dict[str, Figure]:
    logs = run / "logs"
    if not (logs / EPOCHS_NAME).is_file():
        raise make_no_run_error(run, f"there is no logs/{EPOCHS_NAME}")
    return {"epochs": epoch_curves(logs, read_train_config(run).get("select_by"))}


def _draw_batch_losses(run: Path) -> dict[str, Figure]:
    logs = run / "logs"
    return {"batch_losses": loss_histograms(logs)} if (logs / BATCHES_NAME).is_file() else {}
