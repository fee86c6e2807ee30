"""Closing from wherever user code runs, and at any time: it ends, and everything that was opened is closed."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NoReturn

import pytest

from streamlet import KeyValueStore, Processor, ProcessorContext, Record, Stores, serdes
from streamlet.dsl.builder import StreamsBuilder
from streamlet.errors import StateStoreError
from streamlet.runtime.lifecycle import State
from streamlet.runtime.streams import KafkaStreams
from streamlet.topic import Topic
from streamlet.topology import Topology
from tests.runtime.harness import TIMEOUT, LogUnderTest, running

SOON = timedelta(seconds=TIMEOUT)
NAMES = Stores.key_value("names", serdes.string, serdes.string)


def lines(log: LogUnderTest, seen: Callable[[str, str], object] = lambda _key, _line: None) -> StreamsBuilder:
    builder = StreamsBuilder()
    builder.stream(Topic(log.name("lines"), serdes.string, serdes.string)).foreach(seen)
    return builder


def with_global(log: LogUnderTest, processor: Callable[[], Any]) -> Topology:
    log.create("names")
    builder = lines(log)
    builder.add_global_store(NAMES, Topic(log.name("names"), serdes.string, serdes.string), processor)
    return builder.build()


class Fill(Processor[str, str]):
    """Fills the global store, and does something more with each record, or when it is closed."""

    def __init__(
        self, processed: Callable[[], object] = lambda: None, closed: Callable[[], object] = lambda: None
    ) -> None:
        self._processed = processed
        self._closed = closed

    def init(self, context: ProcessorContext[Any, Any]) -> None:
        self.names: KeyValueStore[str, str] = context.get_state_store(NAMES)

    def process(self, record: Record[str, str]) -> None:
        self._processed()
        self.names.put(record.key, record.value)

    def close(self) -> None:
        self._closed()


def finished(call: Callable[[], object]) -> bool:
    """Whether a call comes back; a daemon, so that the test process ends if it does not."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(TIMEOUT)
    return not thread.is_alive()


@pytest.mark.parametrize("when", [State.REBALANCING, State.RUNNING, State.PENDING_SHUTDOWN, State.NOT_RUNNING])
def test_a_listener_may_close_at_any_change_of_the_state(embedded: LogUnderTest, when: State) -> None:
    app = KafkaStreams(lines(embedded).build(), embedded.config())
    app.set_state_listener(lambda new, _: app.close() if new is when else None)
    app.start()
    assert finished(app.close)
    assert app.state is State.NOT_RUNNING


def test_a_listener_may_close_when_the_start_has_failed(embedded: LogUnderTest) -> None:
    (embedded.directory / "state").write_text("no directory")
    app = KafkaStreams(lines(embedded).build(), embedded.config())
    app.set_state_listener(lambda new, _: app.close() if new is State.PENDING_ERROR else None)
    raised: list[BaseException] = []

    def start() -> None:
        try:
            app.start()
        except StateStoreError as error:
            raised.append(error)

    assert finished(start)
    assert raised
    assert app.state is State.ERROR


def test_a_listener_may_close_when_a_global_store_has_failed(embedded: LogUnderTest) -> None:
    def fail() -> NoReturn:
        raise ValueError("no such name")

    app = KafkaStreams(with_global(embedded, lambda: Fill(fail)), embedded.config())
    app.set_state_listener(lambda new, _: app.close() if new is State.PENDING_ERROR else None)
    app.start()
    embedded.write("names", [("k", "v")])
    with pytest.raises(Exception, match="no such name"):
        app.wait(SOON)
    assert app.state is State.ERROR


def test_an_exception_handler_that_exits_ends_the_application(embedded: LogUnderTest) -> None:
    def fail(_key: str, line: str) -> NoReturn:
        raise ValueError(line)

    app = KafkaStreams(lines(embedded, fail).build(), embedded.config())
    app.set_uncaught_exception_handler(lambda _: sys.exit(1))
    app.start()
    embedded.write("lines", [("k", "poison")])
    with pytest.raises(Exception, match="poison"):
        app.wait(SOON)
    assert app.state is State.ERROR


def test_a_global_processor_may_close_the_application(embedded: LogUnderTest) -> None:
    app = KafkaStreams(with_global(embedded, lambda: Fill(lambda: app.close())), embedded.config())
    app.start()
    embedded.write("names", [("k", "v")])
    assert app.wait(SOON)
    assert app.state is State.NOT_RUNNING


def test_a_global_processor_may_close_it_while_it_starts(embedded: LogUnderTest) -> None:
    app = KafkaStreams(with_global(embedded, lambda: Fill(lambda: app.close())), embedded.config())
    embedded.write("names", [("k", "v")])
    assert finished(app.start)
    assert app.state is State.NOT_RUNNING


def test_another_thread_may_close_it_while_global_stores_are_read(embedded: LogUnderTest) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        go_on.wait(TIMEOUT)

    topology = with_global(embedded, lambda: Fill(wait))
    embedded.write("names", [("k", "v")])
    app = KafkaStreams(topology, embedded.config())
    raised: list[BaseException] = []

    def start() -> None:
        try:
            app.start()
        except BaseException as error:
            raised.append(error)

    starting = threading.Thread(target=start)
    starting.start()
    assert begun.wait(TIMEOUT)
    assert not app.close(timedelta(0)), "it is still reading"
    with pytest.raises(Exception, match="in use"):  # nobody else gets the directory before it has let go of it
        KafkaStreams(topology, embedded.config()).start()
    go_on.set()
    starting.join(TIMEOUT)
    assert not raised
    assert app.state is State.NOT_RUNNING
    running(with_global_again(embedded), embedded.config()).close()


def with_global_again(log: LogUnderTest) -> Topology:
    builder = lines(log)
    builder.add_global_store(NAMES, Topic(log.name("names"), serdes.string, serdes.string), Fill)
    return builder.build()


def test_a_global_processor_that_cannot_be_closed_holds_up_nothing(
    embedded: LogUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> NoReturn:
        raise ValueError("stuck")

    app = running(with_global(embedded, lambda: Fill(closed=fail)), embedded.config())
    assert app.close(SOON)
    assert app.state is State.NOT_RUNNING
    assert "ValueError: stuck" in caplog.text
    running(with_global_again(embedded), embedded.config()).close()
