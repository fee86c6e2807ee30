"""Which entries a key has in a span of time, in memory: so that joins and sessions look keys up instead of scanning."""

from __future__ import annotations

from bisect import bisect_left


class TimeIndex:
    """The keys of a segmented store from `floor` on, in buckets of time; everything older has to be scanned for.

    It may name entries that are gone, and never misses one that is there.

    Args:
        bucket_ms: Length of a bucket (ms).
        floor: First time that is covered (ms).
        limit: Number of entries beyond which the oldest buckets are dropped, and the floor rises.
    """

    def __init__(self, bucket_ms: int, floor: int, limit: int) -> None:
        self.bucket_ms = bucket_ms
        self.floor = floor
        self._limit = limit
        self._count = 0
        self._buckets: dict[int, dict[bytes, list[tuple[int, bytes]]]] = {}

    def add(self, time: int, key: bytes, local: bytes) -> None:
        """Take in an entry: its time, the store's key, and the whole key under which it is found."""
        if time < self.floor:
            return
        number = time // self.bucket_ms
        bucket = self._buckets.get(number)
        if bucket is None:
            bucket = self._buckets[number] = {}
        entries = bucket.get(key)
        entry = (time, local)
        if entries is None:
            bucket[key] = [entry]
        elif entry > entries[-1]:
            entries.append(entry)
        else:
            place = bisect_left(entries, entry)
            if entries[place] == entry:
                return
            entries.insert(place, entry)
        self._count += 1
        if self._count > self._limit:
            self._drop(min(self._buckets))

    def discard(self, time: int, key: bytes, local: bytes) -> None:
        """Take an entry out, if it is there."""
        bucket = self._buckets.get(time // self.bucket_ms, {})
        entries = bucket.get(key)
        if entries:
            entry = (time, local)
            place = bisect_left(entries, entry)
            if place < len(entries) and entries[place] == entry:
                del entries[place]
                self._count -= 1
                if not entries:
                    del bucket[key]

    def between(self, key: bytes, first: int, last: int) -> list[tuple[int, bytes]]:
        """Return time and whole key of a key's entries from time `first` to `last`, both included, in order."""
        buckets = self._buckets
        low, high = first // self.bucket_ms, last // self.bucket_ms
        found: list[tuple[int, bytes]] = []
        if low == high:  # mostly; and mostly up to the last one that there is
            bucket = buckets.get(low)
            entries = None if bucket is None else bucket.get(key)
            if entries and entries[-1][0] >= first:
                start = bisect_left(entries, (first,))
                found = (
                    entries[start:] if entries[-1][0] <= last else entries[start : bisect_left(entries, (last + 1,))]
                )
            return found
        for number in range(low, high + 1) if high - low <= len(buckets) else self._between(low, high):
            bucket = buckets.get(number)
            entries = None if bucket is None else bucket.get(key)
            if not entries:
                continue
            # A tuple of one is less than any longer one that begins like it.
            start = bisect_left(entries, (first,)) if number == low else 0
            end = bisect_left(entries, (last + 1,)) if number == high else len(entries)
            found += entries[start:end]
        return found

    def _between(self, low: int, high: int) -> list[int]:
        return sorted(number for number in self._buckets if low <= number <= high)

    def drop_before(self, time: int) -> None:
        """Forget buckets that end before a time."""
        for number in [number for number in self._buckets if (number + 1) * self.bucket_ms <= time]:
            self._drop(number)
        self.floor = max(self.floor, time)

    def _drop(self, number: int) -> None:
        self._count -= sum(map(len, self._buckets.pop(number).values()))
        self.floor = max(self.floor, (number + 1) * self.bucket_ms)
