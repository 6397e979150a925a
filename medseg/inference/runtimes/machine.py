"""What this process may use of the machine: its processor and how many cores of it."""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path

CPU_FILE = Path("/proc/cpuinfo")
QUOTA_FILES = (
    Path("/sys/fs/cgroup/cpu.max"),
    Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"),
    Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
)
"""Where a container finds the limits of its control group: version 2's in one file, version 1's quota and period."""


def identify_cpu() -> str:
    """Model and number of the machine's processors; converted networks and timings hold for these alone."""
    fields = ("model name", "flags", "Features")
    lines = [line.partition(":") for line in _text(CPU_FILE).splitlines()]
    said = {name.strip(): value.strip() for name, _, value in lines if name.strip() in fields}
    model = " ".join(said.values()) or f"{platform.processor()} {platform.machine()}"
    return f"{os.cpu_count()} × {model}"


def count_usable_cores() -> int:
    """Cores that this process may use at once, at least 1: by its affinity, and by its group's quota of time."""
    by_affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    unified, quota_us, period_us = (_text(path) for path in QUOTA_FILES)
    quota = read_quota(unified, quota_us, period_us)
    return by_affinity if quota is None else max(1, min(by_affinity, math.ceil(quota)))


def read_quota(unified: str, quota_us: str, period_us: str) -> float | None:
    """Cores' worth of time that a control group is given.

    Args:
        unified: What ``cpu.max`` holds, such as ``150000 100000``; empty where there is none.
        quota_us: What version 1 has in its place, and
        period_us: the microseconds that it is for.

    Returns:
        None where there is no limit.
    """
    words = unified.split() or [*quota_us.split(), *period_us.split()]
    if len(words) != 2 or not all(word.lstrip("-").isdigit() for word in words):
        return None
    quota, period = map(int, words)
    return quota / period if quota > 0 and period > 0 else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
