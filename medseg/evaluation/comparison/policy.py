"""How a comparison's numbers are made, in sentences."""

from __future__ import annotations

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


def policy_of(unit: str, part: str, has_folds: bool) -> tuple[str, ...]:
    """The sentences for one comparison.

    Args:
        unit: What the tests count, ``patient`` or ``case``.
        part: The part of the split that was scored.
        has_folds: Whether rows have folds.
    """
    sentences = [*_ALWAYS, *_TESTS, *([_FOLDS] if has_folds else []), *([_VALIDATION] if part == "validation" else [])]
    return tuple(sentence.format(unit=unit, counted=_COUNTED[unit]) for sentence in sentences)
