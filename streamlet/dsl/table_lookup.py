"""Joins of a stream with a table: what their nodes do. Only the stream's records cause results."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from struct import Struct
from typing import Any, TypeAlias

from attrs import frozen

from streamlet.dsl.stream_join_operators import Joiner
from streamlet.errors import SerializationError
from streamlet.processor.operator import Forward, NodeContext, Operator
from streamlet.records import Headers
from streamlet.serdes import Serde

Lookup: TypeAlias = Callable[[Any, int], Any]
"""From the table's key and the timestamp of the stream's record (ms) to the table's value, None if there is none."""

KeySelector: TypeAlias = Callable[[Any, Any], Any]
"""From key and value of the stream's record to the table's key; None: there is none."""


@frozen
class JoinTable(Operator):
    """Joins each record with the table's row of now, or of its own time if the table is versioned.

    A record without a value is dropped, and so is one for which there is no key to look up; but a left join keeps those
    that have no key themselves (KIP-962).

    Attributes:
        open: Returns the lookup, given the node's context.
        joiner: Gets key, the stream's and the table's value.
        keeps_unmatched: Whether records without a row are joined with None: a left join.
        key: Makes the key to look up; default: the record's own.
        buffer: How long records wait for the table, None if they do not.
    """

    open: Callable[[NodeContext], Lookup]
    joiner: Joiner
    keeps_unmatched: bool
    key: KeySelector | None = None
    buffer: Patience | None = None

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function."""
        look_up, joiner, keeps, select = self.open(context), self.joiner, self.keeps_unmatched, self.key
        dropped, failed = context.dropped, context.failed

        def join(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
            if value is None:
                dropped("null value")
                return
            try:
                wanted = key if select is None else select(key, value)
                if wanted is None:
                    if key is not None or not keeps:
                        dropped("null key" if select is None else "null key to look up")
                        return
                    row = None
                else:
                    row = look_up(wanted, timestamp)
                    if row is None and not keeps:
                        return
                result = joiner(key, value, row)
            except Exception as error:
                failed(error, key, value, timestamp, headers)
                return
            forward(key, result, timestamp, headers)

        return join if self.buffer is None else self.buffer.compile(context, join, keeps_null_keys=keeps)


@frozen
class Patience:
    """Records wait until stream time has passed them by the grace period, and are then joined in the order of time
    (KIP-923).

    Only records that wait themselves let others go: those without a value, or too late to wait, move the time on, but
    nothing happens at them.

    Attributes:
        store: Name of the store they wait in.
        grace_ms: How long they wait, in stream time of the stream's side.
    """

    store: str
    grace_ms: int

    def compile(self, context: NodeContext, join: Forward, *, keeps_null_keys: bool) -> Forward:
        """Return the function that has records wait before `join`."""
        waiting = WaitingRecords(context, self.store)
        grace, dropped = self.grace_ms, context.dropped
        time, waited = context.remember("stream-time"), context.remember("waited-until")

        def wait(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
            if timestamp > time.value:
                time.value = timestamp
            if value is None or (key is None and not keeps_null_keys):
                dropped("null key or value")
                return
            if key is None or timestamp < waited.value - grace:
                join(key, value, timestamp, headers)
            else:
                waiting.put(key, value, timestamp, headers)
                waited.value = time.value
            due = waited.value - grace
            while waiting.first <= due:
                join(*waiting.pop())

        return wait


_NEVER = float("inf")
_TIME = Struct(">Q")
_SEQUENCE = Struct(">I")


class WaitingRecords:
    """Records in the order of time, key and arrival: in a store, and in memory their order.

    Args:
        context: The node's.
        store: Name of a store with keys of `WaitingKeySerde` and values of `WaitingValueSerde`.
    """

    def __init__(self, context: NodeContext, store: str) -> None:
        self._store = context.store(store)
        self._queue: list[tuple[int, bytes, int, Any]] | None = None
        self._sequence = 0
        context.on_rewind(self._forget)

    @property
    def first(self) -> float:
        """Timestamp of the first record (ms)."""
        queue = self._queue if self._queue is not None else self._load()
        return queue[0][0] if queue else _NEVER

    def put(self, key: Any, value: Any, timestamp: int, headers: Headers) -> None:
        """Take a record in."""
        queue = self._queue if self._queue is not None else self._load()
        self._sequence += 1
        place = (timestamp, self._sequence, key)
        data = self._store.encode_key(place)
        self._store.fast_put(place, (value, headers), timestamp)
        heappush(queue, (timestamp, data, self._sequence, key))

    def pop(self) -> tuple[Any, Any, int, Headers]:
        """Take the first record out: key, value, timestamp and headers."""
        queue = self._queue if self._queue is not None else self._load()
        timestamp, _, sequence, key = heappop(queue)
        place = (timestamp, sequence, key)
        value, headers = self._store.fast_get(place)[0]
        self._store.fast_put(place, None, timestamp)
        return key, value, timestamp, headers

    def _load(self) -> list[tuple[int, bytes, int, Any]]:
        queue: list[tuple[int, bytes, int, Any]] = []
        self._sequence = 0
        with self._store.all() as rows:
            for place, _ in rows:
                timestamp, sequence, key = place
                queue.append((timestamp, self._store.encode_key(place), sequence, key))
                self._sequence = max(self._sequence, sequence)
        heapify(queue)
        self._queue = queue
        return queue

    def _forget(self) -> None:
        self._queue = None


class WaitingKeySerde(Serde[tuple[int, int, Any]]):
    """Writes ``(timestamp, sequence, key)`` as ``timestamp (8) ‖ key ‖ sequence (4)``."""

    def __init__(self, inner: Serde[Any]) -> None:
        self._encode, self._decode = inner.encoder, inner.decoder
        self.immutable = inner.immutable

    def serialize(self, value: tuple[int, int, Any], /) -> bytes:
        """Return the bytes."""
        timestamp, sequence, key = value
        return _TIME.pack(timestamp) + self._encode(key) + _SEQUENCE.pack(sequence)

    def deserialize(self, data: bytes, /) -> tuple[int, int, Any]:
        """Return timestamp, sequence and key."""
        (timestamp,) = _TIME.unpack_from(data)
        (sequence,) = _SEQUENCE.unpack_from(data, len(data) - _SEQUENCE.size)
        return timestamp, sequence, self._decode(data[_TIME.size : -_SEQUENCE.size])


class WaitingValueSerde(Serde[tuple[Any, Headers]]):
    """Writes ``(value, headers)``: a version and the number of headers; each header's name and value, behind their
    lengths; and the value."""

    _FIXED = Struct(">BI")
    _LENGTH = Struct(">i")

    def __init__(self, inner: Serde[Any]) -> None:
        self._encode, self._decode = inner.encoder, inner.decoder
        self.immutable = inner.immutable

    def serialize(self, value: tuple[Any, Headers], /) -> bytes:
        """Return the bytes."""
        content, headers = value
        parts = [self._FIXED.pack(1, len(headers))]
        for part in (data for name, header in headers for data in (name.encode(), header)):
            parts += (self._LENGTH.pack(-1),) if part is None else (self._LENGTH.pack(len(part)), part)
        parts.append(self._encode(content))
        return b"".join(parts)

    def deserialize(self, data: bytes, /) -> tuple[Any, Headers]:
        """Return value and headers.

        Raises:
            SerializationError: If another version wrote them.
        """
        version, count = self._FIXED.unpack_from(data)
        if version != 1:
            raise SerializationError(f"the record was kept by another version of streamlet (format {version})")
        position, parts = self._FIXED.size, []
        for _ in range(2 * count):
            (length,) = self._LENGTH.unpack_from(data, position)
            position += self._LENGTH.size
            parts.append(None if length < 0 else data[position : position + length])
            position += max(length, 0)
        headers = tuple((name.decode(), header) for name, header in zip(parts[::2], parts[1::2]) if name is not None)
        return self._decode(data[position:]), headers
