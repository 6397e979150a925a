"""A comparison as one HTML page that needs no other file."""

from __future__ import annotations

import base64
import contextlib
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from medseg.errors import MedsegError
from medseg.evaluation.compare import Comparison
from medseg.evaluation.comparison_text import beside_cells, headline, p_text, seconds_text, whole
from medseg.evaluation.curves import epoch_curves
from medseg.evaluation.drawing import to_png
from medseg.evaluation.records import versions
from medseg.evaluation.tables import FOREGROUND, number

TEMPLATE = Path(__file__).with_name("comparison.html")


def comparison_page(comparison: Comparison) -> str:
    """The page as text; names are escaped, the epoch curves of every run are inside it."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    measures = dict.fromkeys(test.measure for test in comparison.tests)
    return environment.get_template(TEMPLATE.name).render(
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
                pictures.append(_data_uri(epoch_curves(folder / "logs")))
        drawn.append((row, pictures))
    return [(row, pictures) for row, pictures in drawn if pictures]


def _data_uri(figure: Figure) -> str:
    return f"data:image/png;base64,{base64.b64encode(to_png(figure)).decode('ascii')}"
