"""Which cases to show: the best, the worst and those between."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ImageError
from medseg.evaluation.figures.drawing import Labels
from medseg.evaluation.figures.files import Example, ExampleFiles
from medseg.evaluation.metrics import score, tabulate
from medseg.evaluation.tables import Row


class Judged(Protocol):
    """Scores with what they are scores of; an ``Evaluation``, or one read from a run's folder."""

    @property
    def labels(self) -> Mapping[int, str]:
        """Name of each value."""

    @property
    def rows(self) -> Sequence[Row]:
        """One per case and class."""

    @property
    def settings(self) -> Mapping[str, str]:
        """What was compared and how."""


def ranked(rows: Sequence[Row], files: ExampleFiles) -> list[tuple[str, float]]:
    """Cases with all their files and the mean of their foreground Dice, highest first."""
    scores: dict[str, list[float]] = {}
    for row in rows:
        if row.value != 0 and row.status == "scored" and not math.isnan(row.scores["dice"]):
            scores.setdefault(row.case, []).append(row.scores["dice"])
    means = [(case, fmean(values)) for case, values in scores.items() if files.holds(case)]
    return sorted(means, key=lambda pair: (-pair[1], pair[0]))


def chosen(ranking: Sequence[tuple[str, float]], count: int) -> list[tuple[str, str, float]]:
    """(kind, case, Dice): at most ``count`` each of the best, the in-between around the median, and the worst."""
    each = max(1, min(count, len(ranking) // 3))
    best, rest = ranking[:each], ranking[each:]
    worst, between = rest[max(0, len(rest) - each) :], rest[: max(0, len(rest) - each)]
    start = (len(between) - each + 1) // 2
    kinds = {"best": best, "in between": between[max(0, start) : max(0, start) + each], "worst": worst}
    return [(kind, case, dice) for kind, cases in kinds.items() for case, dice in cases]


def read_chosen(
    ranking: Sequence[tuple[str, float]], files: ExampleFiles, count: int
) -> list[tuple[str, float, Example]]:
    """(kind, Dice, example) of the chosen cases; the next in rank stands in for one that cannot be read."""
    read: dict[str, Example] = {}
    while unread := [case for _, case, _ in chosen(ranking, count) if case not in read]:
        for case in unread:
            try:
                read[case] = files.read(case)
            except ImageError:
                ranking = [pair for pair in ranking if pair[0] != case]
    return [(kind, dice, read[case]) for kind, case, dice in chosen(ranking, count)]


def spread(files: ExampleFiles, labels: Labels, count: int) -> list[str]:
    """``count`` cases from the highest to the lowest mean Dice of all networks."""
    means: list[tuple[float, str]] = []
    for case in files.cases:
        with contextlib.suppress(ImageError):
            truth, predictions, _ = files.read_masks(case)
            dices = [foreground_dice(prediction, truth, labels) for prediction in predictions]
            means.append((-fmean(0.0 if math.isnan(dice) else dice for dice in dices), case))
    return _evenly(means, count)


def spread_by_scores(networks: Sequence[Sequence[Row]], files: ExampleFiles, count: int) -> list[str]:
    """As ``spread``, by the scores that each network's masks were given; no mask is read.

    Cases without a score by every network are left out.

    Args:
        networks: The scores of each network.
        files: With the masks of all of them.
        count: How many cases.
    """
    found = [dict(ranked(rows, files)) for rows in networks]
    shared = [case for case in found[0] if all(case in scores for scores in found)]
    return _evenly([(-fmean(scores[case] for scores in found), case) for case in shared], count)


def _evenly(means: Sequence[tuple[float, str]], count: int) -> list[str]:
    """``count`` cases at even steps from the lowest number to the highest."""
    ordered = sorted(means)
    ranks = sorted({round(rank) for rank in np.linspace(0, len(ordered) - 1, min(count, len(ordered)))})
    return [ordered[rank][1] for rank in ranks]


def foreground_dice(prediction: NDArray, truth: NDArray, labels: Labels) -> float:
    """Mean Dice of the foreground classes that one of the masks holds, named or not; nan where both are empty."""
    values = sorted({0, *labels, *np.unique(truth).tolist(), *np.unique(prediction).tolist()})
    dice = score(tabulate(prediction, truth).to_confusion(values, "example"))["dice"]
    known = [float(each) for value, each in zip(values, dice, strict=True) if value != 0 and not np.isnan(each)]
    return fmean(known) if known else math.nan
