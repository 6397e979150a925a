"""How the C library keeps memory between one pass of a network and the next."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_KEPT_BYTES = 1 << 30
_GIVEN_BACK_BYTES = 1 << 17


def keep_freed_memory() -> bool:
    """Let glibc keep large blocks that were freed, for the next allocation of this process, whatever its thread.

    A network frees and allocates the same large arrays at every window. By default glibc gives each back to the
    system and asks anew, and the page faults take up to 40 % of the time of a forward pass. The process may hold more
    then, for small blocks come to lie in the room of large ones, and freed ones stay until it ends. Threads that begin
    later share one store: else what the one that reads images freed would stay beside what the one that runs them
    asks for.

    Returns:
        Whether this C library could be told so (Linux with glibc).
    """
    return _told({_M_MMAP_THRESHOLD: _KEPT_BYTES, _M_TRIM_THRESHOLD: 2 * _KEPT_BYTES - 1, _M_ARENA_MAX: 1})


def give_back_freed_memory() -> bool:
    """Let glibc give large blocks back to the system as they are freed: slower, for where memory is what counts.

    Returns:
        As ``keep_freed_memory``.
    """
    return _told({_M_MMAP_THRESHOLD: _GIVEN_BACK_BYTES, _M_TRIM_THRESHOLD: _GIVEN_BACK_BYTES, _M_ARENA_MAX: 1})


def fit_allocator(*, is_memory_limited: bool) -> bool:
    """Keep freed memory, which is quicker, unless someone limited what may be taken.

    Returns:
        As ``keep_freed_memory``.
    """
    return give_back_freed_memory() if is_memory_limited else keep_freed_memory()


def _told(settings: Mapping[int, int]) -> bool:
    if sys.platform != "linux":
        return False
    try:
        library = ctypes.CDLL(None)
        taken = [library.mallopt(which, value) for which, value in settings.items()]
        library.malloc_trim(0)
    except (OSError, AttributeError):
        return False
    return all(taken)
