"""A timestamped store as a test wants to see it: values without their timestamps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from streamlet.serdes import Serde
from streamlet.state import TimestampedKeyValueStore

K = TypeVar("K")
V = TypeVar("V")


class PlainKeyValueStore(Generic[K, V]):
    """The values of a table's store, without timestamps; what `TopologyTestDriver.get_state_store` returns for one by
    its name.

    Args:
        store: The store.
        timestamp: Returns the timestamp (ms) for values that the test puts.

    Attributes:
        timestamped: The store itself, whose values are ``ValueAndTimestamp``.
    """

    def __init__(self, store: TimestampedKeyValueStore[K, V], timestamp: Callable[[], int]) -> None:
        self.timestamped = store
        self.name = store.name
        self._timestamp = timestamp

    def get(self, key: K, /) -> V | None:
        """Return the value of a key, or None."""
        row = self.timestamped.get(key)
        return None if row is None else row.value

    def put(self, key: K, value: V | None, /) -> None:
        """Set the value of a key, as of now by the driver's wall clock; None deletes it."""
        self.timestamped.fast_put(key, value, self._timestamp())

    def put_if_absent(self, key: K, value: V | None, /) -> V | None:
        """Set the value of a key that has none; return the value it had, or None."""
        before = self.get(key)
        if before is None:
            self.put(key, value)
        return before

    def put_all(self, entries: Iterable[tuple[K, V | None]], /) -> None:
        """Set the values of several keys."""
        for key, value in entries:
            self.put(key, value)

    def delete(self, key: K, /) -> V | None:
        """Delete a key and return the value it had, or None."""
        before = self.get(key)
        self.put(key, None)
        return before

    def range(self, start: K | None, end: K | None) -> Iterator[tuple[K, V]]:
        """Iterate over the keys from `start` to `end`, both included, in the order of their bytes."""
        return _plain(self.timestamped.range(start, end))

    def reverse_range(self, start: K | None, end: K | None) -> Iterator[tuple[K, V]]:
        """Iterate as `range` does, from the last key to the first."""
        return _plain(self.timestamped.reverse_range(start, end))

    def prefix_scan(self, prefix: Any, prefix_serde: Serde[Any] | None = None) -> Iterator[tuple[K, V]]:
        """Iterate over the keys whose bytes begin with those of `prefix`."""
        return _plain(self.timestamped.prefix_scan(prefix, prefix_serde))

    def all(self) -> Iterator[tuple[K, V]]:
        """Iterate over everything, in the order of the keys' bytes."""
        return _plain(self.timestamped.all())

    def reverse_all(self) -> Iterator[tuple[K, V]]:
        """Iterate over everything, from the last key to the first."""
        return _plain(self.timestamped.reverse_all())

    def approximate_num_entries(self) -> int:
        """Return about how many entries there are."""
        return self.timestamped.approximate_num_entries()


def _plain(entries: Iterable[tuple[K, Any]]) -> Iterator[tuple[K, Any]]:
    return ((key, row.value) for key, row in entries)
