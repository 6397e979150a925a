"""Names for a copy of a data set: one for each case, no two alike on any file system."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from medseg.data.cases.listing import CHANNEL_ENDING
from medseg.data.formats.payload import GZIP_MAGIC
from medseg.data.image_files import image_stem, split_part

LONGEST_BYTES = 180
"""Of a name without its ending; file systems take 255."""


def file_names(ids: Iterable[str]) -> dict[str, str]:
    """A name for each case id, without folders, different even where capitals and accents do not count.

    An id that can be a name stays as it is, unless an earlier one took it; no name ends as the
    channels of another do.

    Args:
        ids: All different.

    >>> file_names(["a/b", "a_b", "A_B"])
    {'a/b': 'a_b', 'a_b': 'a_b-2', 'A_B': 'A_B-3'}
    """
    named: dict[str, str] = {}
    taken: set[str] = set()
    trunks: set[str] = set()
    for name in ids:
        plain = _shortened(name.replace("/", "_").replace("\\", "_"))
        number, candidate = 1, plain
        while _folded(candidate) in taken | trunks or _trunk(candidate) in taken:
            number += 1
            candidate = f"{plain}-{number}"
        taken.add(_folded(candidate))
        trunks |= {_trunk(candidate)} - {_folded(candidate)}
        named[name] = candidate
    return named


def true_suffix(path: str) -> str:
    """The ending of a file's name, in lower case; of NIfTI the one that its content asks for."""
    file = Path(split_part(path)[0])
    suffix = file.name[len(image_stem(file)) :].lower()
    if suffix not in (".nii", ".nii.gz"):
        return suffix
    with file.open("rb") as opened:
        return ".nii.gz" if opened.read(2) == GZIP_MAGIC else ".nii"


def _trunk(name: str) -> str:
    """The name that this one could be a channel of; itself where it could be none."""
    return CHANNEL_ENDING.sub("", _folded(name))


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _shortened(name: str) -> str:
    stored = name.encode("utf-8", "surrogateescape")
    if len(stored) <= LONGEST_BYTES:
        return name
    begin = stored[: LONGEST_BYTES - 17].decode("utf-8", "ignore")
    return f"{begin}-{hashlib.sha256(stored).hexdigest()[:16]}"
