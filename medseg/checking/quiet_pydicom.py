"""Keep back what pydicom warns of: it quotes values of headers, identifiers of patients among them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

PYDICOM = r"pydicom(\.|$)"


class _Hush:
    """One filter of the process for all checks under way: Python's filters belong to no thread.

    The first check sets it, the last one that ends restores what was there before.
    """

    def __init__(self) -> None:
        self._lock, self._checks, self._filter = Lock(), 0, ExitStack()

    def begin(self) -> None:
        with self._lock:
            if not self._checks:
                self._filter.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", category=UserWarning, module=PYDICOM)
            self._checks += 1

    def end(self) -> None:
        with self._lock:
            self._checks -= 1
            if not self._checks:
                self._filter.close()


_HUSH = _Hush()


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Within this block no warning of pydicom is shown, in any thread of the process; medseg has its own codes."""
    _HUSH.begin()
    try:
        yield
    finally:
        _HUSH.end()
