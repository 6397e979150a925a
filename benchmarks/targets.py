"""The figures that the engine is to reach, and whether it did."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from workers import Spread, WorkerRun, WorkerSummary, ratio

MET, NOT_MET, NOT_MEASURED = "met", "not met", "not measured"
TORCH, OPENVINO = "medseg, torch", "medseg, openvino"
MONAI, NNUNET = "MONAI, batch 1", "nnU-Net"
STOCK, CROPPED = "MONAI, stock chain", "medseg, torch, cropped"


@dataclass(frozen=True)
class Measured:
    """What a target is held against.

    Args:
        runs: Of one group.
        rows: Their summary.
    """

    runs: Sequence[WorkerRun]
    rows: Sequence[WorkerSummary]

    def row(self, command: str) -> WorkerSummary:
        """The summary of a command.

        Raises:
            KeyError: It was not run.
        """
        return {row.command: row for row in self.rows}[command]

    def ratio(self, over: str, under: str) -> Spread:
        """Times of two commands within each round.

        Raises:
            KeyError: One was not run.
        """
        return ratio(self.runs, self.row(over).command, self.row(under).command, self.row(over).clock)


@dataclass(frozen=True)
class Target:
    """One figure.

    Args:
        figure: In words.
        bound: What is to be reached.
        is_least: Whether the figure is to be at least the bound; else at most.
        measure: Takes it from what was measured; KeyError where something was not run.
    """

    figure: str
    bound: float
    is_least: bool
    measure: Callable[[Measured], Spread]


@dataclass(frozen=True)
class Verdict:
    """A target beside what was found.

    Args:
        group: Benchmark and what was done.
        figure: In words.
        wanted: The bound with its sense.
        found: Median, or None where it was not measured.
        least: Of the rounds.
        most: Of the rounds.
        verdict: MET, NOT_MET or NOT_MEASURED.
    """

    group: str
    figure: str
    wanted: str
    found: float | None
    least: float | None
    most: float | None
    verdict: str


def judged(benchmark: str, group: str, runs: Sequence[WorkerRun], rows: Sequence[WorkerSummary]) -> list[Verdict]:
    """Each target of a group beside what was measured."""
    measured = Measured(runs, rows)
    return [judged_by(f"{benchmark} {group}", target, measured) for target in TARGETS[benchmark, group]]


def judged_by(group: str, target: Target, measured: Measured) -> Verdict:
    """A target beside what was measured; something that was not run leaves it open."""
    wanted = f"{'≥' if target.is_least else '≤'} {target.bound:g}"
    try:
        found = target.measure(measured)
    except KeyError:
        return Verdict(group, target.figure, wanted, None, None, None, NOT_MEASURED)
    is_met = found.median >= target.bound if target.is_least else found.median <= target.bound
    numbers = (round(each, 5) for each in (found.median, found.least, found.most))
    return Verdict(group, target.figure, wanted, *numbers, MET if is_met else NOT_MET)


def _faster(command: str, than: str, bound: float) -> Target:
    return Target(f"{command}: times as fast as {than}", bound, True, lambda each: each.ratio(than, command))


def _near(command: str, limit: str, bound: float) -> Target:
    return Target(f"{command}: time over {limit}", bound, False, lambda each: each.ratio(command, limit))


def _growth(command: str, than: str, bound: float) -> Target:
    def share(measured: Measured) -> Spread:
        growths = [
            {run.repeat: run.growth_mib for run in measured.runs if run.command == measured.row(name).command}
            for name in (command, than)
        ]
        shares = sorted(growths[0][repeat] / growths[1][repeat] for repeat in growths[0] if repeat)
        return Spread(shares[len(shares) // 2], shares[0], shares[-1])

    return Target(f"{command}: growth of memory over that of {than}", bound, False, share)


def _equal(command: str, bound: float) -> Target:
    return Target(
        f"{command}: labels equal to MONAI's, per cent",
        bound,
        True,
        lambda each: _exact(each.row(command).equal_percent),
    )


def _alike(command: str, bound: float) -> Target:
    return Target(f"{command}: Dice to MONAI's masks", bound, True, lambda each: _exact(each.row(command).dice))


def _truth(command: str, than: str, bound: float) -> Target:
    def apart(measured: Measured) -> Spread:
        dices = [measured.row(name).truth_dice or 0.0 for name in (than, command)]
        return _exact(dices[0] - dices[1])

    return Target(f"{command}: Dice to the truth below that of {than}", bound, False, apart)


def _exact(value: float | None) -> Spread:
    if value is None:
        raise KeyError("no labels")
    return Spread(value, value, value)


_ALWAYS = (
    _near(OPENVINO, "passes, openvino", 1.08),
    _near(TORCH, "passes, torch as medseg", 1.08),
    _equal(TORCH, 99.999),
    _equal(OPENVINO, 99.99),
)

_CHAINS = (
    *(_growth(ours, STOCK, round(1 / 3, 5)) for ours in (TORCH, OPENVINO)),
    *(_truth(ours, STOCK, 0.001) for ours in (TORCH, OPENVINO)),
    *(_alike(ours, 0.999) for ours in (TORCH, OPENVINO)),
)

TARGETS: dict[tuple[str, str], tuple[Target, ...]] = {
    ("sliding_window", "unet"): (
        _faster(TORCH, MONAI, 1.9),
        _faster(OPENVINO, MONAI, 2.8),
        _faster(TORCH, NNUNET, 2.1),
        _faster(OPENVINO, NNUNET, 3.1),
        *_ALWAYS,
    ),
    ("sliding_window", "dynunet"): (
        _faster(TORCH, MONAI, 1.3),
        _faster(OPENVINO, MONAI, 1.7),
        _faster(TORCH, NNUNET, 1.4),
        _faster(OPENVINO, NNUNET, 1.95),
        *_ALWAYS,
    ),
    ("sliding_window", "res-unet-118"): (
        _faster(TORCH, MONAI, 2.0),
        _faster(OPENVINO, MONAI, 3.6),
        *(_growth(ours, theirs, 0.125) for ours in (TORCH, OPENVINO) for theirs in (MONAI, NNUNET)),
        *_ALWAYS,
    ),
    ("sliding_window", "bundle"): _ALWAYS,
    ("pipeline", "folder"): (_faster(TORCH, STOCK, 1.8), _faster(OPENVINO, STOCK, 3.4), *_CHAINS),
    ("pipeline", "wide"): (
        _faster(TORCH, STOCK, 1.8),
        *(_faster(ours, STOCK, 4.5) for ours in (OPENVINO, CROPPED)),
        *_CHAINS,
        _truth(CROPPED, STOCK, 0.001),
        _alike(CROPPED, 0.999),
    ),
}
"""What the engine is to reach, by benchmark and group."""
