"""Settings as they are written on the command line: KEY=VALUE, the value as YAML has it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from medseg.errors import UsageError, first_line


def read_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """The values by key.

    >>> read_settings(["learning_rate=1e-3", "network_options={filters: 16}"])
    {'learning_rate': 0.001, 'network_options': {'filters': 16}}

    Raises:
        UsageError: SETTING_INVALID, no KEY=VALUE, no YAML, or a key that is given twice.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """YAML 1.1, with 1e-3 as a number and not as text."""

    number = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+.0123456789"))
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError("SETTING_INVALID", pair, "is not KEY=VALUE", "write for example learning_rate=0.001")
        if key in settings:
            raise UsageError("SETTING_INVALID", key, "is given twice", "give it once")
        try:
            settings[key] = Loader(value).get_single_data()
        except yaml.YAMLError as error:
            raise UsageError("SETTING_INVALID", pair, first_line(error), "write the value as YAML has it") from error
    return settings


def read_size(text: str) -> int:
    """A number of bytes, with K, M, G or T for powers of 1024.

    >>> read_size("4G"), read_size("1.5 KB"), read_size("100")
    (4294967296, 1536, 100)

    Raises:
        UsageError: SIZE_INVALID.
    """
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    size = int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " ")) if match else 0
    if size < 1:
        raise UsageError("SIZE_INVALID", text, "is no size above 0", "write for example 4G or 800M")
    return size


def read_choices(pairs: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Several values for each key, KEY=VALUE,VALUE.

    >>> read_choices(["network_options::filters=16,64", "optimizer_name=sgd,adam"])
    {'network_options::filters': (16, 64), 'optimizer_name': ('sgd', 'adam')}

    Raises:
        UsageError: SETTING_INVALID, no KEY=VALUE,VALUE, no YAML, or a key that is given twice or without a value.
    """
    lists = [f"{key}{equals}[{values}]" if equals else key for key, equals, values in (p.partition("=") for p in pairs)]
    choices = {key: tuple(values) for key, values in read_settings(lists).items()}
    for key in (key for key, values in choices.items() if not values):
        raise UsageError("SETTING_INVALID", key, "has no value to choose", "write for example seed=1,2")
    return choices
