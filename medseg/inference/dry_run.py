"""What predicting would take, case by case, without doing it: windows, memory and time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from monai.inferers import SliceInferer

from medseg.bundle.load import open_bundle
from medseg.data.cases import Case
from medseg.data.formats.payload import memory_budget
from medseg.data.read import read_extent
from medseg.data.transforms import GreyToOneChanneld
from medseg.data.volume import Extent
from medseg.errors import MedsegError, UsageError
from medseg.inference.bundle_plan import expect_shapes, fit_window, plan_case, read_window
from medseg.inference.input_checks import check_axes, check_channels
from medseg.inference.locator import open_locator
from medseg.inference.plan import CasePlan, count_allowed_bytes, fit_plan
from medseg.inference.predict import UNFORESEEN, case_failed, cases_for
from medseg.inference.prediction import is_exported
from medseg.inference.runtimes.bundle_runtime import BundleRuntime
from medseg.inference.runtimes.network_runner import NetworkRunner
from medseg.inference.runtimes.tuning import is_worth_tuning, tune
from medseg.inference.step_timing import time_preparing, time_reading, time_restoring, time_window
from medseg.inference.steps.monai_steps import quicken
from medseg.inference.windows import Windowing
from medseg.options import PredictOptions


@dataclass(frozen=True)
class DryRun:
    """What predicting would take.

    Args:
        outcomes: By the id of each case, in order: how it will be run, or why it cannot be.
        device: Where the network runs.
        threads: How many a pass on the CPU takes, where none were chosen by timing.
        untimed: Cases whose runtime, batch and threads are to be chosen by timing when they are first run.
        locator: What finds where to look first, and so spares windows; None: all of every case is run.
    """

    outcomes: Mapping[str, CasePlan | MedsegError]
    device: str
    threads: int
    untimed: tuple[str, ...] = ()
    locator: str | None = None

    @property
    def plans(self) -> tuple[CasePlan, ...]:
        """The cases that can be run."""
        return tuple(each for each in self.outcomes.values() if isinstance(each, CasePlan))

    @property
    def failed(self) -> Mapping[str, MedsegError]:
        """Why the others cannot be."""
        return {case: each for case, each in self.outcomes.items() if isinstance(each, MedsegError)}

    @property
    def exit_code(self) -> int:
        """0 where every case can be run as far as its header tells, 1 otherwise."""
        return 1 if self.failed else 0


def dry_run(
    bundle: str | Path,
    images: str | Path,
    *,
    options: PredictOptions | None = None,
    allow: Collection[str] = (),
) -> DryRun:
    """Plan every case found and time its steps on little pieces; nothing is written.

    Args:
        bundle: A bundle's folder, or the name of one that medseg ships.
        images: An image file, a folder, a DICOM case, or a list.
        options: How the cases will be predicted.
        allow: Error codes accepted knowingly, such as BUNDLE_RUNS_CODE.

    Raises:
        InputError: There is no image.
        BundleError: The bundle or its locator is refused.
        UsageError: ``OPTION_NOT_OFFERED``.
    """
    if is_exported(bundle):
        remedy = "leave --dry-run out; with --max-ram 1M, predicting names what it needs"
        raise UsageError("OPTION_NOT_OFFERED", "--dry-run", "an exported bundle holds no plan of memory", remedy)
    options = options or PredictOptions()
    opened = open_bundle(bundle, allow)
    cases = cases_for(opened.channels, images, options.series)
    locating = open_locator(opened, options, allow)
    quicken(opened.preprocessing)
    coarse = _Planner(locating.passes, tunes=False) if locating else None
    planner = _Planner(BundleRuntime(opened, options).passes, coarse)
    outcomes = {case.id: planner.outcome(case) for case in cases}
    threads = options.threads or torch.get_num_threads()
    return DryRun(
        outcomes, str(planner.passes.device), threads, tuple(planner.untimed), coarse.bundle.name if coarse else None
    )


class _Planner:
    """Plans cases of one bundle, and times each kind of window once; nothing is kept in the cache folder.

    Args:
        passes: What runs the bundle's network.
        coarse: Plans the cases for the bundle's locator; None: there is none.
        tunes: Whether windows are run as an earlier run found quickest.
    """

    def __init__(self, passes: NetworkRunner, coarse: _Planner | None = None, *, tunes: bool = True) -> None:
        self.bundle, self.options, self.passes = passes.bundle, passes.options, passes
        passes.keeps = False
        self._coarse, self._tunes = coarse, tunes
        self._seconds: dict[tuple[str, Windowing, int], float] = {}
        self.untimed: list[str] = []

    def outcome(self, case: Case) -> CasePlan | MedsegError:
        """The case's plan, or the error that it will meet."""
        try:
            with memory_budget(self.options.max_ram):
                return self._plan(case)
        except MedsegError as error:
            return error
        except UNFORESEEN as error:
            return case_failed(error, case)

    def _plan(self, case: Case) -> CasePlan:
        extent = read_extent(case.images)
        self._check(extent, case)
        plan = self._fit(extent, case)
        seconds = time_reading(case.images, plan) + self._time_passes(plan) + time_restoring(self.bundle, plan)
        if self._coarse:
            seconds += self._coarse._time_passes(self._coarse._fit(extent, case))
        return replace(plan, seconds=seconds)

    def _fit(self, extent: Extent, case: Case) -> CasePlan:
        expected = expect_shapes(extent, self.bundle)
        choice = tune(self.passes, expected) if self._tunes else None
        plan = plan_case(case.id, expected, self.bundle, self.options, choice)
        if self._tunes and choice is None and is_worth_tuning(self.passes, plan.windows):
            self.untimed.append(case.id)
        return fit_plan(plan, count_allowed_bytes(self.options))

    def _time_passes(self, plan: CasePlan) -> float:
        """Time of preparing the image and running all of its windows."""
        return time_preparing(self.bundle, plan) + len(plan.windows) * self._time_window(plan)

    def _check(self, extent: Extent, case: Case) -> None:
        """Refuse what the header shows not to be what the bundle takes."""
        wanted = 3 if isinstance(self.bundle.inferer, SliceInferer) else self.bundle.spatial_dims
        check_axes(len(extent.shape), wanted, case)
        if not any(isinstance(step, GreyToOneChanneld) for step in self.bundle.preprocessing.transforms):
            check_channels(extent.channels, self.bundle.channels, case)

    def _time_window(self, plan: CasePlan) -> float:
        window = fit_window(read_window(self.bundle, self.options), plan)
        image = torch.zeros([1] * (1 + len(plan.shapes.network))).expand(plan.shapes.channels, *plan.shapes.network)
        key = (plan.backend, window.windowing(image.shape), self.passes.threads)
        if key not in self._seconds:
            self.passes.choose(window, image, splits=plan.is_streamed)
            self._seconds[key] = time_window(self.passes, plan, window)
        return self._seconds[key]


def format_plans(run: DryRun) -> Iterator[str]:
    """The plans as text: a heading, a row per case, what the numbers rest on, and the total."""
    width = max([4, *(len(plan.case) for plan in run.plans)])
    if run.plans:
        yield f"{'case':<{width}}  {'voxels':>13}  {'resampled':>13}  {'windows':>18}  {'memory':>7}  {'time':>8}"
    for plan in run.plans:
        windows = f"{len(plan.windows)} of {_join_sizes(plan.roi)}"
        sizes = f"{_join_sizes(plan.shapes.image):>13}  {_join_sizes(plan.shapes.network):>13}  {windows:>18}"
        memory, seconds = _format_gb(plan.peak_bytes), _format_seconds(plan.seconds or 0)
        yield f"{plan.case:<{width}}  {sizes}  {memory:>7}  {seconds:>8}"
        if plan.is_reduced:
            sums = f"sums in {plan.storage}" if plan.storage != "disk" else "sums in a file"
            yield f"{'':<{width}}  to keep to the memory allowed: {plan.batch} window(s) at a time, {sums}"
    if run.locator and run.plans:
        yield f"{run.locator} finds where to look, so that windows, memory and time are at most as said"
    yield from _tell_ways(run)
    total = _format_seconds(sum(plan.seconds or 0 for plan in run.plans))
    yield f"{len(run.plans)} of {len(run.outcomes)} cases can be run, in about {total}; no mask was written"


def _tell_ways(run: DryRun) -> Iterator[str]:
    """How the windows are run."""
    ways = {(plan.backend, plan.batch, plan.choice.threads if plan.choice else run.threads) for plan in run.plans}
    for backend, batch, threads in sorted(ways):
        yield f"run by {backend} on {run.device}, {batch} window(s) at a time, with {threads} thread(s)"
    if run.untimed:
        yield f"runtime, batch and threads are still to be chosen by timing, for {', '.join(run.untimed)}"
    if run.plans:
        yield "memory is what a case adds at its peak"


def _join_sizes(voxels: Iterable[int]) -> str:
    return "×".join(map(str, voxels))


def _format_gb(size: int) -> str:
    return f"{size / 2**30:.2f}G"


def _format_seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
