"""Which runtime, how many threads and how many windows at a time are quickest here, found by timing a few batches.

The choice is kept in the cache folder, so that later runs make the same one without timing.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from monai.inferers import SlidingWindowInferer
from torch import nn

from medseg.errors import OutputError
from medseg.files import write_json
from medseg.inference.bundle_plan import fit_window, plan_case, read_window
from medseg.inference.plan import CasePlan, Shapes, count_allowed_bytes
from medseg.inference.runtimes.backends import Choice, choose_backend, is_installed
from medseg.inference.runtimes.conversion import find_cache_folder
from medseg.inference.runtimes.graph import FAILURES
from medseg.inference.runtimes.machine import count_usable_cores, identify_cpu
from medseg.inference.runtimes.network_runner import NetworkRunner
from medseg.inference.runtimes.torch_runtime import make_noise
from medseg.inference.windows import Windows

WORTH_TUNING = 5e14
"""Parameters × voxels of all windows of a case from which it is tuned: some tens of seconds of PyTorch.

Counted, not timed, so that a case is always tuned or never.
"""

LEAST_BATCHES = 40
"""Fewer passes are not tuned: a few of them would be too large a share of all."""

TRIED_BATCHES = (2, 1, 4)
"""Windows at a time that are tried, beside the bundle's own."""

BUDGET_SECONDS = 3.0
"""Trying threads and batches ends when it has taken so long; each runtime is tried whatever it takes."""

BUDGET_SHARE = 0.05
"""The same, as a share of the time that the case's windows would take untuned."""

LEAST_GAIN = 0.05
"""What takes more memory, or is less plain, must be quicker by this share."""

LEAST_CORE_SHARE = 0.7
"""A process that gets less of its cores shares them with others."""

TIMED_CALLS = 2
SETTLED_SECONDS = 0.5
"""So many calls are timed, after one that is not; no more once they have taken so long."""


@dataclass(frozen=True)
class Candidates:
    """What may be chosen; of each, those that promise most stand first.

    Args:
        backends: The first of them needs the least to be gained.
        threads: Numbers of threads, likewise.
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
        window_seconds: Time of one window; infinite where they cannot be run so.
        spent_seconds: Time that finding out took.
        core_share: How much of its cores this process got meanwhile; less than 1 where others kept them busy.
    """

    window_seconds: float
    spent_seconds: float
    core_share: float = 1.0


@dataclass(frozen=True)
class TunedChoice:
    """A choice and what it rests on.

    Args:
        choice: The quickest.
        window_seconds: Time of one window, by every choice that was tried.
        is_sound: Whether the machine was not so busy with other things that the timing holds for this moment alone.
    """

    choice: Choice
    window_seconds: dict[Choice, float]
    is_sound: bool = True


def find_quickest(
    own: Choice, candidates: Candidates, measure: Callable[[Choice], Timing], windows: int
) -> TunedChoice:
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
        choice = prefer([choice, *others(choice)], seconds)
    return TunedChoice(choice, seconds, first.core_share >= LEAST_CORE_SHARE)


def prefer(choices: Sequence[Choice], seconds: dict[Choice, float]) -> Choice:
    """The plainest of the timed choices that none of the less plain ones beats by ``LEAST_GAIN``.

    Smaller batches are plainer than larger ones; else those that stand first are.
    """
    timed = sorted((each for each in choices if each in seconds), key=lambda each: each.batch)
    best = timed[0]
    for each in timed[1:]:
        if seconds[each] < (1 - LEAST_GAIN) * seconds[best]:
            best = each
    return best


def time_call(call: Callable[[], object]) -> float:
    """What the quickest of a few calls takes; the first one is not counted."""
    call()
    passed: list[float] = []
    while len(passed) < TIMED_CALLS and sum(passed) < SETTLED_SECONDS:
        started = time.perf_counter()
        call()
        passed.append(time.perf_counter() - started)
    return min(passed)


def name_choice(facts: Sequence[object]) -> str:
    """The name of the file that keeps a choice.

    Args:
        facts: Everything that the choice rests on: network, windows, candidates, versions, processor.
    """
    return f"choice-{hashlib.sha256(repr(tuple(facts)).encode()).hexdigest()[:32]}.json"


def read_choice(path: Path, candidates: Candidates) -> Choice | None:
    """The choice that an earlier run kept; None where there is none that could have been made here."""
    try:
        read: dict[str, Any] = json.loads(path.read_text(encoding="utf8"))["choice"]
        choice = Choice(str(read["backend"]), int(read["batch"]), int(read["threads"]))
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return choice if candidates.hold(choice) else None


def keep_choice(found: TunedChoice, path: Path) -> None:
    """Keep a choice and what it rests on; a folder that cannot be written is passed over."""
    timed = [
        {**asdict(each), "window_seconds": round(seconds, 6) if math.isfinite(seconds) else None}
        for each, seconds in found.window_seconds.items()
    ]
    with contextlib.suppress(OutputError):
        write_json({"choice": asdict(found.choice), "timed": timed}, path)


def tune(passes: NetworkRunner, shapes: Shapes) -> Choice | None:
    """How a case's windows are run quickest; the passes run them so from now on.

    What an earlier run kept is taken. Otherwise a few batches of noise are timed, for some seconds, and the choice
    is kept, unless the passes keep nothing.

    Args:
        passes: What runs the bundle's network.
        shapes: Shapes of the case's image.

    Returns:
        None where ``--backend`` names a runtime, on a GPU, in 16-bit floats, and where the case is too small; where
        not even the bundle's own batch fits into memory; where other processes kept the cores busy during the timing;
        and where nothing is kept and nothing is to be.
    """
    passes.use(None)
    windows = read_window(passes.bundle, passes.options).windows(shapes.network)
    if not is_worth_tuning(passes, windows):
        return None
    candidates = _list_candidates(passes, windows)
    path = find_cache_folder() / name_choice(_list_grounds(passes, shapes, windows, candidates))
    if path not in passes.choices:
        choice = read_choice(path, candidates)
        if choice is None and passes.keeps:
            choice = _choose_by_timing(passes, shapes, candidates, path)
        passes.choices[path] = choice
    passes.use(passes.choices[path])
    return passes.choices[path]


def is_worth_tuning(passes: NetworkRunner, windows: Windows) -> bool:
    """Whether there is anything to choose for these windows, and enough of them to make up for the timing.

    Args:
        passes: What runs the bundle's network.
        windows: Where a case's windows lie.
    """
    options, bundle = passes.options, passes.bundle
    has_windows = isinstance(bundle.inferer, SlidingWindowInferer) and isinstance(passes.network, nn.Module)
    if not has_windows or options.backend != "auto" or options.amp or passes.device.type != "cpu":
        return False
    parameters = sum(each.numel() for each in passes.network.parameters())
    count = len(windows) * len(passes.mirrorings)
    is_much = parameters * count * math.prod(windows.roi) >= WORTH_TUNING
    return is_much and count >= LEAST_BATCHES * _find_own_choice(passes).batch


def _list_candidates(passes: NetworkRunner, windows: Windows) -> Candidates:
    """What may be chosen where memory allows any batch.

    PyTorch's own number of threads is not raised: it stands for the machine's cores, or for what someone
    allowed this process to take.
    """
    options, most = passes.options, torch.get_num_threads()
    usable = min(most, count_usable_cores())
    threads = (options.threads,) if options.threads else tuple(dict.fromkeys((usable, most, max(1, usable // 2))))
    counted = choose_backend("auto", passes.network, len(windows) * math.prod(windows.roi))
    batches = tuple(dict.fromkeys((*TRIED_BATCHES, _find_own_choice(passes).batch)))
    return Candidates(tuple(dict.fromkeys(("torch", counted))), threads, batches)


def _find_own_choice(passes: NetworkRunner) -> Choice:
    batch = max(1, read_window(passes.bundle, passes.options).sw_batch_size)
    return Choice("torch", batch, passes.options.threads or torch.get_num_threads())


def _list_grounds(passes: NetworkRunner, shapes: Shapes, windows: Windows, candidates: Candidates) -> list[object]:
    """All that a choice rests on, but for the memory that is free."""
    weights = [tuple(each.shape) for each in passes.network.parameters()]
    versions = [torch.__version__, importlib.metadata.version("openvino") if is_installed("openvino") else None]
    own = _find_own_choice(passes)
    return [str(passes.network), weights, shapes.channels, windows.roi, own, candidates, versions, identify_cpu()]


def _choose_by_timing(passes: NetworkRunner, shapes: Shapes, candidates: Candidates, path: Path) -> Choice | None:
    """The choice that a few batches of noise lead to, kept for later runs."""
    own, trial = _find_own_choice(passes), passes.copy_for_trial()
    plan = plan_case("tuning", shapes, passes.bundle, passes.options, own)
    most = count_allowed_bytes(passes.options)
    fitting = [each for each in candidates.batches if most is None or replace(plan, batch=each).peak_bytes <= most]
    if own.batch not in fitting:
        return None
    found = find_quickest(
        own,
        replace(candidates, batches=tuple(fitting)),
        lambda choice: _time_choice(trial, plan, choice),
        len(plan.windows) * len(passes.mirrorings),
    )
    if not found.is_sound:
        return None
    passes.fallen_back = trial.fallen_back
    keep_choice(found, path)
    return found.choice


def _time_choice(trial: NetworkRunner, plan: CasePlan, choice: Choice) -> Timing:
    """What batches of noise take, run as a choice has it; a runtime that cannot run them takes for ever."""
    started, shapes, seconds, share = time.perf_counter(), plan.shapes, math.inf, 1.0
    trial.use(choice)
    window = fit_window(read_window(trial.bundle, trial.options), replace(plan, batch=choice.batch))
    image = torch.zeros([1] * (1 + len(shapes.network))).expand(shapes.channels, *shapes.network)
    noise = make_noise(window.windowing(image.shape).shape)
    with torch.inference_mode(), trial.precision():
        trial.choose(window, image, splits=plan.is_streamed)
        trial.fallen_back = trial.note or trial.fallen_back
        if trial.backend == choice.backend:
            seconds, share = _time_run(lambda: trial.logits(noise), min(choice.threads, count_usable_cores()))
    return Timing(seconds / choice.batch, time.perf_counter() - started, share)


def _time_run(call: Callable[[], object], cores: int) -> tuple[float, float]:
    """Time a call; infinite where it fails. Returns how much of so many cores this process got for it, too."""
    started, cpu_started = time.perf_counter(), time.process_time()
    try:
        seconds = time_call(call)
    except (*FAILURES, MemoryError):  # A network may hold to one number of windows.
        return math.inf, 1.0
    return seconds, (time.process_time() - cpu_started) / (time.perf_counter() - started) / cores
