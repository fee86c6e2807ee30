"""State stores: their interfaces, RocksDB and memory behind them, and the write buffer in front."""

from streamlet.state.builder import StoreBuilder, StoreKind, Stores
from streamlet.state.directory import StateDirectory
from streamlet.state.keyvalue import KeyValueStore, ReadOnlyKeyValueStore, TimestampedKeyValueStore
from streamlet.state.memory import StateMemory
from streamlet.state.task_state import TaskState
from streamlet.state.values import ChangelogRecord, Position, ValueAndTimestamp

__all__ = [
    "ChangelogRecord",
    "KeyValueStore",
    "Position",
    "ReadOnlyKeyValueStore",
    "StateDirectory",
    "StateMemory",
    "StoreBuilder",
    "StoreKind",
    "Stores",
    "TaskState",
    "TimestampedKeyValueStore",
    "ValueAndTimestamp",
]
