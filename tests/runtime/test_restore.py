"""Restoring by its parts: what the log says at an awkward moment must not cost a store its truth.

Each of these was found by the simulation; there only seeds repeat them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any

import pytest
from attrs import define, evolve, field
from confluent_kafka import TopicPartition

from streamlet import serdes
from streamlet.clients.embedded.faults import Faults
from streamlet.config import StreamsConfig
from streamlet.records import TaskId
from streamlet.runtime.follow import Follower, StandbyTask
from streamlet.runtime.internal_topics import Admin, LogBusyError
from streamlet.runtime.restore import Restorer
from streamlet.state import StateMemory, Stores, TaskState, record_checksum
from streamlet.time import ManualClock
from tests.runtime.harness import NOW, TIMEOUT, LogUnderTest, Recorder

CHANGELOG = "app-counts-changelog"
COUNTS = Stores.key_value("counts", serdes.string, serdes.string)
RESTORERS = ["restorer", "follower"]


class Interleaving:
    """A consumer that hands out its partitions' messages by offset: several runs of each partition in one batch."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def consume(self, count: int, timeout: float) -> Sequence[Any]:
        found = self._inner.consume(count, timeout)
        return sorted(found, key=lambda message: message.offset() or 0)  # stable: each partition keeps its order

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Lazy(Admin):
    """Asks a log that is busy as long as it is told to be."""

    busy = False

    def _offsets_now(self, partitions: Iterable[tuple[str, int]], *, end: bool) -> dict[tuple[str, int], Any]:
        if self.busy:
            raise LogBusyError("a test")
        return super()._offsets_now(partitions, end=end)


@define
class Bench:
    """Two partitions of a changelog, and the state that is made from them; it survives any number of restorers."""

    log: LogUnderTest
    tasks: list[StandbyTask]
    clock: ManualClock = field(factory=lambda: ManualClock(NOW))
    sensor: Recorder = field(factory=Recorder)

    @property
    def faults(self) -> Faults:
        return Faults(self.log.supplier)  # type: ignore[arg-type]  # the embedded log's

    def write(self, partition: int, records: Iterable[tuple[str, str]]) -> None:
        self.log.write(CHANGELOG, records, partition=partition)

    def write_transaction(self, partition: int, records: Iterable[tuple[str, str]]) -> None:
        """Its marker takes an offset of its own."""
        producer = self.log.supplier.producer({"transactional.id": "bench"})
        producer.init_transactions(TIMEOUT)
        producer.begin_transaction()
        for key, value in records:
            producer.produce(CHANGELOG, value, key, partition, timestamp=NOW)
        producer.commit_transaction(TIMEOUT)

    def records(self, partition: int) -> list[Any]:
        """What the log has."""
        consumer = self.log.supplier.consumer({"group.id": "bench"})
        try:
            consumer.assign([TopicPartition(CHANGELOG, partition, 0)])
            return [message for message in consumer.consume(10_000, 0) if message.error() is None]
        finally:
            consumer.close()

    def logged(self, partition: int) -> dict[str, str]:
        """What state is to hold that is made from the log."""
        return {message.key().decode(): message.value().decode() for message in self.records(partition)}

    def held(self, partition: int) -> dict[str, str]:
        """What the state holds."""
        return dict(self.tasks[partition].state.read_only("counts").all())

    def as_after_a_commit(self, partition: int) -> None:
        """Give the state the position that a producer on a cluster leaves: behind the last record, of no epoch."""
        state, last = self.tasks[partition].state, self.records(partition)[-1]
        position = state.position("counts")
        assert position is not None
        checksum = record_checksum(last.key(), last.value(), last.timestamp()[1])
        state.restore("counts", (), evolve(position, offset=last.offset() + 1, leader_epoch=None, checksum=checksum))

    @contextmanager
    def restorer(self, kind: str = "restorer") -> Iterator[tuple[Any, Lazy]]:
        """One that has begun with both tasks."""
        config = {"group.id": "r", "enable.partition.eof": True, "auto.offset.reset": "error"}
        consumer: Any = Interleaving(self.log.supplier.consumer(config))
        admin = Lazy(self.log.supplier.admin({}), StreamsConfig.parse(self.log.config()))
        common: Any = {"application_id": "app", "configs": {}, "clock": self.clock, "sensor": self.sensor}
        made: Any
        if kind == "follower":
            made = Follower(consumer, admin, **common)
        else:
            made = Restorer[StandbyTask](consumer, admin, **common, listener=lambda: None)
        made.start(self.tasks)
        try:
            yield made, admin
        finally:
            made.close()

    def restore(self) -> None:
        """Let a restorer finish."""
        with self.restorer() as (restorer, _):
            until(restorer, lambda: not restorer.active)


def until(restorer: Any, condition: Callable[[], bool]) -> None:
    deadline = monotonic() + TIMEOUT
    while not condition():
        assert monotonic() < deadline
        restorer.step(0.05)


@pytest.fixture
def bench(embedded: LogUnderTest) -> Iterator[Bench]:
    embedded.create(CHANGELOG, 2)
    tasks = []
    for number in range(2):
        directory = embedded.directory / f"state-{number}"
        directory.mkdir()
        state = TaskState.open([COUNTS], directory=directory, memory=StateMemory(8 << 20), timestamp=lambda: -1)
        tasks.append(StandbyTask(TaskId(0, number), state, (COUNTS,)))
    yield Bench(embedded, tasks)
    for task in tasks:
        task.state.close()


@pytest.fixture
def damaged(bench: Bench) -> Bench:
    """Partition 0 was truncated below the state's position and grew again; partition 1 only grew."""
    for number in range(2):
        bench.write(number, [(f"k{n}", "old") for n in range(5)])
    bench.restore()
    for number in range(2):
        assert bench.held(number) == {f"k{n}": "old" for n in range(5)}
        bench.as_after_a_commit(number)
    bench.faults.truncate(CHANGELOG, 0, 2)
    bench.write(0, [(f"k{n}", "new") for n in range(2, 9)])
    bench.write(1, [(f"k{n}", "more") for n in range(5, 10)])
    return bench


@pytest.mark.parametrize("kind", RESTORERS)
def test_a_rebuild_waits_for_a_busy_log_and_what_was_fetched_beside_it_is_taken_in(damaged: Bench, kind: str) -> None:
    with damaged.restorer(kind) as (restorer, admin):
        admin.busy = True
        until(restorer, lambda: damaged.tasks[0].state.position("counts") is None)
        assert damaged.held(0) == {}
        restorer.step(0)
        restorer.step(0)
        assert damaged.held(1) == damaged.logged(1), "in the same batch"
        admin.busy = False
        until(restorer, lambda: damaged.held(0) == damaged.logged(0))
    assert damaged.held(1) == damaged.logged(1)


@pytest.mark.parametrize("kind", RESTORERS)
def test_messages_fetched_before_a_rebuild_are_not_taken_in(damaged: Bench, kind: str) -> None:
    """Taken in, they would give the emptied store a position: a process that dies then goes on from there."""
    with damaged.restorer(kind) as (restorer, admin):
        admin.busy = True
        until(restorer, lambda: damaged.held(0) != {f"k{n}": "old" for n in range(5)})
        assert damaged.held(0) == {}
        assert damaged.tasks[0].state.position("counts") is None
    damaged.restore()
    assert damaged.held(0) == damaged.logged(0)
    assert damaged.held(1) == damaged.logged(1)


@pytest.mark.parametrize("kind", RESTORERS)
def test_a_task_that_goes_elsewhere_while_its_rebuild_waits_leaves_no_position(damaged: Bench, kind: str) -> None:
    with damaged.restorer(kind) as (restorer, admin):
        admin.busy = True
        until(restorer, lambda: damaged.held(0) == {})
        restorer.remove([damaged.tasks[0]])
        assert damaged.tasks[0].state.position("counts") is None
    damaged.restore()
    assert damaged.held(0) == damaged.logged(0)


def test_a_position_behind_a_marker_keeps_what_proves_its_log(bench: Bench) -> None:
    """At the end of a partition the position passes over the marker: the record before it says nothing any more."""
    bench.write_transaction(0, [(f"k{n}", "old") for n in range(5)])
    bench.restore()
    bench.as_after_a_commit(0)
    bench.restore()  # a restart with nothing to catch up with but the marker
    position = bench.tasks[0].state.position("counts")
    assert position is not None
    assert position.offset == 6
    assert bench.sensor.restored == 5
    bench.faults.truncate(CHANGELOG, 0, 3)
    bench.write(0, [(f"k{n}", "new") for n in range(3, 9)])
    bench.restore()
    assert bench.held(0) == bench.logged(0)


def test_a_store_at_the_beginning_is_emptied_first(bench: Bench) -> None:
    """A write that was cut off may have left records of a log that was truncated to nothing since."""
    bench.write(0, [("k0", "old")])
    bench.restore()
    state = bench.tasks[0].state
    position = state.position("counts")
    assert position is not None
    state.restore("counts", (), evolve(position, offset=0))
    bench.faults.truncate(CHANGELOG, 0, 0)
    bench.write(0, [("k1", "new")])
    bench.restore()
    assert bench.held(0) == {"k1": "new"}
