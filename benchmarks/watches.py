"""What this process takes while it runs: time, and memory as Linux counts it."""

from __future__ import annotations

import gc
import time
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


class Stopwatch:
    """Time since it was made or last asked."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def lap(self) -> tuple[float, float]:
        """Seconds of the clock, and of all cores together, since the last lap."""
        wall, cpu = time.perf_counter(), time.process_time()
        passed = (wall - self._wall, cpu - self._cpu)
        self._wall, self._cpu = wall, cpu
        return passed


class Growth:
    """By how much this process's peak grows over what it held when this was made."""

    def __init__(self) -> None:
        gc.collect()
        self._held_mib = resident_mib()
        self.is_exact = reset_peak()

    def mib(self) -> float:
        """Peak since then less what was held then; where the peak could not be reset, at least this."""
        return max(0.0, peak_mib() - self._held_mib)


def resident_mib() -> float:
    """What the process holds now."""
    return _status_mib("VmRSS")


def peak_mib() -> float:
    """The most it held since it started, or since ``reset_peak``."""
    return _status_mib("VmHWM")


def reset_peak() -> bool:
    """Count the peak anew from here; returns whether the system lets one (proc(5), ``clear_refs``)."""
    try:
        _CLEAR.write_text(_RESET_PEAK)
    except OSError:
        return False
    return True


def _status_mib(field: str) -> float:
    with _STATUS.open(encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024
