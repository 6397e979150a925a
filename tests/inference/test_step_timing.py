"""The steps of a case are timed on little pieces and counted up to its size."""

from dataclasses import replace

import pytest
import torch

from medseg.bundle.load import open_bundle
from medseg.inference import step_timing
from medseg.inference.bundle_plan import fit_window, plan_case, read_window
from medseg.inference.plan import Shapes
from medseg.inference.runtimes.network_runner import NetworkRunner
from medseg.inference.step_timing import time_preparing, time_reading, time_restoring, time_window
from medseg.options import PredictOptions

CPU = PredictOptions(device="cpu", backend="torch")
SHAPES = Shapes(1, (96, 96, 96), (96, 96, 96), (1.0, 1.0, 1.0))


@pytest.fixture
def bundle(tiny_bundle):
    return open_bundle(tiny_bundle)


@pytest.fixture
def calls(monkeypatch):
    """What was timed; each call is said to take a second, and is made once."""
    made = []

    def second(call):
        made.append(call())
        return 1.0

    monkeypatch.setattr(step_timing, "time_call", second)
    return made


def plan_of(bundle, shapes=SHAPES):
    return plan_case("one", shapes, bundle, CPU)


def test_preparing_and_restoring_grow_with_the_image(bundle, calls):
    plan = plan_of(bundle)
    assert time_preparing(bundle, plan) == pytest.approx((96 / step_timing.PIECE_VOXELS) ** 3)
    assert time_restoring(bundle, plan) == pytest.approx((96 / step_timing.PIECE_VOXELS) ** 3)
    small = plan_of(bundle, replace(SHAPES, image=(20, 20, 20), network=(20, 20, 20)))
    assert time_preparing(bundle, small) == time_restoring(bundle, small) == 1.0


def test_what_is_not_restored_slab_by_slab_takes_no_time_of_its_own(bundle, calls):
    steps = replace(bundle, postprocessing=type(bundle.postprocessing)([]))
    assert time_restoring(steps, plan_of(bundle)) == 0.0
    assert calls == []


def test_a_window_is_a_share_of_the_batches_that_were_run(bundle, calls):
    counted, plan = [], plan_of(bundle)
    runner = NetworkRunner(bundle, CPU, counted.append)
    window = fit_window(read_window(bundle, CPU), plan)
    runner.choose(window, torch.zeros(1, 96, 96, 96), splits=plan.is_streamed)
    assert time_window(runner, plan, window) == pytest.approx(1 / sum(counted))
    assert len(calls) == 1


def test_reading_goes_by_the_first_bytes_of_the_first_file(bundle, tmp_path, monkeypatch):
    plan = plan_of(bundle)
    path = tmp_path / "scan.nii"
    path.write_bytes(bytes(1000))
    clock = iter([0.0, 2.0])
    monkeypatch.setattr(step_timing.time, "perf_counter", lambda: next(clock))
    assert time_reading([str(path)], plan) == pytest.approx(2.0 / 1000 * SHAPES.stored_bytes * 96**3)
    assert time_reading([str(tmp_path)], plan) == 0.0
