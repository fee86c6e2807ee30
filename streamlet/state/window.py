"""Window stores: values by key and start of the window.

Keys in the changelog are Kafka Streams': ``key ‖ start (8) ‖ sequence number (4)``; in the database the segment comes
before them.

For the fast path of windowed aggregations and joins:

- ``store.fast_get(key, start)`` returns a tuple ``(value, timestamp)`` or None, by exact key;
- ``store.fast_put(key, start, value, timestamp)`` returns False if the window has expired, and writes otherwise;
- ``store.fast_fetch(key, first, last)`` returns the list of ``(start, value, timestamp)`` of windows that start from
  `first` to `last`, both included, in ascending order; from memory if they were written lately.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any, Generic, TypeVar, cast, overload

from streamlet.errors import StateStoreError
from streamlet.records import Window, Windowed
from streamlet.state.buffer import WriteBuffer
from streamlet.state.codec import KeyCodec, ValueCodec, pair, value_of
from streamlet.state.entries import Entry
from streamlet.state.expiry import Expiry
from streamlet.state.iterator import StoreIterator
from streamlet.state.segmented import Found, IndexedSegments, Segmented
from streamlet.state.values import ValueAndTimestamp
from streamlet.state.views import ReadOnly

K = TypeVar("K")
V = TypeVar("V")

SEQUENCE_BYTES = 4
_SUFFIX = Struct(">QI")
_SEGMENT = Struct(">Q")
_MAX_SEQUENCE = 0x7FFFFFFF
_CACHED_STARTS = 256


class WindowReads(ReadOnly, Generic[K, V]):
    """Reads of a window store; by itself, a view of its committed state.

    Times are those at which windows start (ms). What is older than the retention, seen from the latest start that was
    put, is not shown. Keys in a range come segment by segment, and in each by their bytes.

    Args:
        keys: Codec of the keys.
        values: Codec of the values.
        segments: The entries.
        size_ms: Length of the windows, to tell where they end.
        span: Returns the oldest time that may be read and the latest one there is.
    """

    def __init__(
        self,
        keys: KeyCodec[K],
        values: ValueCodec,
        segments: Segmented,
        size_ms: int,
        span: Callable[[], tuple[int, int]],
    ) -> None:
        self._keys = keys
        self._values = values
        self._segments = segments
        self._size_ms = size_ms
        self._span = span

    @overload
    def fetch(self, key: K, time: int, /) -> V | None: ...
    @overload
    def fetch(self, key: K, time_from: int, time_to: int, /) -> StoreIterator[tuple[int, V]]: ...
    @overload
    def fetch(
        self, key_from: K | None, key_to: K | None, time_from: int, time_to: int, /
    ) -> StoreIterator[tuple[Windowed[K], V]]: ...
    def fetch(self, *arguments: Any) -> Any:
        """Return the value of one window; or iterate over windows of a key, or of a range of keys, in the order of
        time.

        Called with a key and a time, with a key and two times, or with two keys (None leaves a side open) and two
        times; all bounds are included.
        """
        if len(arguments) == 2:
            return self._get(*arguments)
        return self._fetch(arguments, reverse=False)

    @overload
    def backward_fetch(self, key: K, time_from: int, time_to: int, /) -> StoreIterator[tuple[int, V]]: ...
    @overload
    def backward_fetch(
        self, key_from: K | None, key_to: K | None, time_from: int, time_to: int, /
    ) -> StoreIterator[tuple[Windowed[K], V]]: ...
    def backward_fetch(self, *arguments: Any) -> Any:
        """Iterate as `fetch` does, backwards."""
        return self._fetch(arguments, reverse=True)

    def fetch_all(self, time_from: int, time_to: int) -> StoreIterator[tuple[Windowed[K], V]]:
        """Iterate over the windows of all keys that start between two times, both included."""
        return self._range(None, None, time_from, time_to, reverse=False)

    def backward_fetch_all(self, time_from: int, time_to: int) -> StoreIterator[tuple[Windowed[K], V]]:
        """Iterate as `fetch_all` does, backwards."""
        return self._range(None, None, time_from, time_to, reverse=True)

    def all(self) -> StoreIterator[tuple[Windowed[K], V]]:
        """Iterate over everything that has not expired."""
        return self._range(None, None, 0, self._span()[1], reverse=False)

    def backward_all(self) -> StoreIterator[tuple[Windowed[K], V]]:
        """Iterate as `all` does, backwards."""
        return self._range(None, None, 0, self._span()[1], reverse=True)

    def _get(self, key: K, time: int) -> V | None:
        data = self._keys.encode(key)
        oldest, latest = self._span()
        if not oldest <= time <= latest:
            return None
        entry = self._segments.entries.find(self._segments.local(data, time, bytes(SEQUENCE_BYTES)))
        return None if entry is None or entry[0] is None else cast("V", self._values.show(entry))

    def _fetch(self, arguments: tuple[Any, ...], *, reverse: bool) -> StoreIterator[Any]:
        if len(arguments) == 3:
            key, time_from, time_to = arguments
            oldest, latest = self._span()
            data = self._keys.encode(key)
            found = self._segments.of_key(data, max(time_from, oldest), min(time_to, latest), reverse=reverse)
            time_of, show = self._segments.time_of, self._values.show
            return StoreIterator(found, lambda item: (time_of(item[0]), show(item[1])))
        if len(arguments) == 4:
            return self._range(*arguments, reverse=reverse)
        raise TypeError(
            f"fetch takes a key and one or two times, or two keys and two times, not {len(arguments)} arguments"
        )

    def _range(
        self, key_from: K | None, key_to: K | None, time_from: int, time_to: int, *, reverse: bool
    ) -> StoreIterator[tuple[Windowed[K], V]]:
        oldest, latest = self._span()
        low = None if key_from is None else self._keys.encode(key_from)
        high = None if key_to is None else self._keys.encode(key_to)
        found: Found = self._segments.of_range(low, high, max(time_from, oldest), min(time_to, latest), reverse=reverse)
        return StoreIterator(found, self._show)

    def _show(self, item: tuple[bytes, Entry]) -> tuple[Windowed[K], V]:
        local, entry = item
        start = self._segments.time_of(local)
        key = self._keys.decode(self._segments.key_of(local))
        return Windowed(key, Window(start, start + self._size_ms)), self._values.show(entry)


class WindowStore(WindowReads[K, V]):
    """Values by key and start of the window, kept for a time.

    With `retain_duplicates` every put adds a value, in the order of puts; None is ignored, and single values cannot be
    fetched.

    Attributes:
        name: Name of the store.
        expiry: Its retention, and how far its time has come.
        encode_key: Returns the bytes of a key, by which keys are ordered.
        fast_get: See the module.
        fast_put: See the module.
        fast_fetch: See the module.
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
        size_ms: int,
        retain_duplicates: bool,
    ) -> None:
        super().__init__(keys, values, segments, size_ms, lambda: (expiry.oldest, expiry.observed))
        self.name = keys.store
        self.encode_key: Callable[[K], bytes] = keys.encode
        self.expiry = expiry
        self._timestamp = timestamp
        self._indexed = segments
        self._retain_duplicates = retain_duplicates
        buffer.local_key = self._restored_key
        buffer.on_rollback = segments.rolled_back
        self.fast_get: Callable[[K, int], tuple[Any, int] | None]
        self.fast_put: Callable[[K, int, Any, int], bool]
        self.fast_get, self.fast_put = self._access(keys, values, buffer)
        if retain_duplicates:
            self.fast_put = self._adding(keys, values, buffer)
        self.fast_fetch: Callable[[K, int, int], list[tuple[int, Any, int]]] = self._fetching(keys, values, buffer)

    def put(self, key: K, value: V | None, window_start: int, /) -> bool:
        """Set the value of a window; None deletes it.

        Returns:
            False if the window has expired: it starts `retention` or more before the latest one. Nothing is written
            then.
        """
        return self.fast_put(key, window_start, value, self._timestamp())

    def _get(self, key: K, time: int) -> V | None:
        if self._retain_duplicates:
            raise StateStoreError(f"store {self.name!r} keeps duplicates: fetch(key, time, time) iterates over them")
        entry = self.fast_get(key, time)
        return None if entry is None else self._shown(entry)

    def _shown(self, entry: Entry) -> V:
        return cast("V", value_of(entry))

    def _restored_key(self, logged: bytes) -> bytes | None:
        start, sequence = _SUFFIX.unpack_from(logged, len(logged) - _SUFFIX.size)
        expiry = self.expiry
        expiry.observed = max(expiry.observed, start)
        expiry.sequence = max(expiry.sequence, sequence)
        return None if start < expiry.oldest else expiry.segment(start) + logged

    def _access(
        self, keys: KeyCodec[K], values: ValueCodec, buffer: WriteBuffer
    ) -> tuple[Callable[[K, int], Entry | None], Callable[[K, int, Any, int], bool]]:
        """Return the fast path by exact key."""
        name, encode, raw, expiry, segments = keys.store, keys.encoder, keys.raw, self.expiry, self._indexed
        objects, retention = buffer.objects, expiry.retention_ms
        parts: dict[int, tuple[bytes, bytes]] = {}  # records of one time share their windows

        def parts_of(start: int) -> tuple[bytes, bytes]:
            if start < 0:
                raise _negative(name, start)
            if len(parts) >= _CACHED_STARTS:
                parts.clear()
            made = parts[start] = (_SEGMENT.pack(start // expiry.segment_ms), _SUFFIX.pack(start, 0))
            return made

        def fast_get(key: K, start: int) -> Entry | None:
            if key is None:
                raise keys.null_key()
            try:
                data: Any = key if raw and key.__class__ is bytes else encode(key)
            except Exception as error:
                raise keys.bad_key(key, error) from error
            if start > expiry.observed or start <= expiry.observed - retention or start < 0:
                return None
            prefix, suffix = parts.get(start) or parts_of(start)
            local = prefix + data + suffix
            entry = buffer.dirty.get(local)
            if entry is None:
                entry = buffer.recent.get(local) or buffer.load(local)
                if entry is None:
                    return None
            if entry[0] is None:
                return None
            return entry if objects else (values.to_user(entry[0]), entry[1])

        def fast_put(key: K, start: int, value: Any, timestamp: int) -> bool:
            if key is None:
                raise keys.null_key()
            try:
                data: Any = key if raw and key.__class__ is bytes else encode(key)
            except Exception as error:
                raise keys.bad_key(key, error) from error
            prefix, suffix = parts.get(start) or parts_of(start)
            if start > expiry.observed:
                expiry.observed = start
            elif start <= expiry.observed - retention:
                return False
            local = prefix + data + suffix
            if objects and not buffer.careful:
                buffer.dirty[local] = (value, timestamp)
            else:
                buffer.put(local, values.to_entry(local, value), timestamp)
            if segments.index is not None:
                segments.written(start, data, local, deleted=value is None)
            return True

        return fast_get, fast_put

    def _adding(self, keys: KeyCodec[K], values: ValueCodec, buffer: WriteBuffer) -> Callable[[K, int, Any, int], bool]:
        """Return `fast_put` for stores that keep duplicates: each put has a key of its own."""
        name, encode, raw, expiry, segments = keys.store, keys.encoder, keys.raw, self.expiry, self._indexed
        objects, retention, segment_ms = buffer.objects, expiry.retention_ms, expiry.segment_ms
        pack_segment, pack_suffix = _SEGMENT.pack, _SUFFIX.pack

        def fast_put(key: K, start: int, value: Any, timestamp: int) -> bool:
            if key is None:
                raise keys.null_key()
            try:
                data: Any = key if raw and key.__class__ is bytes else encode(key)
            except Exception as error:
                raise keys.bad_key(key, error) from error
            if value is None:
                return True
            if start < 0:
                raise _negative(name, start)
            observed = expiry.observed
            if start > observed:
                expiry.observed = start
            elif start <= observed - retention:
                return False
            sequence = expiry.sequence = (expiry.sequence + 1) & _MAX_SEQUENCE
            local = pack_segment(start // segment_ms) + data + pack_suffix(start, sequence)
            if objects and not buffer.careful:
                buffer.dirty[local] = (value, timestamp)
            else:
                buffer.put(local, values.to_entry(local, value), timestamp)
            index = segments.index
            if index is not None:
                index.add(start, data, local)
            return True

        return fast_put

    def _fetching(
        self, keys: KeyCodec[K], values: ValueCodec, buffer: WriteBuffer
    ) -> Callable[[K, int, int], list[tuple[int, Any, int]]]:
        """Return `fast_fetch`: `IndexedSegments.find_all`, without objects in between where all is indexed."""
        encode, raw, expiry, segments = keys.encoder, keys.raw, self.expiry, self._indexed
        retention, bucket_ms = expiry.retention_ms, segments.bucket_ms
        to_user = None if buffer.objects else values.to_user

        def fast_fetch(key: K, first: int, last: int) -> list[tuple[int, Any, int]]:
            if key is None:
                raise keys.null_key()
            try:
                data: Any = key if raw and key.__class__ is bytes else encode(key)
            except Exception as error:
                raise keys.bad_key(key, error) from error
            oldest = expiry.observed - retention + 1
            if first < oldest:
                first = oldest
            index = segments.index
            if index is None or oldest - index.floor > bucket_ms:
                index = segments.current(oldest)
            rows: list[tuple[int, Any, int]] = []
            if first < index.floor:
                for time, _, entry in segments.find_all(data, first, last):
                    rows.append((time, entry[0] if to_user is None else to_user(entry[0]), entry[1]))
                return rows
            found = index.between(data, first, last)
            if found:
                dirty, recent = buffer.dirty, buffer.recent
                for time, local in found:
                    known = dirty.get(local) or recent.get(local) or buffer.load(local)
                    if known is not None and known[0] is not None:
                        rows.append((time, known[0] if to_user is None else to_user(known[0]), known[1]))
            return rows

        return fast_fetch


class TimestampedWindowStore(WindowStore[K, ValueAndTimestamp[V]], Generic[K, V]):
    """A window store whose values carry a timestamp; what windowed aggregations are kept in."""

    def put(self, key: K, value: ValueAndTimestamp[V] | None, window_start: int, /) -> bool:
        """Set the value of a window and its timestamp; None deletes it.

        Returns:
            False if the window has expired.
        """
        if value is None:
            return self.fast_put(key, window_start, None, self._timestamp())
        return self.fast_put(key, window_start, value[0], value[1])

    def _shown(self, entry: Entry) -> ValueAndTimestamp[V]:
        return cast("ValueAndTimestamp[V]", pair(entry))


def _negative(store: str, start: int) -> StateStoreError:
    return StateStoreError(f"store {store!r}: a window cannot start before 0, but {start} was given")
