"""Instances come and go: nothing is lost or repeated, and tasks that stay are left alone."""

from __future__ import annotations

import struct
import threading
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from streamlet.runtime.streams import KafkaStreams
from tests.runtime.harness import TIMEOUT, LogUnderTest, Recorder, eventually, running, word_count

MEMBERS = {"consumer.session.timeout.ms": 3000, "consumer.heartbeat.interval.ms": 300}


def instance(log: LogUnderTest, number: int, guarantee: str, protocol: str) -> tuple[KafkaStreams, Recorder]:
    """One instance, with a state directory of its own."""
    sensor = Recorder()
    config = {
        **log.config(guarantee=guarantee),
        "state.dir": str(log.directory / f"state{number}"),
        "group.protocol": protocol,
        **(MEMBERS if protocol == "classic" else {}),
    }
    return KafkaStreams(word_count(log, repartition=False), config, sensor=sensor), sensor


def tasks(app: KafkaStreams) -> set[str]:
    return {str(task) for thread in app.metadata_for_local_threads() for task in thread.active_tasks}


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_instances_join_and_leave_under_load(kafka: LogUnderTest, guarantee: str, protocol: str) -> None:
    """Six tasks, one to three instances and back to one, while records keep coming."""
    kafka.create("lines", 6)
    kafka.create("counts", 2)
    written = 0
    stop = threading.Event()

    def load() -> None:
        nonlocal written
        while not stop.is_set():
            kafka.write("lines", [(f"k{n}", "x") for n in range(60)])
            written += 1

    loader = threading.Thread(target=load)
    apps = [instance(kafka, number, guarantee, protocol) for number in range(3)]
    try:
        for app, _ in apps[:1]:
            app.start()
            assert app.wait_until_running(timedelta(seconds=TIMEOUT))
        loader.start()
        first, sensor = apps[0]
        assert tasks(first) == {f"0_{n}" for n in range(6)}

        for app, _ in apps[1:]:
            app.start()
        eventually(lambda: sorted(len(tasks(app)) for app, _ in apps) == [2, 2, 2])
        assert len(set.union(*(tasks(app) for app, _ in apps))) == 6
        stayed = tasks(first)
        moved = len(sensor.closed)
        assert 4 <= moved <= 5, "two steps of joining move four tasks, or one more if a task moves twice"
        assert all(sensor.created.count(task) == 1 for task in stayed), (
            "tasks that stay are neither closed nor opened again"
        )

        for app, _ in apps[1:]:
            app.close()
        eventually(lambda: tasks(first) == {f"0_{n}" for n in range(6)})
        assert all(sensor.created.count(task) == 1 for task in stayed)
    finally:
        stop.set()
        if loader.ident is not None:
            loader.join()
        try:
            if guarantee == "exactly_once_v2":
                total = written * 60
                found = kafka.read("counts", lambda found: len(found) >= total)
                counts = Counter((m.key().decode(), struct.unpack(">q", m.value())[0]) for m in found)
                assert counts == Counter((f"k{n}", count) for n in range(60) for count in range(1, written + 1))
            else:
                kafka.read("counts", lambda found: reached(found, written))
        finally:
            for app, _ in apps:
                app.close()


def reached(messages: list[Any], wanted: int) -> bool:
    highest: dict[bytes, int] = {}
    for message in messages:
        count = struct.unpack(">q", message.value())[0]
        highest[message.key()] = max(highest.get(message.key(), 0), count)
    return len(highest) == 60 and min(highest.values()) >= wanted


def test_closing_leaves_the_group_at_once(kafka: LogUnderTest) -> None:
    kafka.create("lines", 2)
    kafka.create("counts")
    apps = [instance(kafka, number, "exactly_once_v2", "classic")[0] for number in range(2)]
    with apps[0], apps[1]:
        for app in apps:
            app.start()
        eventually(lambda: [len(tasks(app)) for app in apps] == [1, 1])
        apps[0].close()
        # far below the session timeout of three seconds: the other one takes over because the first has left
        eventually(lambda: len(tasks(apps[1])) == 2, timeout=2.5)


def test_a_new_partition_of_a_stateless_source_is_taken_up(log: LogUnderTest) -> None:
    from confluent_kafka.admin import NewPartitions

    from streamlet import serdes
    from streamlet.dsl.builder import StreamsBuilder
    from streamlet.topic import Topic

    log.create("lines", 1)
    log.create("out", 1)
    builder = StreamsBuilder()
    source = builder.stream(Topic(log.name("lines"), serdes.string, serdes.string))
    source.to(Topic(log.name("out"), serdes.string, serdes.string))
    config = {**log.config(), "consumer.topic.metadata.refresh.interval.ms": 1000}
    with running(builder.build(), config) as app:
        log.write("lines", [("a", "1")])
        log.read("out", lambda found: len(found) == 1)
        admin = log.supplier.admin({})
        admin.create_partitions([NewPartitions(log.name("lines"), 2)])[log.name("lines")].result(10)
        eventually(lambda: tasks(app) == {"0_0", "0_1"})
        log.write("lines", [("b", "2")], partition=1)
        log.read("out", lambda found: len(found) == 2)


def test_a_new_partition_under_a_store_is_refused(log: LogUnderTest) -> None:
    from confluent_kafka.admin import NewPartitions

    from streamlet.errors import InvalidTopicError

    log.create("lines", 1)
    log.create("counts", 1)
    config = {**log.config(), "consumer.topic.metadata.refresh.interval.ms": 1000}
    app = running(word_count(log, repartition=False), config)
    admin = log.supplier.admin({})
    admin.create_partitions([NewPartitions(log.name("lines"), 2)])[log.name("lines")].result(10)
    with pytest.raises(InvalidTopicError, match="counts-changelog has 1 partitions, but the topology needs 2"):
        app.wait(timedelta(seconds=TIMEOUT))


def test_a_topic_that_begins_to_match_a_pattern_is_read(log: LogUnderTest) -> None:
    import re

    from streamlet import serdes
    from streamlet.dsl.builder import StreamsBuilder
    from streamlet.topic import Topic, TopicPattern

    log.create("in-1")
    log.create("out")
    builder = StreamsBuilder()
    source = builder.stream(TopicPattern(re.escape(log.name("in-")) + r"\d", serdes.string, serdes.string))
    source.to(Topic(log.name("out"), serdes.string, serdes.string))
    config = {**log.config(), "consumer.topic.metadata.refresh.interval.ms": 1000}
    with running(builder.build(), config):
        log.write("in-1", [("a", "1")])
        log.read("out", lambda found: len(found) == 1)
        log.create("in-2")
        log.write("in-2", [("b", "2")])
        assert [m.value() for m in log.read("out", lambda found: len(found) == 2)] == [b"1", b"2"]
