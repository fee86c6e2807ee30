"""RocksDB through rocksdict: the only module that touches it. `tests/state/test_rocksdb.py` pins the traps.

- A `ReadOptions.set_iterate_lower_bound` sets the *upper* bound: scans start by `from_key` and end, backwards, by hand.
- A column-family view that outlives `close` answers as if nothing had happened, an iterator goes on, and either (also a
  bound method or a handle of it) keeps the lock of the directory: everything that was handed out is known here and is
  let go at close.
- Column families that are not named in `open`, or named without options, have no part in the shared cache: all of them
  are listed and opened with the same options.
- An iterator that meets a damaged block, or cannot read the disk, ends as if there were nothing more, and `items()`
  does not say so: scans step through the raw iterator, and ask for its status at the end.
- An iterator does not keep its `ReadOptions` alive, although it goes on reading their bound: the scan holds both.
- A write holds the interpreter lock: batches are small.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from threading import RLock
from typing import Any, NoReturn
from weakref import WeakSet

from rocksdict import BlockBasedOptions, Cache, Options, Rdict, ReadOptions, WriteBatch, WriteBufferManager

from streamlet.errors import InvalidStateStoreError, StateStoreError, StateUnreadableError
from streamlet.state.backend import Backend, Changes, Database

_log = logging.getLogger(__name__)

BATCH = 5_000
"""Most entries per write: RocksDB's binding holds the interpreter lock for about 1 µs an entry."""
_BATCH_BYTES = 1 << 20  # and most bytes, as a write buffer takes in a batch as a whole
_ENTRY_BYTES = _BATCH_BYTES // BATCH  # what an entry counts for beside its value
_MAX_WAL_BYTES = 32 << 20
_ARENA_BYTES = 64 << 10
_MIN_WRITE_BUFFER = 512 << 10
_METADATA_FAMILY = "default"


class SharedCache:
    """Block cache and write-buffer manager for all databases of the process.

    Args:
        cache_bytes: Capacity of the block cache; indexes, filters and write buffers are charged to it.
        write_buffer_bytes: Write buffers of all databases together are flushed beyond this.
    """

    def __init__(self, *, cache_bytes: int, write_buffer_bytes: int) -> None:
        self._cache = Cache(cache_bytes)
        self._write_buffer_bytes = max(_MIN_WRITE_BUFFER, write_buffer_bytes // 4)
        # Never allow_stall: the writer would wait for a flush that other databases have to do.
        self._write_buffers = WriteBufferManager.new_write_buffer_manager_with_cache(
            write_buffer_bytes, False, self._cache
        )

    @property
    def used_bytes(self) -> int:
        """Bytes in use: blocks and write buffers."""
        return int(self._cache.get_usage())

    def options(self) -> Any:
        """Return the options with which every column family is opened."""
        table = BlockBasedOptions()
        table.set_block_cache(self._cache)
        table.set_bloom_filter(10, False)
        table.set_cache_index_and_filter_blocks(True)
        table.set_pin_l0_filter_and_index_blocks_in_cache(True)
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.create_missing_column_families(True)
        options.set_block_based_table_factory(table)
        options.set_write_buffer_manager(self._write_buffers)
        # Two of them for each family: its own writes wait when the second one is full before the first one is on disk.
        options.set_write_buffer_size(self._write_buffer_bytes)
        options.set_max_write_buffer_number(2)
        options.set_arena_block_size(_ARENA_BYTES)  # a write buffer with little in it takes little
        options.set_max_total_wal_size(_MAX_WAL_BYTES)
        options.set_keep_log_file_num(1)
        options.set_max_log_file_size(1 << 20)
        return options


class RocksDatabase(Database):
    """The data of one task: a RocksDB with a column family per store.

    Args:
        path: Its directory; made if it does not exist.
        families: Names of the stores. Families that are in the database already and not named here are left as they
            are.
        shared: Cache and write buffers of the process.

    Raises:
        StateStoreError: If it cannot be opened: in use, damaged, or made by a newer RocksDB.
    """

    def __init__(self, path: Path, families: Iterable[str], shared: SharedCache) -> None:
        self._path = path
        self._shared = shared
        self._lock = RLock()
        try:
            path.mkdir(parents=True, exist_ok=True)
            present = Rdict.list_cf(str(path), shared.options()) if (path / "CURRENT").exists() else []
            names = dict.fromkeys([*present, *map(_family_name, families)])
            names.pop(_METADATA_FAMILY, None)
            options = {name: shared.options() for name in names}
            self._db: Any = Rdict(str(path), shared.options(), column_families=options)
            self._families = {name: RocksBackend(name, self._db) for name in names}
        except Exception as error:  # rocksdict raises bare exceptions
            raise StateStoreError(
                f"RocksDB in {path} could not be opened: {error}. If another process uses it, stop that one; "
                f"if it is damaged, delete the directory: the state is restored from the changelogs"
            ) from error

    def family(self, name: str) -> RocksBackend:
        """Return the map of one store."""
        return self._families[_family_name(name)]

    def metadata(self, key: bytes) -> bytes | None:
        """Return an entry of the metadata, or None."""
        value: bytes | None = self._open().get(key)
        return value

    def write(
        self,
        changes: Sequence[Changes],
        metadata: Mapping[bytes, bytes | None],
        unfinished: Mapping[bytes, bytes] | None = None,
    ) -> None:
        """Apply changes in batches of at most `BATCH` entries and about a megabyte; the last one carries the metadata.

        If there are several, the first one carries `unfinished`, and the last one deletes it.

        Raises:
            StateStoreError: If RocksDB cannot write, for example because the disk is full.
        """
        db = self._open()
        marks: Mapping[bytes, bytes] = unfinished or {}
        several = False
        handle: Any = None
        batch: Any = None
        try:
            batch, room = WriteBatch(raw_mode=True), _BATCH_BYTES
            for change in changes:
                handle = self._families[_family_name(change.family)].handle
                for key, value in change.entries:
                    if value is None:
                        batch.delete(key, handle)
                        room -= _ENTRY_BYTES
                    else:
                        batch.put(key, value, handle)
                        room -= _ENTRY_BYTES + len(value)
                    if room < 0:
                        if not several:
                            several = True
                            for mark, what in marks.items():
                                batch.put(mark, what)
                        db.write(batch)
                        batch, room = WriteBatch(raw_mode=True), _BATCH_BYTES
                for low, high in change.dropped:
                    batch.delete_range(low, high, handle)
            if several:
                for mark in marks:
                    batch.delete(mark)
            for key, value in metadata.items():
                if value is None:
                    batch.delete(key)
                else:
                    batch.put(key, value)
            if len(batch):
                db.write(batch)
        except Exception as error:
            del db, batch  # the error would keep the database locked, for whoever wants to open it again
            handle = None
            raise StateStoreError(f"RocksDB in {self._path} could not be written: {error}") from error

    def clear(self, family: str) -> None:
        """Delete all data of one store."""
        with self._lock:
            name, db = _family_name(family), self._open()
            self._families[name].close()
            try:
                db.flush_wal(True)  # what was written before (that there is no position) must outlive a loss of power
                db.drop_column_family(name)
                db.create_column_family(name, self._shared.options())
                self._families[name].reopen(db)
            except Exception as error:
                del db  # as above
                raise StateStoreError(f"store {family!r} in {self._path} could not be emptied: {error}") from error

    def close(self) -> None:
        """Close the database, its views and its iterators, so that the directory can be opened again."""
        with self._lock:
            if self._db is None:
                return
            for backend in self._families.values():
                backend.close()
            db, self._db = self._db, None
            _close(db)

    def _open(self) -> Any:
        if self._db is None:
            raise InvalidStateStoreError(f"the state in {self._path} is closed")
        return self._db


def _close(opened: Any) -> None:
    """Close a database or a view of it.

    On a full disk that raises, but the others have to be closed nevertheless, or the directory stays locked. What could
    not be written is not within any position, so it is restored.
    """
    try:
        if opened is not None:
            opened.close()
    except Exception as error:
        _log.warning("closing RocksDB: %s", error)


def _family_name(store: str) -> str:
    return f"store.{store}"  # a store may have any name, also that of RocksDB's own family


class RocksBackend(Backend):
    """A column family.

    Attributes:
        handle: What batches name the family by.
    """

    def __init__(self, name: str, db: Any) -> None:
        self._name = name
        self._scans: WeakSet[_RocksScan] = WeakSet()
        self._lock = RLock()
        self.reopen(db)

    def reopen(self, db: Any) -> None:
        """Take the family from an open database."""
        self._view: Any = db.get_column_family(self._name)
        self.handle: Any = db.get_column_family_handle(self._name)
        self._get: Callable[[bytes], bytes | None] = self._view.get

    def get(self, key: bytes, /) -> bytes | None:
        """Return the value of a key, or None."""
        return self._get(key)

    def scan(self, lower: bytes | None, upper: bytes | None, *, reverse: bool = False) -> _RocksScan:
        """Iterate over a range; isolated from later writes."""
        with self._lock:
            view = self._view
            if view is None:
                self.fail_closed()
            if upper == b"":  # to RocksDB an empty bound is no bound
                return _RocksScan(self, _NOTHING, _NOTHING.next, None, None)
            options = None
            if upper is not None:
                options = ReadOptions()
                options.set_iterate_upper_bound(upper)
            iterator = view.iter(options)
            if reverse:
                iterator.seek_to_last()
                scan = _RocksScan(self, iterator, iterator.prev, lower, options)
            else:
                if lower is None:
                    iterator.seek_to_first()
                else:
                    iterator.seek(lower)
                scan = _RocksScan(self, iterator, iterator.next, None, options)
            self._scans.add(scan)
            return scan

    def approximate_count(self) -> int:
        """Return RocksDB's estimate."""
        if self._view is None:
            self.fail_closed()
        return int(self._view.property_int_value("rocksdb.estimate-num-keys") or 0)

    def close(self) -> None:
        """Let go of everything that belongs to the database."""
        with self._lock:
            for scan in list(self._scans):
                scan.invalidate()
            self._scans.clear()
            self._get = self.fail_closed  # the bound method would keep the database locked
            self.handle = None
            view, self._view = self._view, None
            _close(view)

    @property
    def store(self) -> str:
        """Name of the store."""
        return self._name.removeprefix("store.")

    def fail_closed(self, *_: object) -> NoReturn:
        """Say that the store is closed."""
        raise InvalidStateStoreError(
            f"store {self.store!r} is closed: its task was closed or has moved to another instance"
        )

    def forget(self, scan: _RocksScan) -> None:
        """Take a scan that ended out of the books."""
        self._scans.discard(scan)


class _Nothing:
    """An iterator that has ended."""

    def valid(self) -> bool:
        return False

    def status(self) -> None:
        return None

    def next(self) -> None:
        return None


_NOTHING = _Nothing()


def _fault(iterator: Any) -> str | None:
    try:
        iterator.status()
    except Exception as error:  # rocksdict raises bare exceptions
        return str(error)
    return None


class _RocksScan:
    """An iterator of RocksDB that can be taken away."""

    __slots__ = ("__weakref__", "_advance", "_backend", "_iterator", "_lower", "_options")

    def __init__(
        self, backend: RocksBackend, iterator: Any, advance: Callable[[], None], lower: bytes | None, options: Any
    ) -> None:
        self._backend = backend
        self._iterator: Any = iterator
        self._advance = advance
        self._lower = lower
        self._options = options  # the iterator reads the bound in there, but does not keep it alive

    def __iter__(self) -> _RocksScan:
        return self

    def __next__(self) -> tuple[bytes, bytes]:
        iterator = self._iterator
        if iterator is None:
            self._backend.fail_closed()
        if not iterator.valid():
            # An iterator ends also where it cannot read on; only its status tells that from the end. Nothing may refer
            # to it when that is raised: the error would keep the database locked.
            self._let_go(_NOTHING)
            fault = _fault(iterator)
            del iterator
            if fault is None:
                raise StopIteration
            raise StateUnreadableError(f"store {self._backend.store!r} cannot be read: {fault}")
        key: bytes = iterator.key()
        if self._lower is not None and key < self._lower:
            self._let_go(_NOTHING)
            raise StopIteration
        entry = (key, iterator.value())
        self._advance()
        return entry

    def _let_go(self, instead: Any) -> None:
        self._iterator = instead
        self._advance = _NOTHING.next  # the bound method would keep the database locked

    def close(self) -> None:
        """Let go of the iterator."""
        self._let_go(_NOTHING)
        self._backend.forget(self)

    def invalidate(self) -> None:
        """Let go of the iterator; reading on is an error."""
        self._let_go(None)
