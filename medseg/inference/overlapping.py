"""Reading, running and writing at the same time, one case each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Read = TypeVar("Read")
Result = TypeVar("Result")
Written = TypeVar("Written")


def overlapped(
    items: Sequence[Item],
    read: Callable[[Item], Read],
    run: Callable[[Item, Read], Result],
    write: Callable[[Item, Result], Written],
    done: Callable[[Written], None],
) -> None:
    """Take items through three steps; while one is run, the next is read and the one before is written.

    At most one item waits read and one run. ``run`` and ``done`` are called in this thread, in the order of the
    items. Where a step raises, or the run is interrupted, what is being written is finished and told to ``done`` first.
    """
    with ThreadPoolExecutor(1, "read") as reader, ThreadPoolExecutor(1, "write") as writer:
        reading = deque(reader.submit(read, item) for item in items[:1])
        writing: Future[Written] | None = None
        try:
            for number, item in enumerate(items):
                ready = reading.popleft().result()
                reading.extend(reader.submit(read, following) for following in items[number + 1 : number + 2])
                result = run(item, ready)
                del ready
                if writing:
                    finished = writing.result()
                    writing = None
                    done(finished)
                writing = writer.submit(write, item, result)
                del result
        finally:
            if writing:
                done(writing.result())


def in_turn(
    items: Sequence[Item],
    read: Callable[[Item], Read],
    run: Callable[[Item, Read], Result],
    write: Callable[[Item, Result], Written],
    done: Callable[[Written], None],
) -> None:
    """As ``overlapped``, one step after the other: what the smallest memory takes."""
    for item in items:
        done(write(item, run(item, read(item))))
