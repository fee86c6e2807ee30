"""What holds changes back: a store with the last change of each key, and in memory the order in which they are due."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from struct import Struct
from typing import Any, Literal, NamedTuple

from attrs import frozen

from streamlet.dsl.change import Change
from streamlet.dsl.idle_time import IdleTime
from streamlet.errors import SerializationError, TaskError
from streamlet.processor.operator import Forward, NodeContext, Operator
from streamlet.records import Headers
from streamlet.serdes import Serde


class Buffered(NamedTuple):
    """A change that is held back.

    Attributes:
        time: What it is due by (ms): the time of the first change of its key, or the end of the window.
        value: The new value; None deletes the row.
        prior: The value before the first change that is held back: what was sent last.
        latest: Whether it is no out-of-order update.
        timestamp: Of the last change.
        headers: Of the last change.
    """

    time: int
    value: Any
    prior: Any
    latest: bool
    timestamp: int
    headers: Headers


_VERSION = 1
_FIXED = Struct(">bqqbH")
_LENGTH = Struct(">i")


class BufferedSerde(Serde[Buffered]):
    """Writes what is held back: version, time, timestamp, flag and number of headers; value, prior value and headers,
    each behind its length, -1 for None.

    Args:
        inner: Serde of the values.
    """

    def __init__(self, inner: Serde[Any]) -> None:
        self._encode, self._decode = inner.encoder, inner.decoder
        self.immutable = inner.immutable

    def serialize(self, value: Buffered, /) -> bytes:
        """Return the bytes of a change."""
        time, new, prior, latest, timestamp, headers = value
        parts = [_FIXED.pack(_VERSION, time, timestamp, latest, len(headers))]
        parts += (_sized(None if new is None else self._encode(new)),)
        parts += (_sized(None if prior is None else self._encode(prior)),)
        for name, data in headers:
            parts += (_sized(name.encode()), _sized(data))
        return b"".join(parts)

    def deserialize(self, data: bytes, /) -> Buffered:
        """Return the change of these bytes.

        Raises:
            SerializationError: If another version wrote them.
        """
        version, time, timestamp, latest, count = _FIXED.unpack_from(data)
        if version != _VERSION:
            raise SerializationError(f"the change was buffered by another version of streamlet (format {version})")
        position = _FIXED.size
        parts: list[bytes | None] = []
        for _ in range(2 + 2 * count):
            (length,) = _LENGTH.unpack_from(data, position)
            position += _LENGTH.size
            parts.append(None if length < 0 else data[position : position + length])
            position += max(length, 0)
        new, prior = (None if part is None else self._decode(part) for part in parts[:2])
        headers = tuple((name.decode(), value) for name, value in zip(parts[2::2], parts[3::2]) if name is not None)
        return Buffered(time, new, prior, bool(latest), timestamp, headers)


def _sized(data: bytes | None) -> bytes:
    return _LENGTH.pack(-1) if data is None else _LENGTH.pack(len(data)) + data


@frozen
class Suppress(Operator):
    """Holds changes back.

    Attributes:
        store: What is held back, by key.
        serde: Serde of that store's values.
        wait_ms: How long, in stream time as this node has observed it.
        final: Whether keys lie within windows and changes wait for their ends; deletions are then dropped, for nothing
            was sent before.
        max_records: The most keys that are held back, None for any number.
        max_bytes: The most bytes.
        when_full: What happens beyond that.
        idle_after_ms: How long no record has to come for time to go on by the wall clock; None: it never does.
    """

    store: str
    serde: BufferedSerde
    wait_ms: int
    final: bool
    max_records: int | None
    max_bytes: int | None
    when_full: Literal["emit_early", "shut_down"]
    idle_after_ms: int | None = None

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function."""
        if self.wait_ms == 0 and not self.final:
            return forward  # all that is put in would come out again at once
        final, wait, time = self.final, self.wait_ms, context.remember("stream-time")
        buffer = _Buffer(context, self.store, None if self.max_bytes is None else self.serde)
        enforce = self._limit(context, buffer)
        failed, held, put = context.failed, buffer.held, buffer.put
        seen = None

        def send_first() -> None:
            key, (_, value, prior, latest, timestamp, headers) = buffer.pop()
            if value is not None or not final:
                forward(key, (value, prior, latest), timestamp, headers)

        def send_due() -> None:
            last = time.value - wait
            while buffer.first_due <= last:
                send_first()

        if self.idle_after_ms is not None:
            clock = IdleTime.of(context, context.node, self.idle_after_ms)
            clock.closing(send_due)
            seen = clock.follow(time)
            if final:
                seen = None  # the aggregations before it say when there was a record, late ones included

        def suppress(key: Any, change: Change, timestamp: int, headers: Headers) -> None:
            if timestamp > time.value:
                time.value = timestamp
            if seen is not None:
                seen()
            value, old, latest = change
            try:
                before = held(key)
                if before is None:
                    due, prior = key.window.end if final else timestamp, old
                else:
                    due, prior = before.time, before.prior
                put(key, Buffered(due, value, prior, latest, timestamp, headers), before)
            except Exception as error:
                failed(error, key, value, timestamp, headers)
                return
            last = time.value - wait
            while buffer.first_due <= last:
                send_first()
            if enforce is not None:
                enforce(send_first)

        return suppress

    def _limit(self, context: NodeContext, buffer: _Buffer) -> Callable[[Callable[[], None]], None] | None:
        """Return what is done about a full buffer; None if it cannot be full."""
        if self.max_records is None and self.max_bytes is None:
            return None
        records = float("inf") if self.max_records is None else self.max_records
        limit = float("inf") if self.max_bytes is None else self.max_bytes

        def emit_early(send_first: Callable[[], None]) -> None:
            while buffer.count > records or buffer.size > limit:
                send_first()

        def shut_down(send_first: Callable[[], None]) -> None:
            if buffer.count > records or buffer.size > limit:
                raise TaskError(
                    f"the buffer of {context.node!r} (task {context.task_id}) is full: it holds {buffer.count} records "
                    f"of at most {records}, {buffer.size if limit < float('inf') else 'uncounted'} bytes of at most "
                    f"{limit}. Raise max_records or max_bytes, or hold back for a shorter time",
                    node=context.node,
                    task=str(context.task_id),
                )

        return emit_early if self.when_full == "emit_early" else shut_down


_NEVER = float("inf")


class _Buffer:
    """The changes that are held back, in the order in which they are due; those of one time by the bytes of their keys.

    The order is in memory. It is read from the store again after a restart or an abort.

    Args:
        context: The node's.
        store: Name of the store.
        measure: Serde by which bytes are counted; None if they are not.
    """

    def __init__(self, context: NodeContext, store: str, measure: BufferedSerde | None) -> None:
        self._store = context.store(store)
        self._get, self._put = self._store.fast_get, self._store.fast_put
        self._key_bytes = self._store.encode_key
        self._measure = measure
        self._queue: list[tuple[int, bytes, Any]] | None = None
        self._total = 0
        context.on_rewind(self._forget)

    @property
    def first_due(self) -> float:
        """When the first change is due (ms)."""
        queue = self._queue if self._queue is not None else self._load()
        return queue[0][0] if queue else _NEVER

    @property
    def count(self) -> int:
        """How many keys are held back."""
        return len(self._queue if self._queue is not None else self._load())

    @property
    def size(self) -> int:
        """How many bytes their keys and changes have, serialised; 0 if they are not counted."""
        if self._queue is None:
            self._load()
        return self._total

    def held(self, key: Any) -> Buffered | None:
        """Return the change of a key that is held back."""
        row = self._get(key)
        return None if row is None else row[0]

    def put(self, key: Any, change: Buffered, before: Buffered | None) -> None:
        """Hold a change back, in the place of the one before it."""
        queue = self._queue if self._queue is not None else self._load()
        data = self._key_bytes(key)
        self._put(key, change, change.timestamp)
        self._total += self._size(data, change) - self._size(data, before)
        if before is None:
            heappush(queue, (change.time, data, key))

    def pop(self) -> tuple[Any, Buffered]:
        """Take out the first change."""
        queue = self._queue if self._queue is not None else self._load()
        _, data, key = heappop(queue)
        change: Buffered = self._get(key)[0]
        self._put(key, None, change.timestamp)
        self._total -= self._size(data, change)
        return key, change

    def _size(self, key: bytes, change: Buffered | None) -> int:
        if self._measure is None or change is None:
            return 0
        return len(key) + len(self._measure.serialize(change))

    def _load(self) -> list[tuple[int, bytes, Any]]:
        queue: list[tuple[int, bytes, Any]] = []
        self._total = 0
        with self._store.all() as rows:
            for key, change in rows:
                data = self._key_bytes(key)
                queue.append((change.time, data, key))
                self._total += self._size(data, change)
        heapify(queue)
        self._queue = queue
        return queue

    def _forget(self) -> None:
        self._queue = None
