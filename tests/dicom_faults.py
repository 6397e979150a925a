"""Ways to spoil the small DICOM series of ``dicom_folders``: its slices, its headers, what lies beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom import Dataset

from tests.dicom_folders import (
    SEG_CLASS,
    SLICES,
    SR_CLASS,
    TRUTH,
    Build,
    beside,
    directory,
    edit,
    edited,
    image_free,
    numbered,
    save,
    save_all,
    slices,
    uid,
)


def turned(orientation: list[int], normal: list[int]) -> Build:
    """The planes in another orientation of the patient, in order along their normal."""
    positions = [[3 * number * axis for axis in normal] for number in range(SLICES)]
    return numbered("ImagePositionPatient", positions, ImageOrientationPatient=orientation)


def rescaled_per_slice(folder: Path) -> np.ndarray:
    numbered("RescaleSlope", [0.5 * (number + 1) for number in range(SLICES)])(folder)
    return ((TRUTH.astype(float) + 1024) * (0.5 * np.arange(1, SLICES + 1)) - 1024).astype(np.float32)


def without_rescaling(folder: Path) -> np.ndarray:
    edited(RescaleSlope=None, RescaleIntercept=None)(folder)
    return TRUTH + 1024


def one_slice(folder: Path, **values: object) -> np.ndarray:
    save_all([edit(slices()[0], **values)], folder)
    return TRUTH[:, :, :1]


def x_ray(folder: Path) -> np.ndarray:
    one_slice(folder, Modality="DX", ImagePositionPatient=None, ImageOrientationPatient=None)
    return TRUTH[:, :, 0]


def in_folders_below(folder: Path) -> None:
    save_all(slices(), folder / "ST0" / "SE0")
    save(directory("ST0", "SE0", "S1"), folder / "DICOMDIR")


def oddly_named(folder: Path) -> None:
    names = ["-rf", "ü ber.dcm", "a" * 100, "; echo", "\x1b[31m", "IM"]
    for data, name in zip(slices(), names, strict=True):
        save(data, folder / name)


def tilted(folder: Path) -> None:
    numbered("ImagePositionPatient", [[-10, -20 + number, -30 + 3 * number] for number in range(SLICES)])(folder)


def two_series(folder: Path) -> None:
    other = {"SeriesInstanceUID": uid("other"), "SeriesNumber": 4}
    seconds = [edit(data, SOPInstanceUID=uid(f"other {n}"), **other) for n, data in enumerate(slices())]
    save_all(slices() + seconds, folder)


def with_localizer(folder: Path) -> None:
    scout = edit(slices()[0], SOPInstanceUID=uid("scout"), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    save_all([*slices(), edit(scout, ImageOrientationPatient=[1, 0, 0, 0, 0, -1])], folder)


def cut(keep: float) -> Build:
    """A series with one file cut."""

    def build(folder: Path) -> None:
        path = save_all(slices(), folder)[2]
        raw = path.read_bytes()
        path.write_bytes(raw[: int(keep * len(raw))])

    return build


def zeros_only(folder: Path) -> None:
    path = save_all(slices(), folder)[2]
    raw = path.read_bytes()
    path.write_bytes(raw[: 144 + int.from_bytes(raw[140:144], "little")] + bytes(1 << 20))


def many_patients(folder: Path) -> None:
    numbered("PatientID", [f"P{number // 3}" for number in range(SLICES)])(folder)


def same_identifier(folder: Path) -> None:
    edited(1, SOPInstanceUID=uid("instance 3"))(folder)


def empty_file(name: str) -> Build:
    return beside(name, b"")


def nothing(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)


def only(name: str, content: bytes | Dataset) -> Build:
    """A folder with one file that is no image."""

    def build(folder: Path) -> None:
        nothing(folder)
        save(content, folder / name) if isinstance(content, Dataset) else (folder / name).write_bytes(content)

    return build


def with_segmentation(folder: Path) -> None:
    other = edit(slices()[0], SOPClassUID=SEG_CLASS, SOPInstanceUID=uid("seg"), SeriesInstanceUID=uid("seg"))
    save_all(slices(), folder)
    save(edit(other, Modality="SEG"), folder / "seg.dcm")


def preamble(start: bytes) -> Build:
    """A series with one file that begins like something else."""

    def build(folder: Path) -> None:
        path = save_all(slices(), folder)[0]
        path.write_bytes(start + path.read_bytes()[len(start) :])

    return build


def followed_by(rest: bytes) -> Build:
    """A series with one file that goes on behind its pixels."""

    def build(folder: Path) -> None:
        path = save_all(slices(), folder)[0]
        path.write_bytes(path.read_bytes() + rest)

    return build


def steps(*places_mm: float) -> Build:
    """A series with its slices at these places."""
    return numbered("ImagePositionPatient", [[-10, -20, place] for place in places_mm])


def element_twice(folder: Path) -> None:
    path = save_all(slices(), folder)[2]
    raw = path.read_bytes()
    at = raw.index(b"\x28\x00\x10\x00US")
    path.write_bytes(raw[:at] + raw[at : at + 10] + raw[at:])


def padded_report(folder: Path) -> None:
    save_all(slices(), folder)
    path = save(image_free(SR_CLASS, "SR"), folder / "sr.dcm")
    path.write_bytes(path.read_bytes() + bytes(500))
