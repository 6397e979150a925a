"""Which cases show what is looked for, told from their masks."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from medseg.data.case import Case
from medseg.data.images import read_mask

READERS_AT_ONCE = 2


def with_foreground(cases: Iterable[Case]) -> tuple[Case, ...]:
    """The cases whose mask has a voxel above 0; those without a mask are left out too.

    Raises:
        ImageError: A mask cannot be read.
    """
    cases = tuple(cases)
    with ThreadPoolExecutor(READERS_AT_ONCE) as pool:
        return tuple(case for case, shows in zip(cases, pool.map(_shows_foreground, cases), strict=True) if shows)


def _shows_foreground(case: Case) -> bool:
    return any(bool(read_mask(path).array.any()) for path in case.label_files)
