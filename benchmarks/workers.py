"""Ways to do one thing, each in a fresh process that tells what it took, taken in turns."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from measuring import Outcome, in_turns, run_once

CLOCKS = {"wall": "seconds", "cpu": "cpu_seconds"}
"""Which of a run's times is compared: of the clock, or of all cores together where other programs run beside."""


@dataclass(frozen=True)
class WorkerRun:
    """One way, run once.

    Args:
        group: What was done.
        command: The way.
        repeat: Counted from 1; round 0 only fills caches.
        seconds: Of the run proper, by the clock: imports and preparation left out.
        cpu_seconds: The same, of all cores together.
        label_seconds: What of ``seconds`` went into labels after the logits, where that is a step of its own.
        prepare_seconds: Conversion of the network and first pass.
        growth_mib: Peak over what was held before the preparation.
        run_growth_mib: Peak of the run proper over what was held before it.
        wall_seconds: Of the whole process.
        peak_mib: Of the whole process.
    """

    group: str
    command: str
    repeat: int
    seconds: float
    cpu_seconds: float
    label_seconds: float
    prepare_seconds: float
    growth_mib: float
    run_growth_mib: float
    wall_seconds: float
    peak_mib: float


@dataclass(frozen=True)
class Spread:
    """A median and the ends between which the rounds lie."""

    median: float
    least: float
    most: float


@dataclass(frozen=True)
class WorkerSummary:
    """One way over its repeats, beside the baseline.

    Args:
        group: What was done.
        command: The way.
        repeats: Rounds that count.
        clock: Which time was compared, one of CLOCKS.
        seconds: Median of that time; then the shortest and the longest.
        least_seconds: The shortest.
        most_seconds: The longest.
        label_seconds: Median, as in ``WorkerRun``.
        prepare_seconds: Median.
        first_prepare_seconds: Of the first round, which converts what later ones find converted.
        growth_mib: Median.
        run_growth_mib: Median.
        wall_seconds: Median.
        speed: Median over the rounds of the baseline's time to this one's; then the lowest and the highest.
        least_speed: The lowest.
        most_speed: The highest.
        equal_percent: Voxels whose label is the baseline's; None where there are no labels.
        dice: Mean over the foreground labels of the Dice to the baseline's; None where there are none.
        truth_dice: The same, to the truth.
    """

    group: str
    command: str
    repeats: int
    clock: str
    seconds: float
    least_seconds: float
    most_seconds: float
    label_seconds: float
    prepare_seconds: float
    first_prepare_seconds: float
    growth_mib: float
    run_growth_mib: float
    wall_seconds: float
    speed: float
    least_speed: float
    most_speed: float
    equal_percent: float | None = None
    dice: float | None = None
    truth_dice: float | None = None


def run_workers(
    group: str,
    commands: Mapping[str, Sequence[str]],
    rounds: tuple[int, int],
    environment: Mapping[str, str],
    before: Callable[[str], None] = lambda command: None,
) -> list[WorkerRun]:
    """Each command in turns; its last line of output is JSON with what it took.

    Args:
        group: What is done.
        commands: Words of each command by its name.
        rounds: Numbers of the first and the last round; 0 does not count.
        environment: Set for each process beside this one's own.
        before: Called with the command's name before each run, outside the measured time.
    """
    runs = []
    for repeat, name in in_turns(list(commands), rounds[1], rounds[0]):
        before(name)
        outcome = run_once(commands[name], {**os.environ, **environment})
        runs.append(_worker_run(group, name, repeat, outcome))
        print(f"  {group}: {name}: round {repeat}: {runs[-1].seconds:.3g} s", flush=True)
    return runs


def _worker_run(group: str, name: str, repeat: int, outcome: Outcome) -> WorkerRun:
    told = json.loads(outcome.said.strip().splitlines()[-1])
    numbers = {**told, "wall_seconds": outcome.seconds, "peak_mib": outcome.peak_mib}
    return WorkerRun(group, name, repeat, **{key: round(value, 4) for key, value in numbers.items()})


def ratio(runs: Sequence[WorkerRun], over: str, under: str, clock: str) -> Spread:
    """Time of the command ``over`` to that of ``under``, within each round, over the rounds that count."""
    times = {
        name: {run.repeat: getattr(run, CLOCKS[clock]) for run in runs if run.command == name and run.repeat}
        for name in (over, under)
    }
    ratios = [seconds / times[under][repeat] for repeat, seconds in times[over].items()]
    return Spread(statistics.median(ratios), min(ratios), max(ratios))


def summarise_workers(runs: Sequence[WorkerRun], baseline: str, clock: str) -> list[WorkerSummary]:
    """One row for each command of a group, in order of first appearance in round 1."""
    counted = [run for run in runs if run.repeat]
    first = {run.command: run.prepare_seconds for run in reversed(runs)}
    return [
        _worker_summary(
            [run for run in counted if run.command == name], clock, first[name], ratio(runs, baseline, name, clock)
        )
        for name in dict.fromkeys(run.command for run in counted)
    ]


def _worker_summary(
    runs: Sequence[WorkerRun], clock: str, first_prepare_seconds: float, speed: Spread
) -> WorkerSummary:
    times = [getattr(run, CLOCKS[clock]) for run in runs]

    def median(field: str) -> float:
        return round(statistics.median(getattr(run, field) for run in runs), 4)

    return WorkerSummary(
        group=runs[0].group,
        command=runs[0].command,
        repeats=len(runs),
        clock=clock,
        seconds=round(statistics.median(times), 4),
        least_seconds=min(times),
        most_seconds=max(times),
        label_seconds=median("label_seconds"),
        prepare_seconds=median("prepare_seconds"),
        first_prepare_seconds=first_prepare_seconds,
        growth_mib=median("growth_mib"),
        run_growth_mib=median("run_growth_mib"),
        wall_seconds=median("wall_seconds"),
        speed=round(speed.median, 4),
        least_speed=round(speed.least, 4),
        most_speed=round(speed.most, 4),
    )
