"""Where user code waits: threads for plain functions, one event loop for coroutines; of each one for the process.

Both are daemons: a call that hangs must not keep the process from ending. User code in them has no store at hand.

A thread for each call would cost more than most calls: each has to be woken, and all of them contend for the
interpreter. So calls stand in a queue, and few threads do them, one after the other without a switch in between. A
watch looks at the queue every few milliseconds while calls wait in it: a thread that is still at the same call no
longer counts, and another one takes its place. So a call that waits for something holds up others for two looks at
most, and if all of them do, there come to be as many threads as there are calls. As long as the process computes, or
waits for a processor that others have, more threads would only be in each other's way: then a call may take longer
before another thread takes the place of its own.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from queue import SimpleQueue
from time import monotonic, process_time, sleep
from typing import Any, Final

LOOK_SECONDS: Final = 0.002
"""How often the watch looks at calls that wait for a thread."""

_MOST_AT_A_TIME: Final = 4
"""So many threads take calls from the queue at most, beside those that are at slow ones."""

_MOST_RESTING: Final = 64
"""So many threads without a call are kept."""

_BUSY: Final = 0.7
"""A process that uses so much of a core, or would if it were given one, computes: more threads would not help it."""

PATIENCE_SECONDS: Final = 0.05
"""How long a call may hold up others while the process is busy."""


class CallQueue:
    """The calls of one owner, which the threads of the process do.

    Args:
        run: Does a call, in a thread; it must not raise.

    Attributes:
        waiting: How many calls no thread has begun.
        outstanding: How many calls have not ended.
        owner: The thread that submits them, as the system numbers threads.
    """

    __slots__ = ("outstanding", "owner", "run", "waiting")

    def __init__(self, run: Callable[[Any], None]) -> None:
        self.run = run
        self.waiting = 0
        self.outstanding = 0
        self.owner = 0

    def submit(self, calls: Sequence[Any]) -> None:
        """Have calls done, in this order as far as they do not run at the same time."""
        self.owner = threading.get_native_id()
        _threads.submit(self, calls)


class _Thread:
    """A thread's account of itself, guarded by the lock of `CallThreads`."""

    __slots__ = ("begun", "native_id", "resting", "seen", "since", "slow")

    def __init__(self) -> None:
        self.begun = 0
        self.seen = 0
        self.since = 0.0
        self.native_id = 0
        self.slow = False
        self.resting = False


class CallThreads:
    """Threads for plain functions, and the watch over them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: deque[tuple[CallQueue, Any]] = deque()
        self._threads: set[_Thread] = set()
        self._resting = 0
        self._slow = 0
        self._level = 1
        self._named = 0
        self._woken: SimpleQueue[None] = SimpleQueue()
        self._look: SimpleQueue[None] = SimpleQueue()
        self._has_watch = False
        self._watched = False

    def submit(self, queue: CallQueue, calls: Sequence[Any]) -> None:
        """Have calls done, in this order as far as they do not run at the same time."""
        with self._lock:
            queue.waiting += len(calls)
            queue.outstanding += len(calls)
            self._calls.extend([(queue, call) for call in calls])
            woken = self._fill_up()
            if self._watched or len(self._calls) <= woken:
                return
            self._watched = True
            if not self._has_watch:
                self._has_watch = True
                threading.Thread(target=self._watch, name="streamlet-call-watch", daemon=True).start()
        self._look.put(None)

    # --- threads, under the lock --------------------------------------------------------------------------------------

    def _active(self) -> int:
        return len(self._threads) - self._resting - self._slow

    def _fill_up(self) -> int:
        missing = max(0, min(self._level - self._active(), len(self._calls)))
        for _ in range(missing):
            if self._resting:
                self._resting -= 1
                self._woken.put(None)
            else:
                thread = _Thread()
                self._threads.add(thread)
                self._named += 1
                name = f"streamlet-call-{self._named}"
                threading.Thread(target=self._run, args=(thread,), name=name, daemon=True).start()
        return missing

    def _judge(self, now: float, busy: bool) -> bool:
        """See that calls do not wait for slow ones; tell whether to look again."""
        if not self._calls:
            self._watched = False
            return False
        self._level = max(1, self._level - 1) if busy else min(self._level + 1, _MOST_AT_A_TIME)
        for thread in self._threads:
            if thread.begun != thread.seen:
                thread.seen, thread.since = thread.begun, now
            elif not (thread.slow or thread.resting) and (not busy or now - thread.since >= PATIENCE_SECONDS):
                thread.slow = True
                self._slow += 1
        self._fill_up()
        return True

    def _concerned(self) -> set[int]:
        """Return the threads that are to get on: those that take calls, and the owner of the next one."""
        active = {thread.native_id for thread in self._threads if not (thread.slow or thread.resting)}
        return {*active, self._calls[0][0].owner} if self._calls else active

    # --- what runs ----------------------------------------------------------------------------------------------------

    def _run(self, thread: _Thread) -> None:
        lock, calls = self._lock, self._calls
        thread.native_id = threading.get_native_id()
        ended: CallQueue | None = None
        while True:
            with lock:
                if ended is not None:
                    ended.outstanding -= 1
                    ended = None
                thread.resting = False
                if thread.slow:
                    thread.slow = False
                    self._slow -= 1
                works = bool(calls) and self._active() <= self._level
                if works:
                    queue, call = calls.popleft()
                    queue.waiting -= 1
                    thread.begun += 1
                elif self._resting >= _MOST_RESTING:
                    self._threads.discard(thread)
                    return
                else:
                    self._resting += 1
                    thread.resting = True
            if works:
                queue.run(call)
                ended = queue
                del queue, call  # while it rests, it keeps nothing alive
            else:
                self._woken.get()

    def _watch(self) -> None:
        while True:
            self._look.get()
            looks = True
            while looks:
                with self._lock:
                    concerned = self._concerned()
                wall, used = monotonic(), process_time() + _kept_waiting(concerned)
                sleep(LOOK_SECONDS)
                used, now = process_time() + _kept_waiting(concerned) - used, monotonic()
                with self._lock:
                    looks = self._judge(now, busy=used >= _BUSY * (now - wall))


def _kept_waiting(threads: Iterable[int]) -> float:
    """Return how long threads have been kept waiting for a processor (s); 0 on systems that do not tell."""
    nanoseconds = 0
    for thread in threads:
        try:
            nanoseconds += int(Path(f"/proc/self/task/{thread}/schedstat").read_bytes().split()[1])
        except (OSError, IndexError):  # it has ended, or there is no such file
            continue
    return nanoseconds / 1e9


_threads = CallThreads()

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def event_loop() -> asyncio.AbstractEventLoop:
    """Return the event loop that coroutines run on; it runs in a thread of its own, until the process ends.

    There is one for the process, whatever tasks come and go: what user code keeps (sessions, connection pools) belongs
    to a loop.
    """
    global _loop
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="streamlet-event-loop", daemon=True).start()
        return _loop
