"""Joins of two streams: what their nodes do (KIP-633, the delayed results of KIP-479's follow-up KAFKA-10847, KIP-962).

Each side first keeps its records in a window store of its own (`KeepWindow`), then looks the other side's records up
(`JoinSide`). Rows that found no partner wait in a store that both sides share, in the order of time, until their window
and its grace are over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from attrs import frozen

from streamlet.processor.operator import Forward, NodeContext, Operator, Remembered
from streamlet.records import Headers
from streamlet.state import OuterJoinStore

Joiner = Callable[[Any, Any, Any], Any]
"""From key, left and right value to the result."""

_NEVER = 2**63 - 1


def joiner_of(joiner: Callable[..., Any], *, with_key: bool) -> Joiner:
    """Return the user's joiner in the form that operators call."""
    if with_key:
        return joiner
    return lambda _, left, right: joiner(left, right)


def swapped(joiner: Callable[..., Any], *, with_key: bool) -> Joiner:
    """Return the user's joiner for the right side: it gets its own value first."""
    if with_key:
        return lambda key, mine, other: joiner(key, other, mine)
    return lambda _, mine, other: joiner(other, mine)


@frozen
class KeepWindow(Operator):
    """Keeps a side's records for the other side, after they were joined: none is joined with itself."""

    store: str

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function."""
        put = context.store(self.store).fast_put

        def keep(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
            forward(key, value, timestamp, headers)
            if key is not None and value is not None:
                put(key, timestamp, value, timestamp)

        return keep


@frozen
class Reach:
    """How far the other side's records may be from those of this side, both ends included (ms)."""

    before_ms: int
    after_ms: int


@frozen
class Unmatched:
    """What the sides of a left or outer join share.

    Attributes:
        store: Name of the store of unmatched rows.
        left_after_ms: How long after a left row the right one may come.
        right_after_ms: How long after a right row the left one may come.
        grace_ms: How long late records are waited for.
        joiner: From key, left and right value to the result, one of the values None.
    """

    store: str
    left_after_ms: int
    right_after_ms: int
    grace_ms: int
    joiner: Joiner


@frozen
class JoinSide(Operator):
    """Joins the records of one side with those that the other side has kept, in the order of their time.

    Attributes:
        other: Name of the other side's store.
        reach: Which of its records match.
        joiner: Gets key, value of this side, value of the other one.
        is_left: Which side it is.
        keeps_unmatched: Whether its own rows come out without a partner.
        unmatched: In left and outer joins: what both sides share.
    """

    other: str
    reach: Reach
    joiner: Joiner
    is_left: bool
    keeps_unmatched: bool
    unmatched: Unmatched | None

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function."""
        fetch = context.store(self.other).fast_fetch
        before, after, joiner = self.reach.before_ms, self.reach.after_ms, self.joiner
        dropped, failed = context.dropped, context.failed
        if self.unmatched is not None:
            return self._compile_outer(context, forward, self.unmatched)

        def join(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
            if key is None or value is None:
                dropped("null key or value")
                return
            for time, other, _ in fetch(key, timestamp - before, timestamp + after):
                try:
                    result = joiner(key, value, other)
                except Exception as error:
                    failed(error, key, value, timestamp, headers)
                    return
                forward(key, result, time if time > timestamp else timestamp, headers)

        return join

    def _compile_outer(self, context: NodeContext, forward: Forward, unmatched: Unmatched) -> Forward:
        fetch = context.store(self.other).fast_fetch
        before, after, joiner = self.reach.before_ms, self.reach.after_ms, self.joiner
        dropped, failed = context.dropped, context.failed
        is_left, keeps = self.is_left, self.keeps_unmatched
        waiting = Waiting.of(context, unmatched)
        time_seen = waiting.join_time(context, is_left=is_left)
        put, delete, emit = waiting.put, waiting.delete, waiting.emitter(context, forward)

        def join(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
            if timestamp > time_seen.value:
                time_seen.value = timestamp
            if value is None or (key is None and not keeps):
                dropped("null key or value")
                return
            if key is None:
                alone(key, value, timestamp, headers)
                return
            stream_time = waiting.stream_time
            if timestamp == stream_time and waiting.limit < stream_time:
                emit(stream_time, headers)
            found = fetch(key, timestamp - before, timestamp + after)
            for time, other, _ in found:
                delete(time, not is_left, key)
                try:
                    result = joiner(key, value, other)
                except Exception as error:
                    failed(error, key, value, timestamp, headers)
                    return
                forward(key, result, time if time > timestamp else timestamp, headers)
            if keeps and not found:
                if timestamp + after < stream_time:
                    alone(key, value, timestamp, headers)
                else:
                    put(timestamp, is_left, key, value)

        def alone(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
            try:
                result = joiner(key, value, None)
            except Exception as error:
                failed(error, key, value, timestamp, headers)
                return
            forward(key, result, timestamp, headers)

        return join


class Waiting:
    """The unmatched rows of both sides of a join within a task, and the stream time of the join.

    Attributes:
        limit: No row's window closes before the stream time is greater than this (ms).
    """

    _of_stores: ClassVar[WeakKeyDictionary[Any, Waiting]] = WeakKeyDictionary()

    def __init__(self, store: OuterJoinStore[Any], unmatched: Unmatched, interval_ms: int) -> None:
        self._store = store
        self._unmatched = unmatched
        self._interval_ms = interval_ms
        self._next_ms = 0
        self._first = 0  # no row is earlier; unknown at first, so that the store is looked through
        self._left_wait = unmatched.left_after_ms + unmatched.grace_ms
        self._right_wait = unmatched.right_after_ms + unmatched.grace_ms
        self._least_wait = min(self._left_wait, self._right_wait)
        self._times: dict[bool, Remembered] = {}
        self.limit = -1
        self.delete = store.delete

    @classmethod
    def of(cls, context: NodeContext, unmatched: Unmatched) -> Waiting:
        """Return the one that both sides share: a task has one store, and each store has one of these."""
        store = context.store(unmatched.store)
        if store not in cls._of_stores:
            made = cls._of_stores[store] = cls(store, unmatched, context.config.join_emit_interval_ms)
            context.on_rewind(made._forget)
        return cls._of_stores[store]

    def join_time(self, context: NodeContext, *, is_left: bool) -> Remembered:
        """Return the stream time of one side; the join's is the higher of both."""
        time = self._times[is_left] = context.remember("stream-time")
        return time

    @property
    def stream_time(self) -> int:
        """The stream time of the join (ms)."""
        return max(time.value for time in self._times.values())

    def put(self, timestamp: int, is_left: bool, key: Any, value: Any) -> None:
        """Keep a row that has no partner yet."""
        self._store.put(timestamp, is_left, key, value)
        if timestamp < self._first:
            self._first = timestamp
        closes = timestamp + (self._left_wait if is_left else self._right_wait)
        if closes < self.limit:
            self.limit = closes

    def emitter(self, context: NodeContext, forward: Forward) -> Callable[[int, Headers], None]:
        """Return the function that sends the rows whose windows are over, by time, right rows first, by key."""
        failed, now, joiner = context.failed, context.wall_clock_time, self._unmatched.joiner

        def emit(stream_time: int, headers: Headers) -> None:
            clock = now()
            if clock < self._next_ms:
                return
            if self.limit >= 0:  # else it is looked for what an earlier run has left
                self._next_ms = clock + self._interval_ms
            for timestamp, is_left, key, values in self._take_closed(stream_time):
                for value in values:
                    try:
                        result = joiner(key, value, None) if is_left else joiner(key, None, value)
                    except Exception as error:
                        failed(error, key, value, timestamp, headers)
                        continue
                    forward(key, result, timestamp, headers)

        return emit

    def _take_closed(self, stream_time: int) -> list[tuple[int, bool, Any, tuple[Any, ...]]]:
        closed: list[tuple[int, bool, Any, tuple[Any, ...]]] = []
        first = limit = _NEVER
        with self._store.all(self._first) as rows:
            for row in rows:
                closes = row.timestamp + (self._left_wait if row.left else self._right_wait)
                if closes < stream_time:
                    closed.append(row)
                    continue
                first, limit = min(first, row.timestamp), min(limit, closes)
                if row.timestamp + self._least_wait >= stream_time:
                    limit = min(limit, row.timestamp + self._least_wait)  # rows behind it may close before it
                    break
        for timestamp, is_left, key, _ in closed:
            self._store.delete(timestamp, is_left, key)
        self._first, self.limit = first, limit
        return closed

    def _forget(self) -> None:
        self._first = 0
        self.limit = -1
        self._next_ms = 0


@frozen
class SelfJoin(Operator):
    """Joins a stream with itself over one store: as left with earlier-kept ones, as right, and with itself.

    The results of a record come in the order of the plain join: with the others as the left one, then as the right one,
    and the record's own pair before what is later than it.

    Attributes:
        store: Name of the store.
        left: Which kept records match the new one on the left.
        right: Which match the new one on the right.
        joiner: Gets key, left and right value.
    """

    store: str
    left: Reach
    right: Reach
    joiner: Joiner

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function."""
        fetch = context.store(self.store).fast_fetch
        left, right, joiner = self.left, self.right, self.joiner
        dropped, failed = context.dropped, context.failed
        matches_itself = left.before_ms >= 0 and left.after_ms >= 0

        def join(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
            if key is None or value is None:
                dropped("null key or value")
                return
            pairs = [
                (value, other, max(time, timestamp))
                for time, other, _ in fetch(key, timestamp - left.before_ms, timestamp + left.after_ms)
            ]
            pending = matches_itself
            for time, other, _ in fetch(key, timestamp - right.before_ms, timestamp + right.after_ms):
                if pending and time > timestamp:
                    pairs.append((value, value, timestamp))
                    pending = False
                pairs.append((other, value, max(time, timestamp)))
            if pending:
                pairs.append((value, value, timestamp))
            for one, other, time in pairs:
                try:
                    result = joiner(key, one, other)
                except Exception as error:
                    failed(error, key, value, timestamp, headers)
                    return
                forward(key, result, time, headers)

        return join
