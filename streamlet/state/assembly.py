"""How a store is put together over its data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen

from streamlet.errors import InvalidStateStoreError
from streamlet.serdes import Serde
from streamlet.state.backend import Backend
from streamlet.state.buffer import WriteBuffer
from streamlet.state.codec import KeyCodec, ValueCodec
from streamlet.state.entries import CommittedEntries
from streamlet.state.expiry import Expiry, segment_interval
from streamlet.state.keyvalue import KeyValueReads, KeyValueStore, TimestampedKeyValueStore
from streamlet.state.kind import StoreKind
from streamlet.state.memory import StateMemory
from streamlet.state.outer_join import OuterJoinStore
from streamlet.state.segmented import IndexedSegments, Segmented
from streamlet.state.session import START_BYTES, SessionReads, SessionStore
from streamlet.state.versioned import VersionedKeyValueStore, VersionedReads, version_serde
from streamlet.state.window import SEQUENCE_BYTES, TimestampedWindowStore, WindowReads, WindowStore

_REST_BYTES = {
    StoreKind.WINDOW: SEQUENCE_BYTES,
    StoreKind.TIMESTAMPED_WINDOW: SEQUENCE_BYTES,
    StoreKind.SESSION: START_BYTES,
    StoreKind.VERSIONED_KEY_VALUE: 0,
}
"""What kinds in segments have behind the time in their keys."""


@frozen(kw_only=True)
class Assembly:
    """Makes the parts of one store; see `StoreBuilder` for the attributes."""

    name: str
    kind: StoreKind
    key_serde: Serde[Any]
    value_serde: Serde[Any]
    immutable: bool
    retention_ms: int | None
    window_size_ms: int
    retain_duplicates: bool

    @property
    def _entry_timestamped(self) -> bool:
        # The start of a version is its timestamp.
        return self.kind.timestamped or self.kind is StoreKind.VERSIONED_KEY_VALUE

    @property
    def _entry_serde(self) -> Serde[Any]:
        return version_serde(self.value_serde) if self.kind is StoreKind.VERSIONED_KEY_VALUE else self.value_serde

    def buffer(self, backend: Backend, memory: StateMemory) -> WriteBuffer:
        """Return a write buffer over the committed data."""
        return WriteBuffer(
            self.name,
            backend,
            self._entry_serde,
            timestamped=self._entry_timestamped,
            immutable=self.immutable,
            memory=memory,
            expiry=None if self.retention_ms is None else Expiry(self.retention_ms),
        )

    def store(self, buffer: WriteBuffer, memory: StateMemory, timestamp: Callable[[], int]) -> Any:
        """Return the store over its buffer."""
        keys: KeyCodec[Any] = KeyCodec(self.name, self.key_serde)
        values = self._values(objects=buffer.objects)
        expiry = buffer.expiry
        if expiry is None:
            if self.kind is StoreKind.OUTER_JOIN:
                return OuterJoinStore(keys, values, buffer, timestamp)
            plain = TimestampedKeyValueStore if self.kind.timestamped else KeyValueStore
            return plain(keys, values, buffer, timestamp)
        segments = IndexedSegments(buffer, expiry, _REST_BYTES[self.kind], memory)
        if self.kind is StoreKind.SESSION:
            return SessionStore(keys, values, buffer, segments, timestamp, expiry=expiry)
        if self.kind is StoreKind.VERSIONED_KEY_VALUE:
            return VersionedKeyValueStore(keys, values, buffer, segments, expiry=expiry, value_serde=self.value_serde)
        window = TimestampedWindowStore if self.kind.timestamped else WindowStore
        return window(
            keys,
            values,
            buffer,
            segments,
            timestamp,
            expiry=expiry,
            size_ms=self.window_size_ms,
            retain_duplicates=self.retain_duplicates,
        )

    def view(self, backend: Backend, observed: Callable[[], int]) -> Any:
        """Return a view of the committed data for any thread; see `StoreBuilder.view`."""
        if self.kind is StoreKind.OUTER_JOIN:
            raise InvalidStateStoreError(
                f"store {self.name!r} holds what a join has not matched yet, and cannot be queried"
            )
        keys: KeyCodec[Any] = KeyCodec(self.name, self.key_serde)
        values = self._values(objects=False)
        entries = CommittedEntries(backend, timestamped=self._entry_timestamped)
        retention = self.retention_ms
        if retention is None:
            return KeyValueReads[Any, Any](keys, values, entries)
        segments = Segmented(entries, segment_interval(retention), _REST_BYTES[self.kind])
        if self.kind is StoreKind.VERSIONED_KEY_VALUE:
            return VersionedReads[Any, Any](keys, values, entries, segments, retention, observed)

        def span() -> tuple[int, int]:
            latest = observed()
            return max(0, latest - retention + 1), latest

        if self.kind is StoreKind.SESSION:
            return SessionReads[Any, Any](keys, values, segments, span)
        return WindowReads[Any, Any](keys, values, segments, self.window_size_ms, span)

    def _values(self, *, objects: bool) -> ValueCodec:
        return ValueCodec(self.name, self._entry_serde, objects=objects, timestamped=self.kind.timestamped)
