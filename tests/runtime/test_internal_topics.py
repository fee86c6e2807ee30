"""The application's own topics on the log: as Kafka Streams makes them, and kept short."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, OffsetSpec, ResourceType

from streamlet import serdes
from streamlet.dsl.builder import StreamsBuilder
from streamlet.dsl.materialized import Materialized
from streamlet.dsl.windows import JoinWindows, TimeWindows
from streamlet.errors import InvalidTopicError, MissingSourceTopicError, StreamsError, TopologyError
from streamlet.runtime.streams import KafkaStreams
from streamlet.state import Stores
from streamlet.topic import Topic
from streamlet.topology import Topology
from tests.runtime.harness import TIMEOUT, LogUnderTest, eventually, running, word_count

DAY_MS = 86_400_000


def lines(log: LogUnderTest, name: str = "lines") -> Topic[str, str]:
    return Topic(log.name(name), serdes.string, serdes.string)


def of_every_kind(log: LogUnderTest) -> Topology:
    """A repartition topic and stores of each kind."""
    builder = StreamsBuilder()
    grouped = builder.stream(lines(log)).group_by(lambda _, v: v, key_serde=serdes.string, name="by-word")
    hour = TimeWindows.of_size(timedelta(hours=1), grace=timedelta(0))
    grouped.count(store="counts")
    grouped.windowed_by(hour).count(store=Materialized("per-hour", retention=timedelta(hours=2)))
    builder.table(
        lines(log, "table"), store=Materialized("history", history_retention=timedelta(hours=3))
    ).to_stream().foreach(lambda _, __: None)
    grouped.reduce(
        lambda a, _: a, store=Materialized("own", changelog_config={"segment.bytes": "1048576", "retention.ms": "1"})
    )
    builder.add_state_store(Stores.key_value("unlogged", serdes.string, serdes.string, logging=False))
    return builder.build()


def partitions_and_configs(log: LogUnderTest, topics: list[str]) -> dict[str, tuple[int, dict[str, str]]]:
    admin = log.supplier.admin({})
    prefix = log.name("app") + "-"
    found = admin.list_topics(timeout=10).topics
    resources = [ConfigResource(ResourceType.TOPIC, prefix + topic) for topic in topics]
    configs = {r.name: future.result(10) for r, future in admin.describe_configs(resources).items()}
    return {
        topic: (
            len(found[prefix + topic].partitions),
            {name: str(entry.value) for name, entry in configs[prefix + topic].items()},
        )
        for topic in topics
    }


def set_config(log: LogUnderTest, topic: str, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = log.supplier.admin({})
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(10)


def test_topics_are_made_as_kafka_streams_makes_them(log: LogUnderTest) -> None:
    log.create("lines", 3)
    log.create("table", 2)
    config = log.config(windowstore__changelog__additional__retention__ms=1000)
    with running(of_every_kind(log), config):
        pass
    expected: dict[str, tuple[int, dict[str, str]]] = {
        "by-word-repartition": (
            3,
            {"cleanup.policy": "delete", "retention.ms": "-1", "segment.bytes": "52428800",
             "message.timestamp.type": "CreateTime"},
        ),
        "counts-changelog": (3, {"cleanup.policy": "compact", "message.timestamp.type": "CreateTime"}),
        "per-hour-changelog": (3, {"cleanup.policy": "compact,delete", "retention.ms": str(2 * 3_600_000 + 1000)}),
        "history-changelog": (
            2,
            {"cleanup.policy": "compact", "min.compaction.lag.ms": str(3 * 3_600_000 + DAY_MS)},
        ),
        "own-changelog": (3, {"cleanup.policy": "compact", "segment.bytes": "1048576", "retention.ms": "1"}),
        "tasks": (8, {"cleanup.policy": "compact"}),
    }  # fmt: skip
    found = partitions_and_configs(log, list(expected))
    for topic, (partitions, configs) in expected.items():
        assert found[topic][0] == partitions, topic
        assert {name: found[topic][1][name] for name in configs} == configs, topic
    names = set(log.supplier.admin({}).list_topics(timeout=10).topics)
    assert {name for name in names if name.startswith(log.name("app") + "-")} == {
        f"{log.name('app')}-{topic}" for topic in expected
    }, "and no others"
    with running(of_every_kind(log), config):
        pass  # what was made is accepted


@pytest.mark.parametrize(
    ("topic", "name", "value", "said"),
    [
        ("per-hour-changelog", "retention.ms", "3600000", r"retention.ms 3600000, but the topology needs 93600000"),
        ("by-word-repartition", "retention.ms", "60000", r"retention.ms 60000, but the topology needs -1"),
        ("by-word-repartition", "cleanup.policy", "compact", "has cleanup.policy 'compact', but the topology needs"),
        ("history-changelog", "min.compaction.lag.ms", "0", "min.compaction.lag.ms 0, but the topology needs"),
        ("counts-changelog", "cleanup.policy", "compact,delete", "needs 'compact'"),
    ],
)
def test_a_topic_that_would_lose_records_is_refused(
    log: LogUnderTest, topic: str, name: str, value: str, said: str
) -> None:
    log.create("lines", 1)
    log.create("table", 1)
    with running(of_every_kind(log), log.config()):
        pass
    set_config(log, f"{log.name('app')}-{topic}", name, value)
    app = KafkaStreams(of_every_kind(log), log.config())
    with pytest.raises(InvalidTopicError, match=said) as refused:
        app.start()
    assert f"{log.name('app')}-{topic}" in str(refused.value)


def test_longer_retention_than_needed_is_accepted(log: LogUnderTest) -> None:
    log.create("lines", 1)
    log.create("table", 1)
    with running(of_every_kind(log), log.config()):
        pass
    set_config(log, f"{log.name('app')}-per-hour-changelog", "retention.ms", "-1")
    with running(of_every_kind(log), log.config()):
        pass


def test_topics_to_be_joined_need_equally_many_partitions(log: LogUnderTest) -> None:
    log.create("left", 2)
    log.create("right", 3)
    builder = StreamsBuilder()
    within = JoinWindows.of_time_difference(timedelta(seconds=1), grace=timedelta(0))
    builder.stream(lines(log, "left")).join(
        builder.stream(lines(log, "right")), lambda a, _: a, within, store_name="joined"
    ).foreach(lambda _, __: None)
    app = KafkaStreams(builder.build(), log.config())
    with pytest.raises(TopologyError) as refused:
        app.start()
    assert f"{log.name('left')} has 2, {log.name('right')} has 3" in str(refused.value)
    assert "repartition() one of the streams, or create the topics with equal numbers" in str(refused.value)
    assert not [t for t in log.supplier.admin({}).list_topics(timeout=10).topics if t.startswith(log.name("app"))]


def test_a_repartition_topic_takes_the_size_of_what_it_is_joined_with(log: LogUnderTest) -> None:
    log.create("left", 2)
    log.create("right", 3)
    builder = StreamsBuilder()
    keyed = builder.stream(lines(log, "left")).select_key(lambda _, v: v)
    keyed.join(
        builder.table(lines(log, "right"), store="right"), lambda a, _: a, name="joined", key_serde=serdes.string
    ).foreach(lambda _, __: None)
    with running(builder.build(), log.config()):
        pass
    assert partitions_and_configs(log, ["joined-repartition"])["joined-repartition"][0] == 3


def offset(log: LogUnderTest, topic: str, spec: Any) -> int:
    admin = log.supplier.admin({})
    place = TopicPartition(topic, 0)
    return int(admin.list_offsets({place: spec})[place].result(10).offset)


def test_what_was_read_of_a_repartition_topic_is_deleted(log: LogUnderTest, guarantee: str) -> None:
    log.create("lines")
    log.create("counts")
    topic = f"{log.name('app')}-counts-repartition"
    log.write("lines", [("k", "a b c")] * 100)
    config = {**log.config(guarantee=guarantee), "repartition.purge.interval.ms": 0, "commit.interval.ms": 50}
    with running(word_count(log), config):
        log.await_counts("counts", {"a": 100, "b": 100, "c": 100})
        # a commit asks for the deletion of what the ones before it committed
        written = 0
        while offset(log, topic, OffsetSpec.earliest()) < 300:  # type: ignore[no-untyped-call]
            written += 1
            assert written < 200, "nothing was deleted"
            log.write("lines", [("k", "d")])
            log.await_counts("counts", {"a": 100, "b": 100, "c": 100, "d": written})
    assert offset(log, topic, OffsetSpec.latest()) >= 300 + written  # type: ignore[no-untyped-call]
    log.write("lines", [("k", "a")])
    with running(word_count(log), config):  # what is gone had been committed
        log.await_counts("counts", {"a": 101, "b": 100, "c": 100, **({"d": written} if written else {})})


def test_a_source_topic_that_is_deleted_ends_the_application(log: LogUnderTest) -> None:
    log.create("lines")
    log.create("other")
    builder = StreamsBuilder()
    for name in ("lines", "other"):
        builder.stream(lines(log, name)).foreach(lambda _, __: None)
    config = {**log.config(), "consumer.topic.metadata.refresh.interval.ms": 1000}
    app = KafkaStreams(builder.build(), config)
    app.start()
    try:
        assert app.wait_until_running(timedelta(seconds=TIMEOUT))
        admin = log.supplier.admin({})  # an answer comes only while it lives
        admin.delete_topics([log.name("other")])[log.name("other")].result(30)
        eventually(lambda: app.state.has_ended)
        with pytest.raises(Exception, match=log.name("other")) as ended:
            app.wait()
        assert isinstance(ended.value, MissingSourceTopicError) or "cannot be read" in str(ended.value)
    finally:
        app.close()


def test_more_replicas_than_brokers_is_an_error_in_the_brokers_words(kafka: LogUnderTest) -> None:
    kafka.create("lines")
    app = KafkaStreams(word_count(kafka), kafka.config(replication_factor=3))
    with app, pytest.raises(StreamsError, match=r"topic .* could not be created: .*replication factor") as caught:
        app.start()
    assert kafka.prefix in str(caught.value)
    ours = [name for name in kafka.supplier.admin({}).list_topics(timeout=10).topics if name.startswith(kafka.prefix)]
    assert ours == [kafka.name("lines")]
