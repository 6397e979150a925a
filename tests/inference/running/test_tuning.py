"""The quickest way to run windows, chosen from made-up measurements; nothing is timed here."""

import json
import math

import pytest

from medseg.inference.running import tuning
from medseg.inference.running.tuning import (
    BUDGET_SECONDS,
    Candidates,
    Choice,
    Timing,
    Tuned,
    choice_name,
    keep_choice,
    kept_choice,
    least_seconds,
    quickest,
)

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
    return quickest(OWN, candidates, machine, windows).choice


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
    assert quickest(OWN, ALL, machine, 10).choice == OWN  # A twentieth of ten seconds, spent by one measurement.
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
    path = tmp_path / "below" / choice_name(["network"])
    found = quickest(OWN, ALL, product(backend=math.inf), MANY)
    keep_choice(found, path)
    assert kept_choice(path, ALL) == found.choice
    timed = json.loads(path.read_text(), parse_constant=pytest.fail)["timed"]
    assert len(timed) == len(found.window_seconds)


def test_every_fact_changes_the_name_of_the_file():
    facts = [["net", 1, None], ["net", 2, None], ["net", 1, "1.0"], ["net"], []]
    assert len({choice_name(each) for each in facts}) == len(facts)
    assert choice_name(facts[0]) == choice_name(list(facts[0]))


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
    assert kept_choice(path, ALL) is None


def test_no_file_is_no_choice(tmp_path):
    assert kept_choice(tmp_path / "choice.json", ALL) is None


def test_a_folder_that_cannot_be_written_fails_nothing(tmp_path):
    (tmp_path / "file").write_text("no folder")
    path = tmp_path / "file" / "choice.json"
    keep_choice(Tuned(OWN, {OWN: 1.0}), path)
    assert kept_choice(path, ALL) is None


def test_the_first_call_is_not_counted_and_the_quickest_of_the_others_is(monkeypatch):
    clock = iter([0.0, 0.3, 1.0, 1.1])  # Of two timed calls: 0.3 and 0.1 seconds.
    monkeypatch.setattr(tuning.time, "perf_counter", lambda: next(clock))
    calls = []
    assert least_seconds(lambda: calls.append(1)) == pytest.approx(0.1)
    assert len(calls) == 3


def test_slow_calls_are_timed_once(monkeypatch):
    clock = iter([0.0, 9.0])
    monkeypatch.setattr(tuning.time, "perf_counter", lambda: next(clock))
    assert least_seconds(lambda: None) == 9.0
