"""A comparison as one HTML page that needs no other file."""

from __future__ import annotations

import contextlib

from medseg.errors import MedsegError
from medseg.evaluation.comparison.gather import Comparison
from medseg.evaluation.comparison.text import beside_cells, headline, p_text, seconds_text, whole
from medseg.evaluation.figures.gallery import training_figures
from medseg.evaluation.page import data_uri, page
from medseg.evaluation.records import versions
from medseg.evaluation.tables import FOREGROUND, number


def comparison_page(comparison: Comparison) -> str:
    """The page as text; names are escaped, the epoch curves of every run are inside it."""
    measures = dict.fromkeys(test.measure for test in comparison.tests)
    return page(
        "comparison.html",
        headline=headline(comparison),
        comparison=comparison,
        classes=[scores.name for scores in comparison.rows[0].classes],
        foreground=FOREGROUND,
        tests={measure: [test for test in comparison.tests if test.measure == measure] for measure in measures},
        beside_cells=beside_cells,
        curves=_curves(comparison),
        number=number,
        p_text=p_text,
        seconds_text=seconds_text,
        whole=whole,
        versions=versions(),
    )


def _curves(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """The epoch curves of each row's runs, those whose log can be read."""
    drawn: list[tuple[str, list[str]]] = []
    for row, folders in comparison.runs.items():
        pictures = []
        for folder in folders:
            with contextlib.suppress(MedsegError):
                pictures.append(data_uri(training_figures(folder)["epochs"]))
        drawn.append((row, pictures))
    return [(row, pictures) for row, pictures in drawn if pictures]
