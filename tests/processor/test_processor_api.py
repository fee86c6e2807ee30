"""The Processor API, run by the test driver: forwarding, contexts, stores, punctuation."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, ClassVar

import pytest

from streamlet import (
    FixedKeyProcessor,
    FixedKeyProcessorContext,
    Processor,
    ProcessorContext,
    PunctuationType,
    Record,
    Stores,
    StreamsBuilder,
    TaskError,
    TaskId,
    Topology,
    TopologyError,
    TopologyTestDriver,
    serdes,
)
from streamlet.testing import MockProcessorContext
from tests.dsl.support import IN, OUT

SECOND = timedelta(seconds=1)


class Base(Processor[Any, Any, Any, Any]):
    """Sends everything on."""

    def process(self, record: Record[Any, Any]) -> None:
        self.context.forward(record)


def drive(
    processor: Callable[[], Processor[Any, Any, Any, Any]], config: dict[str, Any] | None = None
) -> TopologyTestDriver:
    builder = StreamsBuilder()
    builder.stream(IN).process(processor, name="p").to(OUT, name="sink")
    return TopologyTestDriver(builder.build(), config, initial_wall_clock_time=0)


def test_forward_to_all_or_to_a_named_child() -> None:
    class Route(Base):
        def process(self, record: Record[Any, Any]) -> None:
            self.context.forward(record)
            self.context.forward(record.with_value("b only"), "b")

    topology = Topology().add_source("source", IN).add_processor("route", Route, "source")
    topology.add_processor("a", Base, "route").add_processor("b", Base, "route")
    from streamlet import Topic

    out = {name: Topic(f"out-{name}", serdes.json, serdes.json) for name in "ab"}
    for name, topic in out.items():
        topology.add_sink(f"sink-{name}", topic, name)
    with TopologyTestDriver(topology) as driver:
        driver.create_input_topic(IN).pipe_input("k", "v")
        assert driver.create_output_topic(out["a"]).read_values_to_list() == ["v"]
        assert driver.create_output_topic(out["b"]).read_values_to_list() == ["v", "b only"]


def test_an_unknown_child_is_named() -> None:
    class Wrong(Base):
        def process(self, record: Record[Any, Any]) -> None:
            self.context.forward(record, "nobody")

    with drive(Wrong) as driver, pytest.raises(TaskError, match="node 'p' has no child 'nobody'; its children: 'sink'"):
        driver.create_input_topic(IN).pipe_input("k", "v")


def test_negative_timestamps_are_refused() -> None:
    class Early(Base):
        def process(self, record: Record[Any, Any]) -> None:
            self.context.forward(record.with_timestamp(-1))

    with (
        drive(Early) as driver,
        pytest.raises(TaskError, match="node 'p' forwards a record with the negative timestamp -1"),
    ):
        driver.create_input_topic(IN).pipe_input("k", "v")


def test_what_a_context_tells() -> None:
    told: list[Any] = []

    class Asks(Base):
        def init(self, context: ProcessorContext[Any, Any]) -> None:
            told.append((context.task_id, context.application_id, context.record_metadata(), context.headers()))
            told.append((context.current_stream_time(), context.current_system_time()))
            told.append(context.app_configs()["commit.interval.ms"])

        def process(self, record: Record[Any, Any]) -> None:
            origin = self.context.record_metadata()
            assert origin is not None
            told.append((origin.topic, origin.partition, origin.offset, tuple(self.context.headers())))
            told.append(self.context.current_stream_time())

        def close(self) -> None:
            told.append("closed")

    with drive(Asks, {"application.id": "asks", "producer.linger.ms": 5}) as driver:
        source = driver.create_input_topic(IN)
        source.pipe_record(Record("k", "v", 9, (("h", b"1"),)))
        source.pipe_input("k", "v", 4)
    assert told == [
        (TaskId(0, 0), "asks", None, ()), (-1, 0), 30_000,
        ("in", 0, 0, (("h", b"1"),)), 9,
        ("in", 0, 1, ()), 9,
        "closed",
    ]  # fmt: skip


def test_stores_are_connected_by_the_class_or_by_name() -> None:
    own = Stores.key_value("own", serdes.string, serdes.json)
    shared = Stores.key_value("shared", serdes.string, serdes.json)
    other = Stores.key_value("other", serdes.string, serdes.json)

    class Writes(Base):
        stores: ClassVar = [own]

        def process(self, record: Record[Any, Any]) -> None:
            self.context.get_state_store(own).put(record.key, record.value)
            self.context.get_state_store("shared").put(record.key, record.value)
            if record.value == "bad":
                self.context.get_state_store(other)

    builder = StreamsBuilder().add_state_store(shared).add_state_store(other)
    builder.stream(IN).process(Writes, stores=["shared"], name="writes")
    with TopologyTestDriver(builder.build()) as driver:
        source = driver.create_input_topic(IN)
        source.pipe_input("k", 1)
        assert driver.get_state_store(own).get("k") == 1
        assert driver.get_state_store(shared).get("k") == 1
        with pytest.raises(TaskError, match="store 'other' is not connected with node 'writes'"):
            source.pipe_input("k", "bad")


def test_a_store_that_is_not_declared_is_refused_on_build() -> None:
    builder = StreamsBuilder()
    builder.stream(IN).process(Base, stores=["nowhere"], name="p")
    with pytest.raises(TopologyError, match="node 'p': store 'nowhere' does not exist: add it with add_state_store"):
        builder.build()


def test_fixed_keys_stay() -> None:
    class Shout(FixedKeyProcessor[Any, Any, Any]):
        def init(self, context: FixedKeyProcessorContext[Any, Any]) -> None:
            context.schedule(
                SECOND, PunctuationType.WALL_CLOCK_TIME, lambda now: context.forward(Record("t", now, now))
            )

        def process(self, record: Record[Any, Any]) -> None:
            self.context.forward(record.with_value(record.value.upper()))
            if record.value == "bad":
                self.context.forward(record.with_key("other"))

    builder = StreamsBuilder()
    stream = builder.stream(IN).process_values(Shout, name="shout")
    assert not stream.repartition_required
    stream.to(OUT, name="out")
    with TopologyTestDriver(builder.build()) as driver:
        source = driver.create_input_topic(IN)
        source.pipe_input("k", "v")
        with pytest.raises(TaskError, match="forwards key 'other', while the record at hand has 'k': use Processor"):
            source.pipe_input("k", "bad")
        with pytest.raises(TaskError, match="forwards key 't', while there is no record at hand"):
            driver.advance_wall_clock_time(SECOND)
        assert driver.create_output_topic(OUT).read_values_to_list() == ["V", "BAD"]


def test_each_task_has_its_own_processor_and_init_may_fail() -> None:
    class Fails(Base):
        def init(self, context: ProcessorContext[Any, Any]) -> None:
            raise RuntimeError("no luck")

    with pytest.raises(TaskError, match="task 0_0 could not be initialised: RuntimeError: no luck"):
        drive(Fails)


class Timer(Base):
    """Notes (name, time, record metadata) of its punctuations."""

    def __init__(self, fired: list[Any], *intervals: int) -> None:
        self.fired = fired
        self.intervals = intervals

    def init(self, context: ProcessorContext[Any, Any]) -> None:
        for interval in self.intervals:
            context.schedule(
                timedelta(milliseconds=interval),
                PunctuationType.STREAM_TIME,
                lambda now, interval=interval: self.fired.append((interval, now, context.record_metadata())),
            )


def test_stream_time_punctuation_is_aligned_to_the_epoch_and_does_not_catch_up() -> None:
    fired: list[Any] = []
    with drive(lambda: Timer(fired, 10)) as driver:
        source = driver.create_input_topic(IN)
        seen = []
        for timestamp in (23, 24, 29, 25, 30, 31, 78, 79, 80):
            before = len(fired)
            source.pipe_input("k", 0, timestamp)
            seen.append((timestamp, len(fired) - before))
    # at once with the first record, then once for each multiple of ten that stream time passes, jumps counted as one
    assert seen == [(23, 1), (24, 0), (29, 0), (25, 0), (30, 1), (31, 0), (78, 1), (79, 0), (80, 1)]
    assert fired == [(10, 23, None), (10, 30, None), (10, 78, None), (10, 80, None)]


def test_punctuations_fire_in_order_and_can_be_cancelled_inside() -> None:
    fired: list[Any] = []

    class Once(Base):
        def init(self, context: ProcessorContext[Any, Any]) -> None:
            def once(now: int) -> None:
                fired.append(("once", now))
                handle.cancel()

            handle = context.schedule(SECOND, PunctuationType.STREAM_TIME, once)
            context.schedule(SECOND, PunctuationType.STREAM_TIME, lambda now: fired.append(("always", now)))

    with drive(Once) as driver:
        source = driver.create_input_topic(IN)
        source.pipe_input("k", 0, 0)
        source.pipe_input("k", 0, 1000)
    assert fired == [("once", 0), ("always", 0), ("always", 1000)]


def test_short_intervals_are_refused() -> None:
    with pytest.raises(TaskError, match="interval must be a timedelta of at least 1 ms"):
        drive(lambda: Timer([], 0))


@pytest.mark.parametrize(
    ("interval", "type", "callback", "message"),
    [
        (1, PunctuationType.STREAM_TIME, print, "must be a timedelta of at least 1 ms, not 1"),
        (SECOND, "stream_time", print, "follows a PunctuationType, STREAM_TIME or WALL_CLOCK_TIME, not 'stream_time'"),
        (SECOND, PunctuationType.STREAM_TIME, None, "calls a plain function of the time, not None"),
    ],
)
def test_a_punctuation_that_would_never_be_what_was_meant_is_refused(
    interval: Any, type: Any, callback: Any, message: str
) -> None:
    class Scheduling(Base):
        def init(self, context: ProcessorContext[Any, Any]) -> None:
            context.schedule(interval, type, callback)

    with pytest.raises(TaskError, match=message):
        drive(Scheduling)
    with pytest.raises(ValueError, match=message):
        MockProcessorContext().schedule(interval, type, callback)


class Waiting(Base):
    async def process(self, record: Record[Any, Any]) -> None:  # type: ignore[override]
        self.context.forward(record)


@pytest.mark.parametrize("supplier", [Waiting, lambda: Waiting()])
def test_a_processor_that_would_have_to_be_awaited_is_refused(supplier: Any) -> None:
    """Its records would be lost: nothing awaits what `process` returns."""
    with pytest.raises(TopologyError, match=r"Waiting\.process is a coroutine function, and nothing awaits it"):
        StreamsBuilder().stream(IN).process(supplier)


@pytest.mark.parametrize("supplier", [Base, lambda: Base()])
def test_a_processor_that_may_change_keys_is_refused_where_they_have_to_stay(supplier: Any) -> None:
    """Records of a key would meet in no task: nothing behind it repartitions."""
    builder = StreamsBuilder()
    with pytest.raises(TopologyError, match="Base is a Processor, which may change them: make it a FixedKeyProcessor"):
        builder.stream(IN).process_values(supplier)
    with pytest.raises(TopologyError, match="make it a FixedKeyProcessor"):
        builder.table(IN).transform_values(supplier)


def test_stores_are_a_list() -> None:
    with pytest.raises(TopologyError, match=r"stores= takes a list of stores or of their names: \['names'\]"):
        StreamsBuilder().stream(IN).process(Base, stores="names")


def test_errors_in_punctuations_name_the_node() -> None:
    class Fails(Base):
        def init(self, context: ProcessorContext[Any, Any]) -> None:
            context.schedule(SECOND, PunctuationType.WALL_CLOCK_TIME, lambda now: 1 // 0)

    with (
        drive(Fails) as driver,
        pytest.raises(TaskError, match=r"a punctuation failed in user code \(node p, task 0_0, in"),
    ):
        driver.advance_wall_clock_time(SECOND)


def test_library_failures_behind_a_processor_are_not_its_own() -> None:
    """A handler that continues must not hide that something other than user code failed."""
    from attrs import frozen

    from streamlet.dsl.plan import ProcessorStep
    from streamlet.processor.operator import Forward, NodeContext, Operator
    from streamlet.runtime.handlers import log_and_continue

    @frozen
    class Broken(Operator):
        def compile(self, context: NodeContext, forward: Forward) -> Forward:
            def broken(key: Any, value: Any, timestamp: int, headers: Any) -> None:
                raise RuntimeError("a defect")

            return broken

    builder = StreamsBuilder()
    stream = builder.stream(IN).process(Base, name="p")
    builder.plan.add(ProcessorStep("broken", [stream.step], Broken()))
    config = {"processing.exception.handler": log_and_continue}
    with (
        TopologyTestDriver(builder.build(), config) as driver,
        pytest.raises(TaskError, match=r"a node behind 'p'.* failed: RuntimeError: a defect"),
    ):
        driver.create_input_topic(IN).pipe_input("k", "v")
