"""Open a data set as far as it can be: what is missing or left over becomes a finding."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from medseg.data.case import Case, Dataset, Labels
from medseg.data.cases import open_images, recognised
from medseg.data.checking.findings import WHOLE, Finding, counted, found, of_error
from medseg.data.descriptions import DESCRIPTION, read_description
from medseg.data.listing import Folder, Found, cases_of, names_of
from medseg.data.tables import TABLE, read_table
from medseg.errors import DatasetError

IMAGES_ALONE = "images"
"""The layout of a folder without masks."""

SAID_OF_A_CASE = re.compile(r"(.+?) ((?:lacks|has neither|is there) .+)", re.DOTALL)
"""How recognisers begin what they say of a single case."""


@dataclass(frozen=True)
class Opened:
    """A data set, as far as it could be opened.

    Args:
        root: The folder that paths are told from.
        dataset: Its cases; those of images alone have no mask.
        findings: What is missing, left over, or wrong with the description.
    """

    root: Path
    dataset: Dataset
    findings: tuple[Finding, ...] = ()

    @property
    def has_masks(self) -> bool:
        """Whether cases should have masks."""
        return self.dataset.layout != IMAGES_ALONE


def open_leniently(path: str | Path) -> Opened:
    """The cases of a folder, a ``dataset.json``, a table, or of images alone.

    Raises:
        DatasetError: NOT_FOUND or NO_CASES, or what is wrong with a description beside which no layout is recognised.
    """
    place = Path(os.path.abspath(path))  # noqa: PTH100  (links are not followed)
    if not place.exists():
        raise DatasetError("NOT_FOUND", place, "there is no such file or folder", "check the path")
    root = place if place.is_dir() else place.parent
    try:
        described = _described(place)
    except DatasetError as error:
        return _beside(place, error)
    if described is not None:
        return Opened(root, described)
    opened = _laid_out(place)
    return opened or Opened(root, Dataset(root, open_images(place), Labels(), (), IMAGES_ALONE))


def _described(place: Path) -> Dataset | None:
    """What a description says, its missing files included."""
    if place.is_dir():
        place = next((place / name for name in (DESCRIPTION, TABLE) if (place / name).is_file()), place)
    if place.suffix.lower() == ".json":
        return read_description(place, needs_files=False)
    return read_table(place, needs_label=False, needs_files=False) if place.suffix.lower() == ".csv" else None


def _beside(place: Path, error: DatasetError) -> Opened:
    """What the folder's layout says, where its description is wrong."""
    opened = _laid_out(place if place.is_dir() else place.parent)
    if opened is None:
        raise error
    return Opened(opened.root, opened.dataset, (of_error(error, WHOLE), *opened.findings))


def _laid_out(place: Path) -> Opened | None:
    if not place.is_dir():
        return None
    layout, laid = recognised(Folder(place))
    if layout is None or laid is None:
        return None
    unlabelled = tuple(sorted(pair.names[0] for pair in laid.unlabelled))
    cases = (*cases_of(laid.pairs), *_alone(laid, place))
    dataset = Dataset(place, tuple(sorted(cases, key=_id)), laid.labels, laid.channels, layout.name, unlabelled)
    return Opened(place, dataset, tuple(_left_over(laid, place)))


def _alone(laid: Found, place: Path) -> list[Case]:
    """Images without a mask, looked at like the others, under names that leave those of the others as they are."""
    taken = {case.id for case in cases_of(laid.pairs)}
    choices = [names_of(path, place) for path in laid.images_alone]
    times = Counter(names[0] for names in choices)
    ids = [names[0] if times[names[0]] == 1 and names[0] not in taken else names[2] for names in choices]
    return [Case(name, (str(path),), None, name) for name, path in zip(ids, laid.images_alone, strict=True)]


def _left_over(laid: Found, place: Path) -> list[Finding]:
    """What no case could be made of."""
    findings = [
        found("IMAGE_MISSING", path.relative_to(place).as_posix(), "a mask without an image")
        for path in laid.masks_alone
    ]
    findings += [found("CHANNELS_MISSING", *_named(text)) for text in laid.lacking]
    findings += [found("CASES_UNPAIRED", *_named(text)) for text in laid.wrong]
    if laid.unlabelled:
        findings.append(
            found("UNLABELLED", WHOLE, f"{counted(len(laid.unlabelled), 'image')} without a mask by intention")
        )
    return findings


def _named(text: str) -> tuple[str, str]:
    """The case that a recogniser's words begin with, and what they say of it."""
    match = SAID_OF_A_CASE.fullmatch(text)
    return (match[1], match[2]) if match else (WHOLE, text)


def _id(case: Case) -> str:
    return case.id
