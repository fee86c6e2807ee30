"""A task that a thread owns: its processors, its stores, and where it stands in its partitions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

from attrs import define, evolve, field, frozen
from confluent_kafka import TopicPartition

from streamlet.records import TaskId
from streamlet.runtime.collector import ProducerCollector
from streamlet.runtime.places import Place
from streamlet.runtime.queue import TaskOffset
from streamlet.runtime.source_rows import SourceRows, source_rows
from streamlet.runtime.task import Task
from streamlet.state import StoreBuilder, TaskState
from streamlet.topology import SubTopology


class Phase(Enum):
    """What is still to be done before a task may process records."""

    OPENED = "opened"
    RESTORING = "restoring"
    RUNNING = "running"


@frozen
class Resume:
    """Where a partition goes on: what is committed, or was decided in place of it."""

    offset: int
    leader_epoch: int | None = None


@define(eq=False)
class ActiveTask:
    """A task on a thread.

    Attributes:
        id: Its identity.
        index: Its partition of the tasks topic.
        sub_topology: What it runs.
        partitions: Its source partitions.
        task: Its processors.
        collector: Where its sinks write.
        state: Its stores.
        phase: How far it is.
        resume: Where to go back to after an abort, by partition.
        pinned: Offsets to be committed although no record was processed up to them: a start that was decided here, or
            the record behind one that was skipped. Committed with the next commit, unless processing has passed them.
        expected: The next offset that may be handed to the task; lower ones are left over from before a rewind.
        assigned: Whether the consumer reads its partitions.
        paused: Partitions that have enough waiting.
        uncommitted: Whether anything happened since the last commit.
        topic_ids: Identities of its changelog topics when it was restored: a topic that is deleted and made again while
            it runs does not hold its state.
        attempts_since: When the first of a row of failures to make it ready was (monotonic s); None if there was none.
    """

    id: TaskId
    index: int
    sub_topology: SubTopology
    partitions: tuple[Place, ...]
    task: Task
    collector: ProducerCollector
    state: TaskState
    phase: Phase = Phase.OPENED
    resume: dict[Place, Resume] = field(factory=dict)
    pinned: dict[Place, int] = field(factory=dict)
    metadata: dict[Place, str] = field(factory=dict)
    expected: dict[Place, int] = field(factory=dict)
    assigned: bool = False
    paused: set[Place] = field(factory=set)
    uncommitted: bool = False
    topic_ids: Mapping[str, str] = field(factory=dict)
    attempts_since: float | None = None

    @property
    def changelogged(self) -> tuple[StoreBuilder[Any], ...]:
        """Its stores that are restored from changelogs."""
        return tuple(store for store in self.sub_topology.stores if store.logging)

    @property
    def running(self) -> bool:
        """Whether it processes records."""
        return self.phase is Phase.RUNNING

    def source_rows(self) -> dict[Place, SourceRows]:
        """Return what reads the source partitions that serve it as changelogs."""
        return source_rows(self)

    def starts(self) -> list[TopicPartition]:
        """Return its partitions, with where to read on."""
        return [
            TopicPartition(topic, partition, at.offset)
            if at.leader_epoch is None
            else TopicPartition(topic, partition, at.offset, leader_epoch=at.leader_epoch)
            for (topic, partition), at in self.resume.items()
        ]

    def offsets(self, *, everything: bool = False) -> dict[Place, TaskOffset]:
        """Return what is to be committed; `everything`: also what is committed already."""
        offsets: dict[Place, TaskOffset] = {}
        if everything:
            offsets |= {place: self._resumed(place) for place in self.resume}
        if self.uncommitted:
            consumed = self.task.consumed()
            offsets |= consumed
            if not consumed:
                for place, metadata in self.task.metadata().items():
                    if place in self.resume:
                        offsets[place] = evolve(self._resumed(place), metadata=metadata)
        for place, offset in self.pinned.items():
            if place not in offsets or offsets[place].offset < offset:
                offsets[place] = TaskOffset(offset, None, self.metadata.get(place, ""))
        return offsets

    def _resumed(self, place: Place) -> TaskOffset:
        at = self.resume[place]
        return TaskOffset(at.offset, at.leader_epoch, self.metadata.get(place, ""))

    def committed(self, offsets: dict[Place, TaskOffset]) -> None:
        """Take note that offsets are committed."""
        for place, offset in offsets.items():
            self.resume[place] = Resume(offset.offset, offset.leader_epoch)
            self.metadata[place] = offset.metadata
        self.pinned.clear()
        self.uncommitted = False


def topic_partitions(offsets: Iterable[tuple[Place, TaskOffset]]) -> list[TopicPartition]:
    """Return offsets as the clients take them."""
    return [
        TopicPartition(topic, partition, at.offset, at.metadata)
        if at.leader_epoch is None
        else TopicPartition(topic, partition, at.offset, at.metadata, at.leader_epoch)
        for (topic, partition), at in offsets
    ]
