"""Key-value stores.

For the fast path of aggregations, which need value and timestamp and pay for every object:

- ``store.fast_get(key)`` returns a tuple ``(value, timestamp)`` or None;
- ``store.fast_put(key, value, timestamp)`` writes; a value of None deletes.

Both are plain functions, bound to the store: take them out once when an operator is compiled (``get =
store.fast_get``). Together they cost about 0.4 µs for a hot key of a store with immutable values. Both stores have
them: in a `KeyValueStore` the timestamp only becomes that of the changelog record, and reading an entry that was
committed gives -1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar, cast

from streamlet.errors import SerializationError, StateStoreError
from streamlet.serdes import Serde
from streamlet.state.backend import prefix_end
from streamlet.state.buffer import Entry, WriteBuffer
from streamlet.state.values import ValueAndTimestamp

K = TypeVar("K")
V = TypeVar("V")
P = TypeVar("P")
T = TypeVar("T")

_new = tuple.__new__


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


class StoreIterator(Iterator[T]):
    """Iterates over a store; close it when done early, best with ``with``. The store may be written meanwhile.

    It shows the keys that were there when it was made; a value that is changed meanwhile by the same task is shown as
    it is when it is reached, and a key that is deleted before it is reached is not shown.
    """

    __slots__ = ("_close", "_next")

    def __init__(self, entries: Iterator[T], close: Callable[[], None]) -> None:
        self._next = entries.__next__
        self._close = close

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        return self._next()

    def close(self) -> None:
        """Let go of the data; allowed more than once. Reading on finds nothing."""
        self._close()
        self._next = _nothing.__next__

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, type_: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


_nothing: Iterator[Any] = iter(())


class KeyValueStore(Generic[K, V]):
    """A map that survives the process. Keys are ordered by their serialised bytes, so negative numbers come after
    positive ones.

    A key of None is refused with `StateStoreError`. What cannot be serialised raises `SerializationError`: keys at
    once, values at once or, if they are kept as objects, at the commit.

    Attributes:
        name: Name of the store.
        fast_get: Returns a tuple of value and timestamp, or None. See the module.
        fast_put: Writes a value with a timestamp (ms). See the module.
    """

    def __init__(
        self,
        name: str,
        key_serde: Serde[K],
        value_serde: Serde[V],
        buffer: WriteBuffer,
        timestamp: Callable[[], int],
    ) -> None:
        self.name = name
        self._buffer = buffer
        self._timestamp = timestamp
        self._codec = KeyCodec(name, key_serde)
        self._value: Callable[[Entry], Any] = _value_of
        self.fast_get: Callable[[K], tuple[Any, int] | None]
        self.fast_put: Callable[[K, Any, int], None]
        if buffer.objects:
            self.fast_get, self.fast_put = _object_access(self._codec, buffer)
        else:
            self.fast_get, self.fast_put = _bytes_access(self._codec, value_serde, buffer)
            decode = checked_decoder(name, value_serde)
            self._value = lambda entry: decode(entry[0])

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

    def range(self, start: K | None, end: K | None) -> StoreIterator[tuple[K, V]]:
        """Iterate over the keys from `start` to `end`, both included, by their bytes; None leaves a side open."""
        return self._scan(*self._codec.bounds(start, end))

    def reverse_range(self, start: K | None, end: K | None) -> StoreIterator[tuple[K, V]]:
        """Iterate as `range` does, from the last key to the first."""
        return self._scan(*self._codec.bounds(start, end), reverse=True)

    def prefix_scan(self, prefix: P, prefix_serde: Serde[P] | None = None) -> StoreIterator[tuple[K, V]]:
        """Iterate over the keys whose bytes begin with those of `prefix`, a key or a value of another serde."""
        return self._scan(*self._codec.prefix(prefix, prefix_serde))

    def all(self) -> StoreIterator[tuple[K, V]]:
        """Iterate over everything, in the order of the keys' bytes."""
        return self._scan(None, None)

    def reverse_all(self) -> StoreIterator[tuple[K, V]]:
        """Iterate over everything, from the last key to the first."""
        return self._scan(None, None, reverse=True)

    def approximate_num_entries(self) -> int:
        """Return about how many entries there are."""
        return self._buffer.approximate_count()

    def _scan(self, lower: bytes | None, upper: bytes | None, *, reverse: bool = False) -> StoreIterator[tuple[K, V]]:
        entries = self._buffer.scan(lower, upper, reverse=reverse)
        decode, value = self._codec.decode, self._value
        return StoreIterator(((decode(key), value(entry)) for key, entry in entries), entries.close)


class TimestampedKeyValueStore(KeyValueStore[K, ValueAndTimestamp[V]], Generic[K, V]):
    """A key-value store whose values carry a timestamp; what tables are kept in."""

    def __init__(
        self,
        name: str,
        key_serde: Serde[K],
        value_serde: Serde[V],
        buffer: WriteBuffer,
        timestamp: Callable[[], int],
    ) -> None:
        super().__init__(name, key_serde, cast("Serde[ValueAndTimestamp[V]]", value_serde), buffer, timestamp)
        if buffer.objects:
            self._value = _pair
        else:
            decode = checked_decoder(name, value_serde)
            self._value = lambda entry: _new(ValueAndTimestamp, (decode(entry[0]), entry[1]))

    def get(self, key: K, /) -> ValueAndTimestamp[V] | None:
        """Return the value of a key and its timestamp, or None."""
        entry = self.fast_get(key)
        return None if entry is None else _pair(entry)

    def put(self, key: K, value: ValueAndTimestamp[V] | None, /) -> None:
        """Set the value of a key and its timestamp; None deletes it."""
        if value is None:
            self.fast_put(key, None, self._timestamp())
        else:
            self.fast_put(key, value[0], value[1])


class KeyCodec(Generic[K]):
    """Keys to bytes and back, with errors that name the store."""

    def __init__(self, store: str, serde: Serde[K]) -> None:
        self.store = store
        self.encoder = serde.encoder
        self._decoder = serde.decoder

    def encode(self, key: K) -> bytes:
        """Return the bytes of a key."""
        if key is None:
            raise self.null_key()
        try:
            return self.encoder(key)
        except Exception as error:
            raise self.bad_key(key, error) from error

    def decode(self, data: bytes) -> K:
        """Return the key of these bytes."""
        try:
            return self._decoder(data)
        except Exception as error:
            raise SerializationError(
                f"store {self.store!r}: the key {data!r} cannot be deserialised: {error}"
            ) from error

    def bounds(self, start: K | None, end: K | None) -> tuple[bytes | None, bytes | None]:
        """Return the first key of a range that includes both ends, and the first one behind it."""
        return (
            None if start is None else self.encode(start),
            None if end is None else self.encode(end) + b"\x00",
        )

    def prefix(self, prefix: P, serde: Serde[P] | None) -> tuple[bytes, bytes | None]:
        """Return the first key that may have a prefix, and the first one behind those."""
        codec: KeyCodec[Any] = self if serde is None else KeyCodec(self.store, serde)
        data = codec.encode(prefix)
        return data, prefix_end(data)

    def null_key(self) -> StateStoreError:
        """Return the error for a key of None."""
        return StateStoreError(f"store {self.store!r}: a key must not be None")

    def bad_key(self, key: K, error: Exception) -> SerializationError:
        """Return the error for a key that has no bytes."""
        return SerializationError(f"store {self.store!r}: the key {key!r} cannot be serialised: {error}")


def _object_access(
    codec: KeyCodec[K], buffer: WriteBuffer
) -> tuple[Callable[[K], Entry | None], Callable[[K, Any, int], None]]:
    """Return the fast path for values that are kept as objects."""
    encode = codec.encoder

    def fast_get(key: K) -> Entry | None:
        if key is None:
            raise codec.null_key()
        try:
            data = encode(key)
        except Exception as error:
            raise codec.bad_key(key, error) from error
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
            raise codec.null_key()
        try:
            data = encode(key)
        except Exception as error:
            raise codec.bad_key(key, error) from error
        if buffer.careful and value is not None:
            buffer.check(data, value, timestamp)
        buffer.dirty[data] = (value, timestamp)

    return fast_get, fast_put


def _bytes_access(
    codec: KeyCodec[K], value_serde: Serde[Any], buffer: WriteBuffer
) -> tuple[Callable[[K], Entry | None], Callable[[K, Any, int], None]]:
    """Return the fast path for values that somebody might change in place: they are kept as bytes."""
    encode_key, encode, decode = codec.encode, value_serde.encoder, checked_decoder(codec.store, value_serde)

    def fast_get(key: K) -> Entry | None:
        entry = buffer.find(encode_key(key))
        return None if entry is None or entry[0] is None else (decode(entry[0]), entry[1])

    def fast_put(key: K, value: Any, timestamp: int) -> None:
        data = encode_key(key)
        if value is not None:
            try:
                value = encode(value)
            except Exception as error:
                raise SerializationError(
                    f"store {codec.store!r}: the value of key {data!r} cannot be serialised: {error}"
                ) from error
        buffer.put(data, value, timestamp)

    return fast_get, fast_put


def checked_decoder(store: str, serde: Serde[V]) -> Callable[[bytes], V]:
    """Return a serde's decoder with errors that name the store."""
    decoder = serde.decoder

    def decode(data: bytes) -> V:
        try:
            return decoder(data)
        except Exception as error:
            raise SerializationError(
                f"store {store!r}: the value {data[:40]!r} cannot be deserialised: {error}. "
                f"If the serde was changed, delete the local state and reset the application"
            ) from error

    return decode


def _value_of(entry: Entry) -> Any:
    return entry[0]


def _pair(entry: Entry) -> Any:
    return entry if type(entry) is ValueAndTimestamp else _new(ValueAndTimestamp, entry)
