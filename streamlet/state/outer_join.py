"""The store of rows that a left or outer join of streams has not matched yet, in the order of time.

Keys are Kafka Streams' (``timestamp (8) ‖ 1 for left, 0 for right ‖ key``), in the changelog and in the database, so
rows of the right side come before those of the left side at one time. Rows of one side with the same key and time are
kept together, in the order in which they came.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from struct import Struct
from typing import Any, Generic, NamedTuple, TypeVar

from streamlet.errors import SerializationError, StateStoreError
from streamlet.serdes import FunctionSerde, Serde
from streamlet.state.buffer import WriteBuffer
from streamlet.state.codec import KeyCodec, ValueCodec
from streamlet.state.entries import Entry
from streamlet.state.iterator import StoreIterator

K = TypeVar("K")

_PREFIX = Struct(">QB")
_LENGTH = Struct(">I")
_TIME = Struct(">Q")


class Unmatched(NamedTuple, Generic[K]):
    """Rows of one side with one key and time.

    Attributes:
        timestamp: Their time (ms).
        left: Whether they are of the left side.
        key: Their key.
        values: Their values, in the order in which they came.
    """

    timestamp: int
    left: bool
    key: K
    values: tuple[Any, ...]


def rows_serde(left: Serde[Any], right: Serde[Any]) -> Serde[Any]:
    """Return the serde of ``(is left, values)``: the side, then each value behind its length."""

    def encode(rows: tuple[bool, tuple[Any, ...]]) -> bytes:
        serialize = (left if rows[0] else right).serialize
        parts = [b"\x01" if rows[0] else b"\x00"]
        for value in rows[1]:
            data = serialize(value)
            parts += (_LENGTH.pack(len(data)), data)
        return b"".join(parts)

    def decode(data: bytes) -> tuple[bool, tuple[Any, ...]]:
        is_left, place, values = data[0] == 1, 1, []
        deserialize = (left if is_left else right).deserialize
        while place < len(data):
            end = place + 4 + _LENGTH.unpack_from(data, place)[0]
            if end > len(data):
                raise SerializationError(f"a row of {end - place - 4} bytes is cut off")
            values.append(deserialize(data[place + 4 : end]))
            place = end
        return is_left, tuple(values)

    return FunctionSerde(f"rows of {left!r} or {right!r}", encode, decode, immutable=left.immutable and right.immutable)


class OuterJoinStore(Generic[K]):
    """Rows that were not matched yet, by time, side and key.

    Attributes:
        name: Name of the store.
    """

    def __init__(
        self, keys: KeyCodec[K], values: ValueCodec, buffer: WriteBuffer, timestamp: Callable[[], int]
    ) -> None:
        self.name = keys.store
        self._keys = keys
        self._values = values
        self._buffer = buffer
        self._timestamp = timestamp
        self._latest: int | None = None  # no row is later; unknown at first
        buffer.on_rollback = self._changed

    def put(self, timestamp: int, left: bool, key: K, value: Any) -> None:
        """Add a row behind those of its time, side and key."""
        local = self._local(timestamp, left, key)
        latest = self._latest_time() if self._latest is None else self._latest
        before: tuple[Any, ...] = ()
        if timestamp > latest:  # mostly: that there is no row yet is known without a read of the database
            self._latest = timestamp
        else:
            entry = self._buffer.find(local)
            if entry is not None and entry[0] is not None:
                before = self._values.to_user(entry[0])[1]
        rows = self._values.to_entry(local, (left, (*before, value)))
        self._buffer.put(local, rows, timestamp)

    def delete(self, timestamp: int, left: bool, key: K) -> bool:
        """Delete the rows of a time, side and key; return whether there were any."""
        local = self._local(timestamp, left, key)
        entry = self._buffer.find(local)
        if entry is None or entry[0] is None:
            return False
        self._buffer.put(local, None, self._timestamp())
        return True

    def all(self, from_time: int = 0) -> StoreIterator[Unmatched[K]]:
        """Iterate over the rows from a time on (ms), in the order of time, side (right first) and key."""
        return StoreIterator(self._buffer.scan(_TIME.pack(from_time) if from_time else None, None), self._show)

    def _latest_time(self) -> int:
        """Look for the time of the latest row (ms), -1 if there is none, and remember it."""
        with closing(self._buffer.scan(None, None, reverse=True)) as rows:
            last = next(rows, None)
        self._latest = -1 if last is None else _PREFIX.unpack_from(last[0])[0]
        return self._latest

    def _changed(self, dropped: Mapping[bytes, Entry] | None) -> None:
        if dropped is None:  # something else than a step back: there may be rows that are later
            self._latest = None

    def _local(self, timestamp: int, left: bool, key: K) -> bytes:
        if timestamp < 0:
            raise StateStoreError(f"store {self.name!r}: the time of a row cannot be {timestamp}")
        return _PREFIX.pack(timestamp, left) + self._keys.encode(key)

    def _show(self, item: tuple[bytes, Entry]) -> Unmatched[K]:
        local, entry = item
        timestamp, _ = _PREFIX.unpack_from(local)
        left, values = self._values.to_user(entry[0])
        return Unmatched(timestamp, left, self._keys.decode(local[_PREFIX.size :]), values)
