"""Values of headers and names of files as text that can be shown: nothing that names the patient."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path


def plain(value: object) -> str:
    """A header's value as text that can be shown: numbers and short codes; anything else is left out.

    >>> plain("AXIAL"), plain([0.5, 2]), plain("Doe^John")
    ('AXIAL', '0.5, 2', '…')
    """
    values = [value] if isinstance(value, str | int | float) or value is None else list(value)  # type: ignore[call-overload]
    texts = ["none" if each in (None, "") else str(each) for each in values]
    return ", ".join(text if re.fullmatch(r"[A-Z0-9_.+\-e ]{1,16}|none", text) else "…" for text in texts)


def names(paths: Sequence[Path]) -> str:
    """Some file names, and how many more there are."""
    listed = ", ".join(path.name for path in paths[:5])
    return listed if len(paths) <= 5 else f"{listed} and {len(paths) - 5} more"
