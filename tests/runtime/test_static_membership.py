"""``group.instance.id``: who comes back in time finds its tasks, and nobody else notices (KIP-345)."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from confluent_kafka import KafkaError

from streamlet.clients.embedded.message import ErrorMessage
from streamlet.errors import StreamsError
from streamlet.runtime import thread
from streamlet.runtime.lifecycle import State
from streamlet.runtime.streams import KafkaStreams
from tests.runtime.harness import TIMEOUT, LogUnderTest, Recorder, eventually, running, word_count
from tests.runtime.test_crashes import every_count
from tests.runtime.test_rebalance import tasks
from tests.runtime.test_standby import process
from tests.simulation.clients import FaultyConsumer
from tests.simulation.test_situations import calm_world


def config(log: LogUnderTest, name: str, protocol: str, directory: str | None = None) -> dict[str, Any]:
    classic = {"consumer.session.timeout.ms": 30_000, "consumer.heartbeat.interval.ms": 300}
    return {
        **log.config(),
        "state.dir": str(log.directory / (directory or name)),
        "consumer.group.instance.id": name,
        "group.protocol": protocol,
        **(classic if protocol == "classic" else {}),
    }


def prepared(log: LogUnderTest) -> Any:
    log.create("lines", 4)
    log.create("counts")
    return word_count(log, repartition=False)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_member_that_comes_back_has_its_tasks_again_and_the_other_keeps_its_own(
    kafka: LogUnderTest, protocol: str
) -> None:
    topology = prepared(kafka)
    calm = Recorder()
    with running(topology, config(kafka, "one", protocol), sensor=calm) as one:
        two = running(topology, config(kafka, "two", protocol))
        try:
            eventually(lambda: len(tasks(one)) == len(tasks(two)) == 2)
            mine, theirs = tasks(one), tasks(two)
        finally:
            two.close()  # a static member does not leave the group: its session has to end
        kafka.write("lines", [(f"k{number}", "x") for number in range(40)])
        closed = len(calm.closed)
        with running(topology, config(kafka, "two", protocol)) as two:
            eventually(lambda: tasks(two) == theirs)
            kafka.await_counts("counts", {f"k{number}": 1 for number in range(40)})
            assert tasks(one) == mine
            assert len(calm.closed) == closed, "the other one was left alone"


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_killed_and_back_with_its_id(kafka: LogUnderTest, protocol: str, caplog: pytest.LogCaptureFixture) -> None:
    """Classic: nobody else notices. With the brokers' protocol it has to wait for the end of its own session."""
    topology = prepared(kafka)
    calm = Recorder()
    keys = [f"k{number}" for number in range(40)]
    with running(topology, config(kafka, "one", protocol), sensor=calm) as one:
        with process(kafka, config(kafka, "two", protocol)) as killed:
            eventually(lambda: len(tasks(one)) == 2 and State.RUNNING is one.state)
            mine, touched = tasks(one), (list(calm.created), list(calm.closed))
            kafka.write("lines", [(key, "x") for key in keys])
            kafka.await_counts("counts", dict.fromkeys(keys, 1))
            killed.kill()
            killed.wait()
        kafka.write("lines", [(key, "x") for key in keys])
        with running(topology, config(kafka, "two", protocol)) as two:
            eventually(lambda: len(tasks(one)) == len(tasks(two)) == 2)
            kafka.write("lines", [(key, "x") for key in keys])
            found = kafka.await_counts("counts", dict.fromkeys(keys, 3))
            assert every_count(found) == Counter((key, count) for key in keys for count in (1, 2, 3))
            assert tasks(one).isdisjoint(tasks(two))
            waited = [r for r in caplog.records if "until it has left the group, or its session" in r.getMessage()]
            if protocol == "classic":
                assert not waited
                assert tasks(one) == mine
                assert (calm.created, calm.closed) == touched, "it was given nothing, and nothing was taken from it"
            else:
                assert waited


def test_the_second_of_a_name_takes_the_place_of_the_first_which_says_why(kafka: LogUnderTest) -> None:
    topology = prepared(kafka)
    first = KafkaStreams(topology, config(kafka, "same", "classic", "first"))
    first.start()
    try:
        assert first.wait_until_running(timedelta(seconds=TIMEOUT))
        with running(topology, config(kafka, "same", "classic", "second")) as second:
            eventually(lambda: len(tasks(second)) == 4)
            with pytest.raises(StreamsError, match=r"has taken its place: give each instance its own"):
                first.wait(timedelta(seconds=TIMEOUT))
            assert first.state is State.ERROR
    finally:
        first.close()


def test_with_the_brokers_protocol_the_second_of_a_name_waits_for_the_first(kafka: LogUnderTest) -> None:
    """The same happens to a member that was killed and comes back before its session has ended."""
    topology = prepared(kafka)
    second = KafkaStreams(topology, config(kafka, "same", "consumer", "second"))
    with running(topology, config(kafka, "same", "consumer", "first")) as first:
        eventually(lambda: len(tasks(first)) == 4)
        second.start()
        assert not second.wait_until_running(timedelta(seconds=3))
        assert second.state is State.REBALANCING, "it goes on asking"
        assert len(tasks(first)) == 4
    try:
        assert second.wait_until_running(timedelta(seconds=TIMEOUT))
        eventually(lambda: len(tasks(second)) == 4)
    finally:
        second.close()


def test_each_time_an_id_is_held_has_the_whole_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it is a member the wait is over: the next one, long after, does not begin where the first one did."""
    monkeypatch.setattr(thread, "_JOIN_AGAIN_SECONDS", 0.0)
    consume, held = FaultyConsumer.consume, [False]

    def refused(self: FaultyConsumer, count: int = 1, timeout: float = -1) -> Any:
        if held[0] and self.inner._member is not None:
            text = "Fatal error: Broker: The instance ID is still used by another member in the consumer group"
            return [ErrorMessage(KafkaError(KafkaError._FATAL, text, fatal=True))]
        return consume(self, count, timeout)

    monkeypatch.setattr(FaultyConsumer, "consume", refused)
    with calm_world(exactly_once=True, machines=1) as world:
        (machine,) = world.machines
        machine.start()
        for _ in range(3):
            held[0] = True
            for _ in range(3):
                machine.step()
                world.clock.advance(timedelta(minutes=29))  # of the hour that task.timeout.ms is
            held[0] = False
            world.write(10)
            world.settle()
            world.clock.advance(timedelta(hours=2))
        world.verify()
        held[0] = True
        machine.step()
        world.clock.advance(timedelta(minutes=61))
        with pytest.raises(StreamsError, match=r"for 3660 s \(task.timeout.ms\): give each instance its own"):
            machine.step()
