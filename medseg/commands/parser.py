"""Arguments of a verb: options are written out, and one that is none is refused with the one that may be meant."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any


class VerbParser(argparse.ArgumentParser):
    """Takes no shortened option: what ``--epoch`` stands for today, another version may read as another."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, allow_abbrev=False)

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As argparse does, after a look at the options.

        Without it, argparse would tell of a missing argument before it told of the misspelt option.
        """
        # A parser of parsers sees the options of all of them.
        for word in args or () if self._subparsers is None else ():
            if word == "--":
                break
            name = word.partition("=")[0]
            if name.startswith("--") and name not in self._option_string_actions:
                self._refuse(name)
        return super().parse_known_args(args, namespace)

    def _refuse(self, name: str) -> None:
        known = list(self._option_string_actions)
        near = [option for option in known if option.startswith(name)] or get_close_matches(name, known, n=2)
        meant = f"; did you mean {' or '.join(near)}?" if near else ""
        self.error(f"there is no option {name}{meant}")
