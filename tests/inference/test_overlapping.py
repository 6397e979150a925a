import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from medseg.inference.predict import in_turn, overlapped


@pytest.mark.parametrize("stepped", [overlapped, in_turn])
@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_every_item_goes_through_all_steps_in_order(stepped, count):
    done = []
    stepped(range(count), lambda n: n * 10, lambda n, read: (n, read), lambda n, made: [n, *made], done.append)
    assert done == [[n, n, n * 10] for n in range(count)]


def test_the_next_item_is_read_and_the_one_before_written_while_one_is_run():
    reading, writing = threading.Event(), threading.Event()

    def read(item):
        if item == 2:
            reading.set()

    def run(item, _):
        if item == 1:
            assert reading.wait(10)
            assert writing.wait(10)

    def write(item, _):
        if item == 0:
            writing.set()

    overlapped([0, 1, 2], read, run, write, lambda _: None)


def test_only_one_item_waits_before_and_behind():
    reads, runs = [], []

    def run(item, _):
        assert len(reads) <= item + 2
        runs.append(item)

    overlapped(range(6), reads.append, run, lambda item, _: None, lambda _: None)
    assert runs == list(range(6))


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_what_is_being_written_is_told_of_when_the_run_is_interrupted(interruption):
    done = []

    def run(item, _):
        if item == 1:
            raise interruption

    with pytest.raises(interruption):
        overlapped([0, 1, 2], lambda item: item, run, lambda item, _: item, done.append)
    assert done == [0]


def test_what_was_written_is_told_of_when_the_wait_for_it_is_interrupted(monkeypatch):
    done, interrupts = [], [KeyboardInterrupt]
    result = Future.result

    def interrupted(future, timeout=None):
        if future.written and interrupts:
            raise interrupts.pop()
        return result(future, timeout)

    submit = ThreadPoolExecutor.submit

    def marked(pool, *work):
        future = submit(pool, *work)
        future.written = pool._thread_name_prefix == "write"
        return future

    monkeypatch.setattr(Future, "result", interrupted)
    monkeypatch.setattr(ThreadPoolExecutor, "submit", marked)
    with pytest.raises(KeyboardInterrupt):
        overlapped([0, 1, 2], lambda item: item, lambda item, _: item, lambda item, _: item, done.append)
    assert done == [0]
