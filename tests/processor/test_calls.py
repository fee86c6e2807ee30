"""The threads that user code waits in: no call holds up another, and none is lost."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlet.processor.calls import MOST_RESTING, CallQueue, CallThreads

DEADLINE = 60.0


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.001)


def ended(queue: CallQueue) -> bool:
    return queue.outstanding == 0 == queue.waiting


def test_calls_that_wait_for_each_other_all_run() -> None:
    together = threading.Barrier(40)
    queue = CallQueue(lambda _: together.wait(DEADLINE))
    queue.submit(range(40))
    until(lambda: ended(queue))
    assert not together.broken


@pytest.mark.parametrize("hanging", [1, 3, 10])
def test_calls_that_hang_hold_up_no_others(hanging: int) -> None:
    release, done = threading.Event(), threading.Semaphore(0)

    def run(number: int) -> None:
        if number < hanging:
            release.wait(DEADLINE)
        done.release()

    queue, other = CallQueue(run), CallQueue(run)
    queue.submit(range(200))
    other.submit([hanging])  # of another task
    for _ in range(200 - hanging + 1):
        assert done.acquire(timeout=DEADLINE)
    until(lambda: ended(other) and queue.waiting == 0)
    assert queue.outstanding == hanging
    queue.submit([hanging])  # also when all others have gone to rest
    assert done.acquire(timeout=DEADLINE)
    release.set()
    until(lambda: ended(queue))


def test_a_call_that_computes_holds_up_no_others() -> None:
    others = threading.Semaphore(0)

    def run(number: int) -> None:
        if number == 0:
            while not others.acquire(blocking=False):
                pass
        else:
            others.release()

    queue = CallQueue(run)
    queue.submit([0, 1])
    until(lambda: ended(queue))


@settings(max_examples=30)
@given(st.lists(st.lists(st.sampled_from(["quick", "sleeps", "waits"]), min_size=1, max_size=12), max_size=8))
def test_each_call_is_done_once(batches: list[list[str]]) -> None:
    seen: list[tuple[int, int]] = []
    last = threading.Event()

    def run(call: tuple[int, int, str]) -> None:
        batch, number, kind = call
        if kind == "sleeps":
            time.sleep(0.003)
        elif kind == "waits":  # for what is submitted after all others
            last.wait(DEADLINE)
        seen.append((batch, number))

    queue = CallQueue(run)
    for batch, kinds in enumerate(batches):
        queue.submit([(batch, number, kind) for number, kind in enumerate(kinds)])
    finish = CallQueue(lambda _: last.set())
    finish.submit([None])
    until(lambda: ended(queue) and ended(finish))
    assert sorted(seen) == [(batch, number) for batch, kinds in enumerate(batches) for number in range(len(kinds))]


def test_threads_at_rest_keep_nothing_alive_and_there_are_not_too_many() -> None:
    class Call:
        pass

    names: set[str] = set()
    together = threading.Barrier(MOST_RESTING + 20)

    def run(call: Any) -> None:
        names.add(threading.current_thread().name)
        together.wait(DEADLINE)

    threads = CallThreads()
    queue = CallQueue(run)
    calls = [Call() for _ in range(MOST_RESTING + 20)]
    references = [weakref.ref(call) for call in calls]
    before = set(threading.enumerate())
    threads.submit(queue, calls)
    calls.clear()
    until(lambda: ended(queue) and not any(reference() for reference in references))

    def left() -> int:
        new = set(threading.enumerate()) - before
        return sum(thread.name.startswith("streamlet-call-") for thread in new)

    until(lambda: left() <= MOST_RESTING)
