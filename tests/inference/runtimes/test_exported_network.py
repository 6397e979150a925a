"""What a case of an exported bundle takes is counted before it is run, and lessened where it is too much."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from medseg.data.cases.case import Case
from medseg.errors import ImageError
from medseg.inference.export import export
from medseg.inference.plan import Shapes, choose_fitting, count_allowed_bytes, smaller_plans
from medseg.inference.predictor import Predictor
from medseg.inference.runtimes import exported_network
from medseg.inference.runtimes.exported_network import ExportedRuntime
from medseg.inference.steps.description import Description, read_description
from medseg.inference.steps.numpy_steps import NumpySteps
from medseg.inference.windows import WindowPlan
from medseg.options import PredictOptions
from tests.conftest import save_nifti

WINDOWS = WindowPlan((24, 24, 24), (0.25,) * 3, 4, "gaussian", (0.125,) * 3, "constant", 0.0, None)
RAS = {"step": "Orientation", "axcodes": "RAS"}
RESAMPLED = {"step": "Spacing", "pixdim": [1.0, 1.0, 1.0], "diagonal": False}
SCALED = {"step": "ScaleIntensityRange", "a_min": -1.0, "a_max": 1.0, "b_min": -1.0, "b_max": 1.0, "clip": True}
TURNED = np.array([[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
SHEARED = np.array([[-1.3, 0, 0, 0], [0, -0.9, 0.8, 0], [0, 0, 1.5, 0], [0, 0, 0, 1]])


def description(classes=20, steps=(RAS, SCALED), activation="softmax") -> Description:
    return Description(
        name="many_segmentation",
        version="1",
        weights_sha256="0" * 64,
        to="onnx",
        channels=("CT",),
        labels={value: f"class {value}" for value in range(classes)},
        preprocessing=tuple(steps),
        window=WINDOWS,
        activation=activation,
        threshold=0.5 if activation == "sigmoid" else None,
    )


def network(classes):
    """The window itself, louder from class to class, in no more memory than its result."""

    def run(windows):
        logits = np.empty((len(windows), classes, *windows.shape[2:]), np.float32)
        for number in range(classes):
            np.multiply(windows[:, 0], (number + 1) / classes, out=logits[:, number])
        return logits

    return run


@pytest.fixture
def predictor(monkeypatch):
    """An exported bundle of that description, run by that network."""

    def build(model: Description, **options) -> Predictor:
        runtime = runtime_of(model, monkeypatch, **options)
        return Predictor(model, NumpySteps(model), runtime, runtime.options)

    return build


def runtime_of(model: Description, monkeypatch, **options) -> ExportedRuntime:
    monkeypatch.setattr(exported_network, "open_network", lambda *_: network(model.scores))
    return ExportedRuntime(None, model, PredictOptions(**options))


def case_of(tmp_path, shape=(46, 40, 60), affine=None) -> Case:
    noise = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return Case("one", (str(save_nifti(noise, tmp_path / "a.nii", affine)),), None, "one")


@pytest.fixture
def free_plan(monkeypatch):
    """A plan of a case of that description where memory does not matter."""
    monkeypatch.setattr("medseg.inference.plan.memory_limit", lambda: None)

    def build(model, size=(100, 100, 100), **options):
        return runtime_of(model, monkeypatch, **options).plan("one", Shapes(1, size, size, (1.0, 1.0, 1.0)))

    return build


def test_an_image_in_one_piece_goes_through_the_network_and_counts_as_a_window(monkeypatch):
    runtime, counted = runtime_of(description(classes=3), monkeypatch), []
    runtime.on_windows = counted.append
    image = np.random.default_rng(0).normal(size=(1, 6, 5, 4)).astype(np.float32)
    np.testing.assert_array_equal(runtime.run_whole(image), network(3)(image[None])[0])
    assert counted == [1]


def test_plans_get_smaller_by_the_batch_and_then_by_a_file(free_plan):
    plans = list(smaller_plans(free_plan(description())))
    assert [(plan.batch, plan.spill is not None) for plan in plans] == [(4, False), (1, False), (1, True)]
    peaks = [plan.peak_bytes for plan in plans]
    assert peaks == sorted(peaks, reverse=True)
    assert peaks[2] < peaks[0] / 2


@pytest.mark.parametrize(("overlap", "shares"), [(None, WINDOWS.overlap), (0.1, (0.1, 0.1, 0.1))])
def test_windows_are_run_as_planned_and_as_asked_for(monkeypatch, free_plan, overlap, shares):
    *_, least = smaller_plans(free_plan(description(), overlap=overlap))
    runtime = runtime_of(description(), monkeypatch, overlap=overlap)
    window = runtime.choose(least, np.zeros((1, 100, 100, 100), np.float32))
    assert window == replace(WINDOWS, batch=1, overlap=shares)
    assert least.windows.overlap == shares
    assert runtime.run_by["windows_at_a_time"] == 1


def test_sums_are_counted_voxel_by_voxel(free_plan):
    whole, _, in_file = smaller_plans(free_plan(description(classes=30)))
    assert whole.parts["sums"] == (30 + 1) * 4 * 100 * 100 * 24
    assert in_file.parts["sums"] == 4 * 100 * 100 * 24


@pytest.mark.parametrize("place", range(3))
def test_the_first_plan_that_fits_is_taken(free_plan, place):
    plans = list(smaller_plans(free_plan(description())))
    assert choose_fitting(plans, plans[place].peak_bytes) is plans[place]
    assert choose_fitting(plans, None) is plans[0]


def test_what_fits_nowhere_is_refused_with_a_size_that_would_do(free_plan):
    plans = list(smaller_plans(free_plan(description())))
    with pytest.raises(ImageError) as caught:
        choose_fitting(plans, plans[-1].peak_bytes - 1)
    assert caught.value.code == "MEMORY_BUDGET"
    (named,) = [word for word in caught.value.remedy.split() if word.endswith("M") and word[:-1].isdigit()]
    assert choose_fitting(plans, int(named[:-1]) << 20) is plans[-1]


def test_without_max_ram_half_of_what_is_free_may_be_taken(monkeypatch):
    monkeypatch.setattr("medseg.inference.plan.memory_limit", lambda: 1000)
    assert count_allowed_bytes(PredictOptions()) == 500
    assert count_allowed_bytes(PredictOptions(max_ram=700)) == 700


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize(
    ("steps", "affine", "options"),
    [
        ((RAS, SCALED), None, {}),
        ((RAS, RESAMPLED, SCALED), np.diag([-1.5, -1.4, 1.2, 1]), {}),
        ((RAS, RESAMPLED, SCALED), np.diag([-0.7, -0.7, 0.8, 1]), {}),
        ((RAS, RESAMPLED, SCALED), SHEARED, {}),
        ((RAS, SCALED), TURNED, {"probabilities": True}),
    ],
    ids=["as it is", "made finer", "made coarser", "sheared", "with probabilities"],
)
def test_a_case_takes_no_more_memory_than_its_plan_states(predictor, tmp_path, steps, affine, options, place):
    run, case = predictor(description(steps=steps), **options), case_of(tmp_path, affine=affine)
    run(case)  # What libraries take when they are first used is no case's.
    tracemalloc.start()
    try:
        ready = run.prepare(case)
        plan = list(smaller_plans(run.runtime.plan(case.id, ready.shapes)))[place]
        run.runtime.plan = lambda *_: plan
        run.segment(case, ready)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most <= 1.15 * plan.peak_bytes + (1 << 20)
    assert plan.peak_bytes <= 1.6 * most


@pytest.mark.parametrize("options", [{}, {"probabilities": True}, {"overlap": 0.1}])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_the_mask_is_the_same_however_little_memory_is_allowed(predictor, tmp_path, activation, options):
    model = description(classes=2 if activation == "sigmoid" else 7, activation=activation)
    case = case_of(tmp_path, (40, 30, 34))
    free = predictor(model, **options)
    plans = list(smaller_plans(free.runtime.plan(case.id, free.prepare(case).shapes)))
    wanted = free(case)
    assert len(np.unique(wanted.labels)) > 1
    for plan in plans[1:]:
        tight = predictor(model, **options, max_ram=plan.peak_bytes)
        made = tight(case)
        assert np.array_equal(made.labels, wanted.labels)
        if options.get("probabilities"):
            assert np.array_equal(made.probabilities, wanted.probabilities)
    least = predictor(model, **options, max_ram=plans[-1].peak_bytes - 1)
    with pytest.raises(ImageError) as caught:
        least(case)
    assert caught.value.code == "MEMORY_BUDGET"


def test_an_export_says_what_a_pass_takes_and_an_earlier_one_that_does_not_is_read(tiny_bundle, tmp_path):
    folder = export(tiny_bundle, tmp_path / "exported", to="onnx").folder
    stated = read_description(folder)
    logits_bytes = 4 * 2 * 16**3
    assert stated.pass_bytes >= logits_bytes
    content = json.loads((folder / "exported.json").read_text())
    assert content.pop("pass_bytes") == stated.pass_bytes
    (folder / "exported.json").write_text(json.dumps(content))
    assert read_description(folder) == replace(stated, pass_bytes=0)
