"""Formats of images, one in each file: how its files are told, read strictly and written; ``table`` lists them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from medseg.data.volume import Extent, Volume


def hold_any(volume: Volume, suffix: str) -> str:
    """Refuse nothing: the ``refuse`` of a format that holds every volume."""
    return ""


@dataclass(frozen=True)
class Format:
    """One format: its files, and how they are read and written.

    Args:
        name: What users call it.
        suffixes: Lower-case endings of its files, the longest first.
        read: From a file to a volume, strictly. Of a picture it takes a page, counted from 0, besides; where
            ``has_series``, the name of a series.
        extent: The extent by the header alone, with what ``read`` takes besides; None where only reading tells it.
        write: From a volume to a new file; None where the format is not written.
        written: The endings under which it is written.
        refuse: Why it cannot hold a volume under an ending; an empty text where it can.
        is_picture: Whether it has pages and no grid, and a mask in it may have soft edges or be grey in colours.
        has_frames: Whether a fourth axis is time.
        has_series: Whether a folder of its files can hold several images.
        read_indices: As ``read``, but a palette's indices in place of its colours; None where it has no palette.
        read_segments: A mask whose segments may bear names, from a file and names by label; gives None where the file
            holds an image. None where the format has no such masks.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[..., Volume]
    extent: Callable[..., Extent] | None = None
    write: Callable[[Volume, Path], None] | None = None
    written: tuple[str, ...] = ()
    refuse: Callable[[Volume, str], str] = hold_any
    is_picture: bool = False
    has_frames: bool = False
    has_series: bool = False
    read_indices: Callable[..., Volume] | None = None
    read_segments: Callable[..., Volume | None] | None = None
