"""Situations in which schedules found that something was lost; each was mended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from confluent_kafka import KafkaError
from confluent_kafka.admin import NewPartitions

from streamlet import serdes
from streamlet.dsl.builder import StreamsBuilder
from streamlet.processor.api import Processor, ProcessorContext, PunctuationType
from streamlet.records import Record
from streamlet.topic import Topic
from streamlet.topology import Topology
from tests.simulation import oracle
from tests.simulation.world import APPLICATION, PARTITIONS, Instance, Rates, World


@contextmanager
def calm_world(*, exactly_once: bool, machines: int) -> Iterator[World]:
    """No faults but those that a test forces."""
    world = World(0, exactly_once=exactly_once, machines=machines)
    world.rates = Rates(0, 0, 0, 0)
    with world.determined():
        try:
            yield world
        finally:
            world.close()


def owned(machine: Instance) -> int:
    return len(machine.tasks)


def test_records_fetched_beside_a_commit_that_a_rebalance_refuses_are_processed() -> None:
    """The call of consume() in which on_revoke fails to commit also returns records of the tasks that stay."""
    with calm_world(exactly_once=False, machines=2) as world:
        stays, joins = world.machines
        stays.start()
        world.write(10)
        for _ in range(10):
            stays.step()
        joins.start()
        world.write(50)
        stays.forced = {"commit refused": "generation"}
        world.clock.advance(timedelta(seconds=1))
        for _ in range(20):
            world.write(5)
            stays.step()
            joins.step()
        assert not stays.forced
        assert owned(joins) == 3
        world.settle()
        world.verify()


def test_two_failures_far_apart_are_no_row_of_them() -> None:
    """task.timeout.ms bounds how long something is tried, not the time between two troubles of an idle application."""
    with calm_world(exactly_once=True, machines=1) as world:
        (machine,) = world.machines
        machine.start()
        world.write(10)
        world.settle()
        for _ in range(3):
            machine.forced = {"expelled": None}
            machine.step()
            machine.forced = {}
            for _ in range(10):
                machine.step()
            world.clock.advance(timedelta(days=2))
        assert world.aborts == 3
        world.write(10)
        world.settle()
        world.verify()


def test_thrown_out_again_after_idle_days_before_it_has_worked() -> None:
    """What counts is how long the attempts took: but for one of them, these took no time."""
    with calm_world(exactly_once=True, machines=1) as world:
        (machine,) = world.machines
        machine.start()
        world.write(10)
        world.settle()
        for days in (0, 0, 2, 0):
            world.write(10)
            world.clock.advance(timedelta(days=days))
            machine.forced = {"expelled": None}
            machine.step()
            machine.forced = {"consume nothing": None}
            machine.step()
        machine.forced = {}
        world.settle()
        world.verify()


def test_a_changelog_truncated_and_grown_to_the_same_end_is_read_anew() -> None:
    with calm_world(exactly_once=False, machines=1) as world:
        (machine,) = world.machines
        machine.start()
        world.write(40)
        world.settle()
        machine.close()
        topic = f"{APPLICATION}-seen-changelog"
        for number in range(PARTITIONS):
            partition = world.log.broker.log.partition(topic, number)
            assert partition is not None
            end = partition.end
            world.faults.truncate(topic, number, end // 2)
            world.grow(topic, number, end)
        machine.start()
        world.settle()
        world.verify_stores("after truncation")


@pytest.mark.parametrize("grows", [False, True])
@pytest.mark.parametrize("exactly_once", [True, False])
def test_a_write_was_cut_off_between_batches_and_its_changelog_truncated(exactly_once: bool, grows: bool) -> None:
    """The first batch is in the store, the log has lost its records: they must not stay there."""
    with calm_world(exactly_once=exactly_once, machines=1) as world:
        (machine,) = world.machines
        cuts = [False]
        machine.cut = lambda entries: 1 if cuts[0] else None  # type: ignore[method-assign]
        machine.start()
        world.write(40)
        world.settle()
        cuts[0] = True
        world.write(40)
        while machine.thread is not None:
            machine.step()
        cuts[0] = False
        for store in oracle.STORES:
            topic = f"{APPLICATION}-{store}-changelog"
            for number in range(PARTITIONS):
                partition = world.log.broker.log.partition(topic, number)
                assert partition is not None
                end = partition.end
                world.faults.truncate(topic, number, max(end - 4, 0))
                if grows:
                    world.grow(topic, number, end + 1)
        machine.start()
        world.settle()
        world.verify_stores("after truncation")


def test_a_broker_that_cannot_be_resolved_does_not_end_a_restore() -> None:
    with calm_world(exactly_once=True, machines=1) as world:
        (machine,) = world.machines
        machine.start()
        world.write(40)
        world.settle()
        machine.close()
        world.disks.wipe(machine.root)
        machine.start()
        assert machine.life is not None
        heard = Instance(world, 1)  # only the restore consumer hears of it
        heard.forced = {"consume error": KafkaError._RESOLVE}
        machine.life.supplier.consumers[-2].machine = heard
        world.settle()
        assert not heard.forced
        world.verify()


@pytest.mark.parametrize("exactly_once", [True, False])
def test_the_oracle_notices(exactly_once: bool) -> None:
    """A run without faults is right, and one record more in the input is missing in the results."""
    with calm_world(exactly_once=exactly_once, machines=2) as world:
        for machine in world.machines:
            machine.start()
        world.write(30)
        world.settle()
        world.verify()
        world.records.append(("k0", "99"))
        with pytest.raises(AssertionError, match="wrong results"):
            world.verify()
        assert oracle.FORWARDED in world.log.broker.log.topics


def test_a_changelog_made_again_beside_a_running_instance_is_noticed() -> None:
    """The instance that takes the task over has known the topic from its own start on."""
    with calm_world(exactly_once=True, machines=2) as world:
        first, second = world.machines
        first.start()
        world.write(43)
        for _ in range(30):
            first.step()
        assert first.thread is not None
        assert all(first.thread.stores()["cycles", number] for number in range(PARTITIONS))
        second.start()
        for _ in range(30):
            first.step()
            second.step()
        assert {"2_0", "2_1"} <= {str(task) for task in second.tasks}
        topic = f"{APPLICATION}-cycles-changelog"
        partitions = world.log.broker.log.topics[topic].partitions
        ends = [partition.end for partition in partitions]
        world.admin.delete_topics([topic])[topic].result()
        world.log.producer({}).list_topics(topic)
        world.admin.create_partitions([NewPartitions(topic, PARTITIONS)])[topic].result()
        for number, end in enumerate(ends):
            world.grow(topic, number, end)
        second.close()
        world.machines = [first]
        world.settle()
        for number in range(PARTITIONS):
            assert first.thread.stores()["cycles", number] == world.changelog("cycles", number)


class Ticking(Processor[str, str, str, str]):
    """Sends records on, and one of its own every 10 ms."""

    def init(self, context: ProcessorContext[str, str]) -> None:
        self._context = context
        context.schedule(timedelta(milliseconds=10), PunctuationType.WALL_CLOCK_TIME, self._tick)

    def process(self, record: Record[str, str]) -> None:
        self._context.forward(record)

    def _tick(self, timestamp: int) -> None:
        self._context.forward(Record("tick", "tick", timestamp))


def ticking() -> Topology:
    builder = StreamsBuilder()
    text = serdes.string
    builder.stream(Topic(oracle.INPUT, text, text)).process(Ticking).to(Topic(oracle.FORWARDED, text, text))
    return builder.build()


def test_punctuations_go_on_while_a_batch_is_replayed_record_by_record() -> None:
    """They have a transaction of their own: without one, each of them would send the replay back."""
    with calm_world(exactly_once=True, machines=1) as world:
        world.topology = ticking
        (machine,) = world.machines
        machine.start()
        world.write(30)
        machine.forced = {"record refused": KafkaError.MSG_SIZE_TOO_LARGE}
        for _ in range(100):
            world.clock.advance(timedelta(milliseconds=10))
            machine.step()
        assert not machine.forced
        assert world.aborts == 1
        found = world.read(oracle.FORWARDED)
        assert found.pop("tick")
        assert found == dict(oracle.expected(world.records).forwarded)
