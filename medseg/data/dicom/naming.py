"""What a series is called: its number, its UID, and how a user names it or one of its stacks."""

from __future__ import annotations

import re

from pydicom.dataset import Dataset

ENDING_SHOWN = 12
"""Last characters of a UID by which a series can be named."""


def uid_of(header: Dataset) -> str:
    """The SeriesInstanceUID; empty where there is none, or none that is made of digits and dots."""
    uid = str(header.get("SeriesInstanceUID", ""))
    return uid if re.fullmatch(r"[0-9.]{1,64}", uid) else ""


def number_of(header: Dataset) -> int | None:
    """The SeriesNumber, where there is one."""
    text = str(header.get("SeriesNumber", ""))
    return int(text) if re.fullmatch(r"-?[0-9]{1,12}", text) else None


def short_name(header: Dataset) -> str:
    """What names a series among others: its number, else the end of its UID; empty where it has neither."""
    number = number_of(header)
    return str(number) if number is not None and number >= 0 else uid_of(header)[-ENDING_SHOWN:]


def split_stack(wanted: str | None) -> tuple[str | None, int | None]:
    """What names a series, and the number of a stack in it, of ``SERIES``, ``SERIES:STACK`` or ``:STACK``.

    >>> split_stack("3:2"), split_stack("190024.52"), split_stack(":2"), split_stack(None)
    (('3', 2), ('190024.52', None), (None, 2), (None, None))
    """
    match = re.fullmatch(r"([^:]*):([0-9]{1,9})", wanted or "")
    return (match[1] or None, int(match[2])) if match else (wanted, None)
