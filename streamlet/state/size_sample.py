"""How large the entries of a growing dictionary are, from a few of them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any, Generic, TypeVar

E = TypeVar("E")

_KEPT = 128
_KEPT_AT_LEAST = 16
_MEASURED = 16  # of so many new entries one is measured, where there are more than a few
_PER_CALL = 16


class SizeSample(Generic[E]):
    """Every n-th key in the order of insertion, n doubling as the dictionary grows, and the sizes of their entries.

    Taking every n-th key, and not every n-th *write*, keeps a few small entries that are written all the time from
    hiding many large ones. Sizes taken earlier are taken again in turn, since entries grow. Writing costs nothing.

    Args:
        size_of: Returns the size of an entry, in bytes.
    """

    def __init__(self, size_of: Callable[[E], int]) -> None:
        self._size_of = size_of
        self._stride = 1
        self._seen = 0
        self._sizes: dict[Any, int] = {}
        self._turn: list[Any] = []

    def mean(self, entries: dict[Any, E]) -> float:
        """Return the mean size of the entries of a dictionary from which nothing is ever removed."""
        count = len(entries)
        if not count:
            return 0.0
        grown = count - self._seen
        if grown:
            kept = min(_KEPT, _KEPT_AT_LEAST + count // _MEASURED)
            while grown // self._stride + len(self._sizes) > kept:
                self._stride *= 2
                self._sizes = dict(islice(self._sizes.items(), 0, None, 2))
            new = list(islice(reversed(entries), grown))
            new.reverse()
            for key in new[-self._seen % self._stride :: self._stride]:
                self._sizes[key] = self._size_of(entries[key])
            self._seen = count
        for _ in range(max(1, min(grown // _MEASURED, _PER_CALL))):
            if not self._turn:
                self._turn = list(self._sizes)
            key = self._turn.pop()
            if key in self._sizes:
                self._sizes[key] = self._size_of(entries[key])
        return sum(self._sizes.values()) / len(self._sizes)
