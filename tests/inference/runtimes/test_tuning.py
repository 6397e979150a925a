"""What runs windows quickest, chosen from made-up timings where that is worth it; later runs take the same choice."""

import json
import math
from dataclasses import replace

import pytest
import torch

from medseg.bundle.load import open_bundle
from medseg.data.cases.case import Case
from medseg.errors import UsageError
from medseg.inference.bundle_plan import plan_within_memory
from medseg.inference.plan import Shapes
from medseg.inference.predict import open_predictor
from medseg.inference.runtimes import tuning
from medseg.inference.runtimes.backends import Choice
from medseg.inference.runtimes.network_runner import NetworkRunner
from medseg.inference.runtimes.tuning import (
    BUDGET_SECONDS,
    Candidates,
    Timing,
    TunedChoice,
    find_quickest,
    is_worth_tuning,
    keep_choice,
    name_choice,
    read_choice,
    time_call,
    tune,
)
from medseg.inference.windows import Windows
from medseg.options import PredictOptions
from tests.conftest import ball, save_nifti

OWN = Choice("torch", 4, 8)
ALL = Candidates(("torch", "openvino"), (2, 8, 4), (2, 1, 4))
MANY = 10**6


class Machine:
    """One on which a window takes what ``seconds`` says of a choice, and a measurement ``spent``."""

    def __init__(self, seconds, spent=0.0):
        self.seconds, self.spent, self.tried = seconds, spent, []

    def __call__(self, choice):
        self.tried.append(choice)
        return Timing(self.seconds(choice), self.spent)


def chosen(machine, candidates=ALL, windows=MANY):
    return find_quickest(OWN, candidates, machine, windows).choice


def product(backend=1.0, threads=1.0, batch=1.0):
    """Seconds where OpenVINO, two threads and each smaller batch change them by these factors."""

    def seconds(choice):
        by_backend = backend if choice.backend == "openvino" else 1.0
        by_threads = threads if choice.threads == 2 else 1.0
        return by_backend * by_threads * batch ** (4 // choice.batch - 1)

    return Machine(seconds)


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        (product(backend=0.5, threads=0.5, batch=1.2), Choice("openvino", 4, 2)),
        (product(backend=0.5, threads=2, batch=1.2), Choice("openvino", 4, 8)),
        (product(backend=2, threads=0.5, batch=0.9), Choice("torch", 1, 2)),
    ],
)
def test_the_quickest_of_all_is_found_where_the_factors_are_independent(machine, expected):
    assert chosen(machine) == expected
    quickest_of_all = min(
        (Choice(backend, batch, threads) for backend in ALL.backends for threads in ALL.threads for batch in (1, 2, 4)),
        key=machine.seconds,
    )
    assert machine.seconds(expected) == machine.seconds(quickest_of_all)


def test_where_all_are_alike_the_plainest_with_the_smallest_batch_is_taken():
    assert chosen(product()) == Choice("torch", 1, 8)


@pytest.mark.parametrize(("share", "batch"), [(1.06, 4), (1.04, 1)])
def test_a_larger_batch_must_be_quicker_by_a_clear_share(share, batch):
    one_or_four = Candidates(("torch",), (8,), (4, 1))
    machine = Machine(lambda choice: share if choice.batch == 1 else 1.0)
    assert chosen(machine, one_or_four).batch == batch


def test_a_runtime_that_cannot_run_the_network_is_not_taken():
    assert chosen(product(backend=math.inf)).backend == "torch"


def test_nothing_but_the_runtimes_is_tried_once_the_time_is_spent():
    machine = Machine(lambda choice: 1.0, spent=BUDGET_SECONDS)
    chosen(machine)
    assert [each.backend for each in machine.tried] == ["torch", "openvino", "torch"]
    assert machine.tried[2].threads == ALL.threads[0]


def test_little_work_ahead_leaves_little_time():
    machine = Machine(lambda choice: 1.0, spent=0.5)
    assert find_quickest(OWN, ALL, machine, 10).choice == OWN  # A twentieth of ten seconds, spent by one measurement.
    assert len(machine.tried) == 3


def test_no_choice_is_timed_twice():
    machine = product(backend=0.5)
    chosen(machine)
    assert len(set(machine.tried)) == len(machine.tried)


def test_a_single_candidate_is_timed_and_taken():
    machine = product()
    assert chosen(machine, Candidates(("torch",), (8,), (4,))) == OWN
    assert machine.tried == [OWN]


def test_a_kept_choice_is_read_again_with_what_it_rests_on(tmp_path):
    path = tmp_path / "below" / name_choice(["network"])
    found = find_quickest(OWN, ALL, product(backend=math.inf), MANY)
    keep_choice(found, path)
    assert read_choice(path, ALL) == found.choice
    timed = json.loads(path.read_text(), parse_constant=pytest.fail)["timed"]
    assert len(timed) == len(found.window_seconds)


def test_every_fact_changes_the_name_of_the_file():
    facts = [["net", 1, None], ["net", 2, None], ["net", 1, "1.0"], ["net"], []]
    assert len({name_choice(each) for each in facts}) == len(facts)
    assert name_choice(facts[0]) == name_choice(list(facts[0]))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1",
        "[]",
        "{}",
        '{"choice": 1}',
        '{"choice": {"backend": "torch"}}',
        '{"choice": {"backend": "torch", "batch": "many", "threads": 8}}',
        '{"choice": {"backend": "torch", "batch": 0, "threads": 8}}',
        '{"choice": {"backend": "torch", "batch": 1000000, "threads": 8}}',
        '{"choice": {"backend": "torch", "batch": 2, "threads": 64}}',
        '{"choice": {"backend": "abacus", "batch": 2, "threads": 8}}',
        "\x00\xff",
    ],
)
def test_what_is_no_choice_of_ours_is_passed_over(tmp_path, text):
    path = tmp_path / "choice.json"
    path.write_text(text, encoding="latin1")
    assert read_choice(path, ALL) is None


def test_no_file_is_no_choice(tmp_path):
    assert read_choice(tmp_path / "choice.json", ALL) is None


def test_a_folder_that_cannot_be_written_fails_nothing(tmp_path):
    (tmp_path / "file").write_text("no folder")
    path = tmp_path / "file" / "choice.json"
    keep_choice(TunedChoice(OWN, {OWN: 1.0}), path)
    assert read_choice(path, ALL) is None


def test_the_first_call_is_not_counted_and_the_quickest_of_the_others_is(monkeypatch):
    clock = iter([0.0, 0.3, 1.0, 1.1])  # Of two timed calls: 0.3 and 0.1 seconds.
    monkeypatch.setattr(tuning.time, "perf_counter", lambda: next(clock))
    calls = []
    assert time_call(lambda: calls.append(1)) == pytest.approx(0.1)
    assert len(calls) == 3


def test_slow_calls_are_timed_once(monkeypatch):
    clock = iter([0.0, 9.0])
    monkeypatch.setattr(tuning.time, "perf_counter", lambda: next(clock))
    assert time_call(lambda: None) == 9.0


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

    monkeypatch.setattr(tuning, "_time_choice", timing)
    monkeypatch.setattr(tuning, "WORTH_TUNING", 0)
    monkeypatch.setattr(tuning, "LEAST_BATCHES", 0)
    return choices


def passes_of(root, options=AUTO, **how):
    return NetworkRunner(open_bundle(root), options, lambda windows: None, **how)


def test_the_choice_is_kept_and_later_runs_take_it_without_timing(tiny_bundle, cache, timed):
    first = tune(passes_of(tiny_bundle), SHAPES)
    assert first.batch == 2
    assert timed
    timed.clear()
    assert tune(passes_of(tiny_bundle), SHAPES) == first
    assert timed == []
    assert [path.suffix for path in cache.iterdir()] == [".json"]


def test_what_was_timed_on_a_busy_machine_is_neither_taken_nor_kept(tiny_bundle, cache, timed, monkeypatch):
    monkeypatch.setattr(tuning, "_time_choice", lambda *given: timed.append(given) or Timing(1.0, 0.0, 0.5))
    passes = passes_of(tiny_bundle)
    assert tune(passes, SHAPES) is None
    assert not cache.exists()
    timed.clear()
    assert tune(passes, SHAPES) is None
    assert timed == []  # Once in a run is enough.


def test_another_network_size_of_window_or_number_of_threads_is_tuned_anew(tiny_bundle, cache, timed):
    bundle = open_bundle(tiny_bundle)
    wider = torch.nn.Conv3d(1, 2, 3, padding=1).eval()
    for other in (bundle, replace(bundle, network=wider)):
        timed.clear()
        tune(NetworkRunner(other, AUTO, lambda windows: None), SHAPES)
        assert timed
    bundle.inferer.roi_size = (24, 24, 24)
    for options in (AUTO, replace(AUTO, threads=3)):
        timed.clear()
        tune(NetworkRunner(bundle, options, lambda windows: None), SHAPES)
        assert timed


def test_a_damaged_choice_is_made_anew_and_kept(tiny_bundle, cache, timed):
    first = tune(passes_of(tiny_bundle), SHAPES)
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:20])
    assert tune(passes_of(tiny_bundle), SHAPES) == first
    assert path.read_bytes() == whole


def test_a_cache_that_cannot_be_written_times_once_in_a_run(tiny_bundle, tmp_path, timed, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    passes = passes_of(tiny_bundle)
    assert tune(passes, SHAPES).batch == 2
    timed.clear()
    assert tune(passes, SHAPES).batch == 2
    assert timed == []


def test_passes_that_keep_nothing_time_nothing_but_take_what_is_kept(tiny_bundle, cache, timed):
    assert tune(passes_of(tiny_bundle, keeps=False), SHAPES) is None
    assert timed == []
    assert not cache.exists()
    kept = tune(passes_of(tiny_bundle), SHAPES)
    assert tune(passes_of(tiny_bundle, keeps=False), SHAPES) == kept


@pytest.mark.parametrize("changed", [{"backend": "torch"}, {"backend": "openvino"}, {"amp": True}])
def test_what_was_asked_for_is_not_overruled(tiny_bundle, cache, timed, changed):
    assert tune(passes_of(tiny_bundle, replace(AUTO, **changed)), SHAPES) is None
    assert timed == []


def test_threads_that_were_asked_for_are_the_only_ones_tried(tiny_bundle, cache, timed):
    assert tune(passes_of(tiny_bundle, replace(AUTO, threads=3)), SHAPES).threads == 3
    assert {each.threads for each in timed} == {3}


def test_more_threads_than_pytorch_has_are_not_tried(tiny_bundle, cache, timed, monkeypatch):
    monkeypatch.setattr(tuning, "count_usable_cores", lambda: 4096)
    tune(passes_of(tiny_bundle), SHAPES)
    assert max(each.threads for each in timed) == torch.get_num_threads()


def test_batches_that_memory_does_not_hold_are_not_tried(tiny_bundle, cache, timed):
    bundle = open_bundle(tiny_bundle)
    bundle.inferer.sw_batch_size = 1
    four = plan_within_memory("one", SHAPES, bundle, replace(AUTO, max_ram=10**12), Choice("torch", 4, 1))
    tune(NetworkRunner(bundle, replace(AUTO, max_ram=four.peak_bytes - 1), lambda windows: None), SHAPES)
    assert {each.batch for each in timed} == {1, 2}


def test_where_the_bundle_s_own_batch_does_not_fit_nothing_is_tuned(tiny_bundle, cache, timed):
    assert tune(passes_of(tiny_bundle, replace(AUTO, max_ram=1000)), SHAPES) is None
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

    monkeypatch.setattr(tuning, "WORTH_TUNING", 0)
    monkeypatch.setattr(tuning, "LEAST_BATCHES", 0)
    monkeypatch.setattr(tuning, "LEAST_CORE_SHARE", 0.0)
    bundle = replace(open_bundle(tiny_bundle), network=Single(1, 2, 3, padding=1).eval())
    bundle.inferer.sw_batch_size = 1
    assert tune(NetworkRunner(bundle, AUTO, lambda windows: None), SHAPES).batch == 1


@pytest.mark.parametrize("threads", [0, -1])
def test_fewer_than_one_thread_is_refused(threads):
    with pytest.raises(UsageError, match="SETTING_INVALID"):
        PredictOptions(threads=threads)


def test_a_real_timing_gives_a_choice_among_the_candidates(tiny_bundle, cache, monkeypatch):
    monkeypatch.setattr(tuning, "WORTH_TUNING", 0)
    monkeypatch.setattr(tuning, "LEAST_BATCHES", 0)
    monkeypatch.setattr(tuning, "LEAST_CORE_SHARE", 0.0)
    choice = tune(passes_of(tiny_bundle), SHAPES)
    assert choice.backend == "torch"
    assert 1 <= choice.threads <= torch.get_num_threads()
    assert choice.batch in {1, 2, 4, open_bundle(tiny_bundle).inferer.sw_batch_size}


def test_a_runtime_that_fails_while_it_is_tried_is_said_and_pytorch_runs(tiny_bundle, cache, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setattr(tuning, "WORTH_TUNING", 0)
    monkeypatch.setattr(tuning, "LEAST_BATCHES", 0)
    monkeypatch.setattr(tuning, "choose_backend", lambda *_: "openvino")
    monkeypatch.setattr(tuning, "LEAST_CORE_SHARE", 0.0)
    monkeypatch.setattr("medseg.inference.runtimes.backends.TOLERANCE", -1.0)
    passes = passes_of(tiny_bundle)
    assert tune(passes, SHAPES).backend == "torch"
    assert "BACKEND_DISAGREES" in passes.note
