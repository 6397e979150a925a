"""The pictures of a comparison: the same cases by every row, side by side, and how each training went."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from medseg.errors import MedsegError
from medseg.evaluation.comparison.gather import Comparison
from medseg.evaluation.figures.drawing import to_png
from medseg.evaluation.figures.gallery import compared_networks, training_figures

SHOWN_CASES = 4


@dataclass(frozen=True)
class Pictures:
    """What is drawn beside the tables.

    Args:
        examples: PNG of the same cases by every row; empty where it could not be drawn.
        left_out: Why it could not; empty where it was.
        curves: PNGs of the epoch curves of each row's runs, those whose log can be read.
    """

    examples: bytes
    left_out: str
    curves: tuple[tuple[str, tuple[bytes, ...]], ...]


def draw_pictures(comparison: Comparison, data: str | Path | None = None) -> Pictures:
    """Draw them; the same runs and data give the same bytes.

    Args:
        comparison: With the folders of its runs.
        data: The data set, where it is no longer where it was in training.
    """
    examples, left_out = b"", ""
    try:
        examples = to_png(compared_networks(comparison.runs, comparison.part, data, count=SHOWN_CASES))
    except MedsegError as error:
        left_out = str(error)
    return Pictures(examples, left_out, _curves(comparison))


def _curves(comparison: Comparison) -> tuple[tuple[str, tuple[bytes, ...]], ...]:
    drawn = []
    for row, folders in comparison.runs.items():
        pictures: list[bytes] = []
        for folder in folders:
            with contextlib.suppress(MedsegError):
                pictures.append(to_png(training_figures(folder)["epochs"]))
        drawn.append((row, tuple(pictures)))
    return tuple((row, pictures) for row, pictures in drawn if pictures)
