"""Aggregation over tumbling, hopping and unlimited windows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from attrs import frozen

from streamlet.dsl.final_results import OpenWindows, Place, final_results
from streamlet.dsl.folding import Folding
from streamlet.dsl.idle_time import idle_time
from streamlet.dsl.windows import EmitStrategy, TimeWindows, UnlimitedWindows
from streamlet.processor.operator import Forward, NodeContext, Operator, Remembered
from streamlet.records import Headers, Window, Windowed
from streamlet.serdes import FOREVER_MS

_CACHED_WINDOWS = 256


def starts_of(windows: TimeWindows | UnlimitedWindows) -> Callable[[int], Iterable[int]]:
    """Return the function from a timestamp to the starts of its windows, in ascending order."""
    if isinstance(windows, UnlimitedWindows):
        first = windows.start_ms
        only, none = (first,), ()
        return lambda timestamp: only if timestamp >= first else none
    size, advance = windows.size_ms, windows.advance_ms
    if size == advance:
        return lambda timestamp: (timestamp - timestamp % advance,)
    offset = advance - size
    return lambda timestamp: range(max(0, timestamp + offset) // advance * advance, timestamp + 1, advance)


def end_of(windows: TimeWindows | UnlimitedWindows) -> Callable[[int], int]:
    """Return the function from a window's start to its end."""
    if isinstance(windows, UnlimitedWindows):
        return lambda start: FOREVER_MS
    size = windows.size_ms
    return lambda start: start + size


@frozen
class AggregateWindows(Operator):
    """Folds the values of each key and window.

    A record without key is dropped; one without value is not. A window is updated if it ends after stream time minus
    grace, where stream time is the highest timestamp this node has seen; the other windows of a late record are updated
    all the same.

    Attributes:
        folding: How values become an aggregate.
        windows: Which windows.
        emit: When results are sent.
        store: The window store.
        sends_old: Whether changes carry old values.
        idle_after_ms: How long no record has to come for windows to close by the wall clock; None: they never do.
    """

    folding: Folding
    windows: TimeWindows | UnlimitedWindows
    emit: EmitStrategy
    store: str
    sends_old: bool
    idle_after_ms: int | None = None

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function."""
        tumbling = isinstance(self.windows, TimeWindows) and self.windows.size_ms == self.windows.advance_ms
        if self.emit is EmitStrategy.ON_WINDOW_CLOSE:
            return self._final(context, forward)
        if tumbling and self.folding.counts and not self.sends_old:
            return self._count(context, forward)
        return self._updates(context, forward)

    def _count(self, context: NodeContext, forward: Forward) -> Forward:
        """Count in tumbling windows: the most common case without the calls that it does not need."""
        assert isinstance(self.windows, TimeWindows)
        size, grace = self.windows.size_ms, self.windows.grace_ms
        store, time = context.store(self.store), context.remember("stream-time")
        get, put, dropped, failed = store.fast_get, store.fast_put, context.dropped, context.failed
        window_at = _window_at(lambda start: start + size)
        window = Window(0, size)  # the last one: records mostly follow one another

        def count(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
            nonlocal window
            if key is None:
                dropped("null key")
                return
            latest = time.value
            if timestamp > latest:
                time.value = latest = timestamp
            start = timestamp - timestamp % size
            if start + size <= latest - grace:
                dropped("late: the window has closed")
                return
            try:
                row = get(key, start)
                if row is None:
                    new = 1
                else:
                    new = row[0] + 1
                    if row[1] > timestamp:
                        timestamp = row[1]
                put(key, start, new, timestamp)
            except Exception as error:
                failed(error, key, value, timestamp, headers)
                return
            if window.start != start:
                window = window_at(start)
            forward(Windowed(key, window), (new, None, True), timestamp, headers)

        return count

    def _updates(self, context: NodeContext, forward: Forward) -> Forward:
        grace, starts, end = self._grace, starts_of(self.windows), end_of(self.windows)
        time, dropped, failed = context.remember("stream-time"), context.dropped, context.failed
        fold = self._fold(context)
        window_at = _window_at(end)

        def update(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
            if key is None:
                dropped("null key")
                return
            if timestamp > time.value:
                time.value = timestamp
            close = time.value - grace
            for start in starts(timestamp):
                if end(start) <= close:
                    dropped("late: the window has closed")
                    continue
                try:
                    old, new, latest = fold(key, value, start, timestamp)
                except Exception as error:
                    failed(error, key, value, timestamp, headers)
                    return
                forward(Windowed(key, window_at(start)), (new, old, True), latest, headers)

        return update

    def _final(self, context: NodeContext, forward: Forward) -> Forward:
        assert isinstance(self.windows, TimeWindows)
        grace, size = self.windows.grace_ms, self.windows.size_ms
        starts = starts_of(self.windows)
        store = context.store(self.store)
        retention = store.expiry.retention_ms
        dropped, failed, fold = context.dropped, context.failed, self._fold(context)
        encode = store.encode_key
        time, opened, send, seen = final_results(context, self.store, lambda: self._results(context, forward))

        def update(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
            if key is None:
                dropped("null key")
                return
            if timestamp > time.value:
                time.value = timestamp
            if seen is not None:
                seen()
            close = time.value - grace
            if opened.expire_at(timestamp - retention):  # before the store forgets them: Kafka Streams loses those
                send(close, headers)
            try:
                for start in starts(timestamp):
                    if start + size <= close:
                        dropped("late: the window has closed")
                        continue
                    fold(key, value, start, timestamp)
                    opened.add((start, start), key, encode(key))
            except Exception as error:
                failed(error, key, value, timestamp, headers)
                return
            if opened.due(close):
                send(close, headers)

        return update

    def _results(
        self, context: NodeContext, forward: Forward
    ) -> tuple[Remembered, OpenWindows, Callable[[int, Headers], None], Callable[[], None] | None]:
        """Return stream time, the open windows, what sends those that have closed, and what to call with each record
        if time goes on without."""
        assert isinstance(self.windows, TimeWindows)
        grace, size = self.windows.grace_ms, self.windows.size_ms
        store, time = context.store(self.store), context.remember("stream-time")
        encode = store.encode_key

        def load(bound: int) -> Iterable[tuple[Place, Any, bytes]]:
            """Read the open windows: those that end after the bound up to which results were sent."""
            first = max(0, bound - size + 1) if bound >= 0 else 0
            with store.fetch_all(first, FOREVER_MS) as rows:
                for windowed, _ in rows:
                    start = windowed.window.start
                    yield (start, start), windowed.key, encode(windowed.key)

        opened = OpenWindows(context, load)

        def send(close: int, headers: Headers) -> None:
            for (start, _), key in opened.take(close - size, close):
                row = store.fast_get(key, start)
                if row is not None:
                    forward(Windowed(key, Window(start, start + size)), (row[0], None, True), row[1], headers)

        seen = idle_time(context, self.idle_after_ms, time, lambda: send(time.value - grace, ()))
        return time, opened, send, seen

    @property
    def _grace(self) -> int:
        return self.windows.grace_ms if isinstance(self.windows, TimeWindows) else 0

    def _fold(self, context: NodeContext) -> Callable[[Any, Any, int, int], tuple[Any, Any, int]]:
        """Return the function that updates a window; it returns the old and new aggregate, and the window's time."""
        store, sends_old = context.store(self.store), self.sends_old
        get, put = store.fast_get, store.fast_put
        initializer, aggregator = self.folding.initializer, self.folding.aggregator

        def fold(key: Any, value: Any, start: int, timestamp: int) -> tuple[Any, Any, int]:
            row = get(key, start)
            if row is None:
                old = initializer()
            else:
                old, latest = row
                if latest > timestamp:
                    timestamp = latest
            new = aggregator(key, value, old)
            if sends_old and new is old:  # perhaps changed in place: what it was is only in the store
                old = initializer() if row is None else get(key, start)[0]
            put(key, start, new, timestamp)
            return (old if sends_old else None), new, timestamp

        return fold


def _window_at(end: Callable[[int], int]) -> Callable[[int], Window]:
    """Return the function from a start to its window; recent ones are kept, since many keys share them."""
    known: dict[int, Window] = {}

    def window_at(start: int) -> Window:
        window = known.get(start)
        if window is None:
            if len(known) >= _CACHED_WINDOWS:
                known.clear()
            window = known[start] = Window(start, end(start))
        return window

    return window_at
