"""The TopologyTestDriver itself."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from streamlet import (
    InvalidStateStoreError,
    KTable,
    Materialized,
    Processor,
    ProcessorContext,
    PunctuationType,
    Record,
    Stores,
    StreamsBuilder,
    StreamsError,
    TaskError,
    Topic,
    TopologyError,
    TopologyTestDriver,
    serdes,
)
from streamlet.testing import BrokenPromiseError, MockProcessorContext
from tests.dsl.support import IN, OUT

LINES = Topic("lines", serdes.string, serdes.string)
COUNTS = Topic("word-counts", serdes.string, serdes.int64)


def word_count() -> StreamsBuilder:
    builder = StreamsBuilder()
    (
        builder.stream(LINES)
        .flat_map_values(lambda line: line.lower().split())
        .group_by(lambda _, word: word, key_serde=serdes.string, value_serde=serdes.string)
        .count(store="counts")
        .to_stream()
        .to(COUNTS)
    )
    return builder


def test_word_count() -> None:
    with TopologyTestDriver(word_count().build()) as driver:
        driver.create_input_topic(LINES).pipe_input("k", "hello kafka hello", timestamp=0)
        assert driver.create_output_topic(COUNTS).read_key_values_to_map() == {"hello": 2, "kafka": 1}
        assert driver.get_state_store("counts").get("hello") == 2
        assert driver.produced_topic_names == {
            "word-counts",
            "topology-test-driver-counts-repartition",
            "topology-test-driver-counts-changelog",
        }


def test_state_in_a_directory_is_there_again(tmp_path: Path) -> None:
    config = {"application.id": "words", "state.dir": str(tmp_path)}
    for total in (1, 2):
        with TopologyTestDriver(word_count().build(), config) as driver:
            driver.create_input_topic(LINES).pipe_input("k", "hello")
            assert driver.get_state_store("counts").get("hello") == total


def test_input_topics_keep_their_own_time() -> None:
    builder = StreamsBuilder()
    builder.stream(IN).to(OUT)
    with TopologyTestDriver(builder.build(), initial_wall_clock_time=7) as driver:
        source = driver.create_input_topic(IN, start_timestamp=100, auto_advance=timedelta(milliseconds=10))
        source.pipe_value_list([1, 2])
        source.advance_time(timedelta(seconds=1))
        source.pipe_input("k", 3)
        source.pipe_key_value_list([("k", 4), ("k", 5)], start_timestamp=5, advance=timedelta(milliseconds=2))
        driver.create_input_topic(IN).pipe_input("k", 6)
        out = driver.create_output_topic(OUT)
        assert [r.timestamp for r in out.read_records_to_list()] == [100, 110, 1120, 5, 7, 7]
        with pytest.raises(ValueError, match="time cannot go back"):
            source.advance_time(timedelta(milliseconds=-1))


def test_output_topics_are_read_once() -> None:
    builder = StreamsBuilder()
    builder.stream(IN).to(OUT)
    with TopologyTestDriver(builder.build()) as driver:
        out = driver.create_output_topic(OUT)
        assert out.is_empty
        source = driver.create_input_topic(IN)
        source.pipe_record_list([Record("a", 1, 0), Record("b", None, 1), Record("c", 3, 2), Record("d", 4, 3)])
        assert out.queue_size == 4
        assert out.read_key_value() == ("a", 1)
        assert out.read_value() is None
        assert out.read_record() == Record("c", 3, 2)
        assert out.read_values_to_list() == [4]
        with pytest.raises(LookupError, match="topic 'out' has no more records"):
            out.read_record()


def test_what_is_not_there_is_named() -> None:
    with TopologyTestDriver(word_count().build()) as driver:
        with pytest.raises(
            TopologyError, match="does not read topic 'nothing'; it reads lines, topology-test-driver-counts"
        ):
            driver.create_input_topic(Topic("nothing", serdes.string, serdes.string)).pipe_input("k", "v")
        with pytest.raises(InvalidStateStoreError, match="no store 'other'; the stores are: counts"):
            driver.get_state_store("other")
        driver.close()
        with pytest.raises(StreamsError, match="the driver is closed"):
            driver.create_input_topic(LINES).pipe_input("k", "v")


def test_stores_can_be_filled_before_the_test() -> None:
    with TopologyTestDriver(word_count().build(), initial_wall_clock_time=3) as driver:
        counts = driver.get_state_store("counts")
        counts.put("hello", 41)
        driver.create_input_topic(LINES).pipe_input("k", "hello", timestamp=0)
        assert list(counts.all()) == [("hello", 42)]
        assert driver.create_output_topic(COUNTS).read_record() == Record("hello", 42, 3)


def test_a_failed_record_leaves_no_trace_in_the_stores() -> None:
    builder = StreamsBuilder()
    table = builder.stream(IN).group_by_key().count(store="n")
    table.to_stream().map_values(lambda n: 1 // (3 - n)).to(OUT)
    with TopologyTestDriver(builder.build()) as driver:
        source = driver.create_input_topic(IN)
        source.pipe_key_value_list([("a", 1), ("a", 1)])
        for _ in range(2):
            with pytest.raises(
                TaskError, match="node KSTREAM-MAPVALUES-0000000003, task 0_0, topic in, partition 0, off"
            ):
                source.pipe_input("a", 1)
        assert driver.get_state_store("n").get("a") == 2


def test_own_output_is_fed_back() -> None:
    builder = StreamsBuilder()
    builder.stream(IN).map_values(lambda v: v - 1).filter(lambda k, v: v > 0).to(IN)
    with TopologyTestDriver(builder.build()) as driver:
        driver.create_input_topic(IN).pipe_input("k", 4)
        assert driver.create_output_topic(IN).read_values_to_list() == [3, 2, 1]


def test_wall_clock() -> None:
    fired: list[int] = []

    class Clock(Processor[Any, Any, Any, Any]):
        def init(self, context: ProcessorContext[Any, Any]) -> None:
            context.schedule(timedelta(seconds=10), PunctuationType.WALL_CLOCK_TIME, self.tick)

        def tick(self, now: int) -> None:
            fired.append(now)
            self.context.forward(Record("tick", now, now))

        def process(self, record: Record[Any, Any]) -> None: ...

    builder = StreamsBuilder()
    builder.stream(IN).process(Clock).to(
        OUT,
    )
    with TopologyTestDriver(builder.build(), initial_wall_clock_time=1_000) as driver:
        driver.advance_wall_clock_time(timedelta(seconds=9))
        assert fired == []
        driver.advance_wall_clock_time(timedelta(seconds=35))  # no catching up
        driver.advance_wall_clock_time(timedelta(seconds=7))
        assert fired == [45_000, 52_000]
        assert driver.create_output_topic(OUT).read_values_to_list() == fired


def _promised() -> tuple[StreamsBuilder, KTable[Any, Any]]:
    builder = StreamsBuilder()
    grouped = builder.stream(IN).group_by_key()
    store = Materialized("s", value_serde=serdes.json, immutable_values=True)
    return builder, grouped.aggregate(list, lambda k, v, a: [*a, v], store=store, name="adds")


def test_a_kept_promise_goes_unnoticed() -> None:
    builder, table = _promised()
    table.to_stream().to(OUT)
    with TopologyTestDriver(builder.build()) as driver:
        driver.create_input_topic(IN).pipe_key_value_list([("a", 1), ("a", 2)])
        assert driver.create_output_topic(OUT).read_values_to_list() == [[1], [1, 2]]


def test_the_operator_that_breaks_the_promise_is_named() -> None:
    builder, table = _promised()
    table.to_stream(name="to-stream").peek(lambda k, v: v.append(0), name="spoils").filter(
        lambda k, v: True, name="innocent"
    )
    with (
        TopologyTestDriver(builder.build()) as driver,
        pytest.raises(BrokenPromiseError, match=r"^node spoils changed a value in place.*store 's'"),
    ):
        driver.create_input_topic(IN).pipe_input("a", 1)


def test_an_aggregator_that_changes_its_argument_is_named() -> None:
    builder = StreamsBuilder()
    store = Materialized("s", value_serde=serdes.json, immutable_values=True)
    builder.stream(IN).group_by_key().aggregate(list, lambda k, v, a: a.append(v) or a, store=store, name="appends")
    with TopologyTestDriver(builder.build()) as driver:
        source = driver.create_input_topic(IN)
        with pytest.raises(BrokenPromiseError, match=r"^node appends changed"):
            source.pipe_key_value_list([("a", 1), ("a", 2)])


def test_mock_processor_context() -> None:
    store = Stores.key_value("seen", serdes.string, serdes.int64)

    class Deduplicate(Processor[str, str, str, str]):
        def init(self, context: ProcessorContext[str, str]) -> None:
            self.context = context
            self.seen = context.get_state_store(store)
            self.timer = context.schedule(timedelta(minutes=1), PunctuationType.STREAM_TIME, lambda now: None)

        def process(self, record: Record[str, str]) -> None:
            if self.seen.put_if_absent(record.value, record.timestamp) is None:
                self.context.forward(record)
            else:
                self.context.forward(record, "again")
                self.context.commit()
                self.timer.cancel()

    context = MockProcessorContext({"application.id": "mock"}, stores=[store])
    context.set_record_metadata("in", 0, 7)
    context.set_current_stream_time(5)
    processor = Deduplicate()
    processor.init(context)
    one = Record("k", "v", 1)
    processor.process(one)
    assert not context.committed
    processor.process(one)
    assert [(c.record, c.child) for c in context.forwarded] == [(one, None), (one, "again")]
    assert len(context.forwarded_to("again")) == 2
    assert len(context.forwarded_to("other")) == 1
    assert context.committed
    (punctuation,) = context.scheduled_punctuators
    assert (punctuation.interval, punctuation.type) == (timedelta(minutes=1), PunctuationType.STREAM_TIME)
    assert punctuation.cancelled
    context.reset_forwards()
    context.reset_commit()
    assert (context.forwarded, context.committed) == ([], False)
    assert context.application_id == "mock"
    with pytest.raises(TopologyError, match="has no store 'other'"):
        context.get_state_store("other")
    with pytest.raises(ValueError, match="negative timestamp"):
        context.forward(Record("k", "v", -1))
    context.close()
