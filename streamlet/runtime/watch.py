"""What happens beside the stream threads: new topics and partitions are looked for, old state is deleted."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from streamlet.errors import StreamsError

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0


class Watch:
    """A thread that calls functions at intervals, and when it is asked to.

    Args:
        name: Of the thread.
        abandoned: Called once if the main thread ends while the application runs: a program that ends without `close`
            would otherwise wait for its stream threads for ever.
    """

    def __init__(self, name: str, abandoned: Callable[[], object]) -> None:
        self.name = name
        self._abandoned = abandoned
        self._duties: list[tuple[float, Callable[[], None]]] = []
        self._due: list[float] = []
        self._stop = threading.Event()
        self._look = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=False)
        self._urgent = False

    def every(self, seconds: float, duty: Callable[[], None]) -> None:
        """Call `duty` every so many seconds; before `start`."""
        self._duties.append((seconds, duty))
        self._due.append(seconds)

    def start(self) -> None:
        """Start."""
        self._thread.start()

    def hurry(self) -> None:
        """Call the first duty now."""
        self._urgent = True
        self._look.set()

    def stop(self) -> None:
        """End the thread; waits for it, unless it is the caller."""
        self._stop.set()
        self._look.set()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        elapsed = 0.0
        while not self._stop.is_set():
            if not self._look.wait(_LOOK_SECONDS):
                elapsed += _LOOK_SECONDS
            self._look.clear()
            if self._stop.is_set():
                return
            if not threading.main_thread().is_alive():
                _log.warning("the main thread has ended: closing the application")
                self._abandoned()
                return
            urgent, self._urgent = self._urgent, False
            for number, (interval, duty) in enumerate(self._duties):
                if elapsed >= self._due[number] or (urgent and number == 0):
                    self._due[number] = elapsed + interval
                    try:
                        duty()
                    except StreamsError as error:
                        _log.warning("%s; it is tried again", error)
