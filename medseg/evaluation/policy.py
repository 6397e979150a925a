"""How empty masks, missing masks and the background count, in the sentences that stand below every table."""

from __future__ import annotations

from collections.abc import Mapping

EMPTY_POLICY = (
    "A class empty in both masks has no Dice, IoU, precision, recall or MCC: nan, left out of means and counted apart.",
    "A class in only one of the two masks has Dice 0 and IoU 0: an extra structure costs as much as a missed one.",
    "Precision is nan where the prediction is empty, recall where the reference is, specificity where the reference "
    "fills the image, MCC where either mask is empty or fills the image; pooled values follow the same rules.",
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


def policy_of(settings: Mapping[str, str]) -> tuple[str, ...]:
    """The sentences that hold for an evaluation with these settings."""
    empty = SLICE_POLICY if "slices" in settings else EMPTY_POLICY
    of_means = (BACKGROUND_POLICY,) if "background" in settings else ()
    return (*empty, *of_means, MISSING_POLICY[settings["missing"]])
