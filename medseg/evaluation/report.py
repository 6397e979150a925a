"""An evaluation and its pictures as one HTML page that needs no other file."""

from __future__ import annotations

import base64
import contextlib
import math
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from medseg.data.cases import open_images
from medseg.data.images import read, read_mask
from medseg.errors import ImageError
from medseg.evaluation.evaluate import aligned
from medseg.evaluation.figures import class_colours, overlay, score_box_plot, to_png
from medseg.evaluation.metrics import METRICS
from medseg.evaluation.pairs import Pair, pair_masks, plain_name
from medseg.evaluation.records import versions
from medseg.evaluation.tables import Evaluation, Summary, number
from medseg.files import write_text

TEMPLATE = Path(__file__).with_name("report.html")


def write_report(
    evaluation: Evaluation, pictures: Mapping[str, Figure | bytes], path: str | Path, title: str = "Evaluation"
) -> Path:
    """Write one page with tables, pictures, errors and how it was made; the same input gives the same bytes.

    Args:
        evaluation: From ``evaluate``.
        pictures: Figure, or PNG bytes, by its caption; may be empty.
        path: The HTML file to write.
        title: The page's heading.

    Returns:
        ``path``.

    Raises:
        OutputError: The file cannot be written.
    """
    path = Path(path)
    write_text(to_html(evaluation, pictures, title), path)
    return path


def illustrate(
    evaluation: Evaluation, images: str | Path, masks: str | Path, references: str | Path, most: int = 3
) -> dict[str, bytes]:
    """Overlays of the cases with the lowest, the middle and the highest mean foreground Dice, lowest first.

    Cases without an image of their name, and those whose image cannot be read or lies on
    another grid than its masks, have no picture.

    Args:
        evaluation: Of ``masks`` and ``references``.
        images: Folder of the images, or what else ``medseg.data.cases.open_images`` opens.
        masks: As given to ``evaluate``.
        references: As given to ``evaluate``.
        most: How many pictures, spread evenly over the ranks; fewer where there are fewer cases.

    Returns:
        PNG bytes by caption.
    """
    image_of = {case.id: case.images[0] for case in open_images(images)}
    image_of |= {plain_name(case): path for case, path in image_of.items() if plain_name(case) not in image_of}
    pair_of = {pair.case: pair for pair in pair_masks(Path(masks), Path(references)).pairs}
    ranked = [(case, mean) for case, mean in _ranked(evaluation) if case in image_of and case in pair_of]
    wanted = sorted({round(rank) for rank in np.linspace(0, len(ranked) - 1, min(most, len(ranked)))})
    pictures = {}
    for case, mean in (ranked[rank] for rank in wanted):
        with contextlib.suppress(ImageError):
            pictures[f"{case} (mean foreground Dice {number(mean)})"] = _picture(
                image_of[case], pair_of[case], evaluation.labels
            )
    return pictures


def _ranked(evaluation: Evaluation) -> list[tuple[str, float]]:
    """Scored cases and the mean of their foreground Dice, lowest first."""
    scores: dict[str, list[float]] = {}
    for row in evaluation.rows:
        if row.value != 0 and row.status == "scored" and not math.isnan(row.scores["dice"]):
            scores.setdefault(row.case, []).append(row.scores["dice"])
    return sorted(((case, fmean(values)) for case, values in scores.items()), key=lambda pair: (pair[1], pair[0]))


def _picture(image_path: str, pair: Pair, labels: Mapping[int, str]) -> bytes:
    image = read(image_path)
    values = tuple(labels) if set(labels) == {0, 1} else None
    reference, prediction = (
        aligned(read_mask(path, values), image.grid, path) for path in (pair.reference, pair.mask or pair.reference)
    )
    return to_png(overlay(image.array, reference, prediction, labels, image.grid))


def to_html(evaluation: Evaluation, pictures: Mapping[str, Figure | bytes], title: str) -> str:
    """The page as text; names are escaped, pictures are inside it."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE.name).render(
        title=title,
        evaluation=evaluation,
        parts=_by_part(evaluation),
        worst=evaluation.worst(),
        box_plot=_box_plot(evaluation),
        pictures=[(caption, _data_uri(picture)) for caption, picture in pictures.items()],
        colours=class_colours(evaluation.labels),
        metrics=list(METRICS),
        number=number,
        versions=versions(),
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
    return _data_uri(score_box_plot(scores)) if any(scores.values()) else None


def _data_uri(picture: Figure | bytes) -> str:
    png = picture if isinstance(picture, bytes) else to_png(picture)
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
