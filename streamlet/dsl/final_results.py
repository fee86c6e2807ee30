"""Final results: one per window, when stream time has passed its end and grace (KIP-825).

Which windows are open is kept in memory, in the order in which they will close; it is read from the store again after a
restart or an abort. How far results were sent is remembered with the committed offsets, so that none is sent twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from streamlet.processor.operator import NodeContext

T = TypeVar("T")

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


def final_results(context: NodeContext, store: str, make: Callable[[], T]) -> T:
    """Return what the final results of a store's windows are sent with.

    The streams of a cogroup have a node each and share the store. So that each window is sent once, they share this,
    too: stream time is that of all streams together, as if they had been merged.
    """
    made: T = context.shared(f"final-results/{store}", make)
    return made


def _bytes_of(item: tuple[bytes, Any]) -> bytes:
    return item[0]
