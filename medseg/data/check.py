"""Look at every image and mask once before a long run, and name all that is wrong at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from medseg.data.case import Case, Dataset
from medseg.data.images import read, read_mask
from medseg.data.joining import stacked
from medseg.data.pictures import is_grey
from medseg.data.placing import on_grid
from medseg.data.volume import Note, Volume
from medseg.errors import DatasetError, ImageError, MedsegError
from medseg.geometry import reindex

CASES_AT_ONCE = 2
"""Pairs in memory at a time: reading is half inflating, which lets another thread work."""

MOST_LISTED = 200

OnCase = Callable[[str, int], None]


@dataclass(frozen=True)
class PairFinding:
    """Why a case cannot be used.

    Args:
        case: Its id.
        code: As in docs/reference/errors.md.
        what: What was found, with the file and the value.
        remedy: What the user can do.
    """

    case: str
    code: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.case}: {self.code}: {self.what}"


@dataclass(frozen=True)
class _Seen:
    """What reading one case brought."""

    findings: tuple[PairFinding, ...]
    notes: tuple[Note, ...]


def check_pairs(
    cases: Dataset | Iterable[Case],
    values: Collection[int] | None = None,
    channels: int | None = None,
    on_case: OnCase | None = None,
) -> list[PairFinding]:
    """Everything that would stop a training at some case: unreadable files, other grids, wrong labels or channels.

    Each file is read once, as the readers of a training would; two cases are in memory at a time.

    Args:
        cases: Those to look at.
        values: The labels that may occur; None lets any pass.
        channels: How many an image must have; None lets any number pass.
        on_case: Called after each case with its id and the number of cases in all.

    Returns:
        All findings, in the order of the cases; a case may have two, of its image and its mask.
        Empty where all can be used.
    """
    return [finding for _, seen in _look_at_all(cases, values, channels, on_case) for finding in seen.findings]


def require_usable(
    cases: Dataset | Iterable[Case],
    values: Collection[int] | None = None,
    channels: int | None = None,
    on_case: OnCase | None = None,
) -> tuple[Note, ...]:
    """Refuse cases that :func:`check_pairs` finds anything in, all in one error.

    Args:
        cases: As for :func:`check_pairs`, like the other arguments.
        values: The labels that may occur.
        channels: How many an image must have.
        on_case: Called after each case.

    Returns:
        What is odd about files that can be used all the same, such as soft edges of masks and
        where they are cut: one note for each code, with the number of cases and an example.

    Raises:
        DatasetError: PAIRS_UNUSABLE with all findings, or the code of the only one.
    """
    findings: list[PairFinding] = []
    noted: dict[str, list[tuple[str, Note]]] = {}
    for case, seen in _look_at_all(cases, values, channels, on_case):
        findings += seen.findings
        for note in seen.notes:
            noted.setdefault(note.code, []).append((case.id, note))
    if len(findings) == 1:
        raise DatasetError(findings[0].code, findings[0].case, findings[0].what, findings[0].remedy)
    if findings:
        raise _unusable(findings)
    return tuple(_summed_up(code, found) for code, found in noted.items())


def _look_at_all(
    cases: Dataset | Iterable[Case], values: Collection[int] | None, channels: int | None, on_case: OnCase | None
) -> Iterator[tuple[Case, _Seen]]:
    listed = cases.cases if isinstance(cases, Dataset) else tuple(cases)
    with ThreadPoolExecutor(CASES_AT_ONCE) as pool:
        looks = pool.map(lambda case: _look_at(case, values, channels), listed)
        for case, seen in zip(listed, looks, strict=True):
            yield case, seen
            if on_case:
                on_case(case.id, len(listed))


def _look_at(case: Case, values: Collection[int] | None, channels: int | None) -> _Seen:
    findings: list[PairFinding] = []
    image = mask = None
    try:
        image = _image(case, channels)
    except MedsegError as error:
        findings.append(_finding(case, error))
    try:
        mask = _mask(case, values)
        if image is not None:
            mask = on_grid(mask, image.grid, " and ".join(case.label_files))
            reindex(mask.array, mask.grid, image.grid, " and ".join(case.label_files))
    except MedsegError as error:
        findings.append(_finding(case, error))
    return _Seen(tuple(findings), tuple(note for volume in (image, mask) if volume for note in volume.notes))


def _image(case: Case, channels: int | None) -> Volume:
    image = stacked([read(path) for path in case.images], case.images)
    unfit = next((note for note in image.notes if note.code == "NONFINITE_VOXELS"), None)
    if unfit:
        raise ImageError("NONFINITE_VOXELS", case.images[0], unfit.text, "replace them, or export the image again")
    count = image.array.shape[0] if image.has_channels else 1
    if channels == 1 and image.has_channels and is_grey(image.array):
        count = 1
    if channels is not None and count != channels:
        problem = f"{count} channel(s), the model takes {channels}"
        raise ImageError("CHANNEL_COUNT", case.images[0], problem, "give images with these channels")
    return image


def _mask(case: Case, values: Collection[int] | None) -> Volume:
    if case.label is None:
        raise ImageError("MASK_MISSING", case.id, "has no mask", "add it, or move the image away")
    return read_mask(case.label, values)


def _finding(case: Case, error: MedsegError) -> PairFinding:
    where = "" if error.case == case.id else f"{error.case}: "
    return PairFinding(case.id, error.code, f"{where}{error.problem}", error.remedy)


def _unusable(findings: list[PairFinding]) -> DatasetError:
    lines = [f"\n  {finding}" for finding in findings[:MOST_LISTED]]
    left_out = f"\n  and {len(findings) - MOST_LISTED} more" if len(findings) > MOST_LISTED else ""
    remedy_of = {finding.code: finding.remedy for finding in reversed(findings)}
    cases = len({finding.case for finding in findings})
    return DatasetError(
        "PAIRS_UNUSABLE",
        findings[0].case if cases == 1 else f"{cases} cases",
        f"{len(findings)} findings before anything is trained:{''.join(lines)}{left_out}\n",
        "; ".join(f"{code}: {remedy}" for code, remedy in sorted(remedy_of.items())),
    )


def _summed_up(code: str, found: list[tuple[str, Note]]) -> Note:
    first, example = found[0]
    return Note(code, f"{len(found)} files, such as {first}: {example.text}")
