"""Disks of simulated machines: what was written survives a crash, and a crash may cut a write in two.

Every write counts as one of several batches there, of any size: after a cut an initial part of it is on the disk, with
the mark that the first of several batches carries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from streamlet.state.backend import Changes, Database
from streamlet.state.in_memory import MemoryBackend, MemoryDatabase


class Disks:
    """What is on all disks of a simulation."""

    def __init__(self) -> None:
        self._files: dict[tuple[Path, str], dict[bytes, bytes]] = {}
        self._metadata: dict[Path, dict[bytes, bytes]] = {}

    def open(
        self, path: Path, families: Sequence[str], cut: Callable[[int], int | None], die: Callable[[], None]
    ) -> Database:
        """Open the database of a task, in the place of `RocksDatabase`.

        Args:
            path: Where it is.
            families: The stores.
            cut: Asked before each write of so many entries: how many of them the machine writes before it dies; None:
                it does not.
            die: Raises what kills the instance.
        """
        return _Kept(self, path, families, cut, die)

    def file(self, path: Path, family: str) -> dict[bytes, bytes]:
        """The data of a store."""
        return self._files.setdefault((path, family), {})

    def notes(self, path: Path) -> dict[bytes, bytes]:
        """The metadata of a database."""
        return self._metadata.setdefault(path, {})

    def wipe(self, under: Path) -> None:
        """Lose what a machine had."""
        for key in [key for key in self._files if key[0].is_relative_to(under)]:
            del self._files[key]
        for path in [path for path in self._metadata if path.is_relative_to(under)]:
            del self._metadata[path]


class _Kept(MemoryDatabase):
    def __init__(
        self,
        disks: Disks,
        path: Path,
        families: Sequence[str],
        cut: Callable[[int], int | None],
        die: Callable[[], None],
    ) -> None:
        super().__init__(families)
        self._cut = cut
        self._die = die
        for name, backend in self._families.items():
            backend._data = disks.file(path, name)
        self._metadata = disks.notes(path)

    def write(
        self,
        changes: Sequence[Changes],
        metadata: Mapping[bytes, bytes | None],
        unfinished: Mapping[bytes, bytes] | None = None,
    ) -> None:
        changes = [Changes(change.family, list(change.entries), change.dropped) for change in changes]
        count = sum(len(list(change.entries)) for change in changes)
        written = self._cut(count) if count else None
        if written is not None:
            super().write(list(_first(changes, written)), unfinished or {})
            self._die()
        super().write(changes, metadata)

    def clear(self, family: str) -> None:
        backend: MemoryBackend = self._families[family]
        backend._open().clear()
        backend._sorted = None


def _first(changes: Sequence[Changes], count: int) -> Iterator[Changes]:
    """The first entries of a write."""
    for change in changes:
        entries = list(change.entries)
        if len(entries) > count:
            yield Changes(change.family, entries[:count])
            return
        yield change
        count -= len(entries)
