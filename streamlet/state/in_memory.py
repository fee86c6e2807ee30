"""Stores in memory: a dictionary, with its keys sorted once somebody asks for their order."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from threading import RLock
from weakref import WeakSet

from streamlet.errors import InvalidStateStoreError
from streamlet.state.backend import Backend, Changes, Database

_CHUNK = 64
_FEW = 64  # up to so many new keys are inserted one by one; sorting again costs a comparison for every key


class MemoryDatabase(Database):
    """The data of a task that is not to outlive the process."""

    def __init__(self, families: Iterable[str]) -> None:
        self._families = {name: MemoryBackend(name) for name in families}
        self._metadata: dict[bytes, bytes] = {}

    def family(self, name: str) -> MemoryBackend:
        """Return the map of one store."""
        return self._families[name]

    def metadata(self, key: bytes) -> bytes | None:
        """Return an entry of the metadata, or None."""
        return self._metadata.get(key)

    def write(
        self,
        changes: Sequence[Changes],
        metadata: Mapping[bytes, bytes | None],
        unfinished: Mapping[bytes, bytes] | None = None,
    ) -> None:
        """Apply changes and metadata; as nothing of it outlives the process, there is no half of it either."""
        for change in changes:
            self._families[change.family].apply(change)
        for key, value in metadata.items():
            if value is None:
                self._metadata.pop(key, None)
            else:
                self._metadata[key] = value

    def clear(self, family: str) -> None:
        """Delete all data of one store."""
        self._families[family].clear()

    def close(self) -> None:
        """Let go of the data; reads fail from now on."""
        for backend in self._families.values():
            backend.close()


class MemoryBackend(Backend):
    """The data of one store."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._data: dict[bytes, bytes] | None = {}
        self._sorted: list[bytes] | None = None  # None until the first scan: most stores are never scanned
        self._scans: WeakSet[_MemoryScan] = WeakSet()
        self._lock = RLock()

    def _open(self) -> dict[bytes, bytes]:
        if self._data is None:
            raise InvalidStateStoreError(f"store {self._name!r} is closed")
        return self._data

    def get(self, key: bytes, /) -> bytes | None:
        """Return the value of a key, or None."""
        return self._open().get(key)

    def scan(self, lower: bytes | None, upper: bytes | None, *, reverse: bool = False) -> _MemoryScan:
        """Iterate over a range."""
        with self._lock:
            data = self._open()
            keys = self._sorted_keys()
            low = 0 if lower is None else bisect_left(keys, lower)
            high = len(keys) if upper is None else bisect_left(keys, upper)
            scan = _MemoryScan(self._lock, data, keys, low, max(low, high), reverse)
            self._scans.add(scan)
            return scan

    def approximate_count(self) -> int:
        """Return how many entries there are."""
        return len(self._open())

    def apply(self, change: Changes) -> None:
        """Take in the changes of a commit."""
        with self._lock:
            data = self._open()
            self._release_scans()
            added: list[bytes] = []
            removed: list[bytes] = []
            for key, value in change.entries:
                if value is None:
                    if data.pop(key, None) is not None:
                        removed.append(key)
                else:
                    if key not in data:
                        added.append(key)
                    data[key] = value
            self._reorder(added, removed)
            for low, high in change.dropped:
                keys = self._sorted_keys()
                first, last = bisect_left(keys, low), bisect_left(keys, high)
                for key in keys[first:last]:
                    del data[key]
                del keys[first:last]

    def _reorder(self, added: list[bytes], removed: list[bytes]) -> None:
        if self._sorted is None or not (added or removed):
            return
        if len(removed) > _FEW or (added and removed and not set(added).isdisjoint(removed)):
            self._sorted = sorted(self._open())
            return
        for key in removed:
            del self._sorted[bisect_left(self._sorted, key)]
        merge_keys(self._sorted, added)

    def clear(self) -> None:
        """Delete everything."""
        with self._lock:
            self._open()
            self._release_scans()
            self._data, self._sorted = {}, None

    def close(self) -> None:
        """Let go of the data."""
        with self._lock:
            for scan in list(self._scans):
                scan.close()
            self._data, self._sorted = None, None

    def _sorted_keys(self) -> list[bytes]:
        if self._sorted is None:
            self._sorted = sorted(self._open())
        return self._sorted

    def _release_scans(self) -> None:
        """Give every open scan its own copy of what it has yet to show, as the data is about to change."""
        for scan in list(self._scans):
            scan.fetch_all()
        self._scans.clear()


class _MemoryScan:
    """A scan that reads in small pieces, and in one go before the data changes."""

    def __init__(
        self,
        lock: AbstractContextManager[object],
        data: Mapping[bytes, bytes],
        keys: list[bytes],
        low: int,
        high: int,
        reverse: bool,
    ) -> None:
        self._lock = lock
        self._data = data
        self._keys = keys
        self._low, self._high = low, high
        self._reverse = reverse
        self._fetched: deque[tuple[bytes, bytes]] = deque()

    def __iter__(self) -> _MemoryScan:
        return self

    def __next__(self) -> tuple[bytes, bytes]:
        if not self._fetched:
            with self._lock:
                self._fetch(_CHUNK)
            if not self._fetched:
                raise StopIteration
        return self._fetched.popleft()

    def _fetch(self, limit: int) -> None:
        if self._reverse:
            first = max(self._low, self._high - limit)
            keys = self._keys[first : self._high]
            keys.reverse()
            self._high = first
        else:
            last = min(self._high, self._low + limit)
            keys = self._keys[self._low : last]
            self._low = last
        data = self._data
        self._fetched.extend([(key, data[key]) for key in keys])

    def fetch_all(self) -> None:
        self._fetch(self._high - self._low)

    def close(self) -> None:
        with self._lock:
            self._fetched.clear()
            self._low = self._high = 0


def merge_keys(keys: list[bytes], new: list[bytes]) -> None:
    """Put new keys into a sorted list; none of them may be in it."""
    if len(new) <= _FEW:
        for key in new:
            insort(keys, key)
    else:
        keys.extend(new)
        keys.sort()
