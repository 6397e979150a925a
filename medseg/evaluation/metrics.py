"""Overlap of a predicted mask with its reference, class by class: masks in, numbers out.

Everything follows from one table per case: how many voxels of each reference value
were given each predicted value. A class is then judged against all others, from its
true and false positives and negatives. :data:`METRICS` is the list of all metrics; tables, files, pages and
figures are made of it. ``medseg.evaluation.results`` says in sentences what empty masks give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.errors import GridError, LabelError
from medseg.text import Column, format_number

Mask = NDArray[np.integer]
Scores = NDArray[np.float64]

MAX_LABELS = 1024
"""A mask with more different values than this is an image given by mistake."""

VOXELS_AT_ONCE = 2**21
"""Voxels counted in one step: the indices fit in a processor's cache, and memory stays small."""


@dataclass(frozen=True)
class Tabulation:
    """How many voxels of each reference value were given each predicted value.

    Args:
        reference_values: The values in the reference, rising; one per row.
        prediction_values: The values in the prediction, rising; one per column.
        voxels: Numbers of voxels, (rows, columns).
    """

    reference_values: tuple[int, ...]
    prediction_values: tuple[int, ...]
    voxels: NDArray[np.int64]

    def without_reference(self, value: int | None) -> Tabulation:
        """The table without the voxels where the reference is ``value``; unchanged for None."""
        kept = [index for index, found in enumerate(self.reference_values) if found != value]
        voxels = self.voxels[kept]
        used = np.flatnonzero(voxels.any(axis=0))
        return Tabulation(
            tuple(self.reference_values[index] for index in kept),
            tuple(self.prediction_values[index] for index in used),
            voxels[:, used],
        )

    def to_confusion(self, values: Sequence[int], case: object = "mask") -> NDArray[np.int64]:
        """The table with one row and one column for each of ``values``, zero where absent.

        Raises:
            LabelError: A mask holds a value that is not in ``values``.
        """
        _check_known(self.reference_values, values, f"{case} (reference)")
        _check_known(self.prediction_values, values, f"{case} (prediction)")
        return self.widened(values, values).voxels

    def widened(self, reference_values: Sequence[int], prediction_values: Sequence[int]) -> Tabulation:
        """The table with rows and columns for these values, in this order, all of its own among them."""
        rows = [reference_values.index(value) for value in self.reference_values]
        columns = [prediction_values.index(value) for value in self.prediction_values]
        voxels = np.zeros((len(reference_values), len(prediction_values)), dtype=np.int64)
        voxels[np.ix_(rows, columns)] = self.voxels
        return Tabulation(tuple(reference_values), tuple(prediction_values), voxels)


def tabulate(prediction: Mask, reference: Mask) -> Tabulation:
    """Count the voxels of each pair of values, whatever the values are.

    Empty masks (all zero) give a table with the single value 0; arrays without voxels
    give an empty table.

    Args:
        prediction: Whole numbers (or booleans), any shape.
        reference: Whole numbers (or booleans), of the same shape.

    Raises:
        GridError: The shapes differ.
        LabelError: A mask holds fractions, or more than 1024 different values.
    """
    if prediction.shape != reference.shape:
        raise GridError(
            "SHAPE_MISMATCH",
            "mask",
            f"prediction has {prediction.shape} voxels, reference {reference.shape}",
            "compare masks of the same image",
        )
    if not reference.size:
        return Tabulation((), (), np.zeros((0, 0), dtype=np.int64))
    rows, reference_codes = _encode(reference, "reference")
    columns, prediction_codes = _encode(prediction, "prediction")
    table = _count_codes(reference_codes, prediction_codes, (rows.size, columns.size))
    row, column = table.any(axis=1), table.any(axis=0)
    return Tabulation(tuple(rows[row].tolist()), tuple(columns[column].tolist()), table[np.ix_(row, column)])


def _encode(mask: Mask, role: str) -> tuple[NDArray[np.int64], Mask]:
    """Candidate values, and ``mask`` as positions among them (the mask itself where its values start at 0)."""
    if mask.dtype == bool:
        mask = mask.view(np.uint8)
    if mask.dtype.kind not in "iu":
        raise LabelError("LABEL_NOT_INTEGER", role, f"values are of type {mask.dtype}", "save whole numbers")
    low, high = int(mask.min()), int(mask.max())
    if low >= 0 and high < MAX_LABELS:
        return np.arange(high + 1), mask
    values, codes = np.unique(mask, return_inverse=True)
    if values.size > MAX_LABELS:
        raise LabelError(
            "LABEL_TOO_MANY",
            role,
            f"the mask holds {values.size} different values, from {low} to {high}",
            "give the mask, not the image",
        )
    return values.astype(np.int64), codes.reshape(mask.shape)


def _count_codes(reference: Mask, prediction: Mask, shape: tuple[int, int]) -> NDArray[np.int64]:
    bins = shape[0] * shape[1]
    total = np.zeros(bins, dtype=np.int64)
    for rows, columns in _cut_slabs(reference, prediction):
        index = rows.astype(np.int64)
        index *= shape[1]
        index += columns.astype(np.int64)
        total += np.bincount(index, minlength=bins)
    return total.reshape(shape)


def _cut_slabs(first: Mask, second: Mask) -> Iterator[tuple[Mask, Mask]]:
    """Both arrays flat and in step, some voxels at a time, in the order in which the first lies in memory."""
    first, second = np.atleast_1d(first), np.atleast_1d(second)
    order = np.argsort([-abs(stride) for stride in first.strides], kind="stable")
    first, second = first.transpose(order), second.transpose(order)
    step = max(1, VOXELS_AT_ONCE * first.shape[0] // first.size)
    for start in range(0, first.shape[0], step):
        yield first[start : start + step].ravel(), second[start : start + step].ravel()


def _check_known(found: Sequence[int], values: Sequence[int], case: str) -> None:
    unknown = sorted(set(found) - set(values))
    if unknown:
        raise LabelError(
            "LABEL_UNEXPECTED",
            case,
            f"the mask holds {unknown[:10]}, the labels are {sorted(values)}",
            "correct the mask, or name the value in the labels",
        )


@dataclass(frozen=True)
class Counts:
    """Voxels of each class, that class against all others; arrays of shape (classes,).

    Args:
        true_positive: Voxels in both masks.
        false_positive: Voxels in the prediction only.
        false_negative: Voxels in the reference only.
        true_negative: Voxels in neither mask.
    """

    true_positive: Scores
    false_positive: Scores
    false_negative: Scores
    true_negative: Scores


def confusion_matrix(prediction: Mask, reference: Mask, values: Sequence[int]) -> NDArray[np.int64]:
    """Voxels by reference value (row) and predicted value (column), in the order of ``values``.

    A value in neither mask has a row and a column of zeros.

    >>> confusion_matrix(np.array([0, 1, 1]), np.array([0, 0, 1]), [0, 1]).tolist()
    [[1, 1], [0, 1]]

    Raises:
        GridError: The shapes differ.
        LabelError: A mask holds a value that is not in ``values``.
    """
    return tabulate(prediction, reference).to_confusion(values)


def count(confusion: NDArray[np.int64]) -> Counts:
    """One class against all others, for each row of a confusion matrix.

    Args:
        confusion: (classes, classes), or (classes, classes + n) where further columns
            hold voxels without any predicted class: false negatives of their row.
    """
    table = np.asarray(confusion, dtype=np.float64)
    classes = table.shape[0]
    both = np.diagonal(table).copy()
    in_reference, in_prediction = table.sum(axis=1), table.sum(axis=0)[:classes]
    neither = table.sum() - in_reference - in_prediction + both
    return Counts(both, in_prediction - both, in_reference - both, neither)


def dice(counts: Counts) -> Scores:
    """Overlap from 0 to 1: 2|P∩R| / (|P|+|R|) (Dice, 1945).

    nan where both masks are empty; 0 where one of them is.
    """
    double = 2 * counts.true_positive
    return _divide(double, double + counts.false_positive + counts.false_negative)


def iou(counts: Counts) -> Scores:
    """Intersection over union from 0 to 1: |P∩R| / |P∪R| (Jaccard, 1901).

    nan where both masks are empty; 0 where one of them is.
    """
    return _divide(counts.true_positive, counts.true_positive + counts.false_positive + counts.false_negative)


def precision(counts: Counts) -> Scores:
    """Share of the prediction that is right: TP / (TP+FP); nan where the prediction is empty."""
    return _divide(counts.true_positive, counts.true_positive + counts.false_positive)


def recall(counts: Counts) -> Scores:
    """Share of the reference that was found (sensitivity): TP / (TP+FN); nan where the reference is empty."""
    return _divide(counts.true_positive, counts.true_positive + counts.false_negative)


def specificity(counts: Counts) -> Scores:
    """Share of the rest that was left alone: TN / (TN+FP).

    1 where both masks are empty; nan where the reference fills the image.
    """
    return _divide(counts.true_negative, counts.true_negative + counts.false_positive)


def accuracy(counts: Counts) -> Scores:
    """Share of all voxels judged right: (TP+TN) / all.

    1 where both masks are empty; nan only where there are no voxels.
    """
    right = counts.true_positive + counts.true_negative
    return _divide(right, right + counts.false_positive + counts.false_negative)


def mcc(counts: Counts) -> Scores:
    """Correlation of the two masks, from -1 to 1 (Matthews, 1975).

    nan where either mask is empty or fills the image, since a constant correlates with nothing.
    """
    tp, fp, fn, tn = counts.true_positive, counts.false_positive, counts.false_negative, counts.true_negative
    # Four roots, not the root of the product, which would lose digits beyond 1e308.
    spread = np.sqrt(tp + fp) * np.sqrt(tp + fn) * np.sqrt(tn + fp) * np.sqrt(tn + fn)
    return _divide(tp * tn - fp * fn, spread)


def _divide(numerator: Scores, denominator: Scores) -> Scores:
    result = np.full(np.shape(numerator), np.nan)
    np.divide(numerator, denominator, out=result, where=denominator > 0)
    return result


@dataclass(frozen=True)
class Metric:
    """One metric, as tables, files, pages and figures have it.

    Its pooled value is ``measure`` of the counts of all cases added up. A mean over cases, or over classes,
    leaves out what is nan.

    Args:
        measure: Makes one number per class of the counts; its docstring says what empty masks give.
        title: The name in headings and sentences, such as ``IoU``.
        formula: What it is, as docs/concepts.md writes it.
        undefined: Where else it is nan than in a class that neither mask holds, such as ``the prediction is empty``;
            one sentence below every table names them all in turn.
        heading: The name above a narrow column, where the title is too long.
        label: The name in figures, where the title alone would not be understood.
        decimals: How many digits stand behind the point in tables and on pages.
        is_higher_better: Whether a higher value is the better one.
    """

    measure: Callable[[Counts], Scores]
    title: str
    formula: str
    undefined: str = ""
    heading: str = ""
    label: str = ""
    decimals: int = 3
    is_higher_better: bool = True

    @property
    def needs_structure(self) -> bool:
        """Whether it is nan for a class that neither mask holds."""
        nothing, something = np.zeros(1), np.ones(1)
        return bool(np.isnan(self.measure(Counts(nothing, nothing, nothing, something)))[0])

    @property
    def column(self) -> Column:
        """Its column in a table for a terminal."""
        title = self.heading or self.title
        return Column(title, max(self.decimals + 2, len(title)))

    def format(self, value: float) -> str:
        """A value as tables and pages show it; a dash for nan."""
        return format_number(value, self.decimals)


METRICS: dict[str, Metric] = {
    "dice": Metric(dice, "Dice", "2 TP / (2 TP + FP + FN)"),
    "iou": Metric(iou, "IoU", "TP / (TP + FP + FN)"),
    "precision": Metric(precision, "precision", "TP / (TP + FP)", "the prediction is empty", heading="prec."),
    "recall": Metric(recall, "recall", "TP / (TP + FN)", "the reference is"),
    "specificity": Metric(specificity, "specificity", "TN / (TN + FP)", "the reference fills the image"),
    "accuracy": Metric(accuracy, "accuracy", "(TP + TN) / all", heading="acc."),
    "mcc": Metric(
        mcc,
        "MCC",
        "correlation of the two masks (Matthews, 1975), from -1 to 1",
        "either mask is empty or fills the image",
        label="Matthews correlation",
    ),
}
"""Every metric by the name that it has in files; all of them are in cases.csv, summary.csv and evaluation.json."""

DICE = METRICS["dice"]
"""The metric that leads every table: cases are ranked by it and networks tested on it."""

EVALUATED = ("dice", "iou", "precision", "recall")
"""The metrics with a column of means in the tables of an evaluation; Dice leads, with its spread."""

POOLED = ("dice", "iou")
"""The metrics with a column of pooled values there."""

POOLED_COLUMNS = tuple(METRICS[name].column for name in POOLED)

COMPARED = ("dice", "iou", "precision", "recall", "accuracy")
"""The metrics of a comparison; Dice leads, with its spread."""

VOLUMES = ("prediction_ml", "reference_ml")
"""What is said of a class beside its metrics: its volume in both masks."""


def score(confusion: NDArray[np.int64], voxel_volume_ml: float = 1e-3) -> dict[str, Scores]:
    """Every metric of every class, and both volumes.

    Empty masks: as each metric says; an empty mask's volume is 0 ml.

    Args:
        confusion: What ``confusion_matrix`` gives; (classes, classes).
        voxel_volume_ml: Volume of one voxel, in millilitres.

    Returns:
        The keys of ``METRICS`` and ``VOLUMES``; arrays of shape (classes,).
    """
    counts = count(confusion)
    scores = {name: metric.measure(counts) for name, metric in METRICS.items()}
    found = counts.true_positive + counts.false_positive, counts.true_positive + counts.false_negative
    return scores | {name: voxels * voxel_volume_ml for name, voxels in zip(VOLUMES, found, strict=True)}
