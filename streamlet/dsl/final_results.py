"""Final results: one per window, when stream time has passed its end and grace (KIP-825).

Which windows are open is kept in memory, in the order in which they will close; it is read from the store again after a
restart or an abort. How far results were sent is remembered with the committed offsets, so that none is sent twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from streamlet.processor.api import PunctuationType
from streamlet.processor.operator import NodeContext, Remembered

Place = tuple[int, int]
"""When a window closes, and what else tells it from others: ``(start, start)``, or a session's ``(end, start)``."""


_NEVER = 2**63 - 1


class OpenWindows:
    """The windows whose results were not sent yet.

    Args:
        context: The node's.
        load: Returns place, key and the key's bytes of the windows in the store that close after the bound it is given.
    """

    def __init__(self, context: NodeContext, load: Callable[[int], Iterable[tuple[Place, Any, bytes]]]) -> None:
        self._load = load
        self._interval_ms = context.config.window_emit_interval_ms
        self._now = context.wall_clock_time
        self._next_ms = 0
        self._bound = context.remember("emitted")
        self._places: dict[Place, dict[bytes, Any]] | None = None
        self._first = _NEVER  # no window closes before; a session that was merged may have been the first
        context.on_rewind(self._forget)

    def add(self, place: Place, key: Any, data: bytes) -> None:
        """Take in a window."""
        places = self._known()
        keys = places.get(place)
        if keys is None:
            places[place] = {data: key}
            self._first = min(self._first, place[0])
        elif data not in keys:
            keys[data] = key

    def discard(self, place: Place, data: bytes) -> None:
        """Take out a session that became part of another."""
        keys = self._known().get(place)
        if keys is not None and keys.pop(data, None) is not None and not keys:
            del self._known()[place]

    def expire_at(self, time: int) -> bool:
        """Tell whether any window closes at `time` or before: the store is about to forget those."""
        places = self._known()
        if self._first > time:
            return False
        self._first = min(places)[0] if places else _NEVER
        return self._first <= time

    def due(self, close_time: int) -> bool:
        """Tell whether to look for closed windows now: at most once per interval, and if time has moved on."""
        now = self._now()
        if now < self._next_ms:
            return False
        self._next_ms = now + self._interval_ms
        return self._bound.value < close_time

    def take(self, last: int, close_time: int) -> list[tuple[Place, Any]]:
        """Take out the windows up to place `last`, in order of place and of their keys' bytes."""
        if last < 0:
            return []
        places = self._known()
        self._bound.value = max(self._bound.value, close_time)
        closed = sorted(place for place in places if place[0] <= last)
        return [(place, key) for place in closed for _, key in sorted(places.pop(place).items(), key=_bytes_of)]

    def _known(self) -> dict[Place, dict[bytes, Any]]:
        if self._places is None:
            self._places = {}
            for place, key, data in self._load(self._bound.value):
                self._places.setdefault(place, {})[data] = key
            self._first = min(self._places)[0] if self._places else _NEVER
        return self._places

    def _forget(self) -> None:
        self._places = None


class IdleTime:
    """Stream time that goes on by the wall clock when a node receives no records.

    Once no record has come for `after_ms`, the node's stream time is what it was at the last record, or at the start
    of the task, plus the wall-clock time since then. It never goes back: a record that is behind it is late, whatever
    the other records say. It is committed like all stream time.

    Args:
        context: The node's.
        after_ms: How long no record has to come.
        time: The node's stream time.
        close: Sends the results of windows that have closed; called with no record at hand.
    """

    def __init__(self, context: NodeContext, after_ms: int, time: Remembered, close: Callable[[], None]) -> None:
        self._after_ms = after_ms
        self._time = time
        self._close = close
        self._now = context.wall_clock_time
        self.seen()
        context.on_rewind(self.seen)
        interval = max(1, context.config.window_emit_interval_ms)
        context.schedule(interval, PunctuationType.WALL_CLOCK_TIME, self._look)

    def seen(self) -> None:
        """Note that there was a record just now; the node's stream time includes it."""
        self._base, self._since = self._time.value, self._now()

    def _look(self, now_ms: int) -> None:
        elapsed = now_ms - self._since
        if self._base < 0 or elapsed < self._after_ms:
            return
        self._time.value = max(self._time.value, self._base + elapsed)
        self._close()


def idle_time(
    context: NodeContext, after_ms: int | None, time: Remembered, close: Callable[[], None]
) -> Callable[[], None] | None:
    """Return what to call with each record, once stream time includes it; None if windows wait for records."""
    return None if after_ms is None else IdleTime(context, after_ms, time, close).seen


def _bytes_of(item: tuple[bytes, Any]) -> bytes:
    return item[0]
