"""What kind of value a setting takes: a number in some range, a truth value, text, a list or a table."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medseg.errors import UsageError


@dataclass(frozen=True)
class Number:
    """A range of numbers.

    Args:
        least: The lowest.
        most: The highest; there may be none, but infinity itself is no setting.
        is_whole: Whether there is nothing between whole numbers.
    """

    least: float = 0.0
    most: float = math.inf
    is_whole: bool = False

    @property
    def text(self) -> str:
        """In words.

        >>> Number(1, is_whole=True).text, Number(most=1).text
        ('whole number of 1 or more', 'number from 0 to 1')
        """
        kind = "whole number" if self.is_whole else "number"
        most = f"from {self.least:g} to {self.most:g}" if self.most < math.inf else f"of {self.least:g} or more"
        return f"{kind} {most}"

    def holds(self, value: Any) -> bool:
        """Whether ``value`` is such a number."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        return self.least <= value <= self.most and (isinstance(value, int) or not self.is_whole)


_COUNT = Number(least=1, is_whole=True)
_COUNT_OR_NONE = Number(is_whole=True)
_SHARE = Number(most=1)

NUMBERS: Mapping[str, Number] = {
    "accumulation_steps": _COUNT,
    "average_decay": _SHARE,
    "batch_size": _COUNT,
    "cache_rate": _SHARE,
    "clip_norm": Number(),
    "epochs": _COUNT,
    "learning_rate": Number(),
    "min_delta": Number(),
    "momentum": _SHARE,
    "num_workers": _COUNT_OR_NONE,
    "patience": _COUNT_OR_NONE,
    "seed": _COUNT_OR_NONE,
    "val_interval": _COUNT,
    "weight_decay": Number(),
}
"""The settings that a library would refuse with words of its own, or take and go wrong."""

EXPRESSIONS: Mapping[str, str] = {"device": "$torch.device('cpu')"}
"""Settings that only an expression can give, each with an example."""

TRUTHS = ("amp",)
"""Settings that take a truth value, though a bundle may have an expression there."""


def check_kind(key: str, known: Any, value: Any) -> None:
    """Refuse a value of another kind than the one that is known, or outside of what it can be.

    None and MONAI's expressions and references may stand for anything, and within the bundle's own tables
    a list for a single value.

    Args:
        key: Of the setting, nested ones as ``a::b``.
        known: What the bundle has there.
        value: What it is to have.

    Raises:
        UsageError: SETTING_INVALID, with the kind that is expected.
    """
    if is_expression(value):
        return
    if key in EXPRESSIONS and is_expression(known):
        raise UsageError("SETTING_INVALID", key, f"{value!r} is no expression", f"give one, such as {EXPRESSIONS[key]}")
    if key in TRUTHS and not isinstance(value, bool):
        raise UsageError("SETTING_INVALID", key, f"{value!r} is no truth value", "give true or false")
    if known is None or is_expression(known):
        return
    if key in NUMBERS and kind_of(known) == "number":
        if not NUMBERS[key].holds(value):
            text = NUMBERS[key].text
            raise UsageError("SETTING_INVALID", key, f"{value!r} is no {text}", f"give a {text}, such as {known}")
        return
    wanted, given = kind_of(known), kind_of(value)
    may_be_list = wanted == "list" or (given == "list" and "::" in key)
    if wanted != given and not may_be_list:
        example = f"give a {wanted} such as {json.dumps(known)}" if wanted != "table" else "give a table of settings"
        raise UsageError("SETTING_INVALID", key, f"{value!r} is no {wanted}", example)


def is_expression(value: Any) -> bool:
    """Whether MONAI computes or looks up what is written."""
    return isinstance(value, str) and value.startswith(("$", "@", "%"))


def kind_of(value: Any) -> str:
    """The kind of a value, in words."""
    kinds = {bool: "truth value", int: "number", float: "number", str: "text", dict: "table", list: "list"}
    found = (name for kind, name in kinds.items() if isinstance(value, kind))
    return next(found, "list" if isinstance(value, tuple) else "none")
