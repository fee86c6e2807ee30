"""After a reset an application does what it did the first time; what runs or belongs to others is left alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import NewTopic
from hypothesis import given
from hypothesis import strategies as st

from streamlet import serdes
from streamlet.clients import supplier_for
from streamlet.config import StreamsConfig
from streamlet.dsl.builder import StreamsBuilder
from streamlet.errors import StreamsError
from streamlet.runtime.reset import (
    OffsetChange,
    Position,
    Reset,
    ToEarliest,
    ToLatest,
    ToOffset,
    ToTime,
    is_internal_name,
)
from streamlet.topic import Topic, TopicPattern
from streamlet.topology import Topology
from tests.runtime.harness import NOW, LogUnderTest, running, word_count


def resetting(log: LogUnderTest, application: str = "app") -> Reset:
    return Reset(log.supplier, StreamsConfig.parse(log.config(application)))


def topics_of(log: LogUnderTest, application: str = "app") -> set[str]:
    """The application's own topics, without its id."""
    prefix = log.name(application) + "-"
    found = log.supplier.admin({}).list_topics(timeout=10).topics
    return {name.removeprefix(prefix) for name in found if name.startswith(prefix)}


def committed(log: LogUnderTest, application: str = "app") -> dict[tuple[str, int], int]:
    group = log.name(application)
    admin = log.supplier.admin({})  # an answer comes only while it lives
    future = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group]
    return {(p.topic, p.partition): p.offset for p in future.result(10).topic_partitions or [] if p.offset >= 0}


def values(messages: list[Any]) -> list[tuple[bytes, bytes]]:
    return sorted((m.key(), m.value()) for m in messages)


def test_after_a_reset_everything_is_computed_again(log: LogUnderTest, guarantee: str) -> None:
    log.create("lines", 2)
    log.create("counts")
    log.write("lines", [("k", "a b")] * 5, partition=0)
    log.write("lines", [("k", "b c")] * 5, partition=1)
    topology, config = word_count(log), log.config(guarantee=guarantee)
    with running(topology, config):
        first = log.read("counts", lambda found: len(found) >= 20)
    before = topics_of(log)
    assert before == {"tasks", "counts-changelog", "counts-repartition"}

    reset = resetting(log)
    plan = reset.plan(topology, ToEarliest())
    assert topics_of(log) == before, "planning changes nothing"
    assert {(c.topic, c.partition): (c.before is not None, c.after) for c in plan.offsets} == {
        (log.name("lines"), 0): (True, 0),
        (log.name("lines"), 1): (True, 0),
    }
    assert set(plan.topics) == {f"{log.name('app')}-{name}" for name in before}
    reset.carry_out(plan)
    assert topics_of(log) == set()
    assert committed(log) == {(log.name("lines"), 0): 0, (log.name("lines"), 1): 0}

    # the local state is still there, of a changelog that is not: it must not be taken for the new one's
    with running(topology, config):
        second = log.read("counts", lambda found: len(found) >= 40)[20:]
    assert values(second) == values(first), "counted from nothing, not on top of what was there"


def test_only_what_comes_after_a_reset_to_the_end_is_counted(log: LogUnderTest) -> None:
    log.create("lines")
    log.create("counts")
    log.write("lines", [("k", "old")] * 5)
    topology = word_count(log)
    with running(topology, log.config()):
        log.await_counts("counts", {"old": 5})
    reset = resetting(log)
    reset.carry_out(reset.plan(topology, ToLatest()))
    log.write("lines", [("k", "new old")])
    with running(topology, log.config()):
        log.await_counts("counts", {"new": 1, "old": 1})


def test_a_running_application_is_refused_and_left_alone(log: LogUnderTest) -> None:
    log.create("lines")
    log.create("counts")
    log.write("lines", [("k", "a")])
    topology = word_count(log)
    with running(topology, log.config()):
        log.await_counts("counts", {"a": 1})
        before = topics_of(log)
        with pytest.raises(StreamsError, match=r"is running on .*: stop all of its instances"):
            resetting(log).plan(topology, ToEarliest())
    reset = resetting(log)
    plan = reset.plan(topology, ToEarliest())
    with running(topology, log.config()):
        with pytest.raises(StreamsError, match="is running on"):  # started between planning and doing
            reset.carry_out(plan)
        assert topics_of(log) == before


def test_without_a_topology_input_is_what_has_committed_offsets(log: LogUnderTest) -> None:
    log.create("lines")
    log.create("counts")
    log.create("others")
    log.write("lines", [("k", "a")])
    with running(word_count(log), log.config()):
        log.await_counts("counts", {"a": 1})
    reset = resetting(log)
    plan = reset.plan(None, ToEarliest())
    assert [(c.topic, c.after) for c in plan.offsets] == [(log.name("lines"), 0)]
    assert len(plan.topics) == 3
    narrow = reset.plan(None, ToEarliest(), input_topics=[log.name("others")], internal_topics=[plan.topics[0]])
    assert narrow.offsets == (OffsetChange(log.name("others"), 0, None, 0),)
    assert narrow.topics == plan.topics[:1]
    with pytest.raises(StreamsError, match=r"strange: not among the internal topics of .*counts-changelog"):
        reset.plan(None, ToEarliest(), internal_topics=["strange"])


def test_topics_of_an_application_with_a_longer_name_are_spared(log: LogUnderTest) -> None:
    """``app-two-counts-changelog`` begins like a topic of ``app``."""
    log.create("lines")
    log.create("counts")
    log.write("lines", [("k", "a")])
    for application in ("app", "app-two"):
        with running(word_count(log), log.config(application)):
            log.read("counts", lambda found: len(found) >= 1)
    reset = resetting(log)
    plan = reset.plan(None, ToEarliest())
    reset.carry_out(plan)
    assert topics_of(log, "app-two") == {"tasks", "counts-changelog", "counts-repartition"}
    assert set(plan.spared) == {f"{log.name('app-two')}-counts-{kind}" for kind in ("changelog", "repartition")}


def test_patterns_and_leftovers_of_older_versions(embedded: LogUnderTest) -> None:
    for topic in ("in-1", "in-2", "else", "app-KSTREAM-AGGREGATE-STATE-STORE-0000000003-changelog", "app-notes"):
        embedded.create(topic)
    builder = StreamsBuilder()
    builder.stream(TopicPattern(r"in-\d|app-.*", serdes.string, serdes.string)).group_by_key().count(store="counts")
    builder.stream(Topic("absent", serdes.string, serdes.string)).foreach(lambda _, __: None)
    plan = resetting(embedded).plan(builder.build(), ToEarliest())
    assert [change.topic for change in plan.offsets] == ["app-notes", "in-1", "in-2"]
    assert plan.topics == ("app-KSTREAM-AGGREGATE-STATE-STORE-0000000003-changelog",)
    assert plan.missing == ("absent",)


@pytest.mark.parametrize(
    ("topic", "internal"),
    [
        ("app-tasks", True),
        ("app-counts-changelog", True),
        ("app-by-word-repartition", True),
        ("app-KTABLE-FK-JOIN-SUBSCRIPTION-REGISTRATION-0000000005-topic", True),
        ("app-orders-subscription-response-topic", True),
        ("app-results", False),
        ("app-other-tasks", False),
        ("application-counts-changelog", False),
        ("counts-changelog", False),
    ],
)
def test_names_of_internal_topics(topic: str, internal: bool) -> None:
    assert is_internal_name("app", topic) is internal


TIMES = st.lists(st.integers(0, 20), max_size=12)


def expected(times: list[int], to: Position) -> int:
    match to:
        case ToEarliest():
            return 0
        case ToLatest():
            return len(times)
        case ToOffset(offset):
            return min(offset, len(times))
        case ToTime(timestamp):
            after = [offset for offset, time in enumerate(times) if NOW + time >= timestamp]
            return after[0] if after else len(times)


POSITIONS = st.one_of(
    st.just(ToEarliest()),
    st.just(ToLatest()),
    st.integers(0, 15).map(ToOffset),
    st.integers(-2, 22).map(lambda time: ToTime(NOW + time)),
)


@given(TIMES, POSITIONS)
def test_positions_against_a_search_by_hand(times: list[int], to: Position) -> None:
    supplier = supplier_for("embedded:")
    admin = supplier.admin({})
    admin.create_topics([NewTopic("input", 1, 1)])["input"].result()
    producer = supplier.producer({})
    for time in times:
        producer.produce("input", b"", timestamp=NOW + time)
        producer.flush()
    reset = Reset(supplier, StreamsConfig.parse({"application.id": "app", "bootstrap.servers": "embedded:"}))
    plan = reset.plan(None, to, input_topics=["input"])
    assert [change.after for change in plan.offsets] == [expected(times, to)]
    reset.carry_out(plan)
    offsets = ConsumerGroupTopicPartitions("app", [TopicPartition("input", 0)])
    found = admin.list_consumer_group_offsets([offsets])["app"].result().topic_partitions
    assert found is not None
    assert found[0].offset == expected(times, to)
    admin.delete_topics(["input"])["input"].result()


def test_positions_on_a_broker(kafka: LogUnderTest) -> None:
    topic = kafka.create("input")
    times = [5, 0, 10, 10, 3, 20]
    for time in times:
        kafka.write("input", [("k", "v")], timestamp=NOW + time)
    reset = resetting(kafka)
    for to in (ToEarliest(), ToLatest(), ToOffset(3), ToOffset(99), *(ToTime(NOW + time) for time in range(-1, 22))):
        plan = reset.plan(None, to, input_topics=[topic])
        assert [change.after for change in plan.offsets] == [expected(times, to)], to
        reset.carry_out(plan)
        assert committed(kafka) == {(topic, 0): expected(times, to)}


def test_times() -> None:
    assert ToTime.at(datetime(1970, 1, 2, tzinfo=UTC)) == ToTime(86_400_000)

    class Noon:
        def wall_ms(self) -> int:
            return 10_000_000

        def monotonic(self) -> float:
            raise AssertionError("not asked for")

    assert ToTime.ago(timedelta(seconds=10), Noon()) == ToTime(9_990_000)


def test_a_global_table_is_no_input(embedded: LogUnderTest) -> None:
    embedded.create("lines")
    embedded.create("names")
    builder = StreamsBuilder()
    builder.global_table(Topic("names", serdes.string, serdes.string), store="names")
    builder.stream(Topic("lines", serdes.string, serdes.string)).foreach(lambda _, __: None)
    topology: Topology = builder.build()
    plan = resetting(embedded).plan(topology, ToEarliest())
    assert [change.topic for change in plan.offsets] == ["lines"]
