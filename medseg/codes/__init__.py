"""Rows of the table of codes, a file for each part of it; :data:`medseg.findings.CODES` is the whole table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
"""The gravest first."""


@dataclass(frozen=True)
class Code:
    """What is known of a code before anything is found.

    Args:
        meaning: What was found, for the page of reference: it may hold Markdown.
        remedy: What the reader can do, as an imperative phrase without a full stop; plain text, for it is printed.
        severity: ``error`` where work is refused or would be misled, ``warning`` where a person should look,
            ``info`` where it is good to know. What is raised is an error, whatever stands here.
        is_fixable: Whether ``medseg check --fix`` can correct it for certain.
    """

    meaning: str
    remedy: str
    severity: Severity = "error"
    is_fixable: bool = False
