"""Which runtime, how many threads and how many windows at a time are quickest here, found by timing a few batches.

The choice is kept in the cache folder, so that later runs make the same one without timing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from medseg.errors import OutputError
from medseg.files import write_json

BUDGET_SECONDS = 3.0
"""Trying threads and batches ends when it has taken so long; each runtime is tried whatever it takes."""

BUDGET_SHARE = 0.05
"""The same, as a share of the time that the case's windows would take untuned."""

LEAST_GAIN = 0.05
"""What takes more memory, or is less plain, must be quicker by this share."""


LEAST_CORE_SHARE = 0.7
"""A process that gets less of its cores shares them with others."""

PASSES = 2
SETTLED_SECONDS = 0.5
"""So many passes are timed, after one that is not; no more once they have taken so long."""


@dataclass(frozen=True)
class Choice:
    """How batches of windows are run.

    Args:
        backend: One of ``medseg.options.BACKENDS`` but ``auto``.
        batch: Windows per pass.
        threads: Of a pass.
    """

    backend: str
    batch: int
    threads: int


@dataclass(frozen=True)
class Candidates:
    """What may be chosen; of each, those that promise most stand first.

    Args:
        backends: The first of them needs the least to be gained.
        threads: Likewise.
        batches: Those that memory allows.
    """

    backends: tuple[str, ...]
    threads: tuple[int, ...]
    batches: tuple[int, ...]

    def hold(self, choice: Choice) -> bool:
        """Whether a choice is among them."""
        return choice.backend in self.backends and choice.threads in self.threads and choice.batch in self.batches


@dataclass(frozen=True)
class Timing:
    """What a few batches took.

    Args:
        window_seconds: Of one window; infinite where they cannot be run so.
        spent_seconds: On finding out.
        core_share: How much of its cores this process got meanwhile; less than 1 where others kept them busy.
    """

    window_seconds: float
    spent_seconds: float
    core_share: float = 1.0


@dataclass(frozen=True)
class Tuned:
    """A choice and what it rests on.

    Args:
        choice: The quickest.
        window_seconds: Of every choice that was tried.
        is_sound: Whether the machine was not so busy with other things that the timing holds for this moment alone.
    """

    choice: Choice
    window_seconds: dict[Choice, float]
    is_sound: bool = True


def quickest(own: Choice, candidates: Candidates, measure: Callable[[Choice], Timing], windows: int) -> Tuned:
    """The quickest way to run many windows: first the runtime is chosen, then the threads, then the batch.

    Args:
        own: How they are run untuned.
        candidates: What may be chosen.
        measure: Runs a few batches.
        windows: How many there are to run.
    """
    first = measure(own)
    seconds, choice = {own: first.window_seconds}, own
    left = min(BUDGET_SECONDS, BUDGET_SHARE * windows * first.window_seconds)
    for others, is_limited in (
        (lambda best: [replace(best, backend=each) for each in candidates.backends], False),
        (lambda best: [replace(best, threads=each) for each in candidates.threads], True),
        (lambda best: [replace(best, batch=each) for each in candidates.batches], True),
    ):
        for other in others(choice):
            if other not in seconds and not (is_limited and left <= 0):
                timing = measure(other)
                seconds[other], left = timing.window_seconds, left - (timing.spent_seconds if is_limited else 0)
        choice = preferred([choice, *others(choice)], seconds)
    return Tuned(choice, seconds, first.core_share >= LEAST_CORE_SHARE)


def preferred(choices: Sequence[Choice], seconds: dict[Choice, float]) -> Choice:
    """The plainest of the timed choices that none of the less plain ones beats by ``LEAST_GAIN``.

    Smaller batches are plainer than larger ones; else those that stand first are.
    """
    timed = sorted((each for each in choices if each in seconds), key=lambda each: each.batch)
    best = timed[0]
    for each in timed[1:]:
        if seconds[each] < (1 - LEAST_GAIN) * seconds[best]:
            best = each
    return best


def least_seconds(call: Callable[[], object]) -> float:
    """What the quickest of a few calls takes; the first one is not counted."""
    call()
    passed: list[float] = []
    while len(passed) < PASSES and sum(passed) < SETTLED_SECONDS:
        started = time.perf_counter()
        call()
        passed.append(time.perf_counter() - started)
    return min(passed)


def choice_name(facts: Sequence[object]) -> str:
    """The name of the file that keeps a choice.

    Args:
        facts: All that the choice rests on: network, windows, candidates, versions, processor.
    """
    return f"choice-{hashlib.sha256(repr(tuple(facts)).encode()).hexdigest()[:32]}.json"


def kept_choice(path: Path, candidates: Candidates) -> Choice | None:
    """The choice that an earlier run kept; None where there is none that could have been made here."""
    try:
        read: dict[str, Any] = json.loads(path.read_text(encoding="utf8"))["choice"]
        choice = Choice(str(read["backend"]), int(read["batch"]), int(read["threads"]))
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return choice if candidates.hold(choice) else None


def keep_choice(tuned: Tuned, path: Path) -> None:
    """Keep a choice and what it rests on; a folder that cannot be written is passed over."""
    timed = [
        {**asdict(each), "window_seconds": round(seconds, 6) if math.isfinite(seconds) else None}
        for each, seconds in tuned.window_seconds.items()
    ]
    with contextlib.suppress(OutputError):
        write_json({"choice": asdict(tuned.choice), "timed": timed}, path)
