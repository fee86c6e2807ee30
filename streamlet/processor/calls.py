"""Where user code waits: threads for plain functions, one event loop for coroutines.

Both are daemons: a call that hangs must not keep the process from ending. User code in them has no store at hand.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue

Job = Callable[[], None]


class CallThreads:
    """Threads for plain functions; there are as many as there have been calls at a time.

    Args:
        name: What their names begin with.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._closed = False
        self.outstanding = 0

    def submit(self, job: Job) -> None:
        """Run a job in a thread; it must not raise."""
        with self._lock:
            self.outstanding += 1
            new = self.outstanding > self._threads
            if new:
                self._threads += 1
                number = self._threads
        self._jobs.put(job)
        if new:
            threading.Thread(target=self._run, name=f"{self._name}-{number}", daemon=True).start()

    def close(self) -> None:
        """End the threads, each after the job it is at; those that no thread has begun are dropped by their owner."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            threads = self._threads
        for _ in range(threads):
            self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            finally:
                with self._lock:
                    self.outstanding -= 1


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
