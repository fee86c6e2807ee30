"""Keys and values to bytes and back, with errors that name the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from streamlet import serdes
from streamlet.errors import SerializationError, StateStoreError
from streamlet.serdes import Serde
from streamlet.state.backend import prefix_end
from streamlet.state.entries import Entry
from streamlet.state.values import ValueAndTimestamp

K = TypeVar("K")
P = TypeVar("P")
T = TypeVar("T")

_new = tuple.__new__


_EXACT: frozenset[Serde[Any]] = frozenset(
    {serdes.string, serdes.bytes_, serdes.int16, serdes.int32, serdes.int64, serdes.float32, serdes.float64,
     serdes.boolean, serdes.uuid}
)  # fmt: skip


def exact_encoder(serde: Serde[T]) -> Callable[[T], bytes]:
    """Return a serde's encoder for bytes that are kept: they take the memory of their length, and not more.

    orjson (3.13) never shrinks the buffer that it writes to: each of its results takes 4 KiB as long as it lives.
    """
    encode = serde.encoder
    if serde in _EXACT:
        return encode

    def exact(value: T) -> bytes:
        return b"%b" % encode(value)

    return exact


class KeyCodec(Generic[K]):
    """Keys to bytes and back, with errors that name the store.

    Attributes:
        store: Name of the store.
        encoder: Turns a key into bytes, and raises whatever it likes.
        raw: Whether a key of the very type `bytes` is its own encoding: the record path does without the call.
    """

    def __init__(self, store: str, serde: Serde[K]) -> None:
        self.store = store
        self.encoder = exact_encoder(serde)
        self.raw = serde is serdes.bytes_
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


class ValueCodec:
    """Values as users see them, and as entries hold them: the objects themselves, or bytes.

    Args:
        store: Name of the store.
        serde: Serde of the values.
        objects: Whether entries hold objects.
        timestamped: Whether users see values with their timestamps.

    Attributes:
        to_user: What an entry holds to the bare value.
        show: An entry to what users see.
    """

    def __init__(self, store: str, serde: Serde[Any], *, objects: bool, timestamped: bool) -> None:
        self._store = store
        self._encode: Callable[[Any], bytes] | None = None if objects else exact_encoder(serde)
        self._decode = serde.decoder
        self.to_user: Callable[[Any], Any] = _same if objects else self._decoded
        self.show: Callable[[Entry], Any]
        if timestamped:
            self.show = pair if objects else self._decoded_pair
        else:
            self.show = value_of if objects else self._decoded_value

    def to_entry(self, key: bytes, value: Any) -> Any:
        """Return what an entry holds for a value; None for None.

        Raises:
            SerializationError: If entries hold bytes and the value has none.
        """
        if self._encode is None or value is None:
            return value
        try:
            return self._encode(value)
        except Exception as error:
            raise SerializationError(
                f"store {self._store!r}: the value of key {key!r} cannot be serialised: {error}"
            ) from error

    def _decoded(self, data: bytes) -> Any:
        try:
            return self._decode(data)
        except Exception as error:
            raise SerializationError(
                f"store {self._store!r}: the value {data[:40]!r} cannot be deserialised: {error}. "
                f"If the serde was changed, delete the local state and reset the application"
            ) from error

    def _decoded_value(self, entry: Entry) -> Any:
        return self._decoded(entry[0])

    def _decoded_pair(self, entry: Entry) -> Any:
        return _new(ValueAndTimestamp, (self._decoded(entry[0]), entry[1]))


def value_of(entry: Entry) -> Any:
    """Return the value of an entry."""
    return entry[0]


def pair(entry: Entry) -> Any:
    """Return an entry as a value with its timestamp."""
    return entry if type(entry) is ValueAndTimestamp else _new(ValueAndTimestamp, entry)


def _same(value: Any) -> Any:
    return value
