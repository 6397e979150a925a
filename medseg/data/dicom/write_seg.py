"""Masks as DICOM Segmentation objects, written whole, read back and compared before they get their name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydicom.config import disable_value_validation
from pydicom.dataset import FileDataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from medseg.data.dicom.file import DICOM_ERRORS, read_file
from medseg.data.dicom.read_seg import read_own_planes, read_segmentation
from medseg.data.dicom.source import SourceSeries, keep_references
from medseg.data.labels import label_values
from medseg.data.terminology import OWN_SCHEME, Code, Term, make_own_term
from medseg.data.volume import Volume
from medseg.errors import GridError, ImageError, OutputError, first_line
from medseg.files import write_whole
from medseg.findings import Finding, make_note
from medseg.geometry import LPS_TO_RAS, SAME_GRID_VOXELS, corner_distance_voxels

if TYPE_CHECKING:
    from highdicom.seg import Segmentation, SegmentDescription
    from highdicom.sr import CodedConcept

SERIES_NUMBER = 1000
CENTROID_TOLERANCE_MM = 1e-3
LONGEST_TEXT = 64
IDENTITY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)
"""What the standard wants in every object, if empty (type 2), and real files leave out."""

NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID", "SOPClassUID", "Modality")


@dataclass(frozen=True)
class Author:
    """What made a mask.

    Args:
        name: The bundle's name.
        version: The bundle's version.
        serial: What tells its weights from others, such as the beginning of their checksum.
        software: medseg's version.
    """

    name: str
    version: str
    serial: str
    software: str


@dataclass(frozen=True)
class Meaning:
    """What the labels of a mask are called.

    Args:
        names: The name of each label, the background included.
        terms: Codes of the labels that have them.
    """

    names: Mapping[int, str]
    terms: Mapping[int, Term]

    def term(self, label: int) -> Term:
        """The label's codes, or private ones made of its name."""
        return self.terms.get(label) or make_own_term(label, self.names[label])


def write_segmentation(
    mask: Volume, source: SourceSeries, path: Path, meaning: Meaning, author: Author, kind: str = "binary"
) -> tuple[Finding, ...]:
    """Write a mask as a DICOM SEG that refers to the series that it was made from.

    The patient's and the study's attributes are those of the source, as the standard asks for.

    Args:
        mask: Labels (X, Y, Z) on the source's grid.
        source: The series.
        path: The file.
        meaning: Names and codes of the labels.
        author: What made the mask.
        kind: One of ``medseg.options.SEG_TYPES``: one bit per voxel and segment, which every program reads, or label
            numbers, run-length encoded, which are smaller and which newer programs read.

    Returns:
        What is odd about it without being wrong.

    Raises:
        GridError: ``GRID_MISMATCH``: the mask lies 0.001 voxel or more off the source.
        OutputError: ``SEG_SOURCE``: the source lacks what a segmentation must refer to;
            ``OUTPUT_UNWRITABLE`` or ``OUTPUT_NOT_VERIFIED``.
    """
    apart = corner_distance_voxels(mask.grid, source.grid)
    if apart >= SAME_GRID_VOXELS:
        problem = f"the mask lies {apart:.3g} voxels off the series that it is to refer to"
        raise GridError("GRID_MISMATCH", path, problem, "write it as NIfTI, or predict on that series")
    notes = _note_mask(mask, meaning)
    try:
        # Warnings of odd values would show them, and they are the patient's.
        with disable_value_validation():
            made = _identify(_make_segmentation(mask, source, meaning, author, kind), source)
    except DICOM_ERRORS as error:
        remedy = "export the series again, or write the mask as NIfTI"
        raise OutputError(
            "SEG_SOURCE", path, f"no segmentation can refer to its series: {first_line(error)}", remedy
        ) from error

    def fill(file: IO[bytes]) -> None:
        with disable_value_validation():
            made.save_as(file)
        file.flush()
        _verify(Path(file.name), path, mask, source)

    write_whole(path, fill)
    return notes


def _note_mask(mask: Volume, meaning: Meaning) -> tuple[Finding, ...]:
    notes = []
    if not mask.array.any():
        notes.append(make_note("SEG_EMPTY", "nothing was found; each segment, or the mask, has one empty frame"))
    uncoded = [name for label, name in meaning.names.items() if label and label not in meaning.terms]
    if uncoded:
        text = f"{', '.join(uncoded)}: the bundle gives no codes; they are written under private codes ({OWN_SCHEME})"
        notes.append(make_note("SEG_UNCODED", text))
    return tuple(notes)


def _make_segmentation(mask: Volume, source: SourceSeries, meaning: Meaning, author: Author, kind: str) -> Segmentation:
    import highdicom
    from highdicom.coding_schemes import CodingSchemeIdentificationItem
    from highdicom.seg import Segmentation

    headers = _read_source_headers(source)
    labels = [label for label in sorted(meaning.names) if label]
    is_empty = not mask.array.any()
    pixels, geometry = _arrange_pixels(mask, source, slice(0, 1) if is_empty else slice(None))
    used = {term.kind.scheme for term in map(meaning.term, labels)}
    own = [CodingSchemeIdentificationItem(OWN_SCHEME, name="medseg labels")] if OWN_SCHEME in used else None
    is_labelmap = kind == "labelmap"
    return Segmentation(
        source_images=headers[:1] if "NumberOfFrames" in headers[0] else headers,
        further_source_images=headers[1:] if "NumberOfFrames" in headers[0] else None,
        pixel_array=pixels,
        segmentation_type=kind.upper(),
        segment_descriptions=[_describe_segment(label, meaning, author) for label in labels],
        series_instance_uid=highdicom.UID(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="medseg",
        manufacturer_model_name=author.name[:LONGEST_TEXT],
        software_versions=author.software,
        device_serial_number=author.serial[:LONGEST_TEXT] or "none",
        transfer_syntax_uid=RLELossless if is_labelmap else ExplicitVRLittleEndian,
        omit_empty_frames=not is_empty,
        content_label="SEGMENTATION",
        content_description=None,
        series_description=f"medseg {author.name}"[:LONGEST_TEXT],
        specific_character_set="ISO_IR 192",  # UTF-8
        coding_schemes=own,
        **geometry,
    )


def _read_source_headers(source: SourceSeries) -> list[FileDataset]:
    """The files' headers in the order of the slices, the first one's identity left empty: see ``_identify``.

    Raises:
        KeyError: What may not be empty is missing.
    """
    by_path = {file.path: file.header for file in source.files}
    paths = list(dict.fromkeys(frame.path for frame in source.frames))
    headers = [by_path[path] for path in paths]
    missing = [keyword for keyword in NEEDED if not headers[0].get(keyword)]
    if missing:
        raise KeyError(f"{', '.join(missing)} is missing")
    first = read_file(paths[0]).header  # Read anew, for a copy would share its elements.
    for keyword in IDENTITY:
        setattr(first, keyword, None)
    return [first, *headers[1:]]


def _identify(made: Segmentation, source: SourceSeries) -> Segmentation:
    """The segmentation with the patient and study of its source, and references to no other frame.

    highdicom does not get to see these values: it would tell of those that it finds odd.
    """
    header = source.files[0].header
    for keyword in IDENTITY:
        if header.get(keyword) is not None:
            setattr(made, keyword, header[keyword].value)
    keep_references(made, source.frames)
    return made


def _arrange_pixels(mask: Volume, source: SourceSeries, slices: slice) -> tuple[Any, dict[str, Any]]:
    """The labels as highdicom takes them, with where the planes lie.

    A Volume where the slices are even and upright: highdicom then places the planes itself. Slices of
    a tilted gantry, or uneven ones, keep the positions that the source states.
    """
    import highdicom

    planes = np.ascontiguousarray(mask.array.transpose(2, 1, 0)[slices])
    planes = planes.astype(np.uint8 if planes.max(initial=0) < 256 else np.uint16)
    lps = LPS_TO_RAS @ source.grid.affine
    if _is_upright(lps) and measure_unevenness_mm(source) < SAME_GRID_VOXELS * min(source.grid.spacing_mm):
        frame_of_reference = source.frame_of_reference
        return highdicom.Volume(planes, lps[:, [2, 1, 0, 3]], "PATIENT", frame_of_reference), {}
    positions = [highdicom.PlanePositionSequence("PATIENT", position) for position in source.positions_mm[slices]]
    return planes, {"plane_positions": positions}


def _is_upright(affine: NDArray[np.float64]) -> bool:
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.abs(directions.T @ directions - np.eye(3)).max() < 1e-6)


def measure_unevenness_mm(source: SourceSeries) -> float:
    """How far the slice that fits worst lies off the grid, in mm."""
    lps = LPS_TO_RAS @ source.grid.affine
    even = lps[:3, 3] + np.arange(len(source.frames))[:, None] * lps[:3, 2]
    return float(np.linalg.norm(source.positions_mm - even, axis=1).max())


def _describe_segment(label: int, meaning: Meaning, author: Author) -> SegmentDescription:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription
    from pydicom.sr.codedict import codes

    term = meaning.term(label)
    algorithm = AlgorithmIdentificationSequence(
        name=author.name[:LONGEST_TEXT],
        family=codes.DCM.ArtificialIntelligence,
        version=author.version[:LONGEST_TEXT],
        source=f"medseg {author.software}",
    )
    description = SegmentDescription(
        segment_number=label,
        segment_label=meaning.names[label][:LONGEST_TEXT],
        segmented_property_category=_make_concept(term.category),
        segmented_property_type=_make_concept(term.kind),
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
        anatomic_regions=[_make_concept(term.region)] if term.region else None,
        display_color=CIELabColor.from_rgb(*term.colour) if term.colour else None,
    )
    if term.modifier:
        kind = description.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [_make_concept(term.modifier)]
    return description


def _make_concept(code: Code) -> CodedConcept:
    from highdicom.sr import CodedConcept

    return CodedConcept(code.value, code.scheme, code.meaning)


def _verify(written: Path, path: Path, mask: Volume, source: SourceSeries) -> None:
    """Read the file back: every voxel on the source's grid, and each segment's place from the file alone."""
    try:
        on_source = read_segmentation(written, series=source)
        alone = read_own_planes(written)
    except ImageError as error:
        problem = f"the file just written cannot be read back ({error.code}: {error.problem})"
        raise OutputError("OUTPUT_NOT_VERIFIED", path, problem, "check the disk") from error
    if not np.array_equal(on_source.array, mask.array):
        problem = "the voxels read back differ from those written"
        raise OutputError("OUTPUT_NOT_VERIFIED", path, problem, "check the disk")
    labels = [label for label in label_values(mask.array) if label]
    far_mm = np.linalg.norm(find_centroids_mm(alone, labels) - find_centroids_mm(mask, labels), axis=1)
    if far_mm.max(initial=0) > CENTROID_TOLERANCE_MM + measure_unevenness_mm(source):
        problem = f"label {labels[int(far_mm.argmax())]} reads back {far_mm.max():.3g} mm from where it lies"
        raise OutputError("OUTPUT_NOT_VERIFIED", path, problem, "write the mask as NIfTI, and report this")


def find_centroids_mm(mask: Volume, labels: Sequence[int]) -> NDArray[np.float64]:
    """Centre of mass of each label in RAS+ mm, (labels, 3); nan for one that no voxel has."""
    centres = np.full((len(labels), 3), np.nan)
    for row, label in enumerate(labels):
        voxels = np.nonzero(mask.array == label)
        if voxels[0].size:
            middle = [float(axis.mean()) for axis in voxels]
            centres[row] = (mask.affine @ [*middle, 1.0])[:3]
    return centres
