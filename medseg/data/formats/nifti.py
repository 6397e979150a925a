"""NIfTI-1 and NIfTI-2 read strictly: sizes, checksums, scaling and orientation are checked.

nibabel interprets the header; which headers are accepted is decided here. A damaged
or contradictory file is refused or noted, never read as something else.
"""

from __future__ import annotations

import io
from pathlib import Path

import nibabel as nib
import numpy as np
from isal import igzip
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from medseg.data.formats import Format
from medseg.data.formats.payload import check_budget, is_inflated, open_source, read_voxels, skip_bytes, trailing_notes
from medseg.data.volume import (
    PARSER_ERRORS,
    Extent,
    Volume,
    check_affine,
    extent_of_axes,
    put_channels_first,
    rescale,
    value_notes,
)
from medseg.errors import ImageError
from medseg.findings import Finding, make_note
from medseg.geometry import Grid, corner_distance_voxels, shear_cosine, spacing_mm

DTYPES = {
    2: np.uint8,
    4: np.int16,
    8: np.int32,
    16: np.float32,
    64: np.float64,
    256: np.int8,
    512: np.uint16,
    768: np.uint32,
    1024: np.int64,
    1280: np.uint64,
}
"""NIfTI ``datatype`` codes that hold one real number per voxel."""

FORMS_AGREE_VOXELS = 0.1
"""qform and sform whose corners differ by more than this contradict each other."""

QFORM_ERRORS: tuple[type[Exception], ...] = (HeaderDataError, *PARSER_ERRORS)

GZIP_LEVEL = 3
LARGEST_NIFTI1_AXIS = 2**15 - 1

QFORM_SHEAR = 1e-4
"""A qform holds rotations alone: it is not set where two axes have a larger cosine than this."""

REWRITE = "write the image again with a tool that sets a correct header"


def read_nifti(path: Path) -> Volume:
    """Read ``.nii`` or ``.nii.gz``; where both are set the sform places the voxels.

    A fourth axis becomes channels, first; singleton ones are dropped. Scaled values
    are float32, or integers where the slope is 1 and the intercept whole.

    Raises:
        ImageError: Damaged, contradictory, or not one real number per voxel.
    """
    with open_source(path) as source:
        header = _read_header(source, path)
        stored_shape = _stored_shape(header, path)
        dtype, notes = _dtype(header, path)
        offset = _voxel_offset(header, path)
        claimed = offset + dtype.itemsize * int(np.prod(stored_shape, dtype=object))
        check_budget(claimed, path.stat().st_size, is_inflated(source), path)
        affine, grid_notes = _affine(header, stored_shape, path)
        slope, intercept = _scaling(header, path)
        skip_bytes(source, offset - int(header["sizeof_hdr"]), path)
        array = read_voxels(source, stored_shape, dtype, path)
        notes += grid_notes + trailing_notes(source, path)
    array, has_channels = put_channels_first(array, path)
    array = rescale(array, slope, intercept)
    return Volume(array, affine, has_channels, notes + value_notes(array))


def read_nifti_extent(path: Path) -> Extent:
    """The extent that the header states, held against the rules; no voxel is read.

    Raises:
        ImageError: As ``read_nifti``, for what the header shows.
    """
    with open_source(path) as source:
        header = _read_header(source, path)
        stored_shape = _stored_shape(header, path)
        dtype, _ = _dtype(header, path)
        claimed = _voxel_offset(header, path) + dtype.itemsize * int(np.prod(stored_shape, dtype=object))
        check_budget(claimed, path.stat().st_size, is_inflated(source), path)
        affine, _ = _affine(header, stored_shape, path)
        _scaling(header, path)
    return extent_of_axes(stored_shape, dtype, affine, path)


def write_nifti(volume: Volume, path: Path) -> None:
    """Write NIfTI-1, or NIfTI-2 where an axis is too long for it; gzipped where ``path`` ends so."""
    array = np.moveaxis(volume.array, 0, -1) if volume.has_channels else volume.array
    kind = nib.Nifti1Image if max(array.shape) <= LARGEST_NIFTI1_AXIS else nib.Nifti2Image
    image = kind(array, volume.affine, dtype=array.dtype)
    image.header.set_xyzt_units("mm")
    image.set_sform(volume.affine, code=1)
    image.set_qform(volume.affine, code=1 if shear_cosine(volume.affine) <= QFORM_SHEAR else 0)
    with path.open("xb") as file:
        if path.name.endswith(".gz"):
            with igzip.IGzipFile("", "wb", compresslevel=GZIP_LEVEL, fileobj=file, mtime=0) as packed:
                image.to_stream(packed)
        else:
            image.to_stream(file)


def refuse_pair(path: Path) -> Volume:
    """Refuse the two-file form of NIfTI and Analyze, whose orientation tools disagree on.

    Raises:
        ImageError: ``IMAGE_PAIR``, always.
    """
    remedy = f"convert it to one file, such as {path.stem}.nii.gz"
    raise ImageError("IMAGE_PAIR", path, "header and voxels are in two files (.hdr, .img)", remedy)


def _read_header(source: io.BufferedReader, case: object) -> nib.Nifti1Header:
    start = source.read(4)
    if len(start) < 4:
        raise ImageError("IMAGE_TRUNCATED", case, f"the file holds {len(start)} bytes", "copy it again from its source")
    kinds = {348: (nib.Nifti1Header, b"n+1"), 540: (nib.Nifti2Header, b"n+2")}
    for endianness, order in (("<", "little"), (">", "big")):
        size = int.from_bytes(start, order)  # type: ignore[arg-type]
        if size in kinds:
            kind, magic = kinds[size]
            block = start + source.read(size - 4)
            if len(block) < size:
                raise ImageError("IMAGE_TRUNCATED", case, "the header is cut")
            header = kind(block, endianness, check=False)
            if not bytes(header["magic"].tobytes()).startswith(magic):
                raise _header_error(case, f"magic {header['magic'].tobytes()!r} is not {magic!r}")
            return header
    raise _header_error(case, f"it begins with {start!r}, not with a NIfTI header")


def _stored_shape(header: nib.Nifti1Header, case: object) -> tuple[int, ...]:
    dim = [int(n) for n in header["dim"]]
    if not 1 <= dim[0] <= 7 or any(n < 1 for n in dim[1 : dim[0] + 1]):
        raise _header_error(case, f"dim {dim} is no image size")
    if dim[0] == 1:
        raise ImageError("IMAGE_NOT_3D", case, f"one axis of {dim[1]} values", "give a 2D or 3D image")
    return tuple(dim[1 : dim[0] + 1])


def _dtype(header: nib.Nifti1Header, case: object) -> tuple[np.dtype, tuple[Finding, ...]]:
    code, bits = int(header["datatype"]), int(header["bitpix"])
    if code not in DTYPES:
        names = {1: "bits", 32: "complex", 128: "RGB", 1536: "float128", 1792: "complex", 2048: "complex", 2304: "RGBA"}
        problem = f"datatype {code} ({names.get(code, 'unknown')}) is not one real number per voxel"
        raise ImageError("IMAGE_DTYPE", case, problem)
    dtype = np.dtype(DTYPES[code]).newbyteorder(header.endianness)
    if bits == dtype.itemsize * 8:
        return dtype, ()
    return dtype, (make_note("BITPIX_DIFFERS", f"bitpix {bits}, datatype {code} has {dtype.itemsize * 8}"),)


def _voxel_offset(header: nib.Nifti1Header, case: object) -> int:
    offset, least = float(header["vox_offset"]), int(header["sizeof_hdr"]) + 4
    if not np.isfinite(offset) or offset < least or not offset.is_integer():
        raise _header_error(case, f"vox_offset {offset:g} is not a whole number of at least {least}")
    return int(offset)


def _scaling(header: nib.Nifti1Header, case: object) -> tuple[float, float]:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0:
        return 1.0, 0.0  # The standard: no scaling, whatever the intercept.
    if not np.isfinite([slope, intercept]).all():
        problem = f"scl_slope {slope:g}, scl_inter {intercept:g}"
        raise ImageError("IMAGE_SCALING", case, problem)
    return slope, intercept


def _affine(
    header: nib.Nifti1Header, stored_shape: tuple[int, ...], case: object
) -> tuple[NDArray[np.float64], tuple[Finding, ...]]:
    shape = stored_shape[:3]
    notes = _unit_notes(header)
    if int(header["sform_code"]) > 0:
        affine = np.asarray(header.get_sform(), dtype=float)
        shear = check_affine(affine, shape, case)
        return affine, notes + shear + _form_notes(header, affine, shape)
    if int(header["qform_code"]) > 0:
        affine = _qform(header, len(shape), case)
        return affine, notes + check_affine(affine, shape, case)
    _check_pixdim(header, len(shape), case)
    affine = np.asarray(header.get_base_affine(), dtype=float)
    text = "neither qform nor sform is set; left and right are assumed (LAS, as nibabel and MONAI do)"
    return affine, (*notes, make_note("NO_ORIENTATION", text), *check_affine(affine, shape, case))


def _qform(header: nib.Nifti1Header, axes: int, case: object) -> NDArray[np.float64]:
    _check_pixdim(header, axes, case)
    try:
        return np.asarray(header.get_qform(), dtype=float)
    except QFORM_ERRORS as error:
        raise ImageError("IMAGE_GRID", case, f"the qform is no rotation ({error})", REWRITE) from error


def _check_pixdim(header: nib.Nifti1Header, axes: int, case: object) -> None:
    pixdim = np.asarray(header["pixdim"], dtype=float)[1 : axes + 1]
    if not np.isfinite(pixdim).all() or (pixdim <= 0).any():
        raise ImageError("IMAGE_GRID", case, f"pixdim {pixdim.tolist()} is no spacing", REWRITE)


def _form_notes(header: nib.Nifti1Header, affine: NDArray[np.float64], shape: tuple[int, ...]) -> tuple[Finding, ...]:
    """Notes where the qform, or the bare spacing, tells another story than the sform."""
    if int(header["qform_code"]) > 0:
        try:
            qform = _qform(header, len(shape), "qform")
        except ImageError as error:
            return (make_note("QFORM_INVALID", f"{error.problem}; the sform is used"),)
        apart = corner_distance_voxels(Grid(shape, affine), Grid(shape, qform))
        if apart <= FORMS_AGREE_VOXELS:
            return ()
        return (make_note("FORMS_DIFFER", f"qform and sform are up to {apart:.3g} voxels apart; the sform is used"),)
    stated, used = np.asarray(header["pixdim"], dtype=float)[1:4], np.asarray(spacing_mm(affine))
    if np.allclose(stated[: len(shape)], used[: len(shape)], rtol=0.01):
        return ()
    text = f"pixdim {stated.tolist()} differs from the sform's spacing {used.round(4).tolist()} mm; the sform is used"
    return (make_note("FORMS_DIFFER", text),)


def _unit_notes(header: nib.Nifti1Header) -> tuple[Finding, ...]:
    unit = int(header["xyzt_units"]) & 7
    names = {1: "metres", 3: "micrometres"}
    if unit in (0, 2):
        return ()
    return (make_note("UNITS_NOT_MM", f"the header's unit is {names.get(unit, unit)}; lengths are taken as mm"),)


def _header_error(case: object, problem: str) -> ImageError:
    return ImageError("IMAGE_HEADER", case, problem, REWRITE)


def _refuse_flat(volume: Volume, suffix: str) -> str:
    is_flat = volume.has_channels and volume.array.ndim == 3
    return "NIfTI has no 2D image with channels" if is_flat else ""


NIFTI = Format(
    "NIfTI",
    (".nii.gz", ".nii"),
    read_nifti,
    read_nifti_extent,
    write_nifti,
    written=(".nii.gz", ".nii"),
    refuse=_refuse_flat,
    has_frames=True,
)
NIFTI_PAIR = Format("NIfTI pair", (".hdr.gz", ".hdr"), refuse_pair)
