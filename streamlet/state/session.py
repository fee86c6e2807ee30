"""Session stores: aggregates by key and session.

Keys in the changelog are Kafka Streams': ``key ‖ end (8) ‖ start (8)``; in the database the segment, of the end, comes
before them.

For the fast path of session aggregations:

- ``store.fast_find(key, earliest_end, latest_start)`` returns the list of ``(start, end, aggregate)`` of sessions that
  end at or after `earliest_end` and start at or before `latest_start`, in the order of their ends; from memory if they
  were written lately;
- ``store.fast_put(key, start, end, aggregate, timestamp)`` returns False if the session has expired, and writes
  otherwise (None deletes).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from struct import Struct
from typing import Any, Generic, TypeVar, cast, overload

from streamlet.errors import StateStoreError
from streamlet.records import Window, Windowed
from streamlet.state.buffer import WriteBuffer
from streamlet.state.codec import KeyCodec, ValueCodec
from streamlet.state.entries import Entry
from streamlet.state.expiry import Expiry
from streamlet.state.iterator import StoreIterator
from streamlet.state.segmented import Found, IndexedSegments, Segmented
from streamlet.state.views import ReadOnly

K = TypeVar("K")
V = TypeVar("V")

START_BYTES = 8
_START = Struct(">Q")
_SUFFIX = Struct(">QQ")


class SessionReads(ReadOnly, Generic[K, V]):
    """Reads of a session store; by itself, a view of its committed state.

    Sessions that ended `retention` or more before the latest end that was put are not shown.

    Args:
        keys: Codec of the keys.
        values: Codec of the aggregates.
        segments: The entries, by the end of the session.
        span: Returns the oldest time that may be read and the latest one there is.
    """

    def __init__(
        self, keys: KeyCodec[K], values: ValueCodec, segments: Segmented, span: Callable[[], tuple[int, int]]
    ) -> None:
        self._keys = keys
        self._values = values
        self._segments = segments
        self._span = span

    @overload
    def find_sessions(
        self, key: K, earliest_end: int, latest_start: int, /
    ) -> StoreIterator[tuple[Windowed[K], V]]: ...
    @overload
    def find_sessions(
        self, key_from: K | None, key_to: K | None, earliest_end: int, latest_start: int, /
    ) -> StoreIterator[tuple[Windowed[K], V]]: ...
    def find_sessions(self, *arguments: Any) -> StoreIterator[tuple[Windowed[K], V]]:
        """Iterate over the sessions that end at or after a time and start at or before another.

        Called with a key, or with two (both included, None leaves a side open), and the earliest end and latest start
        (ms). Sessions of one key come in the order of their ends.
        """
        return self._find(arguments, reverse=False)

    @overload
    def backward_find_sessions(
        self, key: K, earliest_end: int, latest_start: int, /
    ) -> StoreIterator[tuple[Windowed[K], V]]: ...
    @overload
    def backward_find_sessions(
        self, key_from: K | None, key_to: K | None, earliest_end: int, latest_start: int, /
    ) -> StoreIterator[tuple[Windowed[K], V]]: ...
    def backward_find_sessions(self, *arguments: Any) -> StoreIterator[tuple[Windowed[K], V]]:
        """Iterate as `find_sessions` does, backwards."""
        return self._find(arguments, reverse=True)

    def fetch(self, key_from: K, key_to: K | None = None) -> StoreIterator[tuple[Windowed[K], V]]:
        """Iterate over all sessions of a key, or of the keys from one to another, both included."""
        if key_to is None:
            return self._of_key(key_from, 0, None, reverse=False)
        return self._of_range(key_from, key_to, 0, None, reverse=False)

    def backward_fetch(self, key_from: K, key_to: K | None = None) -> StoreIterator[tuple[Windowed[K], V]]:
        """Iterate as `fetch` does, backwards."""
        if key_to is None:
            return self._of_key(key_from, 0, None, reverse=True)
        return self._of_range(key_from, key_to, 0, None, reverse=True)

    def fetch_session(self, key: K, start: int, end: int) -> V | None:
        """Return the aggregate of one session (times in ms), or None."""
        data = self._keys.encode(key)
        oldest, latest = self._span()
        if not oldest <= end <= latest or not 0 <= start <= end:
            return None
        entry = self._segments.entries.find(self._segments.local(data, end, _START.pack(start)))
        return None if entry is None or entry[0] is None else cast("V", self._values.show(entry))

    def _find(self, arguments: tuple[Any, ...], *, reverse: bool) -> StoreIterator[tuple[Windowed[K], V]]:
        if len(arguments) == 3:
            return self._of_key(*arguments, reverse=reverse)
        if len(arguments) == 4:
            return self._of_range(*arguments, reverse=reverse)
        raise TypeError(f"find_sessions takes one or two keys and two times, not {len(arguments)} arguments")

    def _of_key(
        self, key: K, earliest_end: int, latest_start: int | None, *, reverse: bool
    ) -> StoreIterator[tuple[Windowed[K], V]]:
        oldest, latest = self._span()
        data = self._keys.encode(key)
        found = self._segments.of_key(data, max(earliest_end, oldest), latest, reverse=reverse)
        return StoreIterator(_starting(found, latest_start), self._show)

    def _of_range(
        self, key_from: K | None, key_to: K | None, earliest_end: int, latest_start: int | None, *, reverse: bool
    ) -> StoreIterator[tuple[Windowed[K], V]]:
        oldest, latest = self._span()
        low = None if key_from is None else self._keys.encode(key_from)
        high = None if key_to is None else self._keys.encode(key_to)
        found = self._segments.of_range(low, high, max(earliest_end, oldest), latest, reverse=reverse)
        return StoreIterator(_starting(found, latest_start), self._show)

    def _show(self, item: tuple[bytes, Entry]) -> tuple[Windowed[K], V]:
        local, entry = item
        key = self._keys.decode(self._segments.key_of(local))
        return Windowed(key, Window(_start_of(local), self._segments.time_of(local))), self._values.show(entry)


class SessionStore(SessionReads[K, V]):
    """Aggregates by key and session, kept for a time.

    Attributes:
        name: Name of the store.
        expiry: Its retention, and how far its time has come.
        encode_key: Returns the bytes of a key, by which keys are ordered.
    """

    def __init__(
        self,
        keys: KeyCodec[K],
        values: ValueCodec,
        buffer: WriteBuffer,
        segments: IndexedSegments,
        timestamp: Callable[[], int],
        *,
        expiry: Expiry,
    ) -> None:
        super().__init__(keys, values, segments, lambda: (expiry.oldest, expiry.observed))
        self.name = keys.store
        self.encode_key: Callable[[K], bytes] = keys.encode
        self.expiry = expiry
        self._buffer = buffer
        self._indexed = segments
        self._timestamp = timestamp
        buffer.local_key = self._restored_key
        buffer.on_rollback = segments.rolled_back

    def put(self, session: Windowed[K], aggregate: V | None, /) -> bool:
        """Set the aggregate of a session; None deletes it.

        Returns:
            False if the session has expired: it ended `retention` or more before the latest one. Nothing is written
            then.
        """
        window = session.window
        return self.fast_put(session.key, window.start, window.end, aggregate, self._timestamp())

    def remove(self, session: Windowed[K], /) -> None:
        """Delete a session."""
        self.put(session, None)

    def fast_put(self, key: K, start: int, end: int, aggregate: V | None, timestamp: int) -> bool:
        """Set the aggregate of a session. See the module."""
        data = self._keys.encode(key)
        if not 0 <= start <= end:
            raise StateStoreError(f"store {self.name!r}: a session from {start} to {end} is not possible")
        expiry = self.expiry
        if end > expiry.observed:
            expiry.observed = end
        elif end <= expiry.observed - expiry.retention_ms:
            return False
        local = self._segments.local(data, end, _START.pack(start))
        self._buffer.put(local, self._values.to_entry(local, aggregate), timestamp)
        self._indexed.written(end, data, local, deleted=aggregate is None)
        return True

    def fast_find(self, key: K, earliest_end: int, latest_start: int) -> list[tuple[int, int, V]]:
        """Return start, end and aggregate of sessions. See the module."""
        found = self._indexed.find_all(self._keys.encode(key), earliest_end, self.expiry.observed)
        to_user = self._values.to_user
        return [
            (start, end, to_user(entry[0]))
            for end, local, entry in found
            if (start := _start_of(local)) <= latest_start
        ]

    def _restored_key(self, logged: bytes) -> bytes | None:
        end, _ = _SUFFIX.unpack_from(logged, len(logged) - _SUFFIX.size)
        expiry = self.expiry
        expiry.observed = max(expiry.observed, end)
        return None if end < expiry.oldest else expiry.segment(end) + logged


def _start_of(local: bytes) -> int:
    return int(_START.unpack_from(local, len(local) - START_BYTES)[0])


def _starting(found: Found, latest_start: int | None) -> Generator[tuple[bytes, Entry], None, None]:
    """Leave out sessions that start later."""
    try:
        for item in found:
            if latest_start is None or _start_of(item[0]) <= latest_start:
                yield item
    finally:
        found.close()
