"""NRRD and MetaImage read strictly: SimpleITK gives the geometry, the voxels are checked here.

SimpleITK alone reads a truncated file without an error; so the header's sizes are
held against the bytes that are there, and checksums are verified.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
from numpy.typing import NDArray

from medseg.data.formats import Format
from medseg.data.formats.payload import (
    GZIP_WINDOW,
    INFLATE_BYTES,
    ZLIB_WINDOW,
    Inflated,
    check_budget,
    read_voxels,
    skip_bytes,
    trailing_notes,
)
from medseg.data.volume import PARSER_ERRORS, Extent, Volume, check_affine, put_channels_first, unread, value_notes
from medseg.errors import ImageError
from medseg.findings import Finding, make_note
from medseg.geometry import LPS_TO_RAS

HEADER_LIMIT_BYTES = 1 << 20

NRRD_DTYPES = {
    np.int8: ("signed char", "int8", "int8_t"),
    np.uint8: ("uchar", "unsigned char", "uint8", "uint8_t"),
    np.int16: ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    np.uint16: ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    np.int32: ("int", "signed int", "int32", "int32_t"),
    np.uint32: ("uint", "unsigned int", "uint32", "uint32_t"),
    np.int64: (
        "longlong",
        "long long",
        "long long int",
        "signed long long",
        "signed long long int",
        "int64",
        "int64_t",
    ),
    np.uint64: ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    np.float32: ("float",),
    np.float64: ("double",),
}
"""The names that NRRD's ``type`` field gives to each element type (NRRD format, section 5)."""

METAIMAGE_DTYPES = {
    "MET_CHAR": np.int8,
    "MET_UCHAR": np.uint8,
    "MET_SHORT": np.int16,
    "MET_USHORT": np.uint16,
    "MET_INT": np.int32,
    "MET_UINT": np.uint32,
    "MET_LONG_LONG": np.int64,
    "MET_ULONG_LONG": np.uint64,
    "MET_FLOAT": np.float32,
    "MET_DOUBLE": np.float64,
}
"""MetaImage's ``ElementType`` values that hold one real number."""


@dataclass(frozen=True)
class _Layout:
    """Where the voxels are and how they are stored; sizes as stored, fastest axis first."""

    file: Path
    offset: int
    sizes: tuple[int, ...]
    dtype: np.dtype
    window: int | None
    channel_axis: int | None
    skip_from_end: bool = False
    notes: tuple[Finding, ...] = ()


def read_nrrd(path: Path) -> Volume:
    """Read ``.nrrd`` or ``.nhdr``, raw or gzip; a list or vector axis becomes channels, first.

    Raises:
        ImageError: Damaged, contradictory, or in an encoding that is not checked.
    """
    return _read(path, _nrrd_layout(path, *_read_header(path, b"NRRD", ":")))


def read_metaimage(path: Path) -> Volume:
    """Read ``.mha`` or ``.mhd`` with its data file; several values per voxel become channels.

    Raises:
        ImageError: Damaged, contradictory, or in an encoding that is not checked.
    """
    return _read(path, _metaimage_layout(path, *_read_header(path, b"", "=")))


def read_nrrd_extent(path: Path) -> Extent:
    """The extent that an NRRD header states, held against the rules; no voxel is read.

    Raises:
        ImageError: As ``read_nrrd``, for what the header shows.
    """
    return _read_extent(path, _nrrd_layout(path, *_read_header(path, b"NRRD", ":")))


def read_metaimage_extent(path: Path) -> Extent:
    """The extent that a MetaImage header states, held against the rules; no voxel is read.

    Raises:
        ImageError: As ``read_metaimage``, for what the header shows.
    """
    return _read_extent(path, _metaimage_layout(path, *_read_header(path, b"", "=")))


def write_itk(volume: Volume, path: Path) -> None:
    """Write NRRD or MetaImage, by the ending of ``path``, compressed."""
    import SimpleITK

    array = np.moveaxis(volume.array, 0, -1) if volume.has_channels else volume.array
    axes = len(volume.spatial_shape)
    order = [*range(axes - 1, -1, -1), *([axes] if volume.has_channels else [])]
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.transpose(order)), isVector=volume.has_channels)
    lps = LPS_TO_RAS @ volume.affine
    spacing = np.linalg.norm(lps[:axes, :axes], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:axes, 3].tolist())
    image.SetDirection((lps[:axes, :axes] / spacing).ravel().tolist())
    SimpleITK.WriteImage(image, str(path), useCompression=True)


def _read_extent(path: Path, layout: _Layout) -> Extent:
    _find_first_byte(path, layout)
    return Extent.of(_place(path, unread(layout.sizes, layout.dtype), layout))


def _read(path: Path, layout: _Layout) -> Volume:
    array, notes = _read_voxels(path, layout)
    volume = _place(path, array, layout)
    return replace(volume, notes=notes + volume.notes + value_notes(volume.array))


def _place(path: Path, array: NDArray, layout: _Layout) -> Volume:
    """Voxels as they are stored, with channels first and where they lie; the values are not looked at."""
    has_channels = layout.channel_axis is not None
    if has_channels:
        array = np.moveaxis(array, layout.channel_axis, 0)  # type: ignore[arg-type]
        array = array[0] if array.shape[0] == 1 else array
        has_channels = array.ndim == len(layout.sizes)
    else:
        array, has_channels = put_channels_first(array, path)
    shape = tuple(array.shape[1:] if has_channels else array.shape)
    if not 2 <= len(shape) <= 3:
        raise ImageError("IMAGE_NOT_3D", path, f"{len(shape)} spatial axes", "split it into 3D images")
    affine = _read_affine(path, shape)
    return Volume(array, affine, has_channels, layout.notes + check_affine(affine, shape, path))


def _find_first_byte(path: Path, layout: _Layout) -> int:
    """Where the voxels begin in their file, which is held against the sizes."""
    try:
        stored_bytes = layout.file.stat().st_size
        layout.file.open("rb").close()
    except (OSError, ValueError) as error:
        problem = f"its data file {layout.file.name!r} cannot be read ({error})"
        raise ImageError("IMAGE_DATA_FILE", path, problem, "keep header and data file together") from error
    wanted = layout.dtype.itemsize * int(np.prod(layout.sizes, dtype=object))
    offset = stored_bytes - wanted if layout.skip_from_end and layout.window is None else layout.offset
    check_budget(max(wanted, offset + wanted if layout.window is None else 0), stored_bytes, bool(layout.window), path)
    return offset


def _read_voxels(path: Path, layout: _Layout) -> tuple[NDArray, tuple[Finding, ...]]:
    offset = _find_first_byte(path, layout)
    with layout.file.open("rb") as file:
        skip_bytes(file, offset, path)
        source = file
        if layout.window is not None:
            source = io.BufferedReader(Inflated(file, path, layout.window), INFLATE_BYTES)
        array = read_voxels(source, layout.sizes, layout.dtype, path)
        return array, trailing_notes(source, path)


def _read_affine(path: Path, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Index to RAS+ millimetres, from SimpleITK's LPS origin, spacing and direction."""
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except PARSER_ERRORS as error:
        raise _header_error(
            path, f"the header cannot be interpreted ({str(error).strip().splitlines()[-1]})"
        ) from error
    axes, size = reader.GetDimension(), reader.GetSize()
    if tuple(size[: len(shape)]) != shape:
        raise _header_error(path, f"the header's sizes {size} are not the voxels' {shape}")
    used = min(axes, 3)
    direction = np.asarray(reader.GetDirection(), dtype=float).reshape(axes, axes)[:used, :used]
    affine = np.eye(4)
    affine[:used, :used] = direction * np.asarray(reader.GetSpacing())[:used]
    affine[:used, 3] = np.asarray(reader.GetOrigin())[:used]
    return LPS_TO_RAS @ affine


def _read_header(path: Path, magic: bytes, separator: str) -> tuple[dict[str, str], int]:
    """The header's fields, keys in lower case, and the offset of the byte after it."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        if file.read(len(magic)) != magic:
            raise _header_error(path, f"it does not begin with {magic.decode()}")
        if magic:
            file.readline(HEADER_LIMIT_BYTES)
        while line := file.readline(HEADER_LIMIT_BYTES):
            text = line.decode("utf-8", "replace").strip()
            if not text and magic:
                break
            key, found, value = text.partition(separator)
            if found and not text.startswith("#"):
                fields.setdefault(key.strip().lower(), value.removeprefix("=").strip())
            if key.strip().lower() == "elementdatafile" or file.tell() > HEADER_LIMIT_BYTES:
                break
        return fields, file.tell()


def _nrrd_layout(path: Path, fields: dict[str, str], offset: int) -> _Layout:
    sizes = _parse_integers(path, fields, "sizes")
    if len(sizes) != _parse_integers(path, fields, "dimension")[0]:
        raise _header_error(path, f"sizes {sizes} do not match dimension {fields['dimension']}")
    name = fields.get("type", "").lower()
    kind = next((dtype for dtype, names in NRRD_DTYPES.items() if name in names), None)
    encoding = fields.get("encoding", "").lower()
    if kind is None or encoding not in ("raw", "gzip", "gz"):
        problem = f"type {name!r} in encoding {encoding!r}"
        raise ImageError("IMAGE_DTYPE", path, problem, "save it with integers or floats, in encoding raw or gzip")
    skip = _parse_integers(path, fields, "byte skip", "byteskip", default=(0,))[0]
    if _parse_integers(path, fields, "line skip", "lineskip", default=(0,))[0] or skip < -1:
        raise _header_error(path, "it skips lines before the voxels")
    detached = fields.get("data file", fields.get("datafile"))
    window = None if encoding == "raw" else GZIP_WINDOW
    return _Layout(
        file=_find_beside(path, detached) if detached else path,
        offset=(0 if detached else offset) + max(skip, 0),
        sizes=sizes,
        dtype=np.dtype(kind).newbyteorder(">" if fields.get("endian", "").lower() == "big" else "<"),
        window=window,
        channel_axis=_find_channel_axis(path, fields, len(sizes)),
        skip_from_end=skip == -1,
        notes=_space_notes(fields),
    )


def _space_notes(fields: dict[str, str]) -> tuple[Finding, ...]:
    if "space" in fields or int(fields["dimension"]) < 3:
        return ()
    return (make_note("NO_ORIENTATION", "the header names no space; its axes are taken as left-posterior-superior"),)


def _find_channel_axis(path: Path, fields: dict[str, str], axes: int) -> int | None:
    """The one axis whose kind is not a direction in space (or time), if there is one."""
    kinds = fields.get("kinds", "").lower().split()
    directions = fields.get("space directions", "").lower().replace(", ", ",").split()
    by_kind = {index for index, kind in enumerate(kinds) if kind not in ("domain", "space", "time", "???", "none")}
    by_direction = {index for index, direction in enumerate(directions) if direction == "none"}
    found = sorted(by_kind | by_direction) if len(directions) in (0, axes) else sorted(by_kind)
    if len(found) > 1:
        raise ImageError("IMAGE_NOT_3D", path, f"axes {found} are not in space", "keep one list of values per voxel")
    return found[0] if found else None


def _metaimage_layout(path: Path, fields: dict[str, str], offset: int) -> _Layout:
    sizes = _parse_integers(path, fields, "dimsize")
    if len(sizes) != _parse_integers(path, fields, "ndims")[0]:
        raise _header_error(path, f"DimSize {sizes} does not match NDims {fields['ndims']}")
    name = fields.get("elementtype", "").upper()
    if name not in METAIMAGE_DTYPES or fields.get("binarydata", "true").lower() == "false":
        problem = f"ElementType {name!r}, or not binary"
        raise ImageError("IMAGE_DTYPE", path, problem, "save it as binary integers or floats")
    order = fields.get("elementbyteordermsb", fields.get("binarydatabyteordermsb", "False"))
    channels = _parse_integers(path, fields, "elementnumberofchannels", default=(1,))[0]
    data_file = fields.get("elementdatafile", "")
    if not data_file or data_file.upper() == "LIST" or "%" in data_file:
        remedy = "save the image as one .mha file"
        raise ImageError("IMAGE_DATA_FILE", path, f"ElementDataFile {data_file!r} is not one file", remedy)
    local = data_file.upper() == "LOCAL"
    skip = _parse_integers(path, fields, "headersize", default=(0,))[0]
    compressed = fields.get("compresseddata", "False").lower() == "true"
    return _Layout(
        file=path if local else _find_beside(path, data_file),
        offset=(offset if local else 0) + max(skip, 0),
        sizes=(channels, *sizes) if channels > 1 else sizes,
        dtype=np.dtype(METAIMAGE_DTYPES[name]).newbyteorder(">" if order.lower() == "true" else "<"),
        window=ZLIB_WINDOW if compressed else None,
        channel_axis=0 if channels > 1 else None,
        skip_from_end=skip == -1,
    )


def _parse_integers(path: Path, fields: dict[str, str], *names: str, default: tuple[int, ...] = ()) -> tuple[int, ...]:
    text = next((fields[name] for name in names if name in fields), None)
    if text is None and default:
        return default
    try:
        numbers = tuple(int(word) for word in (text or "").split())
    except ValueError:
        numbers = ()
    if not numbers or (min(numbers) < 1 and not default):
        raise _header_error(path, f"{names[0]} is {text!r}, not whole numbers above 0")
    return numbers


def _find_beside(path: Path, name: str) -> Path:
    """The data file ``name`` in the header's own folder, and nowhere else."""
    if PurePosixPath(name).name != name or PureWindowsPath(name).name != name:
        problem = f"its data file {name!r} lies outside the header's folder"
        raise ImageError("IMAGE_DATA_FILE", path, problem, "keep header and data file in one folder")
    return path.parent / name


def _header_error(case: object, problem: str) -> ImageError:
    return ImageError("IMAGE_HEADER", case, problem)


NRRD = Format("NRRD", (".nrrd", ".nhdr"), read_nrrd, read_nrrd_extent, write_itk, written=(".nrrd",))
METAIMAGE = Format("MetaImage", (".mha", ".mhd"), read_metaimage, read_metaimage_extent, write_itk, written=(".mha",))
