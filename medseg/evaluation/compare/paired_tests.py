"""Rows of scores against each other, case by case: differences, how sure they are, and ranks.

Every unit (a patient, or a case where no patient is known) has one score in each row, so
rows are compared within units: Wilcoxon's signed-rank test (1945), Holm's correction
(1979) over all pairs of rows, and a percentile bootstrap of the median difference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

BOOTSTRAP_SEED = 2026
RESAMPLES = 2000
CONFIDENCE = 0.95

Scores = Mapping[str, float]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class PairedTest:
    """Two rows on the same units.

    Args:
        measure: What was scored, such as a class.
        first: A row.
        second: Another row.
        n: Units with a score in both.
        median_difference: Median of first minus second; nan without units.
        low: Lower end of its 95 % bootstrap interval; nan below two units.
        high: Upper end.
        p: Two-sided, of Wilcoxon's signed-rank test; 1 where no unit differs, nan without units.
        p_holm: ``p`` corrected for all pairs of rows of this measure.
    """

    measure: str
    first: str
    second: str
    n: int
    median_difference: float
    low: float
    high: float
    p: float
    p_holm: float


def compare_pairs(measure: str, scores: Mapping[str, Scores]) -> list[PairedTest]:
    """Every pair of rows, in the order of the rows.

    Args:
        measure: Name of what was scored.
        scores: The scores of each row's units; nan or absent where a unit has none.
    """
    pairs = list(combinations(scores, 2))
    differences = [_subtract(scores[first], scores[second]) for first, second in pairs]
    chances = [calculate_signed_rank_p(values) for values in differences]
    found = []
    for (first, second), values, p, corrected in zip(
        pairs, differences, chances, correct_by_holm(chances), strict=True
    ):
        median = float(np.median(values)) if values.size else math.nan
        low, high = estimate_median_interval(values)
        found.append(PairedTest(measure, first, second, int(values.size), median, low, high, p, corrected))
    return found


def calculate_signed_rank_p(differences: Values) -> float:
    """Two-sided p of Wilcoxon's signed-rank test; 1 where all differences are zero, nan where there are none.

    Differences of zero are left out. The p is exact for up to 50 differences without ties; n of them
    give no p below 2 / 2ⁿ.
    """
    if not differences.size:
        return math.nan
    moved = differences[differences != 0]
    return float(stats.wilcoxon(moved).pvalue) if moved.size else 1.0


def correct_by_holm(chances: Sequence[float]) -> list[float]:
    """Holm's step-down correction; nan stays nan and counts for nothing.

    >>> correct_by_holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    known = sorted((p, place) for place, p in enumerate(chances) if not math.isnan(p))
    corrected = [math.nan] * len(chances)
    highest = 0.0
    for rank, (p, place) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        corrected[place] = highest
    return corrected


def estimate_median_interval(differences: Values, seed: int = BOOTSTRAP_SEED) -> tuple[float, float]:
    """The middle 95 % of the medians of ``RESAMPLES`` resamples, always the same for the same input.

    Both ends are nan below two differences.
    """
    if differences.size < 2:
        return math.nan, math.nan
    generator = np.random.default_rng(seed)
    medians = [
        np.median(differences[generator.integers(0, differences.size, differences.size)]) for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(medians, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def average_ranks(scores: Mapping[str, Scores]) -> dict[str, float]:
    """Each row's rank among all, 1 the highest score, averaged over the units that every row has; ties share ranks.

    nan where no unit has a score in every row.
    """
    units = list_shared_units(list(scores.values()))
    if not units:
        return dict.fromkeys(scores, math.nan)
    table = np.array([[row[unit] for unit in units] for row in scores.values()])
    ranks = stats.rankdata(-table, axis=0).mean(axis=1)
    return {name: float(rank) for name, rank in zip(scores, ranks, strict=True)}


def list_shared_units(rows: Sequence[Scores]) -> list[str]:
    """The units with a score in every row, in the order of the first."""
    first = rows[0] if rows else {}
    return [unit for unit in first if all(not math.isnan(row.get(unit, math.nan)) for row in rows)]


def _subtract(first: Scores, second: Scores) -> Values:
    # Rounded, for 0.9 - 0.8 and 0.8 - 0.7 are a tie.
    return np.round([first[unit] - second[unit] for unit in list_shared_units([first, second])], 12)
