"""Pixels of the small DICOM series of ``dicom_folders``, stored in odd ways or spoilt."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    JPEG2000Lossless,
    RLELossless,
)

from tests.dicom_folders import (
    SLICES,
    TRUTH,
    Build,
    compressed,
    edit,
    edited,
    enhanced,
    save,
    save_all,
    set_pixels,
    single_file,
    slices,
)


def stored_as(dtype: str, bits: int, shift: int = 0, rubbish: int = 0, offset: int = 1024) -> Build:
    """The truth in some bits of another type, with rubbish in the bits that are not in use."""

    def build(folder: Path) -> None:
        every = slices()
        for number, data in enumerate(every):
            values = (TRUTH[:, :, number].T.astype(np.int64) + offset) & (2**bits - 1)
            wide = (values << shift) | rubbish
            unsigned = dtype.replace("i", "u")
            set_pixels(data, wide.astype(unsigned).view(dtype), dtype)
            edit(data, BitsStored=bits, HighBit=bits - 1 + shift, RescaleIntercept=-offset)
        save_all(every, folder)

    return build


def eight_bits(folder: Path) -> np.ndarray:
    every = slices()
    for number, data in enumerate(every):
        set_pixels(data, (TRUTH[:, :, number].T % 251).astype(np.uint8), "u1")
        edit(data, RescaleIntercept=0)
    save_all(every, folder)
    return TRUTH % 251


def one_compressed(folder: Path) -> None:
    save_all(slices(), folder)
    data = dcmread(folder / "s2.dcm")
    data.compress(RLELossless, generate_instance_uid=False)
    data.save_as(folder / "s2.dcm")


def blank(syntax: str) -> Build:
    """Blank slices, which compress to next to nothing."""

    def build(folder: Path) -> np.ndarray:
        every = slices(2)
        for data in every:
            set_pixels(edit(data, Rows=512, Columns=512, RescaleIntercept=0), np.zeros((512, 512)), "<u2")
        for path in save_all(every, folder):
            data = dcmread(path)
            data.compress(syntax, generate_instance_uid=False)
            data.save_as(path)
        return np.zeros((512, 512, 2))

    return build


def frame_values(sequence: str, keyword: str, values: list[object]) -> Build:
    """An enhanced file with every frame two times, told apart by an attribute of a functional group."""

    def change(data: Dataset) -> None:
        for number, frame in enumerate(data.PerFrameFunctionalGroupsSequence):
            group = (frame.get(sequence) or [Dataset()])[0]
            setattr(group, keyword, values[number // SLICES])
            setattr(frame, sequence, [group])

    return single_file(lambda: enhanced([*range(SLICES), *range(SLICES)]), change)


def rescaled_per_frame(folder: Path) -> np.ndarray:
    data = enhanced()
    for number, frame in enumerate(data.PerFrameFunctionalGroupsSequence):
        frame.PixelValueTransformationSequence[0].RescaleIntercept = number
    save(data, folder / "volume.dcm")
    return TRUTH + 1024 + np.arange(SLICES)


def spoilt_stream(syntax: str, spoil: object) -> Build:
    """A compressed series with one stream changed."""

    def build(folder: Path) -> None:
        compressed(syntax)(folder)
        data = dcmread(folder / "s3.dcm")
        (stream,) = generate_frames(data.PixelData, number_of_frames=1)
        data.PixelData = encapsulate([spoil(bytes(stream))])
        data.save_as(folder / "s3.dcm")

    return build


def larger_j2k(stream: bytes) -> bytes:
    return stream[:8] + struct.pack(">2I", 30_000, 30_000) + stream[16:]


def larger_ls(stream: bytes) -> bytes:
    at = stream.index(b"\xff\xf7")
    return stream[: at + 5] + struct.pack(">2H", 60_000, 60_000) + stream[at + 9 :]


def rle_bomb(stream: bytes) -> bytes:
    return struct.pack("<16I", 2, 64, 2_000_064, *[0] * 13) + b"\x81\x00" * 2_000_000


def deflated(tail: int = 0, body: bytes = b"") -> Build:
    """A deflated series, one data set followed by zeros or replaced."""

    def build(folder: Path) -> None:
        path = save_all(slices(), folder, DeflatedExplicitVRLittleEndian)[2]
        if not tail and not body:
            return
        raw = path.read_bytes()
        start = 144 + int.from_bytes(raw[140:144], "little")
        whole = body or zlib.decompressobj(-15).decompress(raw[start:])
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = packer.compress(whole) + packer.flush(zlib.Z_FULL_FLUSH)
        zeros = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
        path.write_bytes(raw[:start] + packed + zeros * (tail >> 20) + packer.flush())

    return build


def lying_frames(count: int, syntax: str = "") -> Build:
    """An enhanced file that claims another number of frames than it holds."""

    def build(folder: Path) -> None:
        path = save(enhanced(), folder / "volume.dcm")
        data = dcmread(path)
        if syntax:
            data.compress(syntax, generate_instance_uid=False)
        data.NumberOfFrames = count
        groups = data.PerFrameFunctionalGroupsSequence
        if count < 10_000:
            data.PerFrameFunctionalGroupsSequence = [groups[n % SLICES] for n in range(count)]
        data.save_as(path)

    return build


def other_syntax(name: str) -> Build:
    """A series whose files state another transfer syntax than they have."""

    def build(folder: Path) -> None:
        for path in save_all(slices(), folder):
            data = dcmread(path)
            data.file_meta.TransferSyntaxUID = JPEG2000Lossless
            data["PixelData"].is_undefined_length = True
            data.PixelData = encapsulate([bytes(data.PixelData)])
            data.save_as(path)
            old, new = JPEG2000Lossless.encode(), name.encode()
            path.write_bytes(path.read_bytes().replace(old, new + b"\0" * (len(old) - len(new))))

    return build


def saved_as(syntax: str) -> Build:
    """The series in another encoding."""
    return lambda folder: save_all(slices(), folder, syntax) and None


def big_endian(folder: Path) -> None:
    every = slices()
    for number, data in enumerate(every):
        set_pixels(data, TRUTH[:, :, number].T.astype(np.int32) + 1024, ">u2")
        data.PixelRepresentation = 0
    save_all(every, folder, ExplicitVRBigEndian)


def lying_length(folder: Path) -> None:
    path = save_all(slices(), folder)[2]
    raw = path.read_bytes()
    at = raw.index(b"\xe0\x7f\x10\x00OW")
    path.write_bytes(raw[: at + 8] + b"\xfe\xff\xff\xff" + raw[at + 12 : -40])


def drop_positions(data: Dataset) -> None:
    for frame in data.PerFrameFunctionalGroupsSequence:
        del frame.PlanePositionSequence


def cut_items(folder: Path) -> None:
    save_all(slices(), folder)
    data = dcmread(folder / "s3.dcm")
    data.compress(RLELossless, generate_instance_uid=False)
    data.save_as(folder / "s3.dcm")
    path = folder / "s3.dcm"
    path.write_bytes(path.read_bytes()[:-40])


LONG_ELEMENT = b"\x09\x00\x10\x10OB\0\0" + (200 << 20).to_bytes(4, "little")
"""The start of a private element that is as long as a bomb."""


def deflated_claim(folder: Path) -> None:
    edited(Rows=30_000, Columns=30_000)(folder)
    for path in sorted(folder.iterdir()):
        data = dcmread(path)
        data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        data.save_as(path)
