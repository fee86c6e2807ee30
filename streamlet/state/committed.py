"""Queries: committed state, from any thread."""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any, Generic, TypeVar, cast

from streamlet.serdes import Serde
from streamlet.state.backend import Backend
from streamlet.state.keyvalue import KeyCodec, StoreIterator, checked_decoder
from streamlet.state.values import ValueAndTimestamp

K = TypeVar("K")
V = TypeVar("V")
P = TypeVar("P")

_TIMESTAMP = Struct(">q")


class CommittedKeyValueStore(Generic[K, V]):
    """The committed state of a key-value store. An iterator shows it as of its creation.

    Raises:
        InvalidStateStoreError: By every method, if the task was closed or has moved to another instance.
    """

    def __init__(
        self, name: str, key_serde: Serde[K], value_serde: Serde[Any], backend: Backend, *, timestamped: bool
    ) -> None:
        self._backend = backend
        self._codec = KeyCodec(name, key_serde)
        decode = checked_decoder(name, value_serde)

        def pair(data: bytes) -> Any:
            return ValueAndTimestamp(decode(data[8:]), _TIMESTAMP.unpack_from(data)[0])

        self._value: Callable[[bytes], Any] = pair if timestamped else decode

    def get(self, key: K, /) -> V | None:
        """Return the value of a key, or None."""
        data = self._backend.get(self._codec.encode(key))
        return None if data is None else cast("V", self._value(data))

    def range(self, start: K | None, end: K | None) -> StoreIterator[tuple[K, V]]:
        """Iterate over the keys from `start` to `end`, both included, by their bytes; None leaves a side open."""
        return self._scan(*self._codec.bounds(start, end))

    def reverse_range(self, start: K | None, end: K | None) -> StoreIterator[tuple[K, V]]:
        """Iterate as `range` does, from the last key to the first."""
        return self._scan(*self._codec.bounds(start, end), reverse=True)

    def prefix_scan(self, prefix: P, prefix_serde: Serde[P] | None = None) -> StoreIterator[tuple[K, V]]:
        """Iterate over the keys whose bytes begin with those of `prefix`."""
        return self._scan(*self._codec.prefix(prefix, prefix_serde))

    def all(self) -> StoreIterator[tuple[K, V]]:
        """Iterate over everything, in the order of the keys' bytes."""
        return self._scan(None, None)

    def reverse_all(self) -> StoreIterator[tuple[K, V]]:
        """Iterate over everything, from the last key to the first."""
        return self._scan(None, None, reverse=True)

    def approximate_num_entries(self) -> int:
        """Return about how many entries there are."""
        return self._backend.approximate_count()

    def _scan(self, lower: bytes | None, upper: bytes | None, *, reverse: bool = False) -> StoreIterator[tuple[K, V]]:
        entries = self._backend.scan(lower, upper, reverse=reverse)
        decode, value = self._codec.decode, self._value
        return StoreIterator(((decode(key), value(data)) for key, data in entries), entries.close)
