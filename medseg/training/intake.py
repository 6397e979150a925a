"""A data set as a bundle takes it: its labels, channels and files looked at before a training begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from medseg.bundle.forms import Config, at
from medseg.checking.check import count_image_axes
from medseg.checking.usable_pairs import require_usable
from medseg.data.case import Dataset, some_of
from medseg.data.channels import with_channels
from medseg.data.mask_steps import mask_reading
from medseg.errors import DatasetError
from medseg.text import pluralise

CaseSeen = Callable[[str, int], None]

WHITE = 255
MOST_NAMED = 12

NEEDS_MASK = (
    "TRAIN_NEEDS_MASK: training and validation see only what the reference mask leaves of an image, and prediction, "
    "which has no mask, sees all of it: the validation scores say nothing of prediction"
)


def check_data(dataset: Dataset, train: Config, metadata: Config, on_case: CaseSeen | None = None) -> tuple[str, ...]:
    """Refuse a data set that some step of the training would stumble over; returns what is odd but usable.

    Args:
        dataset: As it was opened.
        train: The bundle's `train.json`.
        metadata: Its `metadata.json`.
        on_case: Called after each case that was read, with its id and the number of cases.

    Raises:
        DatasetError: LABELS_DIFFER, CHANNELS_DIFFER, PAIRS_UNUSABLE, or what is wrong with a single case.
    """
    values = mask_values(train)
    _check_labels(dataset, values, metadata)
    wanted = train.get("channel_names") or metadata["network_data_format"]["inputs"]["image"]["num_channels"]
    cases = with_channels(dataset.cases, dataset.channels, wanted, dataset.root)
    count = wanted if isinstance(wanted, int) else len(wanted)
    names, axes = mask_reading(_steps(train)).names, count_image_axes(train, metadata)
    notes = require_usable(cases, values, count, on_case, names, axes)
    told = [str(note) for note in notes]
    if _needs_mask(train):
        told.append(NEEDS_MASK)
    if dataset.unlabelled:
        left_out = some_of(dataset.unlabelled, most=5)
        told.append(f"{pluralise(len(dataset.unlabelled), 'image')} without a mask left out: {left_out}")
    return tuple(told)


def _steps(train: Config) -> list[Mapping[str, Any]]:
    steps: Any = at(train, "validate::preprocessing::transforms")
    return [step for step in steps if isinstance(step, Mapping)] if isinstance(steps, list) else []


def _needs_mask(train: Config) -> bool:
    """Whether images are cut or blanked by their reference masks."""
    return any("label" in (step.get("source_key"), step.get("mask_key")) for step in _steps(train))


def mask_values(train: Config) -> list[int] | None:
    """The values that a mask may hold, as the bundle's mask reader names them; None where it names none."""
    values = mask_reading(_steps(train)).values
    return None if values is None else list(values)


def _check_labels(dataset: Dataset, values: list[int] | None, metadata: Config) -> None:
    """Refuse labels of other numbers than the bundle's, before a mask is read."""
    # A single channel is the probability of one structure, beside the background.
    classes = max(metadata["network_data_format"]["outputs"]["pred"]["num_channels"], 2)
    taken = sorted(range(classes) if values is None else values)
    named = dataset.labels.names
    is_white = taken == [0, 1] and set(named) <= {0, WHITE}  # which the reading of masks takes for 0 and 1
    if named and max(named) != max(taken) and not is_white:
        stored = some_of([f"{value} {name}" for value, name in sorted(named.items())], most=MOST_NAMED)
        raise DatasetError(
            "LABELS_DIFFER",
            Path(dataset.root),
            f"read as {dataset.layout}, its masks hold the values {stored}; the bundle reads masks that hold "
            f"{', '.join(map(str, taken))}",
            "use a bundle made for these values, or make one: see docs/reference/bundles.md",
        )
