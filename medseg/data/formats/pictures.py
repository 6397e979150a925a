"""PNG, JPEG and TIFF, one page or many, as volumes: (width, height[, pages])."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from medseg.data.formats import Format
from medseg.data.formats.payload import check_memory
from medseg.data.volume import PARSER_ERRORS, Volume, value_notes
from medseg.errors import ImageError
from medseg.findings import Finding, make_note

GREY_DTYPES = {"1": np.uint8, "L": np.uint8, "I;16": np.uint16, "I": np.int32, "F": np.float32}
"""Pillow's one-channel modes, and the type that holds them."""

GREY_MODES = {"I;16L": "I;16", "I;16B": "I;16", "I;16N": "I;16"}
ALPHA_MODES = {"LA": "L", "La": "L", "PA": "P", "RGBA": "RGB", "RGBa": "RGB", "RGBX": "RGB"}
EXIF_ORIENTATION = 274

HELD = {
    ".png": (("uint8", "uint16"), 2),
    ".tif": (("uint8", "uint16", "float32"), 3),
    ".tiff": (("uint8", "uint16", "float32"), 3),
}
"""Types of one channel, and most axes, that are written under each ending."""


def read_picture(path: Path, page: int | None = None) -> Volume:
    """Read a picture: grey (X, Y), colour (3, X, Y), several pages (X, Y, Z).

    Width is X and height is Y, as in MONAI. Colour palettes are resolved to red,
    green and blue. Spacing is 1 mm: a print resolution is no measure of a patient.

    Args:
        path: PNG, JPEG, TIFF or BMP.
        page: Read this page only (0-based), as a 2D image.

    Raises:
        ImageError: Damaged, of unequal pages, or without page ``page``.
    """
    return _read(path, page, keeps_palette=False)


def read_picture_labels(path: Path, page: int | None = None) -> Volume:
    """As ``read_picture``, but a palette picture gives its palette indices, the labels."""
    return _read(path, page, keeps_palette=True)


def write_picture(volume: Volume, path: Path) -> None:
    """Write PNG, or TIFF with a page for each slice, by the ending of ``path``."""
    first, *rest = _make_pages(volume)
    if path.name.lower().endswith(".png"):
        first.save(path)
    else:
        first.save(path, save_all=True, append_images=rest, compression="tiff_adobe_deflate")


def is_grey(channels: NDArray) -> bool:
    """Whether (C, X, Y) has several channels that are all the same: a grey picture saved as colours."""
    return channels.ndim == 3 and channels.shape[0] > 1 and bool((channels == channels[:1]).all())


def _read(path: Path, page: int | None, *, keeps_palette: bool) -> Volume:
    with _open(path) as picture:
        picture.verify()
    with _open(path) as picture:
        pages = 1 if picture.format == "MPO" else int(getattr(picture, "n_frames", 1))
        if page is not None and not 0 <= page < pages:
            raise ImageError("SLICE_NOT_FOUND", path, f"page {page} of {pages} (counted from 0)", "name one it holds")
        wanted = range(pages) if page is None else [page]
        _check_memory(picture, len(wanted), path)
        arrays, notes = [], {}
        for index in wanted:
            if index:
                picture.seek(index)
            array, page_notes = _read_page(picture, path, keeps_palette)
            arrays.append(array)
            notes.update({note.code: note for note in page_notes})
    array = _join_pages(arrays, path)
    has_channels = arrays[0].ndim == 3
    return Volume(array, np.eye(4), has_channels, (*notes.values(), *value_notes(array)))


def _check_memory(picture: Image.Image, pages: int, path: Path) -> None:
    item_bytes = np.dtype(GREY_DTYPES.get(GREY_MODES.get(picture.mode, picture.mode), np.uint8)).itemsize
    check_memory(picture.width * picture.height * len(picture.getbands()) * item_bytes * pages, path)


@contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path, formats=("PNG", "JPEG", "TIFF", "BMP")) as picture:
            yield picture
    except UnidentifiedImageError as error:
        raise ImageError("IMAGE_HEADER", path, "it is no PNG, JPEG, TIFF or BMP", "check what the file is") from error
    except (Image.DecompressionBombError, MemoryError) as error:
        remedy = "cut it into tiles, or check its header"
        raise ImageError("IMAGE_TOO_LARGE", path, str(error) or "out of memory", remedy) from error
    except PARSER_ERRORS as error:
        problem = f"the picture is damaged ({error})"
        raise ImageError("IMAGE_CORRUPT", path, problem) from error


def _read_page(picture: Image.Image, path: Path, keeps_palette: bool) -> tuple[NDArray, list[Finding]]:
    """One page, (X, Y) or (3, X, Y), and what was odd about it."""
    is_deep_colour = _is_deep_colour(picture)  # Asked first: reading the tags forgets the layout.
    notes = _page_notes(picture)
    if is_deep_colour:
        return _read_deep_colour(path, picture), notes
    mode = GREY_MODES.get(picture.mode, picture.mode)
    page: Image.Image = picture
    if mode in ALPHA_MODES:
        page = picture.convert(ALPHA_MODES[mode])
        notes.append(make_note("ALPHA_IGNORED", f"the transparency of mode {mode} is left out"))
    if page.mode == "P" and not keeps_palette:
        page = page.convert("RGB")
    elif page.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        notes.append(make_note("COLOUR_CONVERTED", f"mode {page.mode} is converted to RGB"))
        page = page.convert("RGB")
    if page.mode == "RGB":
        return np.asarray(page).transpose(2, 1, 0), notes
    dtype = GREY_DTYPES.get(GREY_MODES.get(page.mode, page.mode), np.uint8)
    return np.asarray(page).astype(dtype, copy=False).T, notes


def _page_notes(picture: Image.Image) -> list[Finding]:
    turn = picture.getexif().get(EXIF_ORIENTATION, 1)
    if turn in (0, 1):
        return []
    return [make_note("EXIF_ORIENTATION", f"the camera's orientation tag {turn} is ignored: pixels stay as stored")]


def _is_deep_colour(picture: Image.Image) -> bool:
    """Whether Pillow would cut 16-bit colours down to 8 bits."""
    tile = getattr(picture, "tile", None)
    rawmode = tile[0][3] if tile else ""
    rawmode = rawmode[0] if isinstance(rawmode, tuple) and rawmode else rawmode
    return picture.mode in ("RGB", "RGBA", "RGBX") and ";16" in str(rawmode)


def _read_deep_colour(path: Path, picture: Image.Image) -> NDArray:
    if getattr(picture, "n_frames", 1) > 1:
        remedy = "save each page as its own file"
        raise ImageError("IMAGE_DTYPE", path, "several pages of 16-bit colours are not supported", remedy)
    import SimpleITK

    array = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    if array.ndim != 3 or array.shape[:2] != picture.size[::-1] or array.shape[2] < 3:
        raise ImageError("IMAGE_DTYPE", path, f"colours of shape {array.shape}", "save it as 8-bit RGB")
    return array[..., :3].transpose(2, 1, 0)


def _join_pages(arrays: list[NDArray], path: Path) -> NDArray:
    if len(arrays) == 1:
        return arrays[0]
    kinds = sorted({(array.shape, str(array.dtype)) for array in arrays})
    if len(kinds) > 1:
        problem = f"its {len(arrays)} pages differ in size or kind: {kinds[:4]}"
        raise ImageError("IMAGE_PAGES_DIFFER", path, problem)
    return np.stack(arrays, axis=-1)


def _make_pages(volume: Volume) -> list[Image.Image]:
    if volume.has_channels:
        return [Image.fromarray(np.ascontiguousarray(volume.array.transpose(2, 1, 0)))]
    pages = volume.array if volume.array.ndim == 3 else volume.array[..., None]
    return [Image.fromarray(np.ascontiguousarray(pages[..., index].T)) for index in range(pages.shape[-1])]


def _refuse_unfit(volume: Volume, suffix: str) -> str:
    dtypes, most_axes = HELD[suffix]
    dtype, shape = str(volume.array.dtype), volume.array.shape
    is_colour = volume.has_channels and shape[0] == 3 and dtype == "uint8" and len(shape) == 3
    is_plain = not volume.has_channels and len(shape) <= most_axes and dtype in dtypes
    if is_colour or is_plain:
        return ""
    return f"it holds {' or '.join(dtypes)}, or 3 channels of uint8, not {dtype} of shape {shape}"


PICTURE = Format(
    "picture",
    (".png", ".jpeg", ".jpg", ".tiff", ".tif", ".bmp"),
    read_picture,
    write=write_picture,
    written=tuple(HELD),
    refuse=_refuse_unfit,
    is_picture=True,
    read_indices=read_picture_labels,
)
