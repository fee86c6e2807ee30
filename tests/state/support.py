"""What the tests of the stores share."""

from __future__ import annotations

import json
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from streamlet.serdes import FunctionSerde, Serde, bytes_, string
from streamlet.state import ChangelogRecord, Position, StateMemory, StoreBuilder, TaskState
from streamlet.state.backend import Changes, Database

RECORDINGS = Path(__file__).parents[2].parent / "shared" / "kafka_streams"

mutable: Serde[Any] = FunctionSerde("mutable", lambda value: value.encode(), bytes.decode, immutable=False)
"""Text that the stores have to keep as bytes."""


class SortedMap:
    """A store of one's own: bytes in a sorted list of keys and a dict."""

    def __init__(self, name: str = "", directory: Path | None = None) -> None:
        self.keys: list[bytes] = []
        self.data: dict[bytes, bytes] = {}
        self.closed = False

    def get(self, key: bytes, /) -> bytes | None:
        return self.data.get(key)

    def put(self, key: bytes, value: bytes | None, /) -> None:
        if value is None:
            if self.data.pop(key, None) is not None:
                del self.keys[bisect_left(self.keys, key)]
            return
        if key not in self.data:
            insort(self.keys, key)
        self.data[key] = value

    def range(self, start: bytes | None, end: bytes | None, /) -> Iterator[tuple[bytes, bytes]]:
        first = 0 if start is None else bisect_left(self.keys, start)
        last = len(self.keys) if end is None else bisect_left(self.keys, end)
        return ((key, self.data[key]) for key in self.keys[first:last])

    def approximate_num_entries(self) -> int:
        return len(self.keys)

    def close(self) -> None:
        self.closed = True


def position(offset: int) -> Position:
    return Position(offset, leader_epoch=1, topic_id="topic", committed_at=1_000)


class Harness:
    """A task's state beside a log that keeps what was committed, as a stream thread and a changelog would."""

    def __init__(self, builders: Sequence[StoreBuilder[Any]], directory: Path | None) -> None:
        self.builders = builders
        self.directory = directory
        self.memory = StateMemory(64 << 20)
        self.now = 0
        self.logs: dict[str, list[ChangelogRecord]] = {builder.name: [] for builder in builders}
        self.state = self.opened()

    def opened(self) -> TaskState:
        return TaskState.open(self.builders, directory=self.directory, memory=self.memory, timestamp=lambda: self.now)

    def store(self, name: str | None = None) -> Any:
        return self.state.store(name or self.builders[0].name)

    def commit(self) -> dict[str, list[ChangelogRecord]]:
        changes = dict(self.state.changes())
        for name, records in changes.items():
            self.logs[name].extend(records)
        self.state.commit({name: position(len(log)) for name, log in self.logs.items()})
        return changes

    def crash_within_a_write(self, written: int) -> None:
        """The log commits, and the process dies between two batches, after so many entries. Restores."""
        for name, records in self.state.changes():
            self.logs[name].extend(records)
        with suppress(_DiedError), ExitStack() as stack:
            for database in set(self.state._databases.values()):
                stack.enter_context(mock.patch.object(database, "write", _broken_off(database, written)))
            self.state.commit({name: position(len(log)) for name, log in self.logs.items()})
        self.crash()

    def crash(self) -> None:
        """Drop everything uncommitted and open the state again, restoring what the log has more."""
        self.state.close()
        self.state = self.opened()
        self.restore()

    def restore(self) -> None:
        for name, log in self.logs.items():
            known = self.state.position(name)
            start = known.offset if known else 0
            if start < len(log):
                self.state.restore(name, log[start:], position(len(log)))

    def close(self) -> None:
        self.state.close()


class _DiedError(Exception):
    """The process is gone."""


def _broken_off(database: Database, written: int) -> Callable[..., None]:
    """Return a write that ends after so many entries, at least one, which were a first batch."""
    write = database.write

    def part(
        changes: Sequence[Changes],
        metadata: Mapping[bytes, bytes | None],
        unfinished: Mapping[bytes, bytes] | None = None,
    ) -> None:
        entries = [(change.family, entry) for change in changes for entry in change.entries]
        if not entries:
            write(changes, metadata)
            return
        first = entries[: max(1, min(written, len(entries) - 1))]
        write([Changes(family, [entry]) for family, entry in first], unfinished or {})
        raise _DiedError

    return part


def recorded(file: str) -> Any:
    path = RECORDINGS / file
    if not path.exists():
        pytest.skip(f"recordings of Kafka Streams are not at {path}")
    return json.loads(path.read_text())


Opener = Callable[..., Harness]

__all__ = ["Harness", "Opener", "bytes_", "mutable", "position", "recorded", "string"]
