"""The stores of one task: opened, changed, committed, restored and closed together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from streamlet.errors import InvalidStateStoreError, StateStoreError
from streamlet.state.backend import Backend, Changes, Database
from streamlet.state.buffer import WriteBuffer, time_key
from streamlet.state.builder import StoreBuilder
from streamlet.state.expiry import observed_time
from streamlet.state.in_memory import MemoryDatabase
from streamlet.state.memory import StateMemory
from streamlet.state.metadata import StoreMetadata, dump_position, load_position, position_key, unfinished_key
from streamlet.state.own import OwnDatabase
from streamlet.state.values import ChangelogRecord, Position


class TaskState:
    """The stores of one task, over one RocksDB (and one map in memory for the stores that are declared so).

    Used from one thread, except `read_only`. The order of a commit is: `changes` (to be produced to the changelogs),
    then the log commits, then `commit`. So the database is never ahead of the log, and its positions say how far it is:
    after a crash at any point, restoring goes on from there. A crash between the batches of a large write leaves a part
    of what lies beyond the position; `unfinished` tells how far it may reach.

    Attributes:
        directory: Where the data is; None if everything is in memory.
    """

    def __init__(
        self,
        builders: Sequence[StoreBuilder[Any]],
        databases: Mapping[str, Database],
        *,
        directory: Path | None,
        memory: StateMemory,
        timestamp: Callable[[], int],
    ) -> None:
        self.directory = directory
        self._builders = {builder.name: builder for builder in builders}
        self._databases = databases
        self._memory = memory
        self._backends: dict[str, Backend] = {}
        self._buffers: dict[str, WriteBuffer] = {}
        self._stores: dict[str, Any] = {}
        self._careful = False
        self._closed = False
        for builder in builders:
            backend = databases[builder.name].family(builder.name)
            buffer = builder.assembly().buffer(backend, memory)
            if buffer.expiry is not None:
                buffer.expiry.load(databases[builder.name].metadata(time_key(builder.name)))
            self._backends[builder.name] = backend
            self._buffers[builder.name] = buffer
            self._stores[builder.name] = builder.build(buffer, memory, timestamp)
            memory.store_opened()

    @classmethod
    def open(
        cls,
        builders: Sequence[StoreBuilder[Any]],
        *,
        directory: Path | None,
        memory: StateMemory,
        timestamp: Callable[[], int],
    ) -> TaskState:
        """Open the stores of a task.

        Args:
            builders: What to open.
            directory: The task's directory; None keeps everything in memory, whatever the stores say.
            memory: The budget of the process.
            timestamp: Returns the time of the record at hand (ms), for changes that have none of their own.

        Raises:
            StateStoreError: If the database cannot be opened.
            StateMismatchError: If the data there is of another format or kind of store and cannot be rebuilt from a
                changelog.
        """
        on_disk = [builder.name for builder in builders if builder.persistent and directory is not None]
        transient = MemoryDatabase(builder.name for builder in builders if builder.name not in on_disk)
        databases: dict[str, Database] = {builder.name: transient for builder in builders}
        if directory is not None and on_disk:
            from streamlet.state.rocksdb import RocksDatabase  # an application without RocksDB does not load it

            rocks = RocksDatabase(directory / "rocksdb", on_disk, memory.rocksdb)
            databases.update((name, rocks) for name in on_disk)
        try:
            for builder in builders:
                if builder.bytes_store is not None:
                    place = None if directory is None else directory / "own" / builder.name
                    databases[builder.name] = OwnDatabase(builder.name, builder.bytes_store, place)
            for builder in builders:
                StoreMetadata.of(builder).reconcile(databases[builder.name], directory)
            return cls(builders, databases, directory=directory, memory=memory, timestamp=timestamp)
        except BaseException:
            for database in {id(database): database for database in databases.values()}.values():
                database.close()
            raise

    # -- stores ----------------------------------------------------------------------------------
    def store(self, name: str) -> Any:
        """Return a store, for processors.

        Raises:
            InvalidStateStoreError: If the task has no such store.
        """
        self._check(name)
        return self._stores[name]

    def read_only(self, name: str) -> Any:
        """Return a view of a store's committed state that may be used from any thread.

        Raises:
            InvalidStateStoreError: If the task has no such store or was closed; later also by the view's methods.
        """
        self._check(name)
        database, key = self._databases[name], time_key(name)
        return self._builders[name].view(self._backends[name], lambda: observed_time(database.metadata(key)))

    # -- committing ------------------------------------------------------------------------------
    @property
    def dirty(self) -> bool:
        """Whether there are changes to be committed."""
        return any(buffer.changed for buffer in self._buffers.values())

    @property
    def buffered_bytes(self) -> int:
        """About how many bytes the uncommitted changes take."""
        return sum(buffer.buffered_bytes for buffer in self._buffers.values() if buffer.changed)

    def changes(self) -> Iterator[tuple[str, list[ChangelogRecord]]]:
        """Serialise what was changed since the last commit, and yield it for each store that keeps a changelog.

        Each key occurs once, with its last value, in the order in which the keys were first changed. `commit` writes
        the very same bytes. What is put after this belongs to the next commit.

        Raises:
            SerializationError: If a value has no bytes; the message names the store and the key.
        """
        for name, buffer in self._buffers.items():
            if buffer.changed:
                buffer.seal()
                if self._builders[name].logging:
                    yield name, buffer.records()

    def commit(self, positions: Mapping[str, Position]) -> None:
        """Write what was changed to the database; to be called when the log has committed.

        Args:
            positions: How far the changelog of each store reaches now; stores that are not named keep their position.

        Raises:
            StateStoreError: If the database cannot be written. Close the task: it continues from its stored positions.
        """
        for database, names in self._by_database().items():
            changes: list[Changes] = []
            metadata: dict[bytes, bytes | None] = {}
            marks: dict[bytes, bytes] = {}
            for name in names:
                if self._buffers[name].changed:
                    change, remembered = self._buffers[name].changes()
                    changes.append(change)
                    metadata.update(remembered)
                if name in positions:
                    metadata[position_key(name)] = marks[unfinished_key(name)] = dump_position(positions[name])
            if changes or metadata:
                database.write(changes, metadata, marks)
        for buffer in self._buffers.values():
            buffer.committed()

    def rollback(self) -> None:
        """Drop all changes since the last commit: stores show committed state again."""
        for buffer in self._buffers.values():
            buffer.rollback()

    @property
    def careful(self) -> bool:
        """Serialise values when they are put, so that one that has no bytes raises at its own record. Slower."""
        return self._careful

    @careful.setter
    def careful(self, careful: bool) -> None:
        self._careful = careful
        for buffer in self._buffers.values():
            buffer.careful = careful

    # -- restoring -------------------------------------------------------------------------------
    def position(self, store: str) -> Position | None:
        """Return how much of its changelog a store has taken in; None if nothing, or nothing is known."""
        self._check(store)
        database = self._databases[store]
        data, mark = database.metadata(position_key(store)), database.metadata(unfinished_key(store))
        if data is None or (mark is not None and load_position(mark) is None):  # a later version's write was cut off
            return None
        return load_position(data)

    def unfinished(self, store: str) -> Position | None:
        """Return how far a write was to bring a store that was cut off between its batches; None if there was none.

        Something of what the changelog has from `position` to there is in the store: it is right again when it was
        restored to there, or beyond, from the same changelog.
        """
        self._check(store)
        data = self._databases[store].metadata(unfinished_key(store))
        return None if data is None else load_position(data)

    def restore(self, store: str, records: Sequence[ChangelogRecord], position: Position) -> None:
        """Take in records from a store's changelog, in order, and remember how far it reaches now.

        Raises:
            StateStoreError: If the store has uncommitted changes, or the database cannot be written.
        """
        self._check(store)
        buffer = self._buffers[store]
        if buffer.changed:
            raise StateStoreError(f"store {store!r} has uncommitted changes: commit or roll back before restoring")
        changes, remembered = buffer.restored(records)
        data, mark = dump_position(position), unfinished_key(store)
        metadata: dict[bytes, bytes | None] = {**remembered, position_key(store): data}
        marks = {mark: data}
        unfinished = self.unfinished(store)
        if unfinished is not None:
            if unfinished.offset > position.offset:
                marks = {}  # the mark that is there reaches further
            else:
                metadata[mark] = None
        self._databases[store].write([changes], metadata, marks)
        buffer.restored_committed()

    def wipe(self, store: str) -> None:
        """Delete all data of a store, and its position, so that it is restored from the beginning."""
        self._check(store)
        database = self._databases[store]
        # First: a crash in between must not leave a position without its data.
        database.write([], {position_key(store): None, unfinished_key(store): None})
        database.clear(store)
        self._buffers[store].reset()

    # -- the rest --------------------------------------------------------------------------------
    def watch_values(self) -> None:
        """Remember the bytes of objects that are immutable by promise only, for `verify_values`. For tests."""
        for buffer in self._buffers.values():
            buffer.watch()

    def verify_values(self) -> None:
        """Check that none of these objects that was used lately was changed in place; needs `watch_values`.

        Raises:
            StateStoreError: If one was; the message names the store and the key.
        """
        for buffer in self._buffers.values():
            buffer.verify()

    def close(self) -> None:
        """Close everything, dropping what is not committed; allowed more than once."""
        if self._closed:
            return
        self._closed = True
        self.rollback()
        for buffer in self._buffers.values():
            buffer.clear_clean()
            self._memory.store_closed()
        for database in self._by_database():
            database.close()

    def _by_database(self) -> dict[Database, list[str]]:
        grouped: dict[Database, list[str]] = {}
        for name, database in self._databases.items():
            grouped.setdefault(database, []).append(name)
        return grouped

    def _check(self, name: str) -> None:
        if self._closed:
            raise InvalidStateStoreError(
                f"store {name!r} is closed: its task was closed or has moved to another instance"
            )
        if name not in self._builders:
            known = ", ".join(sorted(self._builders)) or "none"
            raise InvalidStateStoreError(f"the task has no store {name!r}; its stores are: {known}")
