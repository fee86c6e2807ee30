"""Queries from outside: the committed state of the tasks of an instance, as one store.

Methods are those of Kafka Streams' read-only stores. They may be called from any thread, and see what was committed;
with several instances each sees its own partitions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, Generic, TypeAlias, TypeVar, overload

from streamlet.errors import InvalidStateStoreError
from streamlet.records import Windowed
from streamlet.state import StoreKind
from streamlet.state.versioned import VersionedRecord

K = TypeVar("K")
V = TypeVar("V")

Views: TypeAlias = Callable[[], list[Any]]
"""Returns read-only views of a store, one for each task; raises if there is none to be had."""


class _Query:
    """Asks the tasks one after the other.

    Args:
        views: The tasks' stores.
        value: Applied to what a store holds for a key; None: shown as it is.
    """

    def __init__(self, views: Views, value: Callable[[Any], Any] | None = None) -> None:
        self._views = views
        self._value = value

    def _first(self, find: Callable[[Any], Any]) -> Any:
        for view in self._views():
            value = find(view)
            if value is not None:
                return value if self._value is None else self._value(value)
        return None

    def _chain(self, scan: Callable[[Any], Iterator[tuple[Any, Any]]]) -> Iterator[Any]:
        entries = chain.from_iterable(map(scan, self._views()))
        value = self._value
        return entries if value is None else ((key, value(row)) for key, row in entries)


class QueryableStore(_Query, Generic[K, V]):
    """A read-only view of a store over all the tasks that this instance runs; may be used from any thread.

    A table's store asked for by its name shows plain values; asked for by its builder, values with timestamps.

    It shows committed state. With several instances each sees its own partitions. Ranges go through the tasks one
    after the other: within a task in the order of the keys' bytes, over all of them in no order, as in Kafka Streams.

    Raises:
        InvalidStateStoreError: By every method, if the application is not running, or its tasks are moving: try again.
    """

    def get(self, key: K, /) -> V | None:
        """Return the value of a key, or None."""
        return self._first(lambda view: view.get(key))  # type: ignore[no-any-return]

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


class QueryableWindowStore(_Query, Generic[K, V]):
    """As `QueryableStore`, of a window store.

    Times are those at which windows start (ms since the epoch), bounds are included. Windows that are older than the
    store's retention, seen from the latest one that was committed, are not shown.
    """

    @overload
    def fetch(self, key: K, time: int, /) -> V | None: ...
    @overload
    def fetch(self, key: K, time_from: int, time_to: int, /) -> Iterator[tuple[int, V]]: ...
    @overload
    def fetch(
        self, key_from: K | None, key_to: K | None, time_from: int, time_to: int, /
    ) -> Iterator[tuple[Windowed[K], V]]: ...
    def fetch(self, *arguments: Any) -> Any:
        """Return the value of one window; or iterate over windows of a key, or of a range of keys.

        Called with a key and a time, with a key and two times, or with two keys (None leaves a side open) and two
        times.
        """
        if len(arguments) == 2:
            return self._first(lambda view: view.fetch(*arguments))
        return self._chain(lambda view: view.fetch(*arguments))

    @overload
    def backward_fetch(self, key: K, time_from: int, time_to: int, /) -> Iterator[tuple[int, V]]: ...
    @overload
    def backward_fetch(
        self, key_from: K | None, key_to: K | None, time_from: int, time_to: int, /
    ) -> Iterator[tuple[Windowed[K], V]]: ...
    def backward_fetch(self, *arguments: Any) -> Any:
        """Iterate as `fetch` does, within each task backwards."""
        return self._chain(lambda view: view.backward_fetch(*arguments))

    def fetch_all(self, time_from: int, time_to: int) -> Iterator[tuple[Windowed[K], V]]:
        """Iterate over the windows of all keys that start between two times."""
        return self._chain(lambda view: view.fetch_all(time_from, time_to))

    def backward_fetch_all(self, time_from: int, time_to: int) -> Iterator[tuple[Windowed[K], V]]:
        """Iterate as `fetch_all` does, within each task backwards."""
        return self._chain(lambda view: view.backward_fetch_all(time_from, time_to))

    def all(self) -> Iterator[tuple[Windowed[K], V]]:
        """Iterate over everything that has not expired."""
        return self._chain(lambda view: view.all())

    def backward_all(self) -> Iterator[tuple[Windowed[K], V]]:
        """Iterate as `all` does, within each task backwards."""
        return self._chain(lambda view: view.backward_all())


class QueryableSessionStore(_Query, Generic[K, V]):
    """As `QueryableStore`, of a session store; times are in ms since the epoch, bounds are included.

    Sessions that ended longer ago than the store's retention, seen from the latest end that was committed, are not
    shown.
    """

    @overload
    def find_sessions(self, key: K, earliest_end: int, latest_start: int, /) -> Iterator[tuple[Windowed[K], V]]: ...
    @overload
    def find_sessions(
        self, key_from: K | None, key_to: K | None, earliest_end: int, latest_start: int, /
    ) -> Iterator[tuple[Windowed[K], V]]: ...
    def find_sessions(self, *arguments: Any) -> Iterator[tuple[Windowed[K], V]]:
        """Iterate over the sessions that end at or after a time and start at or before another.

        Called with a key, or with two (None leaves a side open), and the earliest end and latest start.
        """
        return self._chain(lambda view: view.find_sessions(*arguments))

    @overload
    def backward_find_sessions(
        self, key: K, earliest_end: int, latest_start: int, /
    ) -> Iterator[tuple[Windowed[K], V]]: ...
    @overload
    def backward_find_sessions(
        self, key_from: K | None, key_to: K | None, earliest_end: int, latest_start: int, /
    ) -> Iterator[tuple[Windowed[K], V]]: ...
    def backward_find_sessions(self, *arguments: Any) -> Iterator[tuple[Windowed[K], V]]:
        """Iterate as `find_sessions` does, within each task backwards."""
        return self._chain(lambda view: view.backward_find_sessions(*arguments))

    def fetch(self, key_from: K, key_to: K | None = None) -> Iterator[tuple[Windowed[K], V]]:
        """Iterate over all sessions of a key, or of the keys from one to another."""
        return self._chain(lambda view: view.fetch(key_from, key_to))

    def backward_fetch(self, key_from: K, key_to: K | None = None) -> Iterator[tuple[Windowed[K], V]]:
        """Iterate as `fetch` does, within each task backwards."""
        return self._chain(lambda view: view.backward_fetch(key_from, key_to))

    def fetch_session(self, key: K, start: int, end: int) -> V | None:
        """Return the aggregate of one session, or None."""
        return self._first(lambda view: view.fetch_session(key, start, end))  # type: ignore[no-any-return]


class QueryableVersionedStore(_Query, Generic[K, V]):
    """As `QueryableStore`, of a versioned key-value store."""

    def get(self, key: K, as_of: int | None = None, /) -> VersionedRecord[V] | None:
        """Return the version of a key that was valid at a time (ms), by default the latest; None: it had no value."""
        return self._first(lambda view: view.get(key, as_of))  # type: ignore[no-any-return]


_WINDOWS = frozenset({StoreKind.WINDOW, StoreKind.TIMESTAMPED_WINDOW})


def queryable(kind: StoreKind, views: Views, *, plain: bool) -> Any:
    """Return the view for a kind of store.

    Args:
        kind: Of the store.
        views: The tasks' stores.
        plain: Show values of stores of tables without their timestamps.
    """
    value = _value_of if plain and kind.timestamped else None
    if kind in _WINDOWS:
        return QueryableWindowStore[Any, Any](views, value)
    if kind is StoreKind.SESSION:
        return QueryableSessionStore[Any, Any](views, value)
    if kind is StoreKind.VERSIONED_KEY_VALUE:
        return QueryableVersionedStore[Any, Any](views, value)
    return QueryableStore[Any, Any](views, value)


def _value_of(value_and_timestamp: Any) -> Any:
    return value_and_timestamp.value


def no_such_store(name: str, known: list[str]) -> InvalidStateStoreError:
    """Return the exception for a name that no store has."""
    return InvalidStateStoreError(f"there is no store {name!r}; the stores are {', '.join(sorted(known)) or 'none'}")
