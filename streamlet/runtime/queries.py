"""Queries from outside: the committed state of all tasks of an instance, as one store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, Generic, TypeVar

from streamlet.errors import InvalidStateStoreError

K = TypeVar("K")
V = TypeVar("V")


class QueryableStore(Generic[K, V]):
    """A read-only view of a store over all the tasks that this instance runs; may be used from any thread.

    A table's store asked for by its name shows plain values; asked for by its builder, values with timestamps.

    It shows committed state. With several instances each sees its own partitions. Ranges go through the tasks one
    after the other: within a task in the order of the keys' bytes, over all of them in no order, as in Kafka Streams.

    Raises:
        InvalidStateStoreError: By every method, if the application is not running, or its tasks are moving: try again.
    """

    def __init__(self, views: Callable[[], list[Any]], value: Callable[[Any], Any] | None = None) -> None:
        self._views = views
        self._value = value

    def get(self, key: K, /) -> V | None:
        """Return the value of a key, or None."""
        for view in self._views():
            value = view.get(key)
            if value is not None:
                return value if self._value is None else self._value(value)  # type: ignore[no-any-return]
        return None

    def range(self, start: K | None, end: K | None) -> Iterator[tuple[K, V]]:
        """Iterate over the keys from `start` to `end`, both included; None leaves a side open."""
        return self._chain(lambda view: view.range(start, end))

    def reverse_range(self, start: K | None, end: K | None) -> Iterator[tuple[K, V]]:
        """Iterate as `range` does, within each task from the last key to the first."""
        return self._chain(lambda view: view.reverse_range(start, end))

    def prefix_scan(self, prefix: Any, prefix_serde: Any = None) -> Iterator[tuple[K, V]]:
        """Iterate over the keys whose bytes begin with those of `prefix`."""
        return self._chain(lambda view: view.prefix_scan(prefix, prefix_serde))

    def all(self) -> Iterator[tuple[K, V]]:
        """Iterate over everything."""
        return self._chain(lambda view: view.all())

    def reverse_all(self) -> Iterator[tuple[K, V]]:
        """Iterate over everything, within each task from the last key to the first."""
        return self._chain(lambda view: view.reverse_all())

    def approximate_num_entries(self) -> int:
        """Return about how many entries there are."""
        return sum(view.approximate_num_entries() for view in self._views())

    def _chain(self, scan: Callable[[Any], Iterator[tuple[K, V]]]) -> Iterator[tuple[K, V]]:
        entries = chain.from_iterable(map(scan, self._views()))
        value = self._value
        return entries if value is None else ((key, value(row)) for key, row in entries)


def no_such_store(name: str, known: list[str]) -> InvalidStateStoreError:
    """Return the exception for a name that no store has."""
    return InvalidStateStoreError(f"there is no store {name!r}; the stores are {', '.join(sorted(known)) or 'none'}")
