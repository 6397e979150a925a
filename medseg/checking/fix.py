"""One case of a corrected copy: files as they are, or written anew where something is corrected."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

import medseg
from medseg.checking.check_report import CheckReport, FixedCopy
from medseg.checking.examine import Examined
from medseg.checking.file_names import find_suffix, name_files
from medseg.checking.mask_values import WHITE, is_white_only, repair_labels
from medseg.checking.usable_pairs import OnCase
from medseg.data.case import SERIES_PART, Case, split_slice
from medseg.data.descriptions import write_dataset
from medseg.data.images import as_labels, read, read_stored_mask, write
from medseg.data.labels import HALF_OF_255, has_soft_edges_only, label_values
from medseg.data.placing import on_grid
from medseg.data.rectifying import SHEAR_CODES, is_sheared, perpendicular, rectified
from medseg.data.volume import Volume
from medseg.data.writing import WRITERS
from medseg.errors import MedsegError, OutputError, UsageError
from medseg.files import LOCK_NAME, held, write_json, write_whole
from medseg.findings import Finding
from medseg.geometry import NEAR_GRID_VOXELS, Grid, corner_distance_voxels, reindex

OF_GRID = frozenset({"GRID_NEAR", "GRID_REINDEXED"})
APART = frozenset({"AXES_AMBIGUOUS", "GRID_MISMATCH", "SHAPE_MISMATCH", "SLICES_DIFFER"})
"""Image and mask, or two channels, do not hold the same voxels: no straightening could keep them together."""

OF_VALUES = frozenset({"LABEL_MAPPED", "LABEL_NEARLY_WHOLE", "LABEL_ONE_HOT", "LABEL_THRESHOLDED"})
ONE_FILE = {".mhd": ".mha", ".nhdr": ".nrrd"}
"""Formats of two files, and the one that holds both."""

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Target:
    """Where a case's files go.

    Args:
        folder: Of the whole copy.
        name: Of the case, without folders and ending.
        segments: Names and codes by which segments of DICOM objects are recognised as labels.
    """

    folder: Path
    name: str
    segments: Mapping[int, Sequence[str]] = field(default_factory=dict)

    def place(self, kind: str, number: int, count: int, suffix: str) -> Path:
        """The file of an image (``images``) or mask (``labels``), numbered where there are several."""
        ending = f"_{number:04d}" if count > 1 else ""
        return self.folder / kind / f"{self.name}{ending}{suffix}"


def find_sheared_grid(case: Case, codes: Collection[str]) -> Grid | None:
    """The grid of a case's images where it is to be straightened; None where it is not sheared, or the mask elsewhere.

    Args:
        case: Whose images can be read.
        codes: Of its findings.
    """
    if not set(SHEAR_CODES) & set(codes) or APART & set(codes):
        return None
    grid = read(case.images[0]).grid
    return grid if len(grid.shape) == 3 and is_sheared(grid.affine) else None


def write_images(case: Case, target: Target, sheared: Grid | None = None) -> tuple[str, ...]:
    """Copy a case's images, straightened where they lie on a sheared grid, and return where they are."""
    numbers = [(number, len(case.images)) for number in range(len(case.images))]
    if sheared is None:
        return tuple(str(_copy_file(path, target, "images", *n)) for n, path in zip(numbers, case.images, strict=True))
    written = []
    for number, path in zip(numbers, case.images, strict=True):
        straight = rectified(_place(read(path), sheared, path), path)
        written.append(
            str(_write_first_fit(straight, target, "images", number, (_choose_suffix(path), ".nii.gz", ".npz")))
        )
    return tuple(written)


def write_labels(case: Case, codes: Collection[str], target: Target, sheared: Grid | None = None) -> tuple[str, ...]:
    """Copy a case's masks, corrected as the codes of its findings ask for, and return where they are.

    Args:
        case: The case.
        codes: Of what is to be corrected.
        target: Where the copy goes.
        sheared: The images' grid where they are straightened, and the masks with them.
    """
    paths = case.label_files
    # An image of one series among several becomes a file of its own, which a DICOM mask would not refer to.
    is_rewritten = sheared is not None or any(SERIES_PART in image for image in case.images)
    if not is_rewritten and not (OF_GRID | OF_VALUES) & set(codes):
        return tuple(str(_copy_file(path, target, "labels", n, len(paths))) for n, path in enumerate(paths))
    grid = (sheared or read(case.images[0]).grid) if OF_GRID & set(codes) else None
    written = []
    for number, path in enumerate(paths):
        stored, is_picture = read_stored_mask(path, target.segments)
        is_corrected = sheared is None or (OF_GRID | OF_VALUES) & set(codes)
        labels = correct_mask(stored, codes, grid, path, is_picture=is_picture) if is_corrected else stored
        if sheared is not None:
            labels = rectified(_place(on_grid(labels, sheared, path), sheared, path), path, is_mask=True)
        suffixes = (_choose_suffix(path), ".nii.gz", ".npz")
        written.append(str(_write_first_fit(labels, target, "labels", (number, len(paths)), suffixes)))
    return tuple(written)


def correct_mask(stored: Volume, codes: Collection[str], grid: Grid | None, path: str, *, is_picture: bool) -> Volume:
    """A mask with what the codes name put right.

    Args:
        stored: As its file has it.
        codes: Of findings that are certain to be correctable.
        grid: The image's, where the mask is to be brought onto it.
        path: Of the mask, for errors.
        is_picture: Whether the mask is a picture.

    Raises:
        LabelError: The voxels are no labels after all.
        GridError: The grids do not hold the same voxels after all.
    """
    labels = as_labels(repair_labels(stored)[0], None, path, is_picture=is_picture)
    if "LABEL_MAPPED" in codes and is_white_only(tuple(label_values(labels.array))):
        labels = replace(labels, array=(labels.array == WHITE).astype(np.uint8))
    if "LABEL_THRESHOLDED" in codes and is_picture and _is_soft_edged(labels.array):
        labels = replace(labels, array=(labels.array > HALF_OF_255).astype(np.uint8))
    if grid is None:
        return labels
    array = reindex(labels.array, labels.grid, grid, path) if "GRID_REINDEXED" in codes else labels.array
    return replace(labels, array=array, affine=grid.affine)


def _place(volume: Volume, grid: Grid, path: str) -> Volume:
    """The same voxels in the order of ``grid``, and said to lie exactly there, however their own header is rounded."""
    if corner_distance_voxels(volume.grid, grid) <= NEAR_GRID_VOXELS:
        return replace(volume, affine=grid.affine)
    channels = volume.array if volume.has_channels else volume.array[None]
    turned = np.stack([reindex(channel, volume.grid, grid, path) for channel in channels])
    return replace(volume, array=turned if volume.has_channels else turned[0], affine=grid.affine)


def _is_soft_edged(array: NDArray) -> bool:
    """Whether a picture is black and white but for its edges; another file of the same case need not be."""
    return array.dtype == np.uint8 and bool(array.max(initial=0) == WHITE) and has_soft_edges_only(array)


def _copy_file(path: str, target: Target, kind: str, number: int, count: int) -> Path:
    """One file or DICOM folder as it is; a page, a slice or a format of two files as a file of its own."""
    file, part = split_slice(path)
    if not part and Path(path).is_dir():
        return _copy_folder(Path(path), target.place(kind, number, count, ""))
    suffix = find_suffix(path)
    if part or suffix in ONE_FILE:
        volume = read_stored_mask(path)[0] if kind == "labels" else read(path)
        wanted = (".png", ".tif", ".npz") if suffix in PICTURES else (ONE_FILE.get(suffix, ".nii.gz"), ".npz")
        return _write_first_fit(volume, target, kind, (number, count), wanted)
    place = target.place(kind, number, count, suffix)
    _copy(Path(file), place)
    return place


def _copy_folder(folder: Path, place: Path) -> Path:
    """All its files, those of its folders as well: a DICOM case may hold its slices below a DICOMDIR."""
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in inside.parts):
            (place / inside).parent.mkdir(parents=True, exist_ok=True)
            _copy(path, place / inside)
    return place


def _copy(source: Path, place: Path) -> None:
    def fill(file: IO[bytes]) -> None:
        with source.open("rb") as opened:
            shutil.copyfileobj(opened, file)

    write_whole(place, fill)


def _write_first_fit(
    volume: Volume, target: Target, kind: str, number: tuple[int, int], suffixes: tuple[str, ...]
) -> Path:
    """The volume in the first of these formats that can hold it."""
    for suffix in suffixes[:-1]:
        place = target.place(kind, *number, suffix)
        try:
            return write(volume.array, volume.affine, place, has_channels=volume.has_channels)
        except UsageError:
            continue  # The format cannot hold it; the last one holds any array.
    place = target.place(kind, *number, suffixes[-1])
    return write(volume.array, volume.affine, place, has_channels=volume.has_channels)


def _choose_suffix(path: str) -> str:
    if Path(path).is_dir():
        return ".nii.gz"
    suffix = find_suffix(path)
    if split_slice(path)[1] or suffix in (".jpg", ".jpeg", ".bmp"):
        return ".png" if suffix in PICTURES else ".nii.gz"
    suffix = ONE_FILE.get(suffix, suffix)
    return suffix if suffix in WRITERS else ".nii.gz"


LOG_NAME = "fix_log.json"
LOG_SCHEMA = 1


@dataclass(frozen=True)
class _Written:
    """The log of one case, and the case as it is in the copy; None where it was left out."""

    record: dict[str, Any]
    case: Case | None = None
    is_changed: bool = field(default=False)
    is_straightened: bool = field(default=False)
    has_errors: bool = field(default=False)


def write_fixed(
    examined: Examined, output: Path, on_case: OnCase | None = None, *, straightens: bool = False
) -> FixedCopy:
    """Write images and masks of all cases to ``output``, corrected where the report says that this is certain.

    All else is copied byte by byte. Cases whose files cannot be read, and images without the mask
    that the others have, are left out; the log says so.

    Args:
        examined: The data set, and what was found.
        output: An empty folder, or none.
        on_case: Called after each case with its id and the number of cases in all.
        straightens: Whether volumes on sheared grids are resampled onto perpendicular axes, masks with them.

    Raises:
        OutputError: OUTPUT_EXISTS, the folder is not empty; OUTPUT_INSIDE_INPUT; it cannot be written.
        LockedError: Another run is writing there.
    """
    dataset, report = examined.opened.dataset, examined.report
    _require_apart(output, dataset.root)
    findings: dict[str, list[Finding]] = {}
    for finding in report.findings:
        findings.setdefault(finding.case, []).append(finding)
    has_masks = any(case.label for case in dataset.cases)
    names = name_files(case.id for case in dataset.cases)
    written: list[_Written] = []
    with held(output):
        for case in dataset.cases:
            own = findings.get(case.id, [])
            is_left_out = case.id in examined.unreadable or (has_masks and case.label is None)
            target = Target(output, names[case.id], examined.expected.segments)
            written.append(_leave_out(case, own) if is_left_out else _copy_case(case, own, target, straightens))
            if on_case:
                on_case(case.id, len(dataset.cases))
        kept = tuple(each.case for each in written if each.case is not None)
        if has_masks and kept:
            write_dataset(replace(dataset, root=output, cases=kept), output)
        ids = {case.id for case in dataset.cases}
        of_no_case = [finding for finding in report.findings if finding.case not in ids]
        write_json(_make_log(report, written, of_no_case), output / LOG_NAME)
    changed = sum(each.is_changed for each in written)
    wrong = sum(each.has_errors for each in written)
    straightened = sum(each.is_straightened for each in written)
    return FixedCopy(output, len(kept), changed, len(written) - len(kept), wrong, straightened)


def _require_apart(output: Path, root: Path) -> None:
    if root.resolve() in (output.resolve(), *output.resolve().parents):
        problem = f"lies inside {root}, which stays as it is"
        raise OutputError("OUTPUT_INSIDE_INPUT", output, problem, "give a folder beside the data set")
    is_folder = output.is_dir()
    if (is_folder and any(path.name != LOCK_NAME for path in output.iterdir())) or (output.exists() and not is_folder):
        raise OutputError("OUTPUT_EXISTS", output, "is not empty", "give a folder that is empty or not there")


def _copy_case(case: Case, findings: Sequence[Finding], target: Target, straightens: bool) -> _Written:
    codes = {finding.code for finding in findings if finding.is_fixable}
    try:
        sheared = find_sheared_grid(case, {finding.code for finding in findings}) if straightens else None
        images = write_images(case, target, sheared)
        labels = write_labels(case, codes, target, sheared)
    except OutputError:
        raise
    except MedsegError as error:
        return _Written(_make_record(case, (), findings, why=f"{error.code}: {error.problem}"))
    copied = replace(case, images=images, label=labels[0] if len(labels) == 1 else labels or None)
    done = {*codes, *(SHEAR_CODES if sheared else ())}
    fixed = [finding for finding in findings if finding.code in done]
    left = [finding for finding in findings if finding.code not in done]
    record = {**_make_record(case, fixed, left), "straightened": _record_grids(sheared) if sheared else None}
    places = [Path(path).relative_to(target.folder).as_posix() for path in (*images, *labels)]
    has_errors = any(finding.severity == "error" for finding in left)
    return _Written({**record, "files": places}, copied, bool(fixed), sheared is not None, has_errors)


def _leave_out(case: Case, findings: Sequence[Finding]) -> _Written:
    why = "its files cannot be read" if case.label is not None else "it has no mask"
    return _Written(_make_record(case, (), findings, why))


def _make_record(case: Case, fixed: Sequence[Finding], left: Sequence[Finding], why: str = "") -> dict[str, Any]:
    return {
        "case": case.id,
        "files": [],
        "fixed": [_record_finding(finding) for finding in fixed],
        "left": [_record_finding(finding) for finding in left],
        "left_out": why,
        "straightened": None,
    }


def _record_grids(sheared: Grid) -> dict[str, Any]:
    """The grid that the images had, and the one that they have in the copy."""
    grids = {"old": sheared, "new": perpendicular(sheared)}
    return {name: {"shape": list(grid.shape), "affine": grid.affine.tolist()} for name, grid in grids.items()}


def _record_finding(finding: Finding) -> dict[str, str]:
    return {"code": finding.code, "severity": finding.severity, "what": finding.problem}


def _make_log(report: CheckReport, written: Sequence[_Written], of_no_case: Sequence[Finding]) -> dict[str, Any]:
    return {
        "schema": LOG_SCHEMA,
        "medseg": medseg.__version__,
        "data": report.data,
        "cases": [each.record for each in written],
        "left_of_the_data_set": [{**_record_finding(finding), "case": finding.case} for finding in of_no_case],
    }
