"""An evaluation and its figures as one HTML page that needs no other file, and the frame of every such page."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from medseg.evaluation.figures.drawing import pick_class_colours, to_png
from medseg.evaluation.figures.gallery import draw_score_figures, draw_training_figures, illustrate
from medseg.evaluation.figures.score_plots import score_box_plot
from medseg.evaluation.metrics import EVALUATED, METRICS, POOLED
from medseg.evaluation.results import Evaluation, versions
from medseg.files import write_text
from medseg.text import format_number


def make_page(template: str, policy: Sequence[str], made_from: Mapping[str, str] | None = None, **content: Any) -> str:
    """A template of this folder with its content, as text; names are escaped.

    Args:
        template: Name of its file.
        policy: How the numbers are made, in sentences.
        made_from: What went in; the versions of what computed come behind it.
        content: What else the template needs.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made_from = {**(made_from or {}), **versions()}
    return environment.get_template(template).render(policy=policy, made_from=made_from, **content)


def make_data_uri(picture: Figure | bytes) -> str:
    """A figure, or the bytes of a PNG, as the source of an ``img``."""
    png = picture if isinstance(picture, bytes) else to_png(picture)
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


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
        evaluation: What ``evaluate`` gave.
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
    training = {} if run is None else draw_training_figures(run)
    write_text(to_html(evaluation, pictures, title, training), path)
    return path


def to_html(
    evaluation: Evaluation,
    pictures: Mapping[str, Figure | bytes],
    title: str,
    training: Mapping[str, Figure | bytes] | None = None,
) -> str:
    """The page as text; names are escaped, pictures are inside it."""
    return make_page(
        "report.html",
        policy=evaluation.policy,
        made_from={name: evaluation.settings[name] for name in ("masks", "references")},
        title=title,
        evaluation=evaluation,
        parts=list(evaluation.summaries_by_part.items()),
        worst=evaluation.worst(),
        training=_add_captions({CAPTIONS.get(name, name): figure for name, figure in (training or {}).items()}),
        box_plot=_draw_box_plot(evaluation),
        scores=_add_captions({CAPTIONS[name]: figure for name, figure in draw_score_figures(evaluation).items()}),
        pictures=_add_captions(pictures),
        colours=pick_class_colours(evaluation.labels),
        metrics=METRICS,
        evaluated=EVALUATED[1:],
        pooled=POOLED,
        format_number=format_number,
    )


def _draw_box_plot(evaluation: Evaluation) -> str | None:
    names = list(evaluation.labels.values())
    scores = {
        name if names.count(name) == 1 else f"{name} ({value})": [
            row.scores["dice"] for row in evaluation.rows if row.value == value
        ]
        for value, name in evaluation.labels.items()
        if value != 0
    }
    return make_data_uri(score_box_plot(scores)) if any(scores.values()) else None


def _add_captions(pictures: Mapping[str, Figure | bytes]) -> list[tuple[str, str]]:
    return [(caption, make_data_uri(picture)) for caption, picture in pictures.items()]
