"""How the C library keeps memory between forward passes."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 1 << 30


def keep_freed_memory() -> bool:
    """Let glibc keep large blocks that were freed, for the next allocation of this process.

    A network frees and allocates the same large arrays at every window. By default glibc gives each back to the
    system and asks anew, and the page faults take up to 40 % of the time of a forward pass. The largest amount in use
    does not grow; memory goes back to the system when the process ends.

    Returns:
        Whether this C library could be told so (Linux with glibc).
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)) and bool(mallopt(_M_TRIM_THRESHOLD, 2 * _KEPT_BYTES - 1))
