"""`map_values_async`: what the function gets, what becomes of errors and of late calls, where it may stand."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from datetime import timedelta
from typing import Any

import pytest

from streamlet import (
    KStream,
    MapValuesAsync,
    Processor,
    ProcessorContext,
    Record,
    Response,
    StreamsBuilder,
    TaskError,
    Topic,
    Topology,
    TopologyError,
    TopologyTestDriver,
    serdes,
)

IN, OUT = Topic("in", serdes.string, serdes.int64), Topic("out", serdes.string, serdes.string)
DEADLINE = 60.0
SOON = timedelta(milliseconds=20)


def topology(function: Callable[..., Any], **options: Any) -> Topology:
    builder = StreamsBuilder()
    stream: KStream[str, Any] = builder.stream(IN).map_values_async(function, **options)
    stream.to(OUT)
    return builder.build()


def results(built: Topology, *values: int, config: dict[str, Any] | None = None) -> list[Any]:
    with TopologyTestDriver(built, config) as driver:
        numbers = driver.create_input_topic(IN)
        for value in values:
            numbers.pipe_input("k", value, timestamp=value)
        return [(one.key, one.value, one.timestamp) for one in driver.create_output_topic(OUT).read_records_to_list()]


async def coroutine(value: int) -> str:
    return f"{value}!"


def plain(value: int) -> str:
    return f"{value}!"


def later(value: int) -> Awaitable[str]:
    return coroutine(value)


class Caller:
    async def __call__(self, value: int) -> str:
        return f"{value}!"


@pytest.mark.parametrize("function", [coroutine, plain, later, Caller()])
@pytest.mark.parametrize("ordering", ["partition", "key", "none"])
def test_functions_of_all_kinds(function: Any, ordering: str) -> None:
    assert results(topology(function, ordering=ordering), 1, 2) == [("k", "1!", 1), ("k", "2!", 2)]


def test_what_the_function_is_given() -> None:
    assert results(topology(lambda key, value: f"{key}{value}", with_key=True), 1) == [("k", "k1", 1)]
    seen: list[Any] = []

    async def of_record(record: Record[str, int]) -> str:
        seen.append(record)
        return "r"

    assert results(topology(of_record, with_record=True), 7) == [("k", "r", 7)]
    assert [(one.key, one.value, one.timestamp, list(one.headers)) for one in seen] == [("k", 7, 7, [])]


def test_plain_functions_run_at_the_same_time() -> None:
    """Three calls that wait for each other, of the three records that one record becomes."""
    together = threading.Barrier(3)
    threads: set[str] = set()

    def meet(value: int) -> str:
        together.wait(DEADLINE)
        threads.add(threading.current_thread().name)
        return str(value)

    builder = StreamsBuilder()
    three = builder.stream(IN).flat_map_values(lambda value: [value, value + 1, value + 2])
    three.map_values_async(meet).to(OUT)
    assert [value for _, value, _ in results(builder.build(), 1)] == ["1", "2", "3"]
    assert len(threads) == 3
    assert threading.current_thread().name not in threads


def test_results_are_sent_on_by_the_tasks_thread_in_the_context_of_their_record() -> None:
    seen: list[Any] = []

    class Look(Processor[str, str, str, str]):
        def init(self, context: ProcessorContext[str, str]) -> None:
            self.context = context

        def process(self, record: Record[str, str]) -> None:
            metadata = self.context.record_metadata()
            assert metadata is not None
            seen.append((metadata.offset, record.value, dict(record.headers), threading.current_thread()))

    builder = StreamsBuilder()
    builder.stream(IN).map_values_async(plain).process(Look)
    with TopologyTestDriver(builder.build()) as driver:
        numbers = driver.create_input_topic(IN)
        for value in range(3):
            numbers.pipe_input("k", value, headers=[("h", str(value).encode())])
    assert seen == [(n, f"{n}!", {"h": str(n).encode()}, threading.current_thread()) for n in range(3)]


def bad(value: int) -> str:
    raise ValueError(f"bad {value}")


async def bad_coroutine(value: int) -> str:
    raise ValueError(f"bad {value}")


def hangs(value: int) -> str:
    Future[str]().result(DEADLINE)
    return ""


async def hangs_coroutine(value: int) -> str:
    import asyncio

    await asyncio.get_running_loop().create_future()
    return ""


@pytest.mark.parametrize(
    ("function", "error"),
    [
        (bad, "ValueError: bad 5"),
        (bad_coroutine, "ValueError: bad 5"),
        (lambda: None, "TypeError"),
        (hangs, "TimeoutError: the call took longer than 0:00:00.020000"),
        (hangs_coroutine, "TimeoutError: the call took longer than 0:00:00.020000"),
    ],
)
def test_errors_and_timeouts_go_to_the_processing_exception_handler(function: Any, error: str) -> None:
    timeout = SOON if "Timeout" in error else None
    with pytest.raises(TaskError, match=error) as raised:
        results(topology(function, timeout=timeout, name="fetch"), 5)
    assert (raised.value.node, raised.value.topic, raised.value.offset) == ("fetch", "in", 0)

    seen: list[Any] = []

    def go_on(context: Any, record: Any, failure: Exception) -> Response:
        seen.append((context.node, context.offset, record.key, record.value, type(failure)))
        return Response.resume(context.dead_letters(failure))

    config = {"processing.exception.handler": go_on, "errors.dead.letter.queue.topic.name": "dead"}
    with TopologyTestDriver(topology(function, timeout=timeout, name="fetch"), config) as driver:
        driver.create_input_topic(IN).pipe_input("k", 5, timestamp=5)
        assert driver.create_output_topic(OUT).read_records_to_list() == []
        (letter,) = driver.create_output_topic(Topic("dead", serdes.string, serdes.int64)).read_values_to_list()
    assert letter == 5
    assert [one[:4] for one in seen] == [("fetch", 0, "k", 5)]


def test_recover_makes_the_value_instead() -> None:
    def instead(value: int, error: Exception) -> str:
        return f"{value}: {type(error).__name__}"

    assert results(topology(bad, recover=instead), 5) == [("k", "5: ValueError", 5)]
    assert results(topology(hangs_coroutine, recover=instead, timeout=SOON), 5) == [("k", "5: TimeoutError", 5)]

    def worse(value: int, error: Exception) -> str:
        raise KeyError("worse")

    with pytest.raises(TaskError, match="worse"):
        results(topology(bad, recover=worse), 5)


def test_calls_that_hang_leave_room_for_others() -> None:
    """Threads are given up after the timeout, as many as may be in flight; what ends makes room again."""
    release = threading.Event()

    def first_hang(value: int) -> str:
        if value < 2:
            release.wait(DEADLINE)
        return str(value)

    def instead(value: int, error: Exception) -> str:
        if value == 1:
            release.set()
        return "late"

    built = topology(first_hang, max_in_flight=1, timeout=timedelta(seconds=0.2), recover=instead)
    assert [value for _, value, _ in results(built, 0, 1, 2)] == ["late", "late", "2"]


def test_what_ends_a_thread_ends_the_application_here_too() -> None:
    def leave(value: int) -> str:
        raise SystemExit("enough")

    async def leave_the_loop(value: int) -> str:
        raise SystemExit("enough")

    for function in (leave, leave_the_loop):
        with pytest.raises(SystemExit, match="enough"):
            results(topology(function), 1)

    async def text(value: int) -> str:
        return str(value)

    assert [value for _, value, _ in results(topology(text), 1)] == ["1"]  # the event loop is still there


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_in_flight": 0}, "max_in_flight"),
        ({"max_in_flight": "many"}, "max_in_flight"),
        ({"ordering": "random"}, "ordering"),
        ({"timeout": timedelta(0)}, "timeout"),
        ({"timeout": 5}, "timeout"),
        ({"with_key": True, "with_record": True}, "with_record gives the key too"),
    ],
)
def test_wrong_arguments_are_refused(options: Any, message: str) -> None:
    with pytest.raises(TopologyError, match=message):
        topology(plain, **options)


def test_too_many_in_flight_in_one_sub_topology_are_refused() -> None:
    with pytest.raises(TopologyError, match="400 records in flight together, not 401"):
        TopologyTestDriver(topology(plain, max_in_flight=401))
    with pytest.raises(TopologyError, match="function"):
        topology(7)  # type: ignore[arg-type]


def counted(stream: Any) -> Any:
    return stream.group_by_key().count().to_stream()


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (lambda stream: counted(stream).map_values_async(plain), "stands between"),
        (lambda stream: (stream.map_values_async(plain), counted(stream)), "records go from"),
        (lambda stream: (stream.map_values_async(plain), stream.map_values_async(plain)), "records go from"),
        (lambda stream: stream.merge(stream.map_values_async(lambda value: value)), "records go from"),
        (lambda stream: stream.process(Passing).map_values_async(plain), "stands between"),
    ],
)
def test_it_has_its_topic_to_itself(build: Any, why: str) -> None:
    builder = StreamsBuilder()
    build(builder.stream(IN))
    with pytest.raises(TopologyError, match=why) as raised:
        builder.build()
    assert "repartition()" in str(raised.value)

    through = StreamsBuilder()
    build(Through(through.stream(IN)))
    through.build()


class Passing(Processor[str, int, str, int]):
    def process(self, record: Record[str, int]) -> None:
        self.context.forward(record)


class Through:
    """A stream with a `repartition` in front of each `map_values_async`."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            plain_arguments = [one._stream if isinstance(one, Through) else one for one in arguments]
            stream = self._stream
            if name == "map_values_async":
                stream = stream.repartition(key_serde=serdes.string, value_serde=serdes.int64)
            return Through(getattr(stream, name)(*plain_arguments, **options))

        return call


def test_branches_may_go_different_ways() -> None:
    builder = StreamsBuilder()
    branches = builder.stream(IN).filter(lambda _, value: value > 0).split(name="by-")
    branches.branch(lambda _, value: value > 2, name="large").branch(lambda _, value: True, name="small")
    found = branches.no_default_branch()
    found["by-large"].map_values_async(plain).map_values_async(lambda text: text + "?", ordering="none").to(OUT)
    found["by-small"].map_values(str).to(OUT)
    assert [value for _, value, _ in results(builder.build(), 0, 1, 3)] == ["1", "3!?"]


def test_state_may_come_behind_it() -> None:
    builder = StreamsBuilder()
    stream = builder.stream(IN).map_values_async(plain)
    counts = stream.group_by_key(key_serde=serdes.string, value_serde=serdes.string).count(store="counts")
    counts.to_stream().to(Topic("counts", serdes.string, serdes.int64))
    with TopologyTestDriver(builder.build()) as driver:
        numbers = driver.create_input_topic(IN)
        for value in range(3):
            numbers.pipe_input("k", value)
        assert driver.get_state_store("counts").get("k") == 3


def test_the_operator_stands_in_topologies_put_together_by_hand_too() -> None:
    built = Topology()
    built.add_source("source", IN)
    built.add_processor("fetch", MapValuesAsync(plain), "source")
    built.add_sink("sink", OUT, "fetch")
    assert results(built, 1) == [("k", "1!", 1)]

    built = Topology()
    built.add_source("source", IN)
    built.add_processor("before", Passing, "source")
    built.add_processor("fetch", MapValuesAsync(plain), "before")
    with pytest.raises(TopologyError, match="'before' stands between them"):
        TopologyTestDriver(built)
