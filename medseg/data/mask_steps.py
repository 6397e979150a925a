"""What a configuration's steps do with a mask's values: which the reader accepts, and as what they are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class MaskReading:
    """How a chain of transforms reads masks.

    Args:
        values: Those that the reader accepts; None where it does not say.
        renamed: Values that are read as others.
        names: Names and codes by which segments of DICOM objects are recognised, by value.
    """

    values: tuple[int, ...] | None = None
    renamed: Mapping[int, int] = field(default_factory=dict)
    names: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    @property
    def reaching(self) -> set[int] | None:
        """The values that reach the network; None where the reader does not say which it accepts."""
        return None if self.values is None else {self.renamed.get(value, value) for value in self.values}


def mask_reading(steps: Any) -> MaskReading:
    """How a list of transforms, as a configuration writes them, reads masks; anything else reads them as they are.

    >>> reader = {"_target_": "LoadImaged", "keys": "label", "values": [0, 1, 4]}
    >>> mapping = {"_target_": "MapLabelValued", "keys": "label", "orig_labels": [4], "target_labels": [3]}
    >>> mask_reading([reader, mapping]).renamed, mask_reading([reader, mapping]).reaching
    ({4: 3}, {0, 1, 3})
    """
    values: tuple[int, ...] | None = None
    renamed: dict[int, int] = {}
    names: dict[int, tuple[str, ...]] = {}
    for step in steps if isinstance(steps, list) else ():
        if not isinstance(step, Mapping) or "label" not in _listed(step.get("keys")):
            continue
        if isinstance(step.get("values"), list):
            values = _numbers(step["values"])
        if isinstance(step.get("names"), Mapping):
            given = {str(value): texts for value, texts in step["names"].items()}
            names = {int(value): tuple(map(str, _listed(each))) for value, each in given.items() if value.isdecimal()}
        if str(step.get("_target_", "")).rpartition(".")[2].startswith("MapLabelValue"):
            mapped = dict(zip(_numbers(step.get("orig_labels")), _numbers(step.get("target_labels")), strict=False))
            # What an earlier step made of a value is what this one meets.
            renamed = {old: mapped.get(new, new) for old, new in {**{old: old for old in mapped}, **renamed}.items()}
    return MaskReading(values, renamed, names)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _numbers(value: Any) -> tuple[int, ...]:
    """The numbers of a list; none where a reference or an expression stands in its place."""
    listed = value if isinstance(value, list) else []
    return tuple(int(each) for each in listed if isinstance(each, int | float) and each == each // 1)
