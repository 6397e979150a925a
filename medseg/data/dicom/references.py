"""What a mask says of the images that it was drawn on: their series, their instances and frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydicom.dataset import Dataset

from medseg.data.dicom.frames import Frame

Image = tuple[str, int]
"""SOPInstanceUID and number of the frame in it, from 1; 0 for all that it holds."""


def series_of_segmentation(header: Dataset) -> tuple[str, ...]:
    """SeriesInstanceUIDs of the series that a DICOM SEG was drawn on."""
    items = header.get("ReferencedSeriesSequence") or []
    return tuple(dict.fromkeys(str(item.SeriesInstanceUID) for item in items if item.get("SeriesInstanceUID")))


def series_of_contours(header: Dataset) -> tuple[str, ...]:
    """SeriesInstanceUIDs of the series that an RTSTRUCT was drawn on."""
    found = [
        str(series.SeriesInstanceUID)
        for reference in header.get("ReferencedFrameOfReferenceSequence") or []
        for study in reference.get("RTReferencedStudySequence") or []
        for series in study.get("RTReferencedSeriesSequence") or []
        if series.get("SeriesInstanceUID")
    ]
    return tuple(dict.fromkeys(found))


def images_of_segmentation(header: Dataset) -> frozenset[Image]:
    """The images that a DICOM SEG names as a whole or frame by frame."""
    series = header.get("ReferencedSeriesSequence") or []
    items = [item for each in series for item in each.get("ReferencedInstanceSequence") or []]
    items += [item for derived in _derivations(header) for item in derived.get("SourceImageSequence") or []]
    return frozenset(image for item in items for image in _images(item))


def images_of_contours(header: Dataset) -> frozenset[Image]:
    """The images on which the contours of an RTSTRUCT say that they lie."""
    return frozenset(
        image
        for structure in header.get("ROIContourSequence") or []
        for contour in structure.get("ContourSequence") or []
        for item in contour.get("ContourImageSequence") or []
        for image in _images(item)
    )


def images_in(frames: Sequence[Frame]) -> frozenset[Image]:
    """What may be named of some frames: each of them, and their files as a whole."""
    instances = ((str(frame.groups[-1].get("SOPInstanceUID", "")), frame.index + 1) for frame in frames)
    return frozenset(image for uid, number in instances for image in ((uid, 0), (uid, number)))


def keep_references(header: Dataset, frames: Sequence[Frame]) -> None:
    """Leave out of a DICOM SEG's sources the frames of their files that it was not made from.

    highdicom names every frame of a multi-frame source that lies at a mask's position, of all stacks.
    """
    held = images_in(frames)
    for derived in _derivations(header):
        items = derived.get("SourceImageSequence") or []
        kept = [item for item in items if held.issuperset(_images(item))]
        if len(kept) < len(items):
            derived.SourceImageSequence = kept


def _derivations(header: Dataset) -> Iterator[Dataset]:
    for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in header.get(keyword) or []:
            yield from group.get("DerivationImageSequence") or []


def _images(item: Dataset) -> list[Image]:
    uid, numbers = str(item.get("ReferencedSOPInstanceUID", "")), item.get("ReferencedFrameNumber")
    if numbers is None or numbers == "":
        return [(uid, 0)]
    return [(uid, int(number)) for number in ([numbers] if isinstance(numbers, str | int) else numbers)]
