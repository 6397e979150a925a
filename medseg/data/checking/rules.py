"""How grave each finding is, what to do about it, and whether a corrected copy can be made for certain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from medseg.data.dicom.inventory import REMEDIES

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


@dataclass(frozen=True)
class Rule:
    """What is known of a code before it is found.

    Args:
        severity: ``error`` where a training would refuse or be misled, ``warning`` where a person
            should look, ``info`` where it is good to know.
        remedy: What to do, as an order.
        is_fixable: Whether ``medseg check --fix`` can correct it for certain.
    """

    severity: Severity
    remedy: str
    is_fixable: bool = False


RULES: dict[str, Rule] = {
    "CASES_UNPAIRED": Rule("error", "complete or remove the files, or describe the cases in a dataset.json"),
    "CHANNELS_DUPLICATE": Rule("warning", "see whether a channel was exported twice in place of another"),
    "CHANNELS_MISSING": Rule("error", "add the missing channels, or move the case away"),
    "CHANNELS_MIXED": Rule("error", "give all cases the same channels"),
    "CT_NOT_HU": Rule("warning", "export with rescale slope and intercept applied, or subtract the offset"),
    "DIMENSIONS_MIXED": Rule("error", "keep pictures and volumes in data sets of their own"),
    "DUPLICATE_IMAGE": Rule("warning", "keep one, or give both the same group so that no split divides them"),
    "DUPLICATE_LABEL": Rule("warning", "see whether a mask was saved under the wrong name"),
    "DUPLICATE_LEAK": Rule("error", "put both into one part of the split, or remove one"),
    "FEW_GREY_LEVELS": Rule("info", "look for the original, whose values were not re-quantised"),
    "GRID_NEAR": Rule("warning", "nothing; --fix sets the mask's header to the image's", is_fixable=True),
    "GRID_REINDEXED": Rule("info", "nothing; --fix stores the mask on the image's grid", is_fixable=True),
    "IMAGE_CONSTANT": Rule("warning", "look at the image; remove the case if it shows nothing"),
    "IMAGE_MISSING": Rule("error", "add the image, or move the mask away"),
    "INTENSITY_OUTLIER": Rule("warning", "see whether it was scaled in another way than the others"),
    "LABEL_ABSENT": Rule("warning", "add cases that show it, or leave the name out"),
    "LABEL_FRAGMENTED": Rule("info", "look for specks; a median or the largest component removes them"),
    "LABEL_IGNORE_255": Rule(
        "warning", "name it: a label 'ignore' where voxels have no reference, else the structure that it is"
    ),
    "LABEL_MAPPED": Rule("info", "nothing; --fix stores 255 as 1", is_fixable=True),
    "LABEL_NEARLY_WHOLE": Rule("error", "round it; --fix does", is_fixable=True),
    "LABEL_ONE_HOT": Rule("error", "store one label per voxel; --fix does", is_fixable=True),
    "LABEL_OUTSIDE_BODY": Rule("warning", "see whether the mask belongs to this image and lies the same way"),
    "LABEL_RARE": Rule("info", "spread these cases over the parts of the split, or expect no score for it"),
    "LABEL_STRAY": Rule("warning", "see whether the value was mistyped"),
    "LABEL_THRESHOLDED": Rule(
        "warning",
        "save masks without lossy compression, resized by nearest neighbour; --fix stores them cut at half of 255",
        is_fixable=True,
    ),
    "LABEL_TOO_MANY": Rule("warning", "see whether this is the mask, and not an image"),
    "LOOKS_LIKE_MASK": Rule(
        "warning",
        "name it like its image with _mask, _seg, _gt or _label added, or list image and label in a dataset.csv",
    ),
    "MASK_EMPTY": Rule("warning", "see whether the structure is absent or was never drawn"),
    "MASK_FULL": Rule("warning", "see whether the mask was inverted or never drawn"),
    "MASK_MISSING": Rule("error", "add the mask, or move the image away"),
    "MODALITIES_MIXED": Rule("warning", "see whether one bundle should learn both"),
    "NEAR_DUPLICATE_IMAGE": Rule("warning", "look at both; give them the same group where they show the same"),
    "NEAR_DUPLICATE_LEAK": Rule("error", "look at both; put them into one part of the split where they show the same"),
    "NONFINITE_VOXELS": Rule("error", "replace them, or export the image again"),
    "ORIENTATION_MIXED": Rule("info", "nothing for bundles that turn images to one orientation, as medseg's own do"),
    "SHAPE_MISMATCH": Rule("error", "export the mask from the image that it was drawn on"),
    "SHAPE_OUTLIER": Rule("info", "see whether it was cropped, or is another kind of scan"),
    "SPACING_NOMINAL": Rule("info", "do not trust lengths and volumes in mm and ml unless you know the spacing"),
    "SPACING_OUTLIER": Rule("warning", "see whether its spacing is true"),
    "SPLIT_LEAK": Rule("error", "keep each patient's cases in one part"),
    "SPLIT_PARTIAL": Rule("error", "complete the data set, or draw a new split"),
    "SUFFIX_WRONG": Rule("info", "rename it; --fix does", is_fixable=True),
    "UNLABELLED": Rule("info", "nothing; they are left out of trainings"),
}
"""What the doctor itself looks for; errors of readers keep their own code and remedy."""

STRAIGHTEN = Rule("warning", "see that your other tools keep the shear, or resample: --fix OUT --straighten")

NOTED: dict[str, Rule] = {
    "ALPHA_IGNORED": Rule("info", "nothing, unless the mask was drawn in the transparency"),
    "BITPIX_DIFFERS": Rule("info", "write the file again with a correct tool"),
    "COLOUR_CONVERTED": Rule("info", "see whether the colours matter"),
    "DICOM_DUPLICATE_FILE": Rule("info", "nothing"),
    "DICOM_JUNK_SKIPPED": Rule("info", "nothing, unless one should be a slice"),
    "DICOM_NON_IMAGE_SKIPPED": Rule("info", "nothing"),
    "DICOM_NO_POSITION": Rule("info", "nothing for X-rays"),
    "EXIF_ORIENTATION": Rule("warning", "see that image and mask lie the same way"),
    "FORMS_DIFFER": Rule("warning", "see which of qform and sform is true"),
    "GANTRY_TILT": STRAIGHTEN,
    "HUGE_VALUES": Rule("warning", "see whether it is a marker for 'no signal'"),
    "INTEGER_BEYOND_FLOAT32": Rule("info", "nothing for images; renumber such labels"),
    "NO_ORIENTATION": Rule("warning", "check left and right"),
    "QFORM_INVALID": Rule("info", "nothing; the sform is used"),
    "SHEARED_GRID": STRAIGHTEN,
    "TRAILING_DATA": Rule("info", "nothing, unless the file was damaged"),
    "UNITS_NOT_MM": Rule("warning", "check the spacing"),
}
"""What readers note about files that they read all the same; a code that is not here is a warning."""

OTHER_NOTE = Rule("warning", "look it up among the notes in docs/reference/errors.md")


def rule_of_note(code: str) -> Rule:
    """How a reader's note is taken."""
    known = RULES.get(code) or NOTED.get(code)
    return known or (Rule("warning", REMEDIES[code]) if code in REMEDIES else OTHER_NOTE)
