"""Commands in fresh processes, taken in turns: wall time and peak memory, their medians and ratios."""

from __future__ import annotations

import csv
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

# The kernel counts the peak in KiB, but in bytes on macOS.
_PEAK_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024
_OUTPUT_SHOWN = 2000
PACKAGES = ("torch", "monai", "medseg", "openvino")


class CommandFailedError(RuntimeError):
    """A measured command ended with an error; its last output is the message."""


@dataclass(frozen=True)
class Run:
    """One command, run once.

    Args:
        command: Its name.
        repeat: Counted from 1.
        seconds: Wall time, from before the process is started to after it has ended.
        peak_mib: The most memory that the process held at once (resident).
    """

    command: str
    repeat: int
    seconds: float
    peak_mib: float


@dataclass(frozen=True)
class Summary:
    """One command over its repeats, beside the baseline.

    Args:
        command: Its name.
        repeats: How many runs.
        seconds: Median wall time.
        least_seconds: The shortest.
        most_seconds: The longest.
        peak_mib: Median of the peaks.
        ratio: Median over the repeats of this command's seconds to the baseline's in the same repeat.
        least_ratio: The lowest of these.
        most_ratio: The highest.
    """

    command: str
    repeats: int
    seconds: float
    least_seconds: float
    most_seconds: float
    peak_mib: float
    ratio: float
    least_ratio: float
    most_ratio: float


@dataclass(frozen=True)
class Outcome:
    """What a command took, and what it said.

    Args:
        seconds: Wall time, from before the process is started to after it has ended.
        peak_mib: The most memory that the process held at once (resident).
        said: The end of its output.
    """

    seconds: float
    peak_mib: float
    said: str = ""


def run_once(words: Sequence[str], environment: Mapping[str, str] | None = None) -> Outcome:
    """A command in a process of its own.

    A process's peak starts at that of the process which starts it, so the program that
    measures must stay small: what needs large libraries goes through `in_child`.

    Raises:
        CommandFailedError: It ended with an error.
    """
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        process = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        said = output.read().decode(errors="replace")[-_OUTPUT_SHOWN:]
    if process.returncode != 0:
        raise CommandFailedError(f"{' '.join(words)} ended with {process.returncode}:\n{said}")
    return Outcome(seconds, usage.ru_maxrss * _PEAK_UNIT_BYTES / 2**20, said)


def in_turns(names: Sequence[str], repeats: int, first: int = 0) -> Iterator[tuple[int, str]]:
    """Round and name: forwards in one round and backwards in the next, so that what drifts meets all names alike.

    Args:
        names: Of what is to be run.
        repeats: The last round.
        first: Number of the first round; round 0 is not to be counted.
    """
    for repeat in range(first, repeats + 1):
        for name in list(names)[:: 1 if repeat % 2 else -1]:
            yield repeat, name


def run_in_turns(
    commands: Mapping[str, Sequence[str]], repeats: int, before: Callable[[str], None] = lambda command: None
) -> list[Run]:
    """Each command ``repeats`` times, forwards and backwards in turn, after one round that is not counted.

    So what drifts (temperature, another load, the file cache) meets all commands alike.

    Args:
        commands: Words of each command by its name.
        repeats: Rounds that count.
        before: Called with the command's name before each run, outside the measured time.
    """
    runs = []
    for repeat, name in in_turns(list(commands), repeats):
        before(name)
        outcome = run_once(commands[name])
        if repeat:
            runs.append(Run(name, repeat, round(outcome.seconds, 4), round(outcome.peak_mib, 1)))
    return runs


def summarise(runs: Sequence[Run], baseline: str) -> list[Summary]:
    """One row per command, in order of first appearance.

    Args:
        runs: Every command equally often.
        baseline: The command whose seconds are the ratios' denominator.
    """
    of_baseline = {run.repeat: run.seconds for run in runs if run.command == baseline}
    return [
        _summary([run for run in runs if run.command == name], of_baseline)
        for name in dict.fromkeys(run.command for run in runs)
    ]


def _summary(runs: Sequence[Run], of_baseline: Mapping[int, float]) -> Summary:
    seconds = [run.seconds for run in runs]
    ratios = [run.seconds / of_baseline[run.repeat] for run in runs]
    return Summary(
        command=runs[0].command,
        repeats=len(runs),
        seconds=round(statistics.median(seconds), 4),
        least_seconds=min(seconds),
        most_seconds=max(seconds),
        peak_mib=round(statistics.median(run.peak_mib for run in runs), 1),
        ratio=round(statistics.median(ratios), 4),
        least_ratio=round(min(ratios), 4),
        most_ratio=round(max(ratios), 4),
    )


def in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """``function(*arguments)`` in a fresh process, so that this one stays small."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def circumstances() -> dict[str, str]:
    """Date, class of hardware and versions: what a time means nothing without."""
    versions = {name: _version(name) for name in PACKAGES}
    hardware = f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}"
    return {"date": date.today().isoformat(), "hardware": hardware, "python": platform.python_version(), **versions}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def write_rows(rows: Sequence[Any], path: Path, extra: Mapping[str, object] | None = None) -> Path:
    """Dataclass ``rows`` as CSV, with the same ``extra`` columns behind each."""
    extra = extra or {}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf8") as file:
        columns = [*(field.name for field in fields(rows[0])), *extra]
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({**asdict(row), **extra} for row in rows)
    return path
