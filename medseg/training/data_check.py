"""A data set as a bundle takes it, looked at before a training begins: labels, channels, files and split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from medseg.bundle.config import Config, value_at
from medseg.checking.check import count_image_axes
from medseg.checking.usable_pairs import require_usable
from medseg.data.cases.case import Dataset, select_channels
from medseg.data.labels import WHITE, mask_reading
from medseg.data.splits import Split, choose_split, keep_foreground, write_split
from medseg.errors import DatasetError
from medseg.options import TrainOptions
from medseg.text import list_some, pluralise

CaseSeen = Callable[[str, int], None]

MOST_NAMED = 12
_TRAINED_ON = ("train", "validation")
"""Parts of a split without which no weights can be had or chosen."""

NEEDS_MASK = (
    "TRAIN_NEEDS_MASK: training and validation see only what the reference mask leaves of an image, and prediction, "
    "which has no mask, sees all of it: the validation scores say nothing of prediction"
)


def check_data(dataset: Dataset, train: Config, metadata: Config, on_case: CaseSeen | None = None) -> tuple[str, ...]:
    """Refuse a data set that some step of the training would stumble over; returns what is odd but usable.

    Args:
        dataset: The data set as it was opened.
        train: The bundle's `train.json`.
        metadata: The bundle's `metadata.json`.
        on_case: Called after each case that was read, with its id and the number of cases.

    Raises:
        DatasetError: LABELS_DIFFER, CHANNELS_DIFFER, PAIRS_UNUSABLE, or what is wrong with a single case.
    """
    values = mask_values(train)
    _check_labels(dataset, values, metadata)
    wanted = train.get("channel_names") or metadata["network_data_format"]["inputs"]["image"]["num_channels"]
    cases = select_channels(dataset.cases, dataset.channels, wanted, dataset.root)
    count = wanted if isinstance(wanted, int) else len(wanted)
    names, axes = mask_reading(_steps(train)).names, count_image_axes(train, metadata)
    notes = require_usable(cases, values, count, on_case, names, axes)
    told = [str(note) for note in notes]
    if _needs_mask(train):
        told.append(NEEDS_MASK)
    if dataset.unlabelled:
        left_out = list_some(dataset.unlabelled, most=5)
        told.append(f"{pluralise(len(dataset.unlabelled), 'image')} without a mask left out: {left_out}")
    return tuple(told)


def _steps(train: Config) -> list[Mapping[str, Any]]:
    steps: Any = value_at(train, "validate::preprocessing::transforms")
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
        stored = list_some([f"{value} {name}" for value, name in sorted(named.items())], most=MOST_NAMED)
        raise DatasetError(
            "LABELS_DIFFER",
            Path(dataset.root),
            f"read as {dataset.layout}, its masks hold the values {stored}; the bundle reads masks that hold "
            f"{', '.join(map(str, taken))}",
        )


def find_split(bundle: Path, dataset: Dataset, config: Config, options: TrainOptions) -> Split:
    """The split to train on: the one that was given, or in a file, or one that the seed draws.

    Args:
        bundle: Folder whose own split is looked at.
        dataset: The cases to divide.
        config: The `train.json` that is followed: its fractions and seed.
        options: Options that may hold a split, or name its file.

    Raises:
        DatasetError: The split does not go with the data set; PART_EMPTY, it leaves nothing to train or choose by.
    """
    if options.split is not None:
        split = _confirm(options.split, dataset)
    else:
        split = choose_split(dataset.cases, find_split_file(bundle, options), config["fractions"], config["seed"])
    for part in _TRAINED_ON:
        if not getattr(split, part):
            raise _empty(dataset, part, split.how)
    return split


def find_split_file(bundle: Path, options: TrainOptions) -> Path | str | None:
    """The split to look at: one named in the settings, or the form's or bundle's own unless a new one is wanted."""
    of_form = bundle / "configs" / f"split_{options.form}.json"
    own = of_form if options.form and of_form.is_file() else bundle / "configs" / "split.json"
    named = options.overrides.get("split_file")
    if isinstance(named, str) and not named.startswith("$"):
        return named
    return own if own.is_file() and not options.new_split else None


def check_foreground(dataset: Dataset, split: Split, config: Config) -> None:
    """Refuse a split of which a part holds nothing but empty masks, where a training leaves those out.

    Masks are read until one shows something.

    Args:
        dataset: A data set whose masks can be read.
        split: The split of its cases.
        config: The `train.json` that is followed.

    Raises:
        DatasetError: PART_EMPTY.
    """
    if config.get("drop_empty") is not True:
        return
    for part in _TRAINED_ON:
        wanted = set(getattr(split, part))
        if not any(keep_foreground([case]) for case in dataset.cases if case.id in wanted):
            raise _empty(dataset, part, f"{split.how}, empty masks left out")


def _empty(dataset: Dataset, part: str, how: str) -> DatasetError:
    return DatasetError(
        "PART_EMPTY", dataset.root, f"no case is left for {part} ({how})", "add cases or change the fractions"
    )


def _confirm(split: Split, dataset: Dataset) -> Split:
    """A split that was given, checked like one in a file: it names all cases, and divides no patient."""
    if not {case.id for case in dataset.cases} & set(split.ids):
        raise DatasetError(
            "SPLIT_PARTIAL", dataset.root, "has none of the split's cases", "give the split of its cases"
        )
    with TemporaryDirectory() as folder:
        return choose_split(dataset.cases, write_split(split, Path(folder) / "split.json"))
