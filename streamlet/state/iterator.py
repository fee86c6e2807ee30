"""Iterators over stores."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")
S = TypeVar("S")

_nothing: Iterator[Any] = iter(())


class StoreIterator(Iterator[T]):
    """Iterates over a store; close it when done early, best with ``with``. The store may be written meanwhile.

    It shows the keys that were there when it was made; a value that is changed meanwhile by the same task is shown as
    it is when it is reached, and a key that is deleted before it is reached is not shown.
    """

    __slots__ = ("_close", "_next")

    def __init__(self, source: Generator[S, None, None], show: Callable[[S], T]) -> None:
        self._next = map(show, source).__next__
        self._close = source.close

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        return self._next()

    def close(self) -> None:
        """Let go of the data; allowed more than once. Reading on finds nothing."""
        self._close()
        self._next = _nothing.__next__

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, type_: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
