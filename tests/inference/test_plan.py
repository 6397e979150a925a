"""What a case takes is counted from shapes before it is run, and lessened step by step where it is too much."""

from __future__ import annotations

import pytest

from medseg.errors import ImageError
from medseg.inference.plan import CasePlan, Shapes, fit_plan, smaller_plans
from medseg.inference.runtimes.network_runner import Footprint
from medseg.inference.windows import Windows


def plan_of(batch: int = 4, classes: int = 100, live_bytes: int = 1 << 20) -> CasePlan:
    shapes = Shapes(1, (200, 200, 200), (200, 200, 200), (1.0, 1.0, 1.0))
    windows = Windows(shapes.network, (64, 64, 64), (0.5, 0.5, 0.5))
    return CasePlan("one", shapes, classes, windows, Footprint(classes, live_bytes, 1 << 20), batch, "torch")


def test_sums_are_counted_voxel_by_voxel():
    plan = plan_of(classes=100)
    assert plan.parts["sums"] == (100 + 1) * 4 * plan.windows.slab_voxels()


def test_a_plan_that_fits_is_kept():
    plan = plan_of()
    assert fit_plan(plan, plan.peak_bytes) is plan
    assert fit_plan(plan, None) is plan


def test_each_plan_down_the_ladder_takes_no_more_than_the_one_before():
    peaks = [plan.peak_bytes for plan in smaller_plans(plan_of())]
    assert peaks == sorted(peaks, reverse=True)
    assert peaks[-1] < peaks[0] / 2


def test_the_ladder_goes_from_smaller_batches_over_halves_to_a_file():
    steps = [(plan.batch, plan.storage) for plan in smaller_plans(plan_of(batch=4))]
    assert steps == [(4, "float32"), (2, "float32"), (1, "float32"), (1, "bfloat16"), (1, "disk")]


@pytest.mark.parametrize("place", range(5))
def test_the_first_plan_that_fits_is_taken(place):
    plans = list(smaller_plans(plan_of(live_bytes=1 << 28)))
    assert fit_plan(plans[0], plans[place].peak_bytes) == plans[place]


def test_what_fits_nowhere_is_refused():
    *_, least = smaller_plans(plan_of())
    with pytest.raises(ImageError, match="MEMORY_BUDGET"):
        fit_plan(plan_of(), least.peak_bytes - 1)


def test_only_halved_sums_are_noted():
    noted = {plan.storage: plan.note for plan in smaller_plans(plan_of())}
    assert noted["float32"] is None
    assert noted["disk"] is None
    assert noted["bfloat16"].code == "SUMS_HALVED"
