"""What the write buffer stands on: ordered maps of bytes, and a database that writes to several of them at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from attrs import field, frozen


class Scan(Protocol):
    """An iterator over entries in the order of their keys, which shows the data as of its creation."""

    def __iter__(self) -> Scan: ...

    def __next__(self) -> tuple[bytes, bytes]: ...

    def close(self) -> None:
        """Let go of what the iterator holds; allowed more than once."""


class Backend(ABC):
    """An ordered map of bytes to bytes with the committed data of one store; may be read from any thread."""

    @abstractmethod
    def get(self, key: bytes, /) -> bytes | None:
        """Return the value of a key, or None."""

    @abstractmethod
    def scan(self, lower: bytes | None, upper: bytes | None, *, reverse: bool = False) -> Scan:
        """Iterate over the keys from `lower` (included) to `upper` (not included); None leaves a side open."""

    @abstractmethod
    def approximate_count(self) -> int:
        """Return about how many entries there are."""


@frozen
class Changes:
    """What a commit does to one store.

    Attributes:
        family: Name of the store.
        entries: Keys and their new values; None deletes. Each key occurs once, unless the sequence is to be applied in
            order.
        dropped: Ranges (from, included; to, not included) to be deleted *after* the entries were written.
    """

    family: str
    entries: Iterable[tuple[bytes, bytes | None]]
    dropped: Sequence[tuple[bytes, bytes]] = field(default=())


class Database(ABC):
    """The data of one task: an ordered map per store, and a small map of metadata."""

    @abstractmethod
    def family(self, name: str) -> Backend:
        """Return the map of one store; it must have been named when the database was opened."""

    @abstractmethod
    def metadata(self, key: bytes) -> bytes | None:
        """Return an entry of the metadata, or None."""

    @abstractmethod
    def write(
        self,
        changes: Sequence[Changes],
        metadata: Mapping[bytes, bytes | None],
        unfinished: Mapping[bytes, bytes] | None = None,
    ) -> None:
        """Apply changes, in batches if they are many; the metadata goes with the last one (None deletes).

        Each batch is atomic. If there are several, the first one also writes `unfinished`, which is metadata too, and
        the last one deletes it: after a crash in between, an initial part of the changes is there and `unfinished`
        says so.
        """

    @abstractmethod
    def clear(self, family: str) -> None:
        """Delete all data of one store."""

    @abstractmethod
    def close(self) -> None:
        """Close the database and everything that still reads from it; allowed more than once."""


def prefix_end(prefix: bytes) -> bytes | None:
    """Return the first key behind all keys that begin with `prefix`; None if there is no such key."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes((stripped[-1] + 1,)) if stripped else None
