"""Entries by key and time, in segments: what window, session and versioned stores have in common.

A key of the database is ``segment (8) ‖ key ‖ time (8) ‖ rest``: the segment lets a span of time be deleted in one go;
within it, the entries of a key lie together, in the order of time. Times are big-endian.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from struct import Struct

from streamlet.state.buffer import WriteBuffer
from streamlet.state.entries import Entries, Entry
from streamlet.state.expiry import SEGMENT_BYTES, Expiry
from streamlet.state.memory import StateMemory
from streamlet.state.time_index import TimeIndex

_TIME = Struct(">Q")
_TIME_BYTES = 8
_BUCKETS_PER_SEGMENT = 2
_INDEXED_BYTES = 160  # what the index takes for an entry, about

Found = Generator[tuple[bytes, Entry], None, None]


class Segmented:
    """Finds entries by key and time.

    Args:
        entries: Where they are.
        segment_ms: Length of a segment (ms).
        rest: Number of bytes behind the time.
    """

    def __init__(self, entries: Entries, segment_ms: int, rest: int) -> None:
        self.entries = entries
        self.segment_ms = segment_ms
        self._behind_key = _TIME_BYTES + rest
        self._rest = rest

    def local(self, key: bytes, time: int, rest: bytes) -> bytes:
        """Return the whole key of an entry."""
        return _TIME.pack(time // self.segment_ms) + key + _TIME.pack(time) + rest

    def key_of(self, local: bytes) -> bytes:
        """Return the store's key within a whole key."""
        return local[SEGMENT_BYTES : -self._behind_key]

    def time_of(self, local: bytes) -> int:
        """Return the time within a whole key (ms)."""
        return int(_TIME.unpack_from(local, len(local) - self._behind_key)[0])

    def of_key(self, key: bytes, first: int, last: int, *, reverse: bool = False) -> Found:
        """Iterate over the entries of a key from time `first` to `last`, both included, in the order of time."""
        length = SEGMENT_BYTES + len(key) + self._behind_key
        first = max(first, 0)
        numbers = range(first // self.segment_ms, last // self.segment_ms + 1) if first <= last else range(0)
        low, high = key + _TIME.pack(first), key + _TIME.pack(max(last + 1, 0))
        scans = [
            self.entries.scan(_TIME.pack(number) + low, _TIME.pack(number) + high, reverse=reverse)
            for number in (reversed(numbers) if reverse else numbers)
        ]
        return _chain(scans, lambda local: len(local) == length)

    def of_range(self, low: bytes | None, high: bytes | None, first: int, last: int, *, reverse: bool = False) -> Found:
        """Iterate over the entries of keys from `low` to `high` and times from `first` to `last`, all included.

        They come segment by segment, and in a segment in the order of the bytes of key and time together.
        """
        first = max(first, 0)
        numbers = range(first // self.segment_ms, last // self.segment_ms + 1) if first <= last else range(0)
        scans = [
            self.entries.scan(_TIME.pack(number) + (low or b""), _TIME.pack(number + 1), reverse=reverse)
            for number in (reversed(numbers) if reverse else numbers)
        ]

        def wanted(local: bytes) -> bool:
            key = self.key_of(local)
            return (
                (low is None or key >= low) and (high is None or key <= high) and first <= self.time_of(local) <= last
            )

        return _chain(scans, wanted)


class IndexedSegments(Segmented):
    """Finds entries by key and time for the task that writes them: recent ones through an index in memory.

    The index begins with the first search, so that stores that are read by exact key only do without.

    Attributes:
        index: The index, once there is one.
        bucket_ms: Length of the spans of time in which it forgets (ms).
    """

    def __init__(self, buffer: WriteBuffer, expiry: Expiry, rest: int, memory: StateMemory) -> None:
        super().__init__(buffer, expiry.segment_ms, rest)
        self._buffer = buffer
        self._expiry = expiry
        self._memory = memory
        self.bucket_ms = expiry.segment_ms // _BUCKETS_PER_SEGMENT
        self.index: TimeIndex | None = None

    def written(self, time: int, key: bytes, local: bytes, *, deleted: bool) -> None:
        """Keep the index up to date."""
        if self.index is not None:
            if deleted:
                self.index.discard(time, key, local)
            else:
                self.index.add(time, key, local)

    def rolled_back(self, dropped: Mapping[bytes, Entry] | None) -> None:
        """Take back into the index what was deleted and is there again; with None, begin anew."""
        if dropped is None:
            self.index = None
        elif self.index is not None:
            for local in dropped:
                self.index.add(self.time_of(local), self.key_of(local), local)

    def find_all(self, key: bytes, first: int, last: int) -> list[tuple[int, bytes, Entry]]:
        """Return time, whole key and entry of a key's entries from time `first` to `last`, both included, in order.

        What is too old to be read is left out.
        """
        expiry = self._expiry
        observed = expiry.observed
        oldest = observed - expiry.retention_ms + 1
        if first < oldest:
            first = oldest
        if last > observed:
            last = observed
        index = self.current(oldest)
        found: list[tuple[int, bytes, Entry]] = []
        if first < index.floor:
            scanned = super().of_key(key, first, min(last, index.floor - 1))
            found.extend([(self.time_of(local), local, entry) for local, entry in scanned])
            first = index.floor
        if first > last:
            return found
        buffer = self._buffer
        dirty, recent = buffer.dirty, buffer.recent
        for time, local in index.between(key, first, last):
            entry = dirty.get(local) or recent.get(local) or buffer.load(local)
            if entry is not None and entry[0] is not None:
                found.append((time, local, entry))
        return found

    def of_key(self, key: bytes, first: int, last: int, *, reverse: bool = False) -> Found:
        """Iterate over the entries of a key from time `first` to `last`, both included, in the order of time."""
        index = self.current(self._expiry.oldest)
        scanned: Found | None = None
        indexed: list[tuple[int, bytes]] = []
        if first < index.floor:
            scanned = super().of_key(key, first, min(last, index.floor - 1), reverse=reverse)
            first = index.floor
        if first <= last:
            indexed = index.between(key, first, last)
        if reverse:
            indexed.reverse()
        return self._both(scanned, indexed, reverse=reverse)

    def current(self, oldest: int) -> TimeIndex:
        """Return the index, without what it has of times that are too old to be read; it begins with the first call."""
        index = self.index
        if index is None:
            limit = max(1_000, self._memory.entries_bytes // _INDEXED_BYTES)
            index = self.index = TimeIndex(self.bucket_ms, self._expiry.observed + 1, limit)
        if oldest - index.floor > self.bucket_ms:
            index.drop_before(oldest)
        return index

    def _both(self, scanned: Found | None, indexed: list[tuple[int, bytes]], *, reverse: bool) -> Found:
        if scanned is not None and not reverse:
            yield from scanned
        for _, local in indexed:
            entry = self._buffer.find(local)
            if entry is not None and entry[0] is not None:
                yield local, entry
        if scanned is not None and reverse:
            yield from scanned


def _chain(scans: list[Found], wanted: Callable[[bytes], bool]) -> Found:
    try:
        for scan in scans:
            for item in scan:
                if wanted(item[0]):
                    yield item
    finally:
        for scan in scans:
            scan.close()
