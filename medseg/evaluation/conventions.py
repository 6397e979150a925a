"""How the numbers of an evaluation and of a comparison are made, in the sentences that stand below every table.

They say what empty masks, missing masks, the background and folds count.
"""

from __future__ import annotations

from collections.abc import Mapping

from medseg.evaluation.metrics import METRICS


def _name_undefined() -> tuple[str, str]:
    """Which metrics have no value of a class that neither mask holds, and where else one has none."""
    *titles, last = [metric.title for metric in METRICS.values() if metric.needs_structure]
    first, *others = [(metric.title, metric.undefined) for metric in METRICS.values() if metric.undefined]
    where = [f"{first[0].capitalize()} is nan where {first[1]}", *(f"{title} where {place}" for title, place in others)]
    return (
        f"A class empty in both masks has no {', '.join(titles)} or {last}: nan, left out of means and counted apart.",
        f"{', '.join(where)}; pooled values follow the same rules.",
    )


_NEITHER, _ELSEWHERE = _name_undefined()

EMPTY_POLICY = (
    _NEITHER,
    "A class in only one of the two masks has Dice 0 and IoU 0: an extra structure costs as much as a missed one.",
    _ELSEWHERE,
    "Per case: the mean over cases of each case's value. Pooled: one value from the voxels of all cases together.",
    "The background is scored and shown, but is no part of the foreground mean.",
)
SLICE_POLICY = (
    "Every slice is a case. For each class the table covers the slices whose reference holds it, pooled values too; "
    "the others are counted apart as empty truth and are in no mean.",
    "A slice whose reference holds the class and whose mask does not has Dice 0 and IoU 0.",
    *EMPTY_POLICY[2:],
)
"""What ``EMPTY_POLICY`` says, where slices are scored one by one."""

MISSING_POLICY = {
    "zero": "A case without a mask scores 0 in every metric for each class in its reference; pooled, its voxels count "
    "as not found.",
    "skip": "A case without a mask is listed and left out of every number.",
    "error": "A case without a mask is an error and left out of every number.",
}


BACKGROUND_POLICY = "The mean with background is the mean over all classes, value 0 among them."


def explain_evaluation(settings: Mapping[str, str]) -> tuple[str, ...]:
    """The sentences that hold for an evaluation with these settings."""
    empty = SLICE_POLICY if "slices" in settings else EMPTY_POLICY
    of_means = (BACKGROUND_POLICY,) if "background" in settings else ()
    return (*empty, *of_means, MISSING_POLICY[settings["missing"]])


_ALWAYS = (
    "Mean and sd over cases: every case once; with folds, each case by the fold that held it out.",
    "Over folds: mean and sd of the folds' means over cases. Pooled: one value from the voxels of all cases together.",
    "Foreground mean: of each case, over the classes that have a value in it. All classes: with the background, and "
    "accuracy as the share of all voxels that were given their class.",
    "Loss: the lowest validation loss of any epoch. Parameters: trainable ones and running means and variances.",
)
_COUNTED = {
    "patient": "cases of one patient are averaged first, then each patient counts once",
    "case": "each case counts once",
}
_TESTS = (
    "Paired tests: {counted}. Wilcoxon's signed-rank test, two-sided, Holm's correction over all pairs of rows for "
    "each measure; median difference with the 95 % interval of 2000 bootstrap resamples.",
    "Where a class is not in the reference, a row that rightly finds nothing has no Dice; beside a row that finds "
    "something there (Dice 0) it counts 1 in tests and ranks.",
    "Rank: of a row among all rows by foreground Dice, 1 the best, averaged over {unit}s.",
)
_FOLDS = (
    "The folds share training cases: their scores are not independent, and the sd over folds understates how much "
    "another training set would change the result. The tests count {unit}s, not folds, but their p holds for the "
    "networks that were trained, not for every training."
)
_VALIDATION = (
    "The validation part is scored, which also chose each run's weights: the values are a little too high, in every "
    "row alike."
)


def explain_comparison(unit: str, part: str, has_folds: bool) -> tuple[str, ...]:
    """The sentences for one comparison.

    Args:
        unit: What the tests count, ``patient`` or ``case``.
        part: The part of the split that was scored.
        has_folds: Whether rows have folds.
    """
    sentences = [*_ALWAYS, *_TESTS, *([_FOLDS] if has_folds else []), *([_VALIDATION] if part == "validation" else [])]
    return tuple(sentence.format(unit=unit, counted=_COUNTED[unit]) for sentence in sentences)
