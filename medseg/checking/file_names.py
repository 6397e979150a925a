"""Names for a copy of a data set: one for each case, no two alike on any file system."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from medseg.data.case import split_slice
from medseg.data.images import image_stem
from medseg.data.listing import CHANNEL_ENDING
from medseg.data.payload import GZIP_MAGIC

LONGEST_BYTES = 180
"""The longest name without its ending; file systems take 255."""


def name_files(ids: Iterable[str]) -> dict[str, str]:
    """A name for each case id, without folders, different even where capitals and accents do not count.

    An id that can be a name stays as it is, unless an earlier one took it; no name ends as the
    channels of another do.

    Args:
        ids: The case ids, all different.

    >>> file_names(["a/b", "a_b", "A_B"])
    {'a/b': 'a_b', 'a_b': 'a_b-2', 'A_B': 'A_B-3'}
    """
    named: dict[str, str] = {}
    taken: set[str] = set()
    trunks: set[str] = set()
    for name in ids:
        plain = _shorten(name.replace("/", "_").replace("\\", "_"))
        number, candidate = 1, plain
        while _fold(candidate) in taken | trunks or _strip_channel(candidate) in taken:
            number += 1
            candidate = f"{plain}-{number}"
        taken.add(_fold(candidate))
        trunks |= {_strip_channel(candidate)} - {_fold(candidate)}
        named[name] = candidate
    return named


def find_suffix(path: str) -> str:
    """The ending of a file's name, in lower case; of NIfTI the one that its content asks for."""
    file = Path(split_slice(path)[0])
    suffix = file.name[len(image_stem(file)) :].lower()
    if suffix not in (".nii", ".nii.gz"):
        return suffix
    with file.open("rb") as opened:
        return ".nii.gz" if opened.read(2) == GZIP_MAGIC else ".nii"


def _strip_channel(name: str) -> str:
    """The name that this one could be a channel of; itself where it could be none."""
    return CHANNEL_ENDING.sub("", _fold(name))


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _shorten(name: str) -> str:
    stored = name.encode("utf-8", "surrogateescape")
    if len(stored) <= LONGEST_BYTES:
        return name
    begin = stored[: LONGEST_BYTES - 17].decode("utf-8", "ignore")
    return f"{begin}-{hashlib.sha256(stored).hexdigest()[:16]}"
