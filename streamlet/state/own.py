"""Stores of one's own: an ordered map of bytes that a user brings along, below everything that makes it a store.

The write buffer, the changelog, rolling back and all kinds of stores (key-value, windowed, of sessions, versioned)
stand on it as they do on RocksDB. What it holds is restored from the changelog when a task is opened, as the position
is not kept with the data; a store without a changelog keeps what it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Protocol, TypeAlias, runtime_checkable

from streamlet.errors import InvalidStateStoreError, StateStoreError, StateUnreadableError
from streamlet.state.backend import Backend, Changes, Database, Scan


@runtime_checkable
class BytesStore(Protocol):
    """What one's own store has to do. Calls never overlap: commits write, and queries read,
    from several threads under one lock.

    `put` is only called with what the log has committed (or the changelog holds), so it may be called with the same
    again after a crash.
    """

    def get(self, key: bytes, /) -> bytes | None:
        """Return the value of a key, or None."""

    def put(self, key: bytes, value: bytes | None, /) -> None:
        """Set the value of a key; None deletes it."""

    def range(self, start: bytes | None, end: bytes | None, /) -> Iterator[tuple[bytes, bytes]]:
        """Iterate in the order of the keys from `start` (included) to `end` (not included); None leaves a side open."""

    def approximate_num_entries(self) -> int:
        """Return about how many entries there are."""

    def close(self) -> None:
        """Let go of everything."""


BytesStoreFactory: TypeAlias = Callable[[str, Path | None], BytesStore]
"""Makes the store of one task, given the name of the store and a directory for its files, which may not exist yet (None
in `TopologyTestDriver` without a ``state.dir``)."""


class _Scan:
    """Entries as of now."""

    def __init__(self, backend: _OwnBackend, entries: list[tuple[bytes, bytes]]) -> None:
        self._backend = backend
        self._entries = iter(entries)

    def __iter__(self) -> _Scan:
        return self

    def __next__(self) -> tuple[bytes, bytes]:
        self._backend.check()
        return next(self._entries)

    def close(self) -> None:
        """Nothing is held."""


class _OwnBackend(Backend):
    def __init__(self, name: str, store: BytesStore) -> None:
        self.name = name
        self.store = store
        self.closed = False
        self.lock = Lock()

    def check(self) -> None:
        if self.closed:
            raise InvalidStateStoreError(
                f"store {self.name!r} is closed: its task was closed or has moved to another instance"
            )

    def get(self, key: bytes, /) -> bytes | None:
        with self.lock:
            self.check()
            with _told(self.name, "get"):
                return self.store.get(key)

    def scan(self, lower: bytes | None, upper: bytes | None, *, reverse: bool = False) -> Scan:
        # taken at once: what is committed while somebody iterates must not show
        with self.lock:
            self.check()
            with _told(self.name, "range"):
                entries = list(self.store.range(lower, upper))
        return _Scan(self, entries[::-1] if reverse else entries)

    def approximate_count(self) -> int:
        with self.lock:
            self.check()
            with _told(self.name, "approximate_num_entries"):
                return self.store.approximate_num_entries()


class OwnDatabase(Database):
    """One store of a user's own.

    Raises:
        StateStoreError: By every method, if the store raises; the message names it.
    """

    def __init__(self, name: str, factory: BytesStoreFactory, directory: Path | None) -> None:
        with _told(name, "its factory"):
            store = factory(name, directory)
        if not isinstance(store, BytesStore):
            raise StateStoreError(
                f"store {name!r}: its factory returned {store!r}, which is no BytesStore: it needs get, put, range, "
                f"approximate_num_entries and close"
            )
        self._backend = _OwnBackend(name, store)
        self._metadata: dict[bytes, bytes] = {}

    def family(self, name: str) -> Backend:
        """Return the map."""
        return self._backend

    def metadata(self, key: bytes) -> bytes | None:
        """Return an entry of the metadata, which lives as long as the task."""
        return self._metadata.get(key)

    def write(
        self,
        changes: Sequence[Changes],
        metadata: Mapping[bytes, bytes | None],
        unfinished: Mapping[bytes, bytes] | None = None,
    ) -> None:
        """Apply changes, then the metadata. A mark of what is `unfinished` would end with the process, as the position
        does: such a store is restored in full."""
        put = self._backend.store.put
        with self._backend.lock, _told(self._backend.name, "put"):
            for change in changes:
                for key, value in change.entries:
                    put(key, value)
                for lower, upper in change.dropped:
                    self._drop(lower, upper)
        for name, data in metadata.items():
            if data is None:
                self._metadata.pop(name, None)
            else:
                self._metadata[name] = data

    def clear(self, family: str) -> None:
        """Delete everything."""
        with self._backend.lock, _told(family, "put"):
            self._drop(None, None)

    def _drop(self, lower: bytes | None, upper: bytes | None) -> None:
        for key, _ in list(self._backend.store.range(lower, upper)):
            self._backend.store.put(key, None)

    def close(self) -> None:
        """Close the store; allowed more than once."""
        with self._backend.lock:
            if not self._backend.closed:
                self._backend.closed = True
                with _told(self._backend.name, "close"):
                    self._backend.store.close()


_READS = frozenset({"get", "range", "approximate_num_entries"})


@contextmanager
def _told(name: str, method: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        kind = StateUnreadableError if method in _READS else StateStoreError
        raise kind(f"store {name!r}, which is one's own: {method} raised {error!r}") from error
