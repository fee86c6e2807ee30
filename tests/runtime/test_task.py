"""A task without a client: which record is next, time, offsets, rewinding, exception handlers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from streamlet import (
    Processor,
    ProcessorContext,
    PunctuationType,
    Record,
    Response,
    Result,
    StreamsBuilder,
    TaskError,
    TaskId,
    Topic,
    Topology,
    TopologyTestDriver,
    log_and_continue,
    log_and_skip_on_invalid_timestamp,
    serdes,
    use_partition_time_on_invalid_timestamp,
    wallclock_timestamp,
)
from streamlet.config import StreamsConfig
from streamlet.metrics import Counters
from streamlet.processor.operator import Forward, NodeContext, Operator
from streamlet.records import Headers
from streamlet.runtime.task import Task
from streamlet.runtime.times import decode_times, encode_times, number_id
from streamlet.state import StateMemory, TaskState
from streamlet.testing.messages import TestMessage
from streamlet.time import ManualClock
from streamlet.topology.nodes import ProcessorNode
from tests.dsl.support import IN, OUT

Sent = tuple[str, bytes | None, bytes | None, int]


class Collector:
    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.headers: list[Any] = []

    def send(
        self, topic: str, key: Any, value: Any, timestamp: int, headers: Any, partition: int | None, node: str, /
    ) -> None:
        self.sent.append((topic, key, value, timestamp))
        self.headers.append(headers)

    direct = None

    def partition_count(self, topic: str, /) -> int:
        return 1


class Bench:
    """A task with everything around it."""

    def __init__(
        self,
        topology: Topology,
        partitions: list[tuple[str, int]],
        *,
        config: dict[str, Any] | None = None,
        lag: Callable[[str, int], int | None] | None = None,
        times: dict[tuple[str, int], str] | None = None,
    ) -> None:
        self.clock = ManualClock()
        self.collector = Collector()
        self.counters = Counters()
        (sub_topology,) = topology.sub_topologies
        self.task = Task(
            sub_topology,
            TaskId(0, 0),
            partitions=partitions,
            collector=self.collector,
            config=StreamsConfig.parse({"application.id": "app", "bootstrap.servers": "embedded:", **(config or {})}),
            clock=self.clock,
            sensor=self.counters,
            lag=lag,
        )
        for partition, metadata in (times or {}).items():
            self.task.restore_time(partition, metadata)
        self.state = TaskState.open(
            sub_topology.stores, directory=None, memory=StateMemory(8 << 20), timestamp=self.task.timestamp
        )
        self.task.initialize(self.state)
        self.offsets: dict[tuple[str, int], int] = {}

    def add(
        self, topic: str, *timestamps: int, partition: int = 0, value: bytes | None = b"0", key: bytes = b'"k"'
    ) -> None:
        for timestamp in timestamps:
            offset = self.offsets.get((topic, partition), 0)
            self.offsets[topic, partition] = offset + 1
            message = TestMessage(topic, key, value, timestamp, (), partition, offset)
            self.task.add_records(topic, partition, [message])

    @property
    def timestamps(self) -> list[int]:
        return [timestamp for *_, timestamp in self.collector.sent]


def pass_through(*topics: str, **options: Any) -> Topology:
    builder = StreamsBuilder()
    builder.stream([Topic(name, IN.key_serde, IN.value_serde) for name in topics], **options).to(OUT)
    return builder.build()


@given(st.dictionaries(st.sampled_from("abc"), st.lists(st.integers(0, 20), max_size=8), min_size=2))
def test_the_lowest_head_timestamp_is_next(heads: dict[str, list[int]]) -> None:
    """Against a merge that looks at all heads each time; ties go to the partition named first."""
    bench = Bench(pass_through(*heads), [(name, 0) for name in heads])
    for name, timestamps in heads.items():
        bench.add(name, *timestamps)
    queues = {name: list(timestamps) for name, timestamps in heads.items()}
    expected = []
    while any(queues.values()):
        name = min((name for name in queues if queues[name]), key=lambda name: queues[name][0])
        expected.append(queues[name].pop(0))
    assert bench.task.process(1000) == len(expected)
    assert bench.timestamps == expected
    assert {key[0]: offset.offset for key, offset in bench.task.consumed().items()} == {
        name: len(timestamps) for name, timestamps in heads.items() if timestamps
    }


@given(st.lists(st.integers(0, 20), max_size=12), st.lists(st.integers(1, 5), min_size=12, max_size=12))
def test_limits_cut_anywhere(timestamps: list[int], limits: list[int]) -> None:
    for partitions in ([("a", 0)], [("a", 0), ("b", 0)]):
        bench = Bench(pass_through(*dict(partitions)), partitions)
        bench.add("a", *timestamps)
        taken = [bench.task.process(limit) for limit in limits]
        assert all(count <= limit for count, limit in zip(taken, limits, strict=True))
        assert sum(taken) == len(timestamps)
        assert bench.timestamps == timestamps
        assert bench.task.buffered("a", 0) == 0
        assert bench.task.stream_time == max(timestamps, default=-1)


def test_waiting_for_partitions_without_records() -> None:
    lags: dict[str, int | None] = {"a": 0, "b": None}
    bench = Bench(pass_through("a", "b"), [("a", 0), ("b", 0)], lag=lambda topic, partition: lags[topic])
    bench.add("a", 5, 6)
    assert bench.task.process(10) == 0  # nothing is known about b
    lags["b"] = 3
    assert bench.task.process(10) == 0  # b has records that were not fetched yet
    bench.add("b", 1)
    lags["b"] = 0
    assert bench.task.process(10) == 3  # caught up: go on without it
    assert bench.timestamps == [1, 5, 6]


def test_waiting_longer_than_caught_up() -> None:
    config = {"max.task.idle.ms": 100}
    bench = Bench(pass_through("a", "b"), [("a", 0), ("b", 0)], lag=lambda topic, partition: 0, config=config)
    bench.add("a", 5)
    assert bench.task.process(10) == 0
    bench.clock.advance(timedelta(milliseconds=99))
    assert bench.task.process(10) == 0
    bench.clock.advance(timedelta(milliseconds=1))
    assert bench.task.process(10) == 1


def test_never_waiting() -> None:
    config = {"max.task.idle.ms": -1}
    bench = Bench(pass_through("a", "b"), [("a", 0), ("b", 0)], lag=lambda topic, partition: None, config=config)
    bench.add("a", 5)
    assert bench.task.process(10) == 1


@given(st.integers(-1, 2**62), st.dictionaries(st.text(), st.integers(0, 2**62), max_size=5))
def test_times_survive_in_metadata(time: int, named: dict[str, int]) -> None:
    numbers = {number_id(name): value for name, value in named.items()}
    assert decode_times(encode_times(time, numbers)) == (time, numbers)


@pytest.mark.parametrize("metadata", [None, "", "not base64!", "AA=="])
def test_strange_metadata_says_nothing(metadata: str | None) -> None:
    assert decode_times(metadata) == (-1, {})


def test_stream_time_is_restored_and_committed() -> None:
    bench = Bench(pass_through("a"), [("a", 0)], times={("a", 0): encode_times(50, {})})
    assert bench.task.stream_time == 50
    bench.add("a", 7)
    bench.task.process(1)
    assert bench.task.stream_time == 50
    (offset,) = bench.task.consumed().values()
    assert (offset.offset, decode_times(offset.metadata)) == (1, (50, {}))


@frozen
class Remembering(Operator):
    """Sends the highest timestamp it has seen, and counts how often it was told to go back."""

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        highest = context.remember("highest")
        rewinds = [0]

        def rewound() -> None:
            rewinds[0] += 1

        context.on_rewind(rewound)

        def process(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
            highest.value = max(highest.value, timestamp)
            forward(key, [highest.value, rewinds[0]], timestamp, headers)

        return process


def remembering() -> Topology:
    topology = Topology()
    topology.add_source("source", IN)
    topology.add_node(ProcessorNode("remembering", Remembering(), ("source",)))
    topology.add_sink("sink", Topic("out", serdes.json, serdes.json), "remembering")
    return topology


def test_what_a_node_remembers_goes_back_and_survives() -> None:
    bench = Bench(remembering(), [(IN.name, 0)])
    bench.add(IN.name, 50)
    bench.task.process(1)
    (committed,) = bench.task.consumed().values()
    bench.task.committed()
    bench.add(IN.name, 90)
    bench.task.process(1)
    bench.task.rewind()
    bench.add(IN.name, 10)
    bench.task.process(1)
    assert [value for _, _, value, _ in bench.collector.sent] == [b"[50,0]", b"[90,0]", b"[50,1]"]

    restarted = Bench(remembering(), [(IN.name, 0)], times={(IN.name, 0): committed.metadata})
    restarted.add(IN.name, 20)
    restarted.task.process(1)
    assert [value for _, _, value, _ in restarted.collector.sent] == [b"[50,0]"]


class Ticks(Processor[Any, Any, Any, Any]):
    """Sends its punctuations on."""

    def init(self, context: ProcessorContext[Any, Any]) -> None:
        context.schedule(timedelta(milliseconds=10), PunctuationType.STREAM_TIME, self.tick)

    def tick(self, now: int) -> None:
        self.context.forward(Record("tick", now, now))

    def process(self, record: Record[Any, Any]) -> None:
        if record.value == "commit":
            self.context.commit()


def test_rewinding_goes_back_to_the_last_commit() -> None:
    builder = StreamsBuilder()
    builder.stream(IN).process(Ticks).to(OUT)
    bench = Bench(builder.build(), [("in", 0)])
    bench.add("in", 3, value=b'"commit"')
    bench.task.process(10)
    assert bench.task.commit_requested
    bench.task.committed()
    assert not bench.task.commit_requested
    bench.add("in", 15, 16)
    bench.task.process(1)
    assert bench.timestamps == [3, 15]
    bench.task.rewind()
    assert (bench.task.stream_time, bench.task.buffered("in", 0)) == (3, 0)
    assert [offset.offset for offset in bench.task.consumed().values()] == [1]
    bench.offsets["in", 0] = 1
    bench.add("in", 15)
    bench.task.process(10)
    assert bench.timestamps == [3, 15, 15]  # what fired in the aborted transaction fires again


def test_a_record_that_fails_is_not_consumed() -> None:
    builder = StreamsBuilder()
    builder.stream(IN).map_values(lambda v: 1 // v).to(OUT)
    for partitions in ([("in", 0)], [("in", 0), ("in", 1)]):
        bench = Bench(builder.build(), partitions)
        bench.add("in", 1, 2, value=b"1")
        bench.add("in", 3, value=b"0")
        bench.add("in", 4, value=b"1")
        with pytest.raises(
            TaskError, match=r"\(node KSTREAM-MAPVALUES-0000000001, task 0_0, topic in, partition 0, offset 2\)"
        ):
            bench.task.process(10)
        assert bench.task.consumed()["in", 0].offset == 2
        assert bench.task.buffered("in", 0) == 2


def test_patterns_find_their_topics() -> None:
    import re

    from streamlet import TopicPattern

    builder = StreamsBuilder()
    builder.stream(TopicPattern(re.compile(r"in-\d"), serdes.json, serdes.json)).to(OUT)
    bench = Bench(builder.build(), [("in-1", 0)])
    bench.task.add_partition("in-2", 0)
    bench.task.add_partition("in-2", 0)
    bench.add("in-1", 5)
    bench.add("in-2", 4)
    assert bench.task.process(10) == 2
    assert bench.timestamps == [4, 5]
    assert not bench.task.reads("in-23")


# --- timestamps -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("partitions", [1, 2])
def test_invalid_timestamps_fail(partitions: int) -> None:
    bench = Bench(pass_through("a"), [("a", number) for number in range(partitions)])
    bench.add("a", -1)
    with pytest.raises(
        TaskError, match=r"has no valid timestamp \(node KSTREAM-SOURCE.*offset 0\).*use_partition_time"
    ):
        bench.task.process(10)


@pytest.mark.parametrize("partitions", [1, 2])
def test_extractors(partitions: int) -> None:
    def timestamps(extractor: Callable[[Record[Any, Any], int], int]) -> list[int]:
        bench = Bench(pass_through("a", timestamp_extractor=extractor), [("a", n) for n in range(partitions)])
        bench.add("a", 5, -1, 3)
        bench.task.process(10)
        assert next(iter(bench.task.consumed().values())).offset == 3
        return bench.timestamps

    assert timestamps(log_and_skip_on_invalid_timestamp) == [5, 3]
    assert timestamps(use_partition_time_on_invalid_timestamp) == [5, 5, 3]
    assert timestamps(lambda record, partition_time: partition_time + 10) == [9, 19, 29]
    assert min(timestamps(wallclock_timestamp)) > 1_700_000_000_000


def test_an_extractor_that_fails_is_fatal_whatever_the_handlers_say() -> None:
    config = {"processing.exception.handler": log_and_continue, "deserialization.exception.handler": log_and_continue}
    bench = Bench(
        pass_through("a", timestamp_extractor=lambda record, time: record.value["at"]), [("a", 0)], config=config
    )
    bench.add("a", 1)
    with pytest.raises(TaskError, match="has no valid timestamp"):
        bench.task.process(1)


# --- exception handlers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("partitions", [1, 2])
def test_unreadable_records_fail_or_go_to_the_dead_letters(partitions: int) -> None:
    where = [("a", number) for number in range(partitions)]
    bench = Bench(pass_through("a"), where)
    bench.add("a", 1, value=b"{")
    with pytest.raises(TaskError, match=r"cannot be deserialised \(node KSTREAM-SOURCE-0000000000, task 0_0, topic a"):
        bench.task.process(1)
    assert bench.task.consumed() == {}

    config = {
        "deserialization.exception.handler": log_and_continue,
        "errors.dead.letter.queue.topic.name": "dead",
    }
    bench = Bench(pass_through("a"), where, config=config)
    bench.add("a", 1, value=b"{")
    bench.add("a", 2)
    assert bench.task.process(10) == 2
    assert bench.collector.sent == [("dead", b'"k"', b"{", 1), ("out", b'"k"', b"0", 2)]
    headers = dict(bench.collector.headers[0])
    assert headers["__streams.errors.topic"] == b"a"
    assert headers["__streams.errors.partition"] == b"0"
    assert headers["__streams.errors.offset"] == b"0"
    assert headers["__streams.errors.exception"] == b"orjson.JSONDecodeError"
    assert headers["__streams.errors.message"]
    assert b"Traceback" in headers["__streams.errors.stacktrace"]
    assert bench.counters.snapshot()["dropped-records-total"] == 1


def test_continuing_drops_the_record_at_the_node_only() -> None:
    """What it forwarded before stands, and its siblings go on (KIP-1033)."""

    class Half(Processor[Any, Any, Any, Any]):
        def process(self, record: Record[Any, Any]) -> None:
            self.context.forward(record.with_value(["before", record.value]))
            raise RuntimeError("half way")

    builder = StreamsBuilder()
    stream = builder.stream(IN)
    stream.process(Half).to(OUT)
    stream.to(OUT)
    config = {"processing.exception.handler": log_and_continue}
    with TopologyTestDriver(builder.build(), config) as driver:
        driver.create_input_topic(IN).pipe_value_list([1, 2])
        assert driver.create_output_topic(OUT).read_values_to_list() == [["before", 1], 1, ["before", 2], 2]


def test_a_failure_further_down_is_handled_once() -> None:
    seen: list[Any] = []

    def handler(context: Any, record: Any, error: Exception) -> Response:
        seen.append((context.node, record.value))
        return Response.fail()

    class Forwards(Processor[Any, Any, Any, Any]):
        def process(self, record: Record[Any, Any]) -> None:
            self.context.forward(record)

    builder = StreamsBuilder()
    builder.stream(IN).process(Forwards, name="one").process(Forwards, name="two").foreach(
        lambda k, v: 1 // 0, name="end"
    )
    with (
        TopologyTestDriver(builder.build(), {"processing.exception.handler": handler}) as driver,
        pytest.raises(TaskError) as caught,
    ):
        driver.create_input_topic(IN).pipe_input("k", 7)
    assert seen == [("end", 7)]
    assert (caught.value.node, caught.value.topic, caught.value.partition, caught.value.offset) == ("end", "in", 0, 0)


def test_values_that_cannot_be_written() -> None:
    builder = StreamsBuilder()
    builder.stream(IN).map_values(lambda v: object() if v == 1 else v).to(OUT, name="sink")
    with (
        TopologyTestDriver(builder.build()) as driver,
        pytest.raises(TaskError, match=r"cannot be serialised for topic out \(node sink"),
    ):
        driver.create_input_topic(IN).pipe_input("k", 1)
    config = {"production.exception.handler": lambda context, record, error: Result.CONTINUE}
    with TopologyTestDriver(builder.build(), config) as driver:
        driver.create_input_topic(IN).pipe_value_list([1, 2])
        assert driver.create_output_topic(OUT).read_values_to_list() == [2]


@pytest.mark.parametrize("answer", [None, "continue", RuntimeError("handler")])
def test_handlers_that_fail_themselves_fail(answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    def handler(context: Any, record: Any, error: Exception) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    builder = StreamsBuilder()
    builder.stream(IN).foreach(lambda k, v: 1 // 0)
    with (
        TopologyTestDriver(builder.build(), {"processing.exception.handler": handler}) as driver,
        pytest.raises(TaskError, match="ZeroDivisionError"),
        caplog.at_level(logging.ERROR),
    ):
        driver.create_input_topic(IN).pipe_input("k", 1)
    assert "handler" in caplog.text


def test_dropped_records_are_logged_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    builder = StreamsBuilder()
    builder.stream(IN).group_by_key().count()
    with caplog.at_level(logging.WARNING), TopologyTestDriver(builder.build(), initial_wall_clock_time=0) as driver:
        source = driver.create_input_topic(IN)
        source.pipe_key_value_list([(None, 1)] * 5)
        driver.advance_wall_clock_time(timedelta(seconds=10))
        source.pipe_input(None, 1)
        assert driver.metrics()["dropped-records-total"] == 6
    assert len(caplog.records) == 2
    assert "topic in, partition 0, offset 0" in caplog.messages[0]
    assert "4 more since the last message" in caplog.messages[1]


def test_closing_closes_everything_and_reports_the_first_error() -> None:
    closed: list[str] = []

    class Closes(Processor[Any, Any, Any, Any]):
        def __init__(self, name: str) -> None:
            self.name = name

        def process(self, record: Record[Any, Any]) -> None: ...

        def close(self) -> None:
            closed.append(self.name)
            raise RuntimeError(self.name)

    builder = StreamsBuilder()
    builder.stream(IN).process(lambda: Closes("first")).process(lambda: Closes("second"))
    bench = Bench(builder.build(), [("in", 0)])
    with pytest.raises(TaskError, match="closing task 0_0 failed: RuntimeError: first"):
        bench.task.close()
    assert closed == ["first", "second"]
    bench.task.close()
