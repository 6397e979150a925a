"""Whether timing a few batches is worth it for a case, and what it finds."""

from __future__ import annotations

import importlib.metadata
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from monai.inferers import SlidingWindowInferer
from torch import nn

from medseg.inference.bundle_plan import fit_window, plan_case, read_window
from medseg.inference.plan import CasePlan, Shapes, count_allowed_bytes
from medseg.inference.running.artefacts import default_cache
from medseg.inference.running.backends import chosen_backend, is_installed
from medseg.inference.running.machine import cpu_name, usable_cores
from medseg.inference.running.operations import FAILURES
from medseg.inference.running.passes import Passes
from medseg.inference.running.tuning import (
    Candidates,
    Choice,
    Timing,
    choice_name,
    keep_choice,
    kept_choice,
    least_seconds,
    quickest,
)
from medseg.inference.windows import Windows

WORTH_TUNING = 5e14
"""Parameters × voxels of all windows of a case from which it is tuned: some tens of seconds of PyTorch.

Counted, not timed, so that a case is always tuned or never.
"""

LEAST_BATCHES = 40
"""Fewer passes are not tuned: a few of them would be too large a share of all."""

BATCHES = (2, 1, 4)
"""Windows at a time that are tried, beside the bundle's own."""


def tuned(passes: Passes, shapes: Shapes) -> Choice | None:
    """How a case's windows are run quickest; the passes run them so from now on.

    What an earlier run kept is taken. Otherwise a few batches of noise are timed, for some seconds, and the choice
    is kept, unless the passes keep nothing.

    Args:
        passes: Of the bundle.
        shapes: Of the case.

    Returns:
        None where ``--backend`` names a runtime, on a GPU, in 16-bit floats, and where the case is too small; where
        not even the bundle's own batch fits into memory; where other processes kept the cores busy during the timing;
        and where nothing is kept and nothing is to be.
    """
    passes.use(None)
    windows = read_window(passes.bundle, passes.options).windows(shapes.network)
    if not is_worth_tuning(passes, windows):
        return None
    candidates = _candidates(passes, windows)
    path = default_cache() / choice_name(_facts(passes, shapes, windows, candidates))
    if path not in passes.choices:
        choice = kept_choice(path, candidates)
        if choice is None and passes.keeps:
            choice = _timed(passes, shapes, candidates, path)
        passes.choices[path] = choice
    passes.use(passes.choices[path])
    return passes.choices[path]


def is_worth_tuning(passes: Passes, windows: Windows) -> bool:
    """Whether there is anything to choose for these windows, and enough of them to make up for the timing.

    Args:
        passes: Of the bundle.
        windows: Of a case.
    """
    options, bundle = passes.options, passes.bundle
    has_windows = isinstance(bundle.inferer, SlidingWindowInferer) and isinstance(passes.network, nn.Module)
    if not has_windows or options.backend != "auto" or options.amp or passes.device.type != "cpu":
        return False
    parameters = sum(each.numel() for each in passes.network.parameters())
    count = len(windows) * len(passes.mirrorings)
    is_much = parameters * count * math.prod(windows.roi) >= WORTH_TUNING
    return is_much and count >= LEAST_BATCHES * _own_choice(passes).batch


def _candidates(passes: Passes, windows: Windows) -> Candidates:
    """What may be chosen where memory allows any batch.

    PyTorch's own number of threads is not raised: it stands for the machine's cores, or for what someone
    allowed this process to take.
    """
    options, most = passes.options, torch.get_num_threads()
    usable = min(most, usable_cores())
    threads = (options.threads,) if options.threads else tuple(dict.fromkeys((usable, most, max(1, usable // 2))))
    counted = chosen_backend("auto", passes.network, len(windows) * math.prod(windows.roi))
    batches = tuple(dict.fromkeys((*BATCHES, _own_choice(passes).batch)))
    return Candidates(tuple(dict.fromkeys(("torch", counted))), threads, batches)


def _own_choice(passes: Passes) -> Choice:
    batch = max(1, read_window(passes.bundle, passes.options).sw_batch_size)
    return Choice("torch", batch, passes.options.threads or torch.get_num_threads())


def _facts(passes: Passes, shapes: Shapes, windows: Windows, candidates: Candidates) -> list[object]:
    """All that a choice rests on, but for the memory that is free."""
    weights = [tuple(each.shape) for each in passes.network.parameters()]
    versions = [torch.__version__, importlib.metadata.version("openvino") if is_installed("openvino") else None]
    own = _own_choice(passes)
    return [str(passes.network), weights, shapes.channels, windows.roi, own, candidates, versions, cpu_name()]


def _timed(passes: Passes, shapes: Shapes, candidates: Candidates, path: Path) -> Choice | None:
    """The choice that a few batches of noise lead to, kept for later runs."""
    own, trial = _own_choice(passes), passes.apart()
    plan = plan_case("tuning", shapes, passes.bundle, passes.options, own)
    most = count_allowed_bytes(passes.options)
    fitting = [each for each in candidates.batches if most is None or replace(plan, batch=each).peak_bytes <= most]
    if own.batch not in fitting:
        return None
    found = quickest(
        own,
        replace(candidates, batches=tuple(fitting)),
        lambda choice: _timing(trial, plan, choice),
        len(plan.windows) * len(passes.mirrorings),
    )
    if not found.is_sound:
        return None
    passes.fallen_back = trial.fallen_back
    keep_choice(found, path)
    return found.choice


def _timing(trial: Passes, plan: CasePlan, choice: Choice) -> Timing:
    """What batches of noise take, run as a choice has it; a runtime that cannot run them takes for ever."""
    started, shapes, seconds, share = time.perf_counter(), plan.shapes, math.inf, 1.0
    trial.use(choice)
    window = fit_window(read_window(trial.bundle, trial.options), replace(plan, batch=choice.batch))
    image = torch.zeros([1] * (1 + len(shapes.network))).expand(shapes.channels, *shapes.network)
    noise = torch.randn(window.windowing(image.shape).shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), trial.precision():
        trial.choose(window, image, splits=plan.is_streamed)
        trial.fallen_back = trial.note or trial.fallen_back
        if trial.backend == choice.backend:
            seconds, share = _run(lambda: trial.logits(noise), min(choice.threads, usable_cores()))
    return Timing(seconds / choice.batch, time.perf_counter() - started, share)


def _run(call: Callable[[], object], cores: int) -> tuple[float, float]:
    """The seconds of a call, infinite where it fails, and how much of so many cores this process got for it."""
    started, cpu_started = time.perf_counter(), time.process_time()
    try:
        seconds = least_seconds(call)
    except (*FAILURES, MemoryError):  # A network may hold to one number of windows.
        return math.inf, 1.0
    return seconds, (time.process_time() - cpu_started) / (time.perf_counter() - started) / cores
