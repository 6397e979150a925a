"""A case is tuned where that is worth it, and every later run takes the same choice; the timing itself is made up."""

from dataclasses import replace

import pytest
import torch

from medseg.bundle.load import open_bundle
from medseg.data.case import Case
from medseg.errors import UsageError
from medseg.inference.bundle_plan import plan_within_memory
from medseg.inference.options import PredictOptions
from medseg.inference.plan import Shapes
from medseg.inference.planning import tuned as tuned_module
from medseg.inference.planning.tuned import is_worth_tuning, tuned
from medseg.inference.predict import open_predictor
from medseg.inference.running import tuning
from medseg.inference.running.passes import Passes
from medseg.inference.running.tuning import Choice, Timing
from medseg.inference.windows import Windows
from tests.conftest import ball, save_nifti

SHAPES = Shapes(1, (40, 40, 40), (40, 40, 40), (1.0, 1.0, 1.0))
AUTO = PredictOptions(device="cpu")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Its own cache folder, in which nothing is kept yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "medseg" / "backends"


@pytest.fixture
def timed(monkeypatch):
    """The choices that were timed; two windows at a time are said to be the quickest."""
    choices = []

    def timing(trial, plan, choice):
        choices.append(choice)
        return Timing(0.5 if choice.batch == 2 else 1.0, 0.0)

    monkeypatch.setattr(tuned_module, "_timing", timing)
    monkeypatch.setattr(tuned_module, "WORTH_TUNING", 0)
    monkeypatch.setattr(tuned_module, "LEAST_BATCHES", 0)
    return choices


def passes_of(root, options=AUTO, **how):
    return Passes(open_bundle(root), options, lambda windows: None, **how)


def test_the_choice_is_kept_and_later_runs_take_it_without_timing(tiny_bundle, cache, timed):
    first = tuned(passes_of(tiny_bundle), SHAPES)
    assert first.batch == 2
    assert timed
    timed.clear()
    assert tuned(passes_of(tiny_bundle), SHAPES) == first
    assert timed == []
    assert [path.suffix for path in cache.iterdir()] == [".json"]


def test_what_was_timed_on_a_busy_machine_is_neither_taken_nor_kept(tiny_bundle, cache, timed, monkeypatch):
    monkeypatch.setattr(tuned_module, "_timing", lambda *given: timed.append(given) or Timing(1.0, 0.0, 0.5))
    passes = passes_of(tiny_bundle)
    assert tuned(passes, SHAPES) is None
    assert not cache.exists()
    timed.clear()
    assert tuned(passes, SHAPES) is None
    assert timed == []  # Once in a run is enough.


def test_another_network_size_of_window_or_number_of_threads_is_tuned_anew(tiny_bundle, cache, timed):
    bundle = open_bundle(tiny_bundle)
    wider = torch.nn.Conv3d(1, 2, 3, padding=1).eval()
    for other in (bundle, replace(bundle, network=wider)):
        timed.clear()
        tuned(Passes(other, AUTO, lambda windows: None), SHAPES)
        assert timed
    bundle.inferer.roi_size = (24, 24, 24)
    for options in (AUTO, replace(AUTO, threads=3)):
        timed.clear()
        tuned(Passes(bundle, options, lambda windows: None), SHAPES)
        assert timed


def test_a_damaged_choice_is_made_anew_and_kept(tiny_bundle, cache, timed):
    first = tuned(passes_of(tiny_bundle), SHAPES)
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:20])
    assert tuned(passes_of(tiny_bundle), SHAPES) == first
    assert path.read_bytes() == whole


def test_a_cache_that_cannot_be_written_times_once_in_a_run(tiny_bundle, tmp_path, timed, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    passes = passes_of(tiny_bundle)
    assert tuned(passes, SHAPES).batch == 2
    timed.clear()
    assert tuned(passes, SHAPES).batch == 2
    assert timed == []


def test_passes_that_keep_nothing_time_nothing_but_take_what_is_kept(tiny_bundle, cache, timed):
    assert tuned(passes_of(tiny_bundle, keeps=False), SHAPES) is None
    assert timed == []
    assert not cache.exists()
    kept = tuned(passes_of(tiny_bundle), SHAPES)
    assert tuned(passes_of(tiny_bundle, keeps=False), SHAPES) == kept


@pytest.mark.parametrize("changed", [{"backend": "torch"}, {"backend": "openvino"}, {"amp": True}])
def test_what_was_asked_for_is_not_overruled(tiny_bundle, cache, timed, changed):
    assert tuned(passes_of(tiny_bundle, replace(AUTO, **changed)), SHAPES) is None
    assert timed == []


def test_threads_that_were_asked_for_are_the_only_ones_tried(tiny_bundle, cache, timed):
    assert tuned(passes_of(tiny_bundle, replace(AUTO, threads=3)), SHAPES).threads == 3
    assert {each.threads for each in timed} == {3}


def test_more_threads_than_pytorch_has_are_not_tried(tiny_bundle, cache, timed, monkeypatch):
    monkeypatch.setattr(tuned_module, "usable_cores", lambda: 4096)
    tuned(passes_of(tiny_bundle), SHAPES)
    assert max(each.threads for each in timed) == torch.get_num_threads()


def test_batches_that_memory_does_not_hold_are_not_tried(tiny_bundle, cache, timed):
    bundle = open_bundle(tiny_bundle)
    bundle.inferer.sw_batch_size = 1
    four = plan_within_memory("one", SHAPES, bundle, replace(AUTO, max_ram=10**12), Choice("torch", 4, 1))
    tuned(Passes(bundle, replace(AUTO, max_ram=four.peak_bytes - 1), lambda windows: None), SHAPES)
    assert {each.batch for each in timed} == {1, 2}


def test_where_the_bundle_s_own_batch_does_not_fit_nothing_is_tuned(tiny_bundle, cache, timed):
    assert tuned(passes_of(tiny_bundle, replace(AUTO, max_ram=1000)), SHAPES) is None
    assert timed == []


def test_a_kept_batch_that_memory_does_not_hold_is_halved(tiny_bundle, cache):
    bundle, choice = open_bundle(tiny_bundle), Choice("torch", 4, 1)
    whole = plan_within_memory("one", SHAPES, bundle, replace(AUTO, max_ram=10**12), choice)
    less = plan_within_memory("one", SHAPES, bundle, replace(AUTO, max_ram=whole.peak_bytes - 1), choice)
    assert (whole.batch, less.batch) == (4, 2)


def test_small_cases_are_not_worth_it_and_large_ones_are(tiny_bundle):
    passes = passes_of(tiny_bundle)
    roi, half = (16, 16, 16), (0.5, 0.5, 0.5)
    assert not is_worth_tuning(passes, Windows((40, 40, 40), roi, half))
    assert is_worth_tuning(passes, Windows((50_000, 500, 500), roi, half))
    assert not is_worth_tuning(passes, Windows((50_000,) * 3, (50_000,) * 3, half))


def test_a_case_is_run_and_recorded_as_it_was_tuned(tiny_bundle, tmp_path, cache, timed):
    path = save_nifti(ball(1)[0], tmp_path / "a.nii.gz")
    case = Case("one", (str(path),), None, "one")
    bundle, threads = open_bundle(tiny_bundle), torch.get_num_threads()
    run = open_predictor(bundle, replace(AUTO, threads=threads + 1))
    made = run(case)
    assert made.run_by == {
        "backend": "torch",
        "windows_at_a_time": 2,
        "threads": threads + 1,
        "chosen_by": "timing",
    }
    assert torch.get_num_threads() == threads
    plain = open_predictor(open_bundle(tiny_bundle), PredictOptions(device="cpu", backend="torch"))(case)
    assert plain.run_by["chosen_by"] == "rule"
    assert (made.labels == plain.labels).all()


def test_a_network_that_takes_one_window_at_a_time_gets_one(tiny_bundle, cache, monkeypatch):
    class Single(torch.nn.Conv3d):
        def forward(self, windows):
            return super().forward(windows).reshape(1, 2, *windows.shape[2:])

    monkeypatch.setattr(tuned_module, "WORTH_TUNING", 0)
    monkeypatch.setattr(tuned_module, "LEAST_BATCHES", 0)
    monkeypatch.setattr(tuning, "LEAST_CORE_SHARE", 0.0)
    bundle = replace(open_bundle(tiny_bundle), network=Single(1, 2, 3, padding=1).eval())
    bundle.inferer.sw_batch_size = 1
    assert tuned(Passes(bundle, AUTO, lambda windows: None), SHAPES).batch == 1


@pytest.mark.parametrize("threads", [0, -1])
def test_fewer_than_one_thread_is_refused(threads):
    with pytest.raises(UsageError, match="SETTING_INVALID"):
        PredictOptions(threads=threads)


def test_a_real_timing_gives_a_choice_among_the_candidates(tiny_bundle, cache, monkeypatch):
    monkeypatch.setattr(tuned_module, "WORTH_TUNING", 0)
    monkeypatch.setattr(tuned_module, "LEAST_BATCHES", 0)
    monkeypatch.setattr(tuning, "LEAST_CORE_SHARE", 0.0)
    choice = tuned(passes_of(tiny_bundle), SHAPES)
    assert choice.backend == "torch"
    assert 1 <= choice.threads <= torch.get_num_threads()
    assert choice.batch in {1, 2, 4, open_bundle(tiny_bundle).inferer.sw_batch_size}


def test_a_runtime_that_fails_while_it_is_tried_is_said_and_pytorch_runs(tiny_bundle, cache, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setattr(tuned_module, "WORTH_TUNING", 0)
    monkeypatch.setattr(tuned_module, "LEAST_BATCHES", 0)
    monkeypatch.setattr(tuned_module, "chosen_backend", lambda *_: "openvino")
    monkeypatch.setattr(tuning, "LEAST_CORE_SHARE", 0.0)
    monkeypatch.setattr("medseg.inference.running.backends.TOLERANCE", -1.0)
    passes = passes_of(tiny_bundle)
    assert tuned(passes, SHAPES).backend == "torch"
    assert "BACKEND_DISAGREES" in passes.note
