"""How much the record caches of a thread may hold."""

from __future__ import annotations


class CacheBudget:
    """The bytes that the record caches of one thread share. Used from that thread only.

    Args:
        limit: The most they should hold (a thread's share of ``statestore.cache.max.bytes``).

    Attributes:
        limit: See above.
        used: What they hold, as they reckon it.
    """

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    @classmethod
    def of(cls, max_bytes: int, threads: int = 1) -> CacheBudget | None:
        """Return the budget of one of so many threads; None if there are no caches."""
        return cls(max(1, max_bytes // threads)) if max_bytes else None
