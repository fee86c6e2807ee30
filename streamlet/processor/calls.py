"""Where user code waits: threads for plain functions, one event loop for coroutines; of each one for the process.

Both are daemons: a call that hangs must not keep the process from ending. User code in them has no store at hand.

Waking a thread for each call would cost more than most calls, and all of them would contend for the interpreter. So
calls stand in a queue, and a thread that has done one takes the next without a switch in between. As long as calls wait
in the queue, one more thread is on its way, and only one: it gets the interpreter when a call waits for something, or
when the interpreter makes the threads that compute take turns (`sys.getswitchinterval`, 5 ms). So calls that wait are
joined by others at once, up to a thread for each; calls that compute are done by few threads.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, Final

MOST_RESTING: Final = 256
"""So many threads without a call are kept."""


class CallQueue:
    """The calls of one owner, which the threads of the process do.

    Args:
        run: Does a call, in a thread; it must not raise.

    Attributes:
        waiting: How many calls no thread has begun.
        outstanding: How many calls have not ended.
    """

    __slots__ = ("outstanding", "run", "waiting")

    def __init__(self, run: Callable[[Any], None]) -> None:
        self.run = run
        self.waiting = 0
        self.outstanding = 0

    def submit(self, calls: Sequence[Any]) -> None:
        """Have calls done; they begin in this order."""
        _threads.submit(self, calls)


class CallThreads:
    """Threads for plain functions."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: deque[tuple[CallQueue, Any]] = deque()
        self._resting = 0
        self._coming = False
        self._named = 0
        self._woken: SimpleQueue[None] = SimpleQueue()

    def submit(self, queue: CallQueue, calls: Sequence[Any]) -> None:
        """Have calls done; they begin in this order."""
        with self._lock:
            queue.waiting += len(calls)
            queue.outstanding += len(calls)
            self._calls.extend([(queue, call) for call in calls])
            lacks = self._lacks_thread()
        if lacks:
            self._start()

    def _lacks_thread(self) -> bool:
        """See that a thread is on its way if calls wait; True: none rests, start one. Under the lock."""
        if self._coming or not self._calls:
            return False
        self._coming = True
        if not self._resting:
            self._named += 1
            return True
        self._resting -= 1
        self._woken.put(None)
        return False

    def _start(self) -> None:
        threading.Thread(target=self._run, name=f"streamlet-call-{self._named}", daemon=True).start()

    def _run(self) -> None:
        lock, calls = self._lock, self._calls
        ended: CallQueue | None = None
        comes = True
        while True:
            with lock:
                if comes:
                    comes = self._coming = False
                if ended is not None:
                    ended.outstanding -= 1
                    ended = None
                works = bool(calls)
                if works:
                    queue, call = calls.popleft()
                    queue.waiting -= 1
                    lacks = self._lacks_thread()
                elif self._resting >= MOST_RESTING:
                    return
                else:
                    self._resting += 1
            if works:
                if lacks:
                    self._start()
                queue.run(call)
                ended = queue
                del queue, call  # while it rests, it keeps nothing alive
            else:
                self._woken.get()
                comes = True


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
