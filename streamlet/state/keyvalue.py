"""Key-value stores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, Protocol, TypeVar

from streamlet.state.values import ValueAndTimestamp

K = TypeVar("K")
V = TypeVar("V")
V_co = TypeVar("V_co", covariant=True)


class ReadOnlyKeyValueStore(Protocol[K, V_co]):
    """What queries may do with a key-value store."""

    def get(self, key: K, /) -> V_co | None:
        """Return the value of a key, or None."""

    def range(self, start: K | None, end: K | None) -> Iterator[tuple[K, V_co]]:
        """Iterate over the keys from `start` to `end`, both included."""


class KeyValueStore(Generic[K, V]):
    """A map that survives the process."""


class TimestampedKeyValueStore(KeyValueStore[K, ValueAndTimestamp[V]], Generic[K, V]):
    """A key-value store whose values carry a timestamp."""


