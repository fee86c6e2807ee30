"""Key-value stores.

For the fast path of aggregations, which need value and timestamp and pay for every object:

- ``store.fast_get(key)`` returns a tuple ``(value, timestamp)`` or None;
- ``store.fast_put(key, value, timestamp)`` writes; a value of None deletes.

Both are plain functions, bound to the store: take them out once when an operator is compiled (``get =
store.fast_get``). Together they cost about 0.4 µs for a hot key of a store with immutable values. Both stores have
them: in a `KeyValueStore` the timestamp only becomes that of the changelog record, and reading an entry that was
committed may give -1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, Protocol, TypeVar, cast

from streamlet.serdes import Serde
from streamlet.state.buffer import WriteBuffer
from streamlet.state.codec import KeyCodec, ValueCodec, pair
from streamlet.state.entries import Entries, Entry
from streamlet.state.iterator import StoreIterator
from streamlet.state.values import ValueAndTimestamp
from streamlet.state.views import ReadOnly

K = TypeVar("K")
V = TypeVar("V")
P = TypeVar("P")


class ReadOnlyKeyValueStore(Protocol[K, V]):
    """What queries may do with a key-value store: they see committed state, and are safe from any thread."""

    def get(self, key: K, /) -> V | None:
        """Return the value of a key, or None."""

    def range(self, start: K | None, end: K | None) -> StoreIterator[tuple[K, V]]:
        """Iterate over the keys from `start` to `end`, both included, in the order of their bytes."""

    def reverse_range(self, start: K | None, end: K | None) -> StoreIterator[tuple[K, V]]:
        """Iterate as `range` does, from the last key to the first."""

    def prefix_scan(self, prefix: P, prefix_serde: Serde[P] | None = None) -> StoreIterator[tuple[K, V]]:
        """Iterate over the keys whose bytes begin with those of `prefix`."""

    def all(self) -> StoreIterator[tuple[K, V]]:
        """Iterate over everything, in the order of the keys' bytes."""

    def reverse_all(self) -> StoreIterator[tuple[K, V]]:
        """Iterate over everything, from the last key to the first."""

    def approximate_num_entries(self) -> int:
        """Return about how many entries there are."""


class KeyValueReads(ReadOnly, Generic[K, V]):
    """Reads of a key-value store; by itself, a view of its committed state.

    Raises:
        InvalidStateStoreError: By every method, if the task was closed or has moved to another instance.
    """

    def __init__(self, keys: KeyCodec[K], values: ValueCodec, entries: Entries) -> None:
        self._keys = keys
        self._values = values
        self._entries = entries

    def get(self, key: K, /) -> V | None:
        """Return the value of a key, or None."""
        entry = self._entries.find(self._keys.encode(key))
        return None if entry is None or entry[0] is None else cast("V", self._values.show(entry))

    def range(self, start: K | None, end: K | None) -> StoreIterator[tuple[K, V]]:
        """Iterate over the keys from `start` to `end`, both included, by their bytes; None leaves a side open."""
        return self._scan(*self._keys.bounds(start, end))

    def reverse_range(self, start: K | None, end: K | None) -> StoreIterator[tuple[K, V]]:
        """Iterate as `range` does, from the last key to the first."""
        return self._scan(*self._keys.bounds(start, end), reverse=True)

    def prefix_scan(self, prefix: P, prefix_serde: Serde[P] | None = None) -> StoreIterator[tuple[K, V]]:
        """Iterate over the keys whose bytes begin with those of `prefix`, a key or a value of another serde."""
        return self._scan(*self._keys.prefix(prefix, prefix_serde))

    def all(self) -> StoreIterator[tuple[K, V]]:
        """Iterate over everything, in the order of the keys' bytes."""
        return self._scan(None, None)

    def reverse_all(self) -> StoreIterator[tuple[K, V]]:
        """Iterate over everything, from the last key to the first."""
        return self._scan(None, None, reverse=True)

    def approximate_num_entries(self) -> int:
        """Return about how many entries there are."""
        return self._entries.approximate_count()

    def _scan(self, lower: bytes | None, upper: bytes | None, *, reverse: bool = False) -> StoreIterator[tuple[K, V]]:
        decode, show = self._keys.decode, self._values.show
        entries = self._entries.scan(lower, upper, reverse=reverse)
        return StoreIterator(entries, lambda item: (decode(item[0]), show(item[1])))


class KeyValueStore(KeyValueReads[K, V]):
    """A map that survives the process.

    Keys are ordered by their serialised bytes, so negative numbers come after positive ones. A key of None is refused
    with `StateStoreError`. What cannot be serialised raises `SerializationError`: keys at once, values at once or, if
    they are kept as objects, at the commit.

    Attributes:
        name: Name of the store.
        encode_key: Returns the bytes of a key, by which keys are ordered.
        fast_get: Returns a tuple of value and timestamp, or None. See the module.
        fast_put: Writes a value with a timestamp (ms). See the module.
    """

    def __init__(
        self, keys: KeyCodec[K], values: ValueCodec, buffer: WriteBuffer, timestamp: Callable[[], int]
    ) -> None:
        super().__init__(keys, values, buffer)
        self.name = keys.store
        self.encode_key: Callable[[K], bytes] = keys.encode
        self._timestamp = timestamp
        access = _object_access(keys, buffer) if buffer.objects else _bytes_access(keys, values, buffer)
        self.fast_get: Callable[[K], tuple[Any, int] | None] = access[0]
        self.fast_put: Callable[[K, Any, int], None] = access[1]

    def get(self, key: K, /) -> V | None:
        """Return the value of a key, or None."""
        entry = self.fast_get(key)
        return None if entry is None else cast("V", entry[0])

    def put(self, key: K, value: V | None, /) -> None:
        """Set the value of a key; None deletes it."""
        self.fast_put(key, value, self._timestamp())

    def put_if_absent(self, key: K, value: V | None, /) -> V | None:
        """Set the value of a key that has none; return the value it had, or None."""
        before = self.get(key)
        if before is None:
            self.put(key, value)
        return before

    def put_all(self, entries: Iterable[tuple[K, V | None]], /) -> None:
        """Set the values of several keys, in order; a value of None deletes."""
        for key, value in entries:
            self.put(key, value)

    def delete(self, key: K, /) -> V | None:
        """Delete a key and return the value it had, or None."""
        before = self.get(key)
        self.fast_put(key, None, self._timestamp())
        return before


class TimestampedKeyValueStore(KeyValueStore[K, ValueAndTimestamp[V]], Generic[K, V]):
    """A key-value store whose values carry a timestamp; what tables are kept in."""

    def get(self, key: K, /) -> ValueAndTimestamp[V] | None:
        """Return the value of a key and its timestamp, or None."""
        entry = self.fast_get(key)
        return None if entry is None else pair(entry)

    def put(self, key: K, value: ValueAndTimestamp[V] | None, /) -> None:
        """Set the value of a key and its timestamp; None deletes it."""
        if value is None:
            self.fast_put(key, None, self._timestamp())
        else:
            self.fast_put(key, value[0], value[1])


def _object_access(
    keys: KeyCodec[K], buffer: WriteBuffer
) -> tuple[Callable[[K], Entry | None], Callable[[K, Any, int], None]]:
    """Return the fast path for values that are kept as objects."""
    encode, raw = keys.encoder, keys.raw

    def fast_get(key: K) -> Entry | None:
        if key is None:
            raise keys.null_key()
        try:
            data: Any = key if raw and key.__class__ is bytes else encode(key)
        except Exception as error:
            raise keys.bad_key(key, error) from error
        entry = buffer.dirty.get(data)
        if entry is None:
            entry = buffer.recent.get(data)
            if entry is None:
                entry = buffer.load(data)
                if entry is None:
                    return None
        return None if entry[0] is None else entry

    def fast_put(key: K, value: Any, timestamp: int) -> None:
        if key is None:
            raise keys.null_key()
        try:
            data: Any = key if raw and key.__class__ is bytes else encode(key)
        except Exception as error:
            raise keys.bad_key(key, error) from error
        if buffer.careful and value is not None:
            buffer.check(data, value)
        buffer.dirty[data] = (value, timestamp)

    return fast_get, fast_put


def _bytes_access(
    keys: KeyCodec[K], values: ValueCodec, buffer: WriteBuffer
) -> tuple[Callable[[K], Entry | None], Callable[[K, Any, int], None]]:
    """Return the fast path for values that somebody might change in place: they are kept as bytes."""

    def fast_get(key: K) -> Entry | None:
        entry = buffer.find(keys.encode(key))
        return None if entry is None or entry[0] is None else (values.to_user(entry[0]), entry[1])

    def fast_put(key: K, value: Any, timestamp: int) -> None:
        data = keys.encode(key)
        buffer.put(data, values.to_entry(data, value), timestamp)

    return fast_get, fast_put
