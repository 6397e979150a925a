"""A comparison as one HTML page that needs no other file."""

from __future__ import annotations

from medseg.evaluation.comparison.gather import Comparison
from medseg.evaluation.comparison.pictures import Pictures
from medseg.evaluation.comparison.text import (
    NONE,
    NONE_FITS,
    beside_cells,
    beside_groups,
    headline,
    p_text,
    seconds_text,
    whole,
)
from medseg.evaluation.page import data_uri, page
from medseg.evaluation.tables import FOREGROUND, number


def comparison_page(comparison: Comparison, pictures: Pictures) -> str:
    """The page as text; names are escaped, pictures are inside it."""
    measures = dict.fromkeys(test.measure for test in comparison.tests)
    groups = beside_groups(comparison)
    return page(
        "comparison.html",
        policy=comparison.policy,
        headline=headline(comparison),
        comparison=comparison,
        classes=[scores.name for scores in comparison.rows[0].classes],
        foreground=FOREGROUND,
        tests={measure: [test for test in comparison.tests if test.measure == measure] for measure in measures},
        beside=groups,
        beside_cells=beside_cells,
        none=NONE,
        none_fits="" if all(theirs and ours for theirs, ours, _ in groups) else NONE_FITS,
        examples=data_uri(pictures.examples) if pictures.examples else "",
        left_out=pictures.left_out,
        curves=[(row, [data_uri(png) for png in drawn]) for row, drawn in pictures.curves],
        number=number,
        p_text=p_text,
        seconds_text=seconds_text,
        whole=whole,
    )
