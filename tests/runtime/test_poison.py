"""Records that cannot be read, processed or written, under each handler."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from streamlet import serdes
from streamlet.dsl.builder import StreamsBuilder
from streamlet.errors import InvalidStateStoreError, ProductionError, StreamsError, TaskError
from streamlet.processor.api import Processor
from streamlet.records import Record
from streamlet.runtime.handlers import ErrorContext, Response, log_and_continue, log_and_fail
from streamlet.runtime.streams import KafkaStreams
from streamlet.state import Stores
from streamlet.topic import Topic
from streamlet.topology import Topology
from tests.runtime.harness import TIMEOUT, LogUnderTest, Recorder, eventually, running


def remembering(seen: list[tuple[ErrorContext, Any, Exception]]) -> Callable[..., Response]:
    """A handler that goes on and remembers, with the dead letters of the default."""

    def handler(context: ErrorContext, record: Any, error: Exception) -> Response:
        seen.append((context, record, error))
        return Response.resume(context.dead_letters(error))

    return handler


def doubled(log: LogUnderTest) -> Topology:
    """Doubles numbers; 13 is not processed."""
    builder = StreamsBuilder()

    def double(number: int) -> int:
        if number == 13:
            raise ValueError("unlucky")
        return 2 * number

    numbers = Topic(log.name("in"), serdes.string, serdes.int64)
    builder.stream(numbers).map_values(double).to(Topic(log.name("out"), serdes.string, serdes.int64))
    return builder.build()


def query(app: KafkaStreams, key: str) -> Any:
    """Ask a store; None while its task is loaded again."""
    try:
        return app.store("kept").get(key)
    except InvalidStateStoreError:
        return None


def number(value: int) -> bytes:
    return serdes.int64.serialize(value)


def headers_of(message: Any) -> dict[str, bytes]:
    return {name.removeprefix("__streams.errors."): value for name, value in message.headers()}


@pytest.mark.parametrize("key", ["deserialization.exception.handler", "processing.exception.handler"])
def test_by_default_the_first_bad_record_ends_it(log: LogUnderTest, guarantee: str, key: str) -> None:
    log.create("in")
    log.create("out")
    bad = b"short" if key.startswith("des") else number(13)
    app = running(doubled(log), {**log.config(guarantee=guarantee), key: log_and_fail})
    log.write("in", [("k", number(1)), ("k", bad), ("k", number(3))])
    with pytest.raises(TaskError, match=f"{log.name('in')}, partition 0, offset 1") as ended:
        app.wait(timedelta(seconds=TIMEOUT))
    assert (ended.value.task, ended.value.partition, ended.value.offset) == ("0_0", 0, 1)


@pytest.mark.parametrize("dead_letters", [True, False])
def test_going_on_drops_the_record_and_writes_a_dead_letter(
    log: LogUnderTest, guarantee: str, dead_letters: bool
) -> None:
    log.create("in")
    log.create("out")
    log.create("dlq")
    config = {
        **log.config(guarantee=guarantee),
        "deserialization.exception.handler": log_and_continue,
        "processing.exception.handler": log_and_continue,
        **({"errors.dead.letter.queue.topic.name": log.name("dlq")} if dead_letters else {}),
    }
    sensor = Recorder()
    log.write("in", [("k", number(1)), ("k", b"short"), ("k", number(13)), ("k", number(4))])
    with running(doubled(log), config, sensor=sensor):
        found = log.read("out", lambda found: len(found) >= 2)
        assert [m.value() for m in found] == [number(2), number(8)]
        assert [reason for _, _, reason in sensor.dropped] == ["deserialization error", "processing error"]
        if dead_letters:
            unreadable, unlucky = log.read("dlq", lambda found: len(found) >= 2)
            assert (unreadable.key(), unreadable.value()) == (b"k", b"short")
            assert unlucky.value() == number(13)
            said = headers_of(unlucky)
            assert said["exception"] == b"ValueError"
            assert said["message"] == b"unlucky"
            assert (said["topic"], said["partition"], said["offset"]) == (log.name("in").encode(), b"0", b"2")


class Remember(Processor[str, Any, str, Any]):
    """Keeps the value and sends it on; the store takes any JSON."""

    stores = (Stores.key_value("kept", serdes.string, serdes.json),)

    def process(self, record: Record[str, Any]) -> None:
        value = float("nan") if record.value == "nan" else record.value
        self.context.get_state_store("kept").put(record.key, value)
        self.context.forward(record)


def kept(log: LogUnderTest) -> Topology:
    builder = StreamsBuilder()
    (
        builder.stream(Topic(log.name("in"), serdes.string, serdes.json))
        .process(Remember)
        .to(Topic(log.name("out"), serdes.string, serdes.json))
    )
    return builder.build()


def test_a_value_without_bytes_is_found_and_skipped(log: LogUnderTest, guarantee: str) -> None:
    """NaN is put into a store; only its own record is lost."""
    log.create("in")
    log.create("out")
    seen: list[tuple[ErrorContext, Any, Exception]] = []
    config = {**log.config(guarantee=guarantee), "processing.exception.handler": remembering(seen)}
    log.write("in", [(f"k{n}", b'"nan"' if n == 50 else str(n).encode()) for n in range(100)])
    with running(kept(log), config) as app:
        log.read("out", lambda found: {m.value() for m in found} >= {str(n).encode() for n in range(100) if n != 50})
        assert {context.offset for context, _, _ in seen} == {50}
        app.close()
    with running(kept(log), config) as app:
        store = app.store("kept")
        assert dict(store.all()) == {f"k{n}": n for n in range(100) if n != 50}


@pytest.mark.parametrize("where", ["changelog", "topic"])
def test_an_oversize_record_is_found_and_skipped(log: LogUnderTest, guarantee: str, where: str) -> None:
    """The log refuses a record of a sink, or of a changelog: nothing is lost but what came of its source record."""
    log.create("in")
    limits = {"max.message.bytes": "20000"}
    log.create("out", 1, **(limits if where == "topic" else {}))
    log.create("dlq")
    if where == "changelog":
        log.create("app-kept-changelog", 1, **limits, **{"cleanup.policy": "compact"})
    seen: list[tuple[ErrorContext, Any, Exception]] = []
    config = {
        **log.config(guarantee=guarantee),
        "production.exception.handler": remembering(seen),
        "errors.dead.letter.queue.topic.name": log.name("dlq"),
    }
    big = b'"' + b"x" * 50_000 + b'"'
    log.write("in", [(f"k{n}", big if n == 30 else str(n).encode()) for n in range(60)])
    good = {str(n).encode() for n in range(60) if n != 30}
    with running(kept(log), config) as app:
        log.read("out", lambda found: {m.value() for m in found if m.value() != big} >= good)
        eventually(lambda: bool(seen) and query(app, "k59") == 59)
    (context, _, error), *more = seen
    assert not more, seen
    assert "MSG_SIZE_TOO_LARGE" in repr(error)
    assert (context.topic, context.offset) == (log.name("in"), 30)
    letter = log.read("dlq", lambda found: len(found) >= 1)[0]
    assert letter.value() == big
    with running(kept(log), config) as app:
        entries = dict(app.store("kept").all())
        assert {key: value for key, value in entries.items() if key != "k30"} == {
            f"k{n}": n for n in range(60) if n != 30
        }
    assert len(seen) == 1, "a skipped record stays skipped"


def test_by_default_a_refused_record_ends_it(log: LogUnderTest, guarantee: str) -> None:
    log.create("in")
    log.create("out", 1, **{"max.message.bytes": "2000"})
    app = running(kept(log), log.config(guarantee=guarantee))
    log.write("in", [("k", b'"' + b"x" * 5_000 + b'"')])
    with pytest.raises(ProductionError, match=f"topic {log.name('out')} refused a record"):
        app.wait(timedelta(seconds=TIMEOUT))


def test_larger_than_the_client_takes(log: LogUnderTest, guarantee: str) -> None:
    """Refused at once, at its own node: the transaction goes on without it."""
    log.create("in")
    log.create("out")
    seen: list[tuple[ErrorContext, Any, Exception]] = []
    sensor = Recorder()
    config = {
        **log.config(guarantee=guarantee),
        "production.exception.handler": remembering(seen),
        "producer.message.max.bytes": 4_000,
    }
    builder = StreamsBuilder()
    source = builder.stream(Topic(log.name("in"), serdes.string, serdes.string))
    source.to(Topic(log.name("out"), serdes.string, serdes.string))
    log.write("in", [("k", b"a"), ("k", b"x" * 5_000), ("k", b"b")])
    with running(builder.build(), config, sensor=sensor):
        assert [m.value() for m in log.read("out", lambda found: len(found) >= 2)] == [b"a", b"b"]
    assert [(context.node, context.offset) for context, _, _ in seen] == [("KSTREAM-SINK-0000000001", 1)]
    assert not sensor.aborts


def test_a_sink_topic_that_does_not_exist_is_named(kafka: LogUnderTest, guarantee: str) -> None:
    kafka.create("in")
    config = {**kafka.config(guarantee=guarantee), "producer.topic.metadata.propagation.max.ms": 1_000}
    app: KafkaStreams = running(doubled(kafka), config)
    kafka.write("in", [("k", number(1))])
    with pytest.raises(StreamsError, match=kafka.name("out")):
        app.wait(timedelta(seconds=TIMEOUT))
