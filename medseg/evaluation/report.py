"""An evaluation and its figures as one HTML page that needs no other file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from medseg.evaluation.figures.cases import class_colours, score_box_plot
from medseg.evaluation.figures.gallery import illustrate, score_figures, training_figures
from medseg.evaluation.metrics import METRICS
from medseg.evaluation.page import data_uri, page
from medseg.evaluation.tables import Evaluation, Summary, number
from medseg.files import write_text

__all__ = ["illustrate", "to_html", "write_report"]

CAPTIONS = {
    "epochs": "Loss and scores against epochs",
    "batch_losses": "Losses of the batches",
    "iou_histogram": "IoU of single cases",
    "sample_curves": "Accuracy and Dice, case by case",
    "sample_distributions": "How accuracy and Dice are distributed",
}
"""What stands above the figures of ``medseg.evaluation.figures.gallery``."""


def write_report(
    evaluation: Evaluation,
    pictures: Mapping[str, Figure | bytes],
    path: str | Path,
    title: str = "Evaluation",
    run: str | Path | None = None,
) -> Path:
    """Write one page with tables, figures, errors and how it was made; the same input gives the same bytes.

    Args:
        evaluation: From ``evaluate``.
        pictures: Examples, as figures or PNG bytes, by their captions; may be empty.
        path: The HTML file to write.
        title: The page's heading.
        run: Folder of the training whose masks were judged; its curves come onto the page.

    Returns:
        ``path``.

    Raises:
        OutputError: The file cannot be written.
        InputError: RUN_NOT_FOUND, ``run`` holds no log.
        DatasetError: Its log is damaged.
    """
    path = Path(path)
    training = {} if run is None else training_figures(run)
    write_text(to_html(evaluation, pictures, title, training), path)
    return path


def to_html(
    evaluation: Evaluation,
    pictures: Mapping[str, Figure | bytes],
    title: str,
    training: Mapping[str, Figure | bytes] | None = None,
) -> str:
    """The page as text; names are escaped, pictures are inside it."""
    return page(
        "report.html",
        policy=evaluation.policy,
        made_from={name: evaluation.settings[name] for name in ("masks", "references")},
        title=title,
        evaluation=evaluation,
        parts=_by_part(evaluation),
        worst=evaluation.worst(),
        training=_captioned({CAPTIONS.get(name, name): figure for name, figure in (training or {}).items()}),
        box_plot=_box_plot(evaluation),
        scores=_captioned({CAPTIONS[name]: figure for name, figure in score_figures(evaluation).items()}),
        pictures=_captioned(pictures),
        colours=class_colours(evaluation.labels),
        metrics=list(METRICS),
        number=number,
    )


def _by_part(evaluation: Evaluation) -> list[tuple[str, list[Summary]]]:
    parts: dict[str, list[Summary]] = {}
    for summary in evaluation.summaries:
        parts.setdefault(summary.part, []).append(summary)
    return list(parts.items())


def _box_plot(evaluation: Evaluation) -> str | None:
    names = list(evaluation.labels.values())
    scores = {
        name if names.count(name) == 1 else f"{name} ({value})": [
            row.scores["dice"] for row in evaluation.rows if row.value == value
        ]
        for value, name in evaluation.labels.items()
        if value != 0
    }
    return data_uri(score_box_plot(scores)) if any(scores.values()) else None


def _captioned(pictures: Mapping[str, Figure | bytes]) -> list[tuple[str, str]]:
    return [(caption, data_uri(picture)) for caption, picture in pictures.items()]
