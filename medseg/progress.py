"""How far a long run is: a bar on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqdm import tqdm


class Progress:
    """Progress of one run on the error stream.

    Args:
        name: What the bar is called.
        unit: What is counted.
        is_quiet: Show nothing.
    """

    def __init__(self, name: str, unit: str, is_quiet: bool) -> None:
        self.name, self.unit = name, unit
        self.is_quiet = is_quiet
        self.is_terminal = sys.stderr.isatty() and not is_quiet
        self.done = 0
        self._bars: dict[int, tqdm] = {}

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        for bar in self._bars.values():
            bar.close()

    def count(self, total: int) -> None:
        """One more of ``total`` is done; shown on the bar alone."""
        self.done += 1
        self.to(self.done, total)

    def step(self, total: int, text: str) -> None:
        """One more of ``total`` is done; ``text`` says which, where there is no bar."""
        self.count(total)
        if not self.is_terminal:
            self.line(f"[{self.done}/{total}] {text}")

    def to(self, done: int, total: int) -> None:
        """``done`` of ``total`` are done."""
        if self.is_terminal:
            bar = self._bar(0, self.name, self.unit, total)
            bar.n = done
            bar.refresh()

    def within(self, item: str, done: int) -> None:
        """``done`` windows of the item under way are done, shown on a second bar."""
        if self.is_terminal:
            bar = self._bar(1, item, "window", None)
            bar.set_description(item[:40], refresh=False)
            bar.n = done
            bar.refresh()

    def line(self, text: str) -> None:
        """A line that stays."""
        if self.is_quiet:
            return
        if self.is_terminal:
            from tqdm import tqdm

            tqdm.write(text, file=sys.stderr)
        else:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()

    def _bar(self, position: int, name: str, unit: str, total: int | None) -> tqdm:
        if position not in self._bars:
            from tqdm import tqdm

            self._bars[position] = tqdm(total=total, desc=name, unit=unit, position=position, leave=position == 0)
        return self._bars[position]
