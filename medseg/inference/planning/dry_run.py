"""What predicting would take, case by case, without doing it: windows, memory and time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from monai.inferers import SliceInferer

from medseg.bundle.load import open_bundle
from medseg.data.cases import Case
from medseg.data.extents import Extent, read_extent
from medseg.data.payload import memory_budget
from medseg.data.transforms import GreyToOneChanneld
from medseg.errors import MedsegError, UsageError
from medseg.inference.bundle_plan import expect_shapes, fit_window, plan_case, read_window
from medseg.inference.input_checks import check_axes, check_channels
from medseg.inference.locating import Locator, open_locator
from medseg.inference.options import PredictOptions
from medseg.inference.plan import CasePlan, count_allowed_bytes, fit_plan
from medseg.inference.planning.probe import preparing_seconds, reading_seconds, restoring_seconds, window_seconds
from medseg.inference.planning.tuned import is_worth_tuning, tuned
from medseg.inference.predict import UNFORESEEN, case_failed, cases_for
from medseg.inference.prediction import is_exported
from medseg.inference.runtimes.bundle_runtime import BundleRuntime
from medseg.inference.steps.monai_steps import quicken
from medseg.inference.windows import Windowing


@dataclass(frozen=True)
class DryRun:
    """What predicting would take.

    Args:
        outcomes: By the id of each case, in order: how it will be run, or why it cannot be.
        device: Where the network runs.
        threads: Of a pass on the CPU, where none were chosen by timing.
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
        options: As they will be predicted with.
        allow: Error codes accepted knowingly, such as BUNDLE_RUNS_CODE.

    Raises:
        InputError: There is no image.
        BundleError: The bundle or its locator is refused.
        UsageError: ``OPTION_NOT_EXPORTED``.
    """
    if is_exported(bundle):
        remedy = "leave --dry-run out; with --max-ram 1M, predicting names what it needs"
        raise UsageError("OPTION_NOT_EXPORTED", "--dry-run", "an exported bundle holds no plan of memory", remedy)
    options = options or PredictOptions()
    opened = open_bundle(bundle, allow)
    cases = cases_for(opened.channels, images, options.series)
    locating = open_locator(opened, options, allow)
    runtime = BundleRuntime(opened, options)
    quicken(opened.preprocessing)
    for each in (runtime, locating):
        if each:
            each.passes.keeps = False
    planner = _Planner(runtime, locating)
    outcomes = {case.id: planner.outcome(case) for case in cases}
    locator = locating.bundle.name if locating else None
    threads = options.threads or torch.get_num_threads()
    return DryRun(outcomes, str(options.torch_device), threads, tuple(planner.untimed), locator)


class _Planner:
    """Plans cases of one bundle, and times each kind of window once."""

    def __init__(self, runner: BundleRuntime | Locator, locator: Locator | None = None) -> None:
        self.bundle, self.options, self.passes = runner.bundle, runner.options, runner.passes
        self._coarse = _Planner(locator) if locator else None
        self._tunes = isinstance(runner, BundleRuntime)
        self._seconds: dict[tuple[str, Windowing, int], float] = {}
        self.untimed: list[str] = []

    def outcome(self, case: Case) -> CasePlan | MedsegError:
        """The case's plan, or the error that it will meet."""
        try:
            with memory_budget(self.options.max_ram):
                return self._planned(case)
        except MedsegError as error:
            return error
        except UNFORESEEN as error:
            return case_failed(error, case)

    def _planned(self, case: Case) -> CasePlan:
        extent = read_extent(case.images)
        self._check(extent, case)
        plan = self._fitted(extent, case)
        seconds = reading_seconds(case.images, plan) + self._passes_seconds(plan) + restoring_seconds(self.bundle, plan)
        if self._coarse:
            seconds += self._coarse._passes_seconds(self._coarse._fitted(extent, case))
        return replace(plan, seconds=seconds)

    def _fitted(self, extent: Extent, case: Case) -> CasePlan:
        expected = expect_shapes(extent, self.bundle)
        choice = tuned(self.passes, expected) if self._tunes else None
        plan = plan_case(case.id, expected, self.bundle, self.options, choice)
        if self._tunes and choice is None and is_worth_tuning(self.passes, plan.windows):
            self.untimed.append(case.id)
        return fit_plan(plan, count_allowed_bytes(self.options))

    def _passes_seconds(self, plan: CasePlan) -> float:
        """Of preparing the image and running all of its windows."""
        return preparing_seconds(self.bundle, plan) + len(plan.windows) * self._window_seconds(plan)

    def _check(self, extent: Extent, case: Case) -> None:
        """Refuse what the header shows not to be what the bundle takes."""
        wanted = 3 if isinstance(self.bundle.inferer, SliceInferer) else self.bundle.spatial_dims
        check_axes(len(extent.shape), wanted, case)
        if not any(isinstance(step, GreyToOneChanneld) for step in self.bundle.preprocessing.transforms):
            check_channels(extent.channels, self.bundle.channels, case)

    def _window_seconds(self, plan: CasePlan) -> float:
        window = fit_window(read_window(self.bundle, self.options), plan)
        image = torch.zeros([1] * (1 + len(plan.shapes.network))).expand(plan.shapes.channels, *plan.shapes.network)
        key = (plan.backend, window.windowing(image.shape), self.passes.threads)
        if key not in self._seconds:
            self.passes.choose(window, image, splits=plan.is_streamed)
            self._seconds[key] = window_seconds(self.passes, plan, window)
        return self._seconds[key]


def lines(run: DryRun) -> Iterator[str]:
    """The plans as text: a heading, a row per case, what the numbers rest on, and the total."""
    width = max([4, *(len(plan.case) for plan in run.plans)])
    if run.plans:
        yield f"{'case':<{width}}  {'voxels':>13}  {'resampled':>13}  {'windows':>18}  {'memory':>7}  {'time':>8}"
    for plan in run.plans:
        windows = f"{len(plan.windows)} of {_size(plan.roi)}"
        sizes = f"{_size(plan.shapes.image):>13}  {_size(plan.shapes.network):>13}  {windows:>18}"
        yield f"{plan.case:<{width}}  {sizes}  {_gb(plan.peak_bytes):>7}  {_time(plan.seconds or 0):>8}"
        if plan.is_reduced:
            sums = f"sums in {plan.storage}" if plan.storage != "disk" else "sums in a file"
            yield f"{'':<{width}}  to keep to the memory allowed: {plan.batch} window(s) at a time, {sums}"
    if run.locator and run.plans:
        yield f"{run.locator} finds where to look, so that windows, memory and time are at most as said"
    yield from _ways(run)
    seconds = sum(plan.seconds or 0 for plan in run.plans)
    total = len(run.outcomes)
    yield f"{len(run.plans)} of {total} cases can be run, in about {_time(seconds)}; no mask was written"


def _ways(run: DryRun) -> Iterator[str]:
    """How the windows are run."""
    ways = {(plan.backend, plan.batch, plan.choice.threads if plan.choice else run.threads) for plan in run.plans}
    for backend, batch, threads in sorted(ways):
        yield f"run by {backend} on {run.device}, {batch} window(s) at a time, with {threads} thread(s)"
    if run.untimed:
        yield f"runtime, batch and threads are still to be chosen by timing, for {', '.join(run.untimed)}"
    if run.plans:
        yield "memory is what a case adds at its peak"


def _size(voxels: Iterable[int]) -> str:
    return "×".join(map(str, voxels))


def _gb(size: int) -> str:
    return f"{size / 2**30:.2f}G"


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
