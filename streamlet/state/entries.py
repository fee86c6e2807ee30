"""Entries: what reads of a store go to, whether through the write buffer or past it."""

from __future__ import annotations

from collections.abc import Generator
from struct import Struct
from typing import Any, Protocol, TypeAlias

from streamlet.state.backend import Backend

Entry: TypeAlias = "tuple[Any, int]"
"""A value, as an object or as bytes, and its timestamp (ms). A value of None says that the key was deleted."""

NO_TIMESTAMP = -1
_TIMESTAMP = Struct(">q")


class Entries(Protocol):
    """The entries of a store, by the bytes of their keys."""

    def find(self, key: bytes) -> Entry | None:
        """Return the entry of a key; None if there is none. An entry with the value None was deleted."""

    def scan(
        self, lower: bytes | None, upper: bytes | None, *, reverse: bool = False
    ) -> Generator[tuple[bytes, Entry], None, None]:
        """Iterate over entries from `lower` (included) to `upper` (not included), in the order of their keys."""

    def approximate_count(self) -> int:
        """Return about how many entries there are."""


class CommittedEntries:
    """The committed entries of a store, with values as bytes; may be used from any thread."""

    def __init__(self, backend: Backend, *, timestamped: bool) -> None:
        self._backend = backend
        self._timestamped = timestamped

    def find(self, key: bytes) -> Entry | None:
        """Return the entry of a key, or None."""
        stored = self._backend.get(key)
        return None if stored is None else self._entry(stored)

    def scan(
        self, lower: bytes | None, upper: bytes | None, *, reverse: bool = False
    ) -> Generator[tuple[bytes, Entry], None, None]:
        """Iterate over a range, as it is now."""
        return self._entries(self._backend.scan(lower, upper, reverse=reverse))

    def _entries(self, stored: Any) -> Generator[tuple[bytes, Entry], None, None]:
        try:
            for key, value in stored:
                yield key, self._entry(value)
        finally:
            stored.close()

    def _entry(self, stored: bytes) -> Entry:
        if self._timestamped:
            return stored[8:], _TIMESTAMP.unpack_from(stored)[0]
        return stored, NO_TIMESTAMP

    def approximate_count(self) -> int:
        """Return about how many entries there are."""
        return self._backend.approximate_count()
