"""State stores: their interfaces, RocksDB and memory behind them, and the write buffer in front."""

from streamlet.state.builder import StoreBuilder
from streamlet.state.directory import StateDirectory
from streamlet.state.iterator import StoreIterator
from streamlet.state.keyvalue import KeyValueStore, ReadOnlyKeyValueStore, TimestampedKeyValueStore
from streamlet.state.kind import StoreKind
from streamlet.state.memory import StateMemory
from streamlet.state.outer_join import OuterJoinStore, Unmatched
from streamlet.state.own import BytesStore, BytesStoreFactory
from streamlet.state.session import SessionStore
from streamlet.state.stores import Stores
from streamlet.state.task_state import TaskState
from streamlet.state.values import ChangelogRecord, Position, ValueAndTimestamp, record_checksum
from streamlet.state.versioned import NOT_PUT, VALID_TO_UNDEFINED, VersionedKeyValueStore, VersionedRecord
from streamlet.state.window import TimestampedWindowStore, WindowStore

__all__ = [
    "NOT_PUT",
    "VALID_TO_UNDEFINED",
    "BytesStore",
    "BytesStoreFactory",
    "ChangelogRecord",
    "KeyValueStore",
    "OuterJoinStore",
    "Position",
    "ReadOnlyKeyValueStore",
    "SessionStore",
    "StateDirectory",
    "StateMemory",
    "StoreBuilder",
    "StoreIterator",
    "StoreKind",
    "Stores",
    "TaskState",
    "TimestampedKeyValueStore",
    "TimestampedWindowStore",
    "Unmatched",
    "ValueAndTimestamp",
    "VersionedKeyValueStore",
    "VersionedRecord",
    "WindowStore",
    "record_checksum",
]
