"""Versioned key-value stores (KIP-889): what a key's value was at a time.

The changelog holds every put, ``key`` with the version's timestamp as that of the record, so it is replayed through the
store. In the database, the latest version lies under the key, behind a segment that never ends, and each earlier one by
the time at which it ended. A version without a value says that the key was deleted then. The latest version of a key
that was deleted last is not written: it began when the last of the earlier ones ended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from streamlet.errors import StateStoreError
from streamlet.serdes import FunctionSerde, Serde
from streamlet.state.buffer import WriteBuffer
from streamlet.state.codec import KeyCodec, ValueCodec
from streamlet.state.entries import Entries, Entry
from streamlet.state.expiry import SEGMENT_BYTES, Expiry
from streamlet.state.segmented import IndexedSegments, Segmented
from streamlet.state.values import ChangelogRecord
from streamlet.state.views import ReadOnly

K = TypeVar("K")
V = TypeVar("V")

VALID_TO_UNDEFINED = -1
"""Returned by `put` for a version that is the latest one."""
NOT_PUT = -(2**63)
"""Returned by `put` for a version that is older than the history retention, and was not written."""

_LATEST = b"\xff" * SEGMENT_BYTES


class VersionedRecord(NamedTuple, Generic[V]):
    """A version of a value.

    Attributes:
        value: The value.
        timestamp: The time from which it was valid (ms).
        valid_to: The time from which it was no longer valid (ms), None for the latest version.
    """

    value: V
    timestamp: int
    valid_to: int | None


class _Deleted:
    """The value of a version that says that the key was deleted."""

    def __repr__(self) -> str:
        return "deleted"


DELETED = _Deleted()


def version_serde(serde: Serde[Any]) -> Serde[Any]:
    """Return a serde of versions: no byte if the key was deleted, else a byte and the value."""

    def encode(value: Any) -> bytes:
        return b"" if value is DELETED else b"\x01" + serde.serialize(value)

    def decode(data: bytes) -> Any:
        return serde.deserialize(data[1:]) if data else DELETED

    return FunctionSerde(f"versions of {serde!r}", encode, decode, immutable=serde.immutable)


class VersionedReads(ReadOnly, Generic[K, V]):
    """Reads of a versioned store; by itself, a view of its committed state.

    Args:
        keys: Codec of the keys.
        values: Codec of the versions.
        entries: All entries.
        segments: Those of the earlier versions, by the time at which they ended.
        retention_ms: How far back it can be asked for (ms).
        observed: Returns the highest timestamp that was put (ms).
    """

    def __init__(
        self,
        keys: KeyCodec[K],
        values: ValueCodec,
        entries: Entries,
        segments: Segmented,
        retention_ms: int,
        observed: Callable[[], int],
    ) -> None:
        self._keys = keys
        self._values = values
        self._entries = entries
        self._segments = segments
        self._retention_ms = retention_ms
        self._observed = observed

    def get(self, key: K, as_of: int | None = None, /) -> VersionedRecord[V] | None:
        """Return the version of a key that was valid at a time (ms), by default the latest; None if there was no value.

        The latest version is found whatever its age, an earlier one only if the time is within the history retention.
        """
        data = self._keys.encode(key)
        latest = self._latest(data)
        if latest is not None and (as_of is None or latest[1] <= as_of):
            return self._record(latest, None)
        if as_of is None or as_of < self._observed() - self._retention_ms:
            return None
        after = self._first_after(data, as_of)
        if after is None or after[1][1] > as_of:
            return None
        return self._record(after[1], after[0])

    def _latest(self, key: bytes) -> Entry | None:
        entry = self._entries.find(_LATEST + key)
        return None if entry is None or entry[0] is None else entry

    def _first_after(self, key: bytes, time: int) -> tuple[int, Entry] | None:
        """Return the earlier version that ended first after a time, with its end."""
        found = self._segments.of_key(key, time + 1, self._observed())
        try:
            for local, entry in found:
                return self._segments.time_of(local), entry
        finally:
            found.close()
        return None

    def _record(self, entry: Entry, valid_to: int | None) -> VersionedRecord[V] | None:
        value = self._values.to_user(entry[0])
        return None if value is DELETED else VersionedRecord(value, entry[1], valid_to)


class VersionedKeyValueStore(VersionedReads[K, V]):
    """Keeps the versions of each key for a time.

    Attributes:
        name: Name of the store.
        expiry: Its history retention, and how far its time has come.
        fast_get: Returns value and timestamp of a key's latest version, as other stores of tables do.
        fast_put: Does what `put` does.
    """

    def __init__(
        self,
        keys: KeyCodec[K],
        values: ValueCodec,
        buffer: WriteBuffer,
        segments: IndexedSegments,
        *,
        expiry: Expiry,
        value_serde: Serde[V],
    ) -> None:
        super().__init__(keys, values, buffer, segments, expiry.retention_ms, lambda: expiry.observed)
        self.name = keys.store
        self.expiry = expiry
        self.fast_put: Callable[[K, V | None, int], int] = self.put
        self._buffer = buffer
        self._indexed = segments
        self._value_serde = value_serde
        buffer.events = {}
        buffer.replay = self._replay
        buffer.on_rollback = segments.rolled_back

    def fast_get(self, key: K, /) -> tuple[V, int] | None:
        """See the class."""
        version = self.get(key)
        return None if version is None else (version.value, version.timestamp)

    def put(self, key: K, value: V | None, timestamp: int, /) -> int:
        """Add a version that is valid from `timestamp` (ms) until the next one; None says that the key was deleted
        then.

        A version at a timestamp that has one already replaces it.

        Returns:
            The time at which the version ends, `VALID_TO_UNDEFINED` if it is the latest one, `NOT_PUT` if it is older
            than the history retention, seen from the highest timestamp that was put.
        """
        data = self._keys.encode(key)
        if type(timestamp) is not int or timestamp < 0:
            raise StateStoreError(f"store {self.name!r}: the timestamp of key {data!r} must be an int from 0 on")
        version = self._values.to_entry(data, DELETED if value is None else value)
        valid_to = self._insert(data, version, timestamp)
        if valid_to != NOT_PUT:
            assert self._buffer.events is not None
            self._buffer.events[data, timestamp] = version
        return valid_to

    def delete(self, key: K, timestamp: int, /) -> VersionedRecord[V] | None:
        """Say that a key was deleted at a time (ms); return the version that was valid then, as it was before."""
        before = self.get(key, timestamp)
        self.put(key, None, timestamp)
        return before

    def _insert(self, key: bytes, version: Any, timestamp: int) -> int:
        expiry = self.expiry
        if timestamp < expiry.observed - expiry.retention_ms:
            return NOT_PUT
        expiry.observed = max(expiry.observed, timestamp)
        latest = self._latest(key)
        if latest is not None:
            if timestamp >= latest[1]:
                self._end_latest(key, latest, timestamp)
                self._begin_latest(key, version, timestamp)
                return VALID_TO_UNDEFINED
        else:
            deleted_at = self._last_end(key)
            if deleted_at is None or timestamp >= deleted_at:
                if self._is_deleted(version) and deleted_at is not None and timestamp > deleted_at:
                    # The deletion that lasted until now becomes an earlier version, so that this one's time is known.
                    self._write_earlier(key, timestamp, (self._deleted(key), deleted_at))
                self._begin_latest(key, version, timestamp)
                return VALID_TO_UNDEFINED
        return self._insert_earlier(key, version, timestamp, latest)

    def _insert_earlier(self, key: bytes, version: Any, timestamp: int, latest: Entry | None) -> int:
        after = self._first_after(key, timestamp)
        if after is None:  # behind all earlier versions, where there is none
            assert latest is not None
            valid_to = latest[1]
        else:
            end, entry = after
            if entry[1] > timestamp:
                valid_to = entry[1]
            else:
                valid_to = end
                if entry[1] < timestamp:
                    self._write_earlier(key, timestamp, entry)
        self._write_earlier(key, valid_to, (version, timestamp))
        return valid_to

    def _end_latest(self, key: bytes, latest: Entry, timestamp: int) -> None:
        if latest[1] < timestamp:
            self._write_earlier(key, timestamp, latest)

    def _begin_latest(self, key: bytes, version: Any, timestamp: int) -> None:
        if not self._is_deleted(version):
            self._buffer.put(_LATEST + key, version, timestamp)
            return
        if self._latest(key) is not None:
            self._buffer.put(_LATEST + key, None, timestamp)
        if self._last_end(key) != timestamp:  # nothing ended now that would tell the time of the deletion
            self._write_earlier(key, timestamp, (version, timestamp))

    def _write_earlier(self, key: bytes, end: int, entry: Entry) -> None:
        local = self._segments.local(key, end, b"")
        self._buffer.put(local, entry[0], entry[1])
        self._indexed.written(end, key, local, deleted=False)

    def _last_end(self, key: bytes) -> int | None:
        found = self._segments.of_key(key, self.expiry.oldest, self.expiry.observed, reverse=True)
        try:
            for local, _ in found:
                return self._segments.time_of(local)
        finally:
            found.close()
        return None

    def _is_deleted(self, version: Any) -> bool:
        return version is DELETED or (not self._buffer.objects and version == b"")

    def _deleted(self, key: bytes) -> Any:
        return self._values.to_entry(key, DELETED)

    def _replay(self, records: Sequence[ChangelogRecord]) -> None:
        objects, decode = self._buffer.objects, self._value_serde.deserialize
        for key, value, timestamp in records:
            if value is None:
                version: Any = self._deleted(key)
            else:
                version = decode(value) if objects else b"\x01" + value
            self._insert(key, version, timestamp)
