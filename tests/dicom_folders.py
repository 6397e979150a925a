"""Small DICOM folders for tests, made with pydicom alone: a known volume, whole or spoilt in one way."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT_CLASS = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT_CLASS = "1.2.840.10008.5.1.4.1.1.2.1"
SR_CLASS = "1.2.840.10008.5.1.4.1.1.88.33"
SEG_CLASS = "1.2.840.10008.5.1.4.1.1.66.4"
RTSTRUCT_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
DIRECTORY_CLASS = "1.2.840.10008.1.3.10"

COLUMNS, ROWS, SLICES = 36, 34, 6
TRUTH = np.random.default_rng(7).integers(-1000, 2000, (COLUMNS, ROWS, SLICES)).astype(np.int16)
"""Hounsfield units, (X, Y, Z)."""

AFFINE = np.array([[-1.5, 0, 0, 10], [0, -2.0, 0, 20], [0, 0, 3, -30], [0, 0, 0, 1]])
"""Voxel to RAS+ mm: 1.5 mm between columns, 2 mm between rows, 3 mm between slices."""

Build = Callable[[Path], "np.ndarray | None"]


def slices(count: int = SLICES) -> list[Dataset]:
    """The truth as classic CT slices, ascending, stored unsigned with an intercept of −1024."""
    return [_slice(number) for number in range(count)]


def _slice(number: int) -> Dataset:
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = CT_CLASS, uid(f"instance {number}")
    data.StudyInstanceUID, data.SeriesInstanceUID = uid("study"), uid("series")
    data.FrameOfReferenceUID = uid("frame of reference")
    data.PatientID, data.PatientName, data.Modality = "P1", "Test^Case", "CT"
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.SeriesNumber, data.AcquisitionNumber, data.InstanceNumber = 3, 1, number + 1
    data.ImagePositionPatient = [-10, -20, -30 + 3 * number]
    data.ImageOrientationPatient, data.PixelSpacing, data.SliceThickness = [1, 0, 0, 0, 1, 0], [2, 1.5], 3
    data.RescaleSlope, data.RescaleIntercept = 1, -1024
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns = ROWS, COLUMNS
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
    set_pixels(data, TRUTH[:, :, number].T.astype(np.int32) + 1024, "<u2")
    return data


def uid(what: str) -> str:
    """A UID, the same for the same text."""
    return generate_uid(entropy_srcs=["hostile", what])


def set_pixels(data: Dataset, plane: np.ndarray, dtype: str) -> None:
    """Store (row, column) values as plain pixels of a type."""
    raw = plane.astype(dtype).tobytes()
    data.add_new("PixelData", "OW" if np.dtype(dtype).itemsize > 1 else "OB", raw + b"\0" * (len(raw) % 2))
    data.BitsAllocated = data.BitsStored = np.dtype(dtype).itemsize * 8
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(np.dtype(dtype).kind == "i")


def save(data: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    """Write a file, its meta information made to fit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = data.SOPClassUID, data.SOPInstanceUID
    meta.TransferSyntaxUID = data.file_meta.TransferSyntaxUID if hasattr(data, "file_meta") else syntax
    data.file_meta = meta
    data.save_as(path, enforce_file_format=True)
    return path


def save_all(every: list[Dataset], folder: Path, syntax: str = ExplicitVRLittleEndian) -> list[Path]:
    """Write slices as s1.dcm, s2.dcm …"""
    return [save(data, folder / f"s{number + 1}.dcm", syntax) for number, data in enumerate(every)]


def edited(which: int | None = None, **values: Any) -> Build:
    """A series with attributes set in one slice (or in every one); None removes one."""

    def build(folder: Path) -> None:
        every = slices()
        for number, data in enumerate(every):
            if which is None or number == which:
                edit(data, **values)
        save_all(every, folder)

    return build


def edit(data: Dataset, **values: Any) -> Dataset:
    """Set attributes, or remove those that are None."""
    for keyword, value in values.items():
        if value is None:
            delattr(data, keyword)
        else:
            setattr(data, keyword, value)
    return data


def numbered(keyword: str, values: list[Any], **more: Any) -> Build:
    """A series with an attribute of its own for each slice."""

    def build(folder: Path) -> None:
        save_all([edit(data, **{keyword: value}, **more) for data, value in zip(slices(), values, strict=True)], folder)

    return build


def twice(keyword: str, second: Any, first: Any = None) -> Build:
    """Every slice two times at its place, the second with another value of an attribute."""

    def build(folder: Path) -> None:
        firsts, seconds = slices(), slices()
        for number, (one, other) in enumerate(zip(firsts, seconds, strict=True)):
            if first is not None:
                edit(one, **{keyword: first})
            edit(other, **{keyword: second}, SOPInstanceUID=uid(f"second {number}"), InstanceNumber=number + 11)
        save_all(firsts + seconds, folder)

    return build


def patched(which: int, old: bytes, new: bytes) -> Build:
    """A series with bytes of one file replaced."""

    def build(folder: Path) -> None:
        path = save_all(slices(), folder)[which]
        raw = path.read_bytes()
        assert raw.count(old) >= 1
        path.write_bytes(raw.replace(old, new))

    return build


def without(*numbers: int) -> Build:
    """A series that lacks slices."""

    def build(folder: Path) -> None:
        save_all([data for number, data in enumerate(slices()) if number not in numbers], folder)

    return build


def beside(name: str, content: bytes | Dataset) -> Build:
    """A whole series with another file in its folder."""

    def build(folder: Path) -> None:
        save_all(slices(), folder)
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            save(content, folder / name)

    return build


def image_free(storage_class: str, modality: str) -> Dataset:
    """A DICOM object that holds no acquired image."""
    data = _slice(0)
    for keyword in ("Rows", "Columns", "PixelData", "ImagePositionPatient", "ImageOrientationPatient"):
        delattr(data, keyword)
    own = {"SOPInstanceUID": uid(modality), "SeriesInstanceUID": uid(modality)}
    return edit(data, SOPClassUID=storage_class, Modality=modality, **own)


def directory(*names: str) -> Dataset:
    """A DICOMDIR that refers to one file."""
    data, record = Dataset(), Dataset()
    record.ReferencedFileID = list(names)
    data.SOPClassUID, data.SOPInstanceUID, data.DirectoryRecordSequence = DIRECTORY_CLASS, uid("directory"), [record]
    return data


def enhanced(order: list[int] | None = None) -> Dataset:
    """The truth as one multi-frame file, its frames in the given order."""
    order = list(range(SLICES)) if order is None else order
    single = slices()
    data, shared, frames = _slice(0), Dataset(), []
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(data, keyword)
    for keyword in ("RescaleSlope", "RescaleIntercept"):
        delattr(data, keyword)
    shared.PixelMeasuresSequence = [_group(PixelSpacing=[2, 1.5], SliceThickness=3)]
    shared.PlaneOrientationSequence = [_group(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])]
    for number in order:
        frame = Dataset()
        frame.PlanePositionSequence = [_group(ImagePositionPatient=single[number].ImagePositionPatient)]
        frame.PixelValueTransformationSequence = [_group(RescaleSlope=1, RescaleIntercept=-1024)]
        frame.FrameContentSequence = [_group(StackID="1", TemporalPositionIndex=1)]
        frames.append(frame)
    data.SOPClassUID, data.NumberOfFrames = ENHANCED_CT_CLASS, len(order)
    data.SharedFunctionalGroupsSequence, data.PerFrameFunctionalGroupsSequence = [shared], frames
    data.PixelData = b"".join(single[number].PixelData for number in order)
    return data


def _group(**values: Any) -> Dataset:
    return edit(Dataset(), **values)


def single_file(data: Callable[[], Dataset], change: Callable[[Dataset], object] | None = None) -> Build:
    """A folder with one file."""

    def build(folder: Path) -> None:
        made = data()
        if change:
            change(made)
        save(made, folder / "volume.dcm")

    return build


def compressed(syntax: str) -> Build:
    """A series compressed by pydicom and its plug-ins."""

    def build(folder: Path) -> None:
        for path in save_all(slices(), folder):
            compress(path, syntax)

    return build


def compress(path: Path, syntax: str) -> None:
    """Compress a file in place, without loss."""
    data = dcmread(path)
    data.compress(syntax, generate_instance_uid=False)
    data.save_as(path)


def copied(folder: Path) -> None:
    """One slice stored in two files."""
    shutil.copy(save_all(slices(), folder)[2], folder / "copy.dcm")


def add_series(folder: Path, name: str, number: int, **values: object) -> None:
    """Save the slices as a series of another name and number."""
    own = {"SeriesInstanceUID": uid(name), "SeriesNumber": number, **values}
    save_all([edit(data, SOPInstanceUID=uid(f"{name} {n}"), **own) for n, data in enumerate(slices())], folder)
