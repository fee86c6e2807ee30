"""Aggregation over sliding windows (KIP-450).

Windows are where the set of records within the time difference changes: one ends at each record (its *left* window),
one begins right after each record (its *right* window) unless it would be empty. A new record joins the windows it
falls into, and may bring up to three into being: its own left and right ones, and the right one of the record before
it. What those hold already is known from their neighbours. The timestamp stored with a window is that of its latest
record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from attrs import define, frozen

from streamlet.dsl.final_results import OpenWindows, Place, final_results
from streamlet.dsl.folding import Folding
from streamlet.dsl.idle_time import idle_time
from streamlet.dsl.windows import EmitStrategy, SlidingWindows
from streamlet.processor.operator import Forward, NodeContext, Operator
from streamlet.records import Headers, Window, Windowed
from streamlet.serdes import FOREVER_MS

Row = tuple[int, Any, int]
"""Start of a window, aggregate, timestamp of the latest record in it."""


@define
class _Neighbours:
    """What is known around a new record.

    Attributes:
        rows: The windows of its key that may matter, by start.
        inside: Those it falls into, in the order in which they are updated.
        left: The aggregate of the window before its left one.
        right: The aggregate and latest timestamp of the records after it within the difference; None if unknown.
        previous: Timestamp of the record before it, if that may lack a right window.
        has_left: Whether its left window is there.
        has_right: Whether its right window is there.
        complete: Whether all its windows are there: there was a record at the same time.
    """

    rows: list[Row]
    inside: list[Row]
    left: Any = None
    right: tuple[Any, int] | None = None
    previous: int | None = None
    has_left: bool = False
    has_right: bool = False
    complete: bool = False


@frozen
class AggregateSlidingWindows(Operator):
    """Folds the values of each key within sliding windows.

    A record without key or value is dropped, and one that comes after its right window has closed. A window is updated
    if it does not end before stream time minus grace. Those that a record falls into are updated from the latest to the
    earliest, then the new ones.

    Attributes:
        folding: How values become an aggregate.
        windows: Which windows.
        emit: When results are sent.
        store: The window store.
        sends_old: Whether changes carry old values.
        idle_after_ms: How long no record has to come for windows to close by the wall clock; None: they never do.
    """

    folding: Folding
    windows: SlidingWindows
    emit: EmitStrategy
    store: str
    sends_old: bool
    idle_after_ms: int | None = None

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function."""
        difference, grace = self.windows.difference_ms, self.windows.grace_ms
        fetch, dropped, failed = context.store(self.store).fast_fetch, context.dropped, context.failed
        final, seen = None, None
        if self.emit is EmitStrategy.ON_WINDOW_CLOSE:
            final = final_results(context, self.store, lambda: self._final(context, forward))
            time, seen = final.time, final.seen
        else:
            time = context.remember("stream-time")
        change = self._changes(context, final)

        def process(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
            if key is None or value is None:
                dropped("null key or value")
                return
            if final is not None:
                final.prevent_expiry(timestamp + 1, time.value - grace, headers)
            if timestamp > time.value:
                time.value = timestamp
            if seen is not None:
                seen()
            close = time.value - grace
            if timestamp + difference < close:
                dropped("late: all its windows have closed")
                return
            try:
                rows = fetch(key, max(0, timestamp - 2 * difference), timestamp + 1)
                results = change(key, value, timestamp, rows, close)
            except Exception as error:
                failed(error, key, value, timestamp, headers)
                return
            if final is not None:
                final.send_if_due(close, headers)
                return
            for start, new, old, latest in results:
                forward(Windowed(key, Window(start, start + difference)), (new, old, True), latest, headers)

        return process

    def _final(self, context: NodeContext, forward: Forward) -> _FinalSlidingResults:
        return _FinalSlidingResults(context, forward, self.windows, context.store(self.store), self.idle_after_ms)

    def _changes(
        self, context: NodeContext, final: _FinalSlidingResults | None
    ) -> Callable[[Any, Any, int, list[Row], int], list[tuple[int, Any, Any, int]]]:
        """Return the function that writes all windows that a record changes, and returns the changes in order."""
        difference, sends_old = self.windows.difference_ms, self.sends_old
        store, dropped = context.store(self.store), context.dropped
        get, put = store.fast_get, store.fast_put
        initializer, aggregator = self.folding.initializer, self.folding.aggregator

        def change(
            key: Any, value: Any, timestamp: int, rows: list[Row], close: int
        ) -> list[tuple[int, Any, Any, int]]:
            results: list[tuple[int, Any, Any, int]] = []

            def write(start: int, new: Any, old: Any, latest: int) -> None:
                put(key, start, new, latest)
                if final is not None:
                    final.add(start, key)
                results.append((start, new, old if sends_old else None, latest))

            def update(start: int, old: Any, latest: int, *, stored: bool) -> None:
                if start + difference < close:
                    dropped("late: the window has closed")
                    return
                new = aggregator(key, value, old)
                if sends_old and (new is old or not stored):
                    old = get(key, start)[0] if stored else initializer()
                write(start, new, old, max(latest, timestamp))

            def create(start: int, aggregate: Any) -> None:
                update(start, aggregate, timestamp, stored=False)

            if timestamp < difference:
                early(key, timestamp, rows, update, create, write)
                return results
            around = look_around(key, timestamp, rows)
            for start, aggregate, latest in around.inside:
                update(start, aggregate, latest, stored=True)
            if around.complete:
                return results
            previous = around.previous
            if previous is not None and previous + 1 + difference >= timestamp and not _has(around.rows, previous + 1):
                create(previous + 1, initializer())
            if not around.has_left:
                joined = previous is not None and previous >= timestamp - difference
                create(timestamp - difference, around.left if joined else initializer())
            if not around.has_right and around.right is not None and around.right[1] > timestamp:
                write(timestamp + 1, around.right[0], None, around.right[1])
            return results

        def look_around(key: Any, timestamp: int, rows: list[Row]) -> _Neighbours:
            around = _Neighbours(rows, [])
            around.has_right = bool(rows) and rows[-1][0] == timestamp + 1
            for row in reversed(rows):
                start, aggregate, latest = row
                end = start + difference
                if start > timestamp:
                    continue
                if end < timestamp:
                    around.left, around.previous = aggregate, latest
                    break
                around.inside.append(row)
                if end > timestamp:
                    if around.right is None:
                        around.right = untouched(key, row, timestamp, around.has_right)
                    continue
                around.has_left = True
                if latest < timestamp:
                    around.previous = latest
                else:
                    around.complete = True
                    break
            return around

        def untouched(key: Any, row: Row, timestamp: int, has_right: bool) -> tuple[Any, int]:
            """Return a window's aggregate and time; if it will be needed, another object than the aggregator gets."""
            start, aggregate, latest = row
            if not has_right and latest > timestamp:
                aggregate = get(key, start)[0]
            return aggregate, latest

        def early(
            key: Any,
            timestamp: int,
            rows: list[Row],
            update: Callable[..., None],
            create: Callable[[int, Any], None],
            write: Callable[[int, Any, Any, int], None],
        ) -> None:
            """Put a record from before the first whole window into the one that begins at 0, which stands for all left
            windows there."""
            combined = rows[0] if rows and rows[0][0] == 0 else None
            has_right = bool(rows) and rows[-1][0] == timestamp + 1
            inside = [row for row in rows if 0 < row[0] <= timestamp]
            right: tuple[Any, int] | None = None
            if inside:
                right = untouched(key, inside[-1], timestamp, has_right)
            elif combined is not None and combined[2] > timestamp:
                right = untouched(key, combined, timestamp, has_right)
            for start, aggregate, latest in inside:
                update(start, aggregate, latest, stored=True)
            if not has_right and right is not None and right[1] > timestamp:
                write(timestamp + 1, right[0], None, right[1])
            if combined is None:
                create(0, initializer())
                return
            previous = combined[2]
            if previous < timestamp and not _has(rows, previous + 1):
                create(previous + 1, initializer())
            update(0, combined[1], previous, stored=True)

        return change


class _FinalSlidingResults:
    """Sends the results of sliding windows that have closed.

    As in Kafka Streams, a window is lost that the store forgets in the moment in which it closes: with the default
    retention that is so when stream time leaps by more than twice the difference and the grace from one record to the
    next. It is counted as dropped.

    Attributes:
        time: The stream time.
        seen: What to call with each record if time goes on without.
    """

    def __init__(
        self, context: NodeContext, forward: Forward, windows: SlidingWindows, store: Any, idle_after_ms: int | None
    ) -> None:
        self._forward = forward
        self._difference = windows.difference_ms
        self._retention = store.expiry.retention_ms
        self._dropped = context.dropped
        self._store = store
        self._open = OpenWindows(context, self._load)
        self.time = time = context.remember("stream-time")
        self.seen = idle_time(context, idle_after_ms, time, lambda: self.send(time.value - windows.grace_ms, ()))

    def add(self, start: int, key: Any) -> None:
        """Take in a window that was written."""
        self._open.add((start, start), key, self._store.encode_key(key))

    def prevent_expiry(self, start: int, close: int, headers: Headers) -> None:
        """Send what had closed before this record and only waited for the interval, before the store forgets it."""
        if self._open.expire_at(start - self._retention):
            self.send(close, headers)

    def send_if_due(self, close: int, headers: Headers) -> None:
        """Send results if there may be any."""
        if self._open.due(close):
            self.send(close, headers)

    def send(self, close: int, headers: Headers) -> None:
        """Send the results of windows that have closed."""
        for (start, _), key in self._open.take(close - self._difference - 1, close):  # its end belongs to a window
            row = self._store.fast_get(key, start)
            if row is not None:
                window = Window(start, start + self._difference)
                self._forward(Windowed(key, window), (row[0], None, True), row[1], headers)
            elif start < self._store.expiry.oldest:
                self._dropped(
                    "a final result: its window is older than the retention of the store (a longer one keeps it)"
                )

    def _load(self, bound: int) -> Iterable[tuple[Place, Any, bytes]]:
        """Read the open windows: those that end at the bound, up to which results were sent, or later."""
        first = max(0, bound - self._difference) if bound >= 0 else 0
        with self._store.fetch_all(first, FOREVER_MS) as rows:
            for windowed, _ in rows:
                start = windowed.window.start
                yield (start, start), windowed.key, self._store.encode_key(windowed.key)


def _has(rows: list[Row], start: int) -> bool:
    return any(row[0] == start for row in rows)
