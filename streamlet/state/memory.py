"""The memory that all stores of the process share."""

from __future__ import annotations


class StateMemory:
    """One budget for the block cache and write buffers of every RocksDB in the process, and for the entries kept as objects.

    Args:
        max_bytes: Bytes for all of it (``state.memory.max.bytes``).
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
