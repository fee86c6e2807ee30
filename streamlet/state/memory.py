"""The memory that all stores of the process share."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamlet.state.rocksdb import SharedCache


class StateMemory:
    """One budget for everything that stores keep in memory, over the whole process.

    Three quarters of it are RocksDB's block cache, to which write buffers are charged (a quarter of the budget at
    most); one quarter holds entries that were read or written lately, as objects. Changes that are not yet committed
    are bounded separately (``state.buffer.max.bytes``), and the contents of in-memory stores not at all.

    Args:
        max_bytes: The budget (``state.memory.max.bytes``).
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._stores = 0
        self._rocksdb: SharedCache | None = None
        self._lock = Lock()

    @property
    def rocksdb(self) -> SharedCache:
        """Block cache and write-buffer manager; made when the first RocksDB is opened."""
        from streamlet.state.rocksdb import SharedCache  # an application without RocksDB does not load it

        with self._lock:
            if self._rocksdb is None:
                self._rocksdb = SharedCache(cache_bytes=self.max_bytes * 3 // 4, write_buffer_bytes=self.max_bytes // 4)
            return self._rocksdb

    def store_opened(self) -> None:
        """Count a store among those that share the budget for entries."""
        with self._lock:
            self._stores += 1

    def store_closed(self) -> None:
        """Take a store out of the count."""
        with self._lock:
            self._stores -= 1

    @property
    def entries_bytes(self) -> int:
        """Bytes that each open store may use for entries that are not changed."""
        return self.max_bytes // 4 // max(1, self._stores)
