"""Runs a topology record by record with aborted transactions and restarts in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from streamlet import Headers, TaskId, Topology, serdes
from streamlet.config import StreamsConfig
from streamlet.metrics import Counters
from streamlet.runtime.task import Task
from streamlet.state import ChangelogRecord, Position, StateMemory, TaskState
from streamlet.state.cache_budget import CacheBudget
from streamlet.testing.messages import TestMessage
from streamlet.time import ManualClock
from tests.dsl.windows.support import IN, OUT, Row

_CONFIG = {
    "application.id": "app",
    "bootstrap.servers": "embedded:",
    "__emit.interval.ms.kstreams.windowed.aggregation__": 0,
}


class Process:
    """One life of a task, over changelogs that outlive it.

    Args:
        topology: With one sub-topology, from `IN` to `OUT`.
        changelogs: Of its stores: read at first, written at each commit.
        metadata: What was committed with the last offset.
        config: Further keys of the configuration.
        clock: Of the application.
    """

    def __init__(
        self,
        topology: Topology,
        changelogs: dict[str, list[ChangelogRecord]],
        metadata: str | None,
        config: Mapping[str, Any],
        clock: ManualClock | None = None,
    ) -> None:
        self.sent: list[Row] = []
        self._changelogs = changelogs
        (sub_topology,) = topology.sub_topologies
        self.task = Task(
            sub_topology,
            TaskId(0, 0),
            partitions=[(IN.name, 0)],
            collector=self,
            config=(parsed := StreamsConfig.parse({**_CONFIG, **config})),
            cache_budget=CacheBudget.of(parsed.cache_max_bytes),
            clock=clock or ManualClock(),
            sensor=Counters(),
        )
        self.task.restore_time((IN.name, 0), metadata)
        self.state = TaskState.open(
            sub_topology.stores, directory=None, memory=StateMemory(8 << 20), timestamp=self.task.timestamp
        )
        for store, records in changelogs.items():
            self.state.restore(store, records, Position(len(records), None, None, 0))
        self.task.initialize(self.state)

    def send(
        self, topic: str, key: Any, value: Any, timestamp: int, headers: Headers, partition: int | None, node: str, /
    ) -> None:
        assert topic == OUT.name
        self.sent.append((key.decode(), None if value is None else serdes.json.deserialize(value), timestamp))

    direct = None

    def partition_count(self, topic: str, /) -> int:
        return 1

    def process(self, row: Row, offset: int) -> list[Row]:
        """Process one record, and return what it sent."""
        key, value, timestamp = row
        data = None if value is None else serdes.json.serialize(value)
        self.sent = []
        self.task.add_records(IN.name, 0, [TestMessage(IN.name, key.encode(), data, timestamp, (), 0, offset)])
        assert self.task.process(1) == 1
        return self.sent

    def punctuate(self) -> list[Row]:
        """Call what is due by the clock, and return what it sent."""
        self.sent = []
        self.task.punctuate()
        return self.sent

    def commit(self) -> str | None:
        """Commit, and return the metadata that goes with the offset; None if there is nothing new."""
        self.task.prepare_commit()
        for store, records in self.state.changes():
            self._changelogs.setdefault(store, []).extend(records)
        consumed = [offset.metadata for offset in self.task.consumed().values()] or [*self.task.metadata().values()]
        self.state.commit({})
        self.task.committed()
        return consumed[0] if consumed else None

    def abort(self) -> None:
        """Undo everything since the last commit."""
        self.task.rewind()
        self.state.rollback()

    def close(self) -> None:
        """Close everything."""
        self.task.close()
        self.state.close()


def pipe_with_aborts(
    topology: Topology, rows: Sequence[Row], troubles: Sequence[bool], *, restart: bool = False, **config: Any
) -> list[list[Row]]:
    """Pipe rows through a task, and return what each sent when it was committed.

    Args:
        topology: With one sub-topology, from `IN` to `OUT`.
        rows: The records.
        troubles: For each record, whether its transaction is aborted at first, together with the record after it.
        restart: Whether the task is closed then, and opened anew from changelogs and committed metadata.
        config: Further keys of the configuration.
    """
    changelogs: dict[str, list[ChangelogRecord]] = {}
    metadata: str | None = None
    process = Process(topology, changelogs, metadata, config)
    out: list[list[Row]] = []
    for offset, (row, trouble) in enumerate(zip(rows, troubles)):
        if trouble:
            process.process(row, offset)
            if offset + 1 < len(rows):
                process.process(rows[offset + 1], offset + 1)
            if restart:
                process.close()
                process = Process(topology, changelogs, metadata, config)
            else:
                process.abort()
        out.append(process.process(row, offset))
        metadata = process.commit()
    process.close()
    return out
