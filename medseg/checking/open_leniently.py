"""Open a data set as far as it can be: what is missing or left over becomes a finding."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medseg.data.cases import open_images
from medseg.data.cases.case import Case, Dataset, Labels, case_ids
from medseg.data.cases.descriptions import DESCRIPTION, TABLE, read_description, read_table
from medseg.data.cases.listing import Folder, Found, Pair, make_cases, names_in_list, names_of
from medseg.data.cases.open_cases import recognise
from medseg.data.image_files import is_present
from medseg.errors import DatasetError, as_finding
from medseg.findings import WHOLE, Finding
from medseg.text import pluralise

IMAGES_ALONE = "images"
"""The layout of a folder without masks."""

SAID_OF_A_CASE = re.compile(r"(.+?) ((?:lacks|has neither|is there) .+)", re.DOTALL)
"""How recognisers begin what they say of a single case."""


@dataclass(frozen=True)
class Opened:
    """A data set, as far as it could be opened.

    Args:
        root: The folder that paths are told from.
        dataset: The data set with its cases; those of images alone have no mask.
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

    Where a description is wrong, the folder's layout is read instead; where that is wrong too, each image by itself.

    Raises:
        DatasetError: There is nothing to look at: NOT_FOUND or NO_CASES, or what is wrong with a list or a
            description that is all there is, or with a folder that holds no image.
    """
    place = Path(os.path.abspath(path))  # noqa: PTH100  (links are not followed)
    if not place.exists():
        raise DatasetError("NOT_FOUND", place, "there is no such file or folder")
    root = place if place.is_dir() else place.parent
    try:
        described = _read_description(place)
    except DatasetError as error:
        return _read_beside(place, error)
    if described is not None:
        return Opened(root, described)
    try:
        return _read_layout(place) or Opened(root, Dataset(root, open_images(place), Labels(), (), IMAGES_ALONE))
    except DatasetError as error:
        if error.code == "LIST_INVALID":
            return _open_list_in_part(place, error)
        if not place.is_dir():
            raise
        return _open_each_alone(place, (error,))


def _read_description(place: Path) -> Dataset | None:
    """What a description says, its missing files included."""
    if place.is_dir():
        place = next((place / name for name in (DESCRIPTION, TABLE) if (place / name).is_file()), place)
    if place.suffix.lower() == ".json":
        return read_description(place, needs_files=False)
    return read_table(place, needs_label=False, needs_files=False) if place.suffix.lower() == ".csv" else None


def _read_beside(place: Path, error: DatasetError) -> Opened:
    """What the folder's layout says, where its description is wrong, else its images alone."""
    errors = [error]
    try:
        opened = _read_layout(place if place.is_dir() else place.parent)
    except DatasetError as second:
        opened = None
        errors.append(second)
    if opened is not None:
        return Opened(opened.root, opened.dataset, (_find_at_place(error, opened.root), *opened.findings))
    if not place.is_dir():
        raise error  # What else lies beside a file that was named is not what was asked for.
    return _open_each_alone(place, errors)


def _open_each_alone(place: Path, errors: Sequence[DatasetError]) -> Opened:
    """Every image of a folder as a case of its own, and what kept the folder from being more."""
    findings = [_find_at_place(error, place) for error in errors]
    pairs = []
    for path in Folder(place).images:
        names = (place.name,) if path == place else names_of(path, place)[1:]
        try:
            case_ids([names])
        except DatasetError as error:
            findings.append(_find_at_place(error, place))
        else:
            pairs.append(Pair(names, (str(path),), None))
    if not pairs:
        raise errors[0]
    return Opened(place, Dataset(place, make_cases(pairs), Labels(), (), IMAGES_ALONE), tuple(findings))


def _open_list_in_part(place: Path, error: DatasetError) -> Opened:
    """Those images of a list that are there."""
    try:
        lines = [line.strip() for line in place.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError):
        raise error from None
    named = [os.path.normpath(place.parent / line) for line in lines if line and not line.startswith("#")]
    pairs = [Pair(names_in_list(path, place.parent), (path,), None) for path in named if is_present(path)]
    if not pairs:
        raise error
    dataset = Dataset(place.parent, make_cases(pairs), Labels(), (), IMAGES_ALONE)
    return Opened(place.parent, dataset, (_find_at_place(error, place.parent),))


def _find_at_place(error: DatasetError, place: Path) -> Finding:
    """A refusal as a finding about what it names below ``place``, or about all where that is ``place``."""
    named = Path(error.case)
    where = named.relative_to(place).as_posix() if named.is_relative_to(place) and named != place else WHOLE
    told = as_finding(error, where)
    return replace(told, problem=error.problem) if named.is_relative_to(place) else told


def _read_layout(place: Path) -> Opened | None:
    if not place.is_dir():
        return None
    layout, laid = recognise(Folder(place))
    if layout is None or laid is None:
        return None
    unlabelled = tuple(sorted(pair.names[0] for pair in laid.unlabelled))
    cases = (*make_cases(laid.pairs), *_add_images_alone(laid, place))
    dataset = Dataset(place, tuple(sorted(cases, key=_sort_key)), laid.labels, laid.channels, layout.name, unlabelled)
    return Opened(place, dataset, tuple(_find_left_over(laid, place)))


def _add_images_alone(laid: Found, place: Path) -> list[Case]:
    """Images without a mask, looked at like the others, under names that leave those of the others as they are."""
    taken = {case.id for case in make_cases(laid.pairs)}
    choices = [names_of(path, place) for path in laid.images_alone]
    times = Counter(names[0] for names in choices)
    ids = [names[0] if times[names[0]] == 1 and names[0] not in taken else names[2] for names in choices]
    return [Case(name, (str(path),), None, name) for name, path in zip(ids, laid.images_alone, strict=True)]


def _find_left_over(laid: Found, place: Path) -> list[Finding]:
    """What no case could be made of."""
    findings = [
        Finding(path.relative_to(place).as_posix(), "IMAGE_MISSING", "a mask without an image")
        for path in laid.masks_alone
    ]
    findings += [_find_in_words("CHANNELS_MISSING", text) for text in laid.lacking]
    findings += [_find_in_words("CASES_UNPAIRED", text) for text in laid.wrong]
    if laid.unlabelled:
        findings.append(
            Finding(WHOLE, "UNLABELLED", f"{pluralise(len(laid.unlabelled), 'image')} without a mask by intention")
        )
    return findings


def _find_in_words(code: str, text: str) -> Finding:
    """What a recogniser says, told of the case that its words begin with."""
    match = SAID_OF_A_CASE.fullmatch(text)
    return Finding(match[1], code, match[2]) if match else Finding(WHOLE, code, text)


def _sort_key(case: Case) -> str:
    return case.id
