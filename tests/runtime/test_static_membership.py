"""``group.instance.id``: who comes back in time finds its tasks, and nobody else notices (KIP-345)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from streamlet.errors import StreamsError
from streamlet.runtime.lifecycle import State
from streamlet.runtime.streams import KafkaStreams
from tests.runtime.harness import TIMEOUT, LogUnderTest, Recorder, eventually, running, word_count
from tests.runtime.test_rebalance import tasks


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
