"""Aggregation over sessions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import frozen

from streamlet.dsl.final_results import OpenWindows, Place, final_results
from streamlet.dsl.folding import Folding
from streamlet.dsl.idle_time import idle_time
from streamlet.dsl.windows import EmitStrategy, SessionWindows
from streamlet.processor.operator import Forward, NodeContext, Operator
from streamlet.records import Headers, Window, Windowed
from streamlet.serdes import FOREVER_MS


@frozen
class AggregateSessions(Operator):
    """Folds the values of each key within sessions.

    A record makes one session of all those within the gap around it: each of them is deleted, then the new one sent. A
    record without key is dropped, and one whose session, after merging, ends before stream time minus grace and gap.
    The time of a result is the end of its session.

    Attributes:
        folding: How values become an aggregate, with a merger.
        windows: Which sessions.
        emit: When results are sent.
        store: The session store.
        sends_old: Whether changes carry old values.
        idle_after_ms: How long no record has to come for sessions to close by the wall clock; None: they never do.
        closes_for_good: Whether sessions that have closed are not merged again, however long the store keeps them; so
            it is in any case if they are sent on closing.
    """

    folding: Folding
    windows: SessionWindows
    emit: EmitStrategy
    store: str
    sends_old: bool
    idle_after_ms: int | None = None
    closes_for_good: bool = False

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function."""
        gap, retention, sends_old = self.windows.gap_ms, self.windows.retention_ms, self.sends_old
        initializer, aggregator, merger = self.folding.initializer, self.folding.aggregator, self.folding.merger
        assert merger is not None
        store = context.store(self.store)
        find, put, dropped, failed = store.fast_find, store.fast_put, context.dropped, context.failed
        closes_for_good = self.closes_for_good or self.emit is EmitStrategy.ON_WINDOW_CLOSE
        final, seen = None, None
        if self.emit is EmitStrategy.ON_WINDOW_CLOSE:
            final = final_results(
                context, self.store, lambda: _FinalSessions(context, forward, store, retention, self.idle_after_ms)
            )
            time, seen = final.time, final.seen
        else:
            time = context.remember("stream-time")

        def process(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
            if key is None:
                dropped("null key")
                return
            if timestamp > time.value:
                time.value = timestamp
            if seen is not None:
                seen()
            close = time.value - retention
            if final is not None:
                final.prevent_expiry(timestamp, close, headers)
            earliest = max(timestamp - gap, close + 1) if closes_for_good else timestamp - gap
            start = end = timestamp
            replaced: list[tuple[int, int, Any]] = []
            late = False
            try:
                merged = find(key, earliest, timestamp + gap)
                aggregate = initializer()
                for session_start, session_end, part in merged:
                    aggregate = merger(key, aggregate, part)
                    start, end = min(start, session_start), max(end, session_end)
                late = end < close
                if not late:
                    if start != timestamp or end != timestamp:  # a session of one instant is overwritten
                        replaced = find(key, earliest, timestamp + gap) if sends_old else merged
                    aggregate = aggregator(key, value, aggregate)
                    for session_start, session_end, _ in replaced:
                        put(key, session_start, session_end, None, timestamp)
                    put(key, start, end, aggregate, timestamp)
            except Exception as error:
                failed(error, key, value, timestamp, headers)
                return
            if late:
                dropped("late: the session has closed")
            elif final is not None:
                final.replace(key, replaced, start, end)
            else:
                for session_start, session_end, old in replaced:
                    gone = Windowed(key, Window(session_start, session_end))
                    forward(gone, (None, old if sends_old else None, True), session_end, headers)
                forward(Windowed(key, Window(start, end)), (aggregate, None, True), end, headers)
            if final is not None:
                final.send_if_due(close, headers)

        return process


class _FinalSessions:
    """Sends the results of sessions that have closed.

    Attributes:
        time: The stream time.
        seen: What to call with each record if time goes on without.
    """

    def __init__(
        self, context: NodeContext, forward: Forward, store: Any, wait_ms: int, idle_after_ms: int | None
    ) -> None:
        self._forward = forward
        self._store = store
        self._open = OpenWindows(context, self._load)
        self.time = time = context.remember("stream-time")
        self.seen = idle_time(context, idle_after_ms, time, lambda: self.send(time.value - wait_ms, ()))

    def replace(self, key: Any, replaced: list[tuple[int, int, Any]], start: int, end: int) -> None:
        """Take in a session, and take out those it was made of."""
        data = self._store.encode_key(key)
        for session_start, session_end, _ in replaced:
            self._open.discard((session_end, session_start), data)
        self._open.add((end, start), key, data)

    def prevent_expiry(self, end: int, close: int, headers: Headers) -> None:
        """Send the results of sessions that the store forgets once there is one with this end."""
        if self._open.expire_at(end - self._store.expiry.retention_ms):
            self.send(close, headers)

    def send_if_due(self, close: int, headers: Headers) -> None:
        """Send results if there may be any."""
        if self._open.due(close):
            self.send(close, headers)

    def send(self, close: int, headers: Headers) -> None:
        """Send the results of sessions that have closed."""
        for (end, start), key in self._open.take(close - 1, close):  # its end belongs to a session
            aggregate = self._store.fetch_session(key, start, end)
            if aggregate is not None:
                self._forward(Windowed(key, Window(start, end)), (aggregate, None, True), end, headers)

    def _load(self, bound: int) -> Iterable[tuple[Place, Any, bytes]]:
        """Read the open sessions: those that end at the bound, up to which results were sent, or later."""
        with self._store.find_sessions(None, None, max(0, bound), FOREVER_MS) as rows:
            for windowed, _ in rows:
                window = windowed.window
                yield (window.end, window.start), windowed.key, self._store.encode_key(windowed.key)
