"""A log for tests of the runtime, embedded or real, and ways to write to it, read from it and wait for it."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from time import monotonic, time_ns
from typing import Any

from confluent_kafka import KafkaError

from streamlet import serdes
from streamlet.clients import supplier_for
from streamlet.dsl.builder import StreamsBuilder
from streamlet.metrics import Sensor
from streamlet.runtime.hooks import FaultPoint, Hooks
from streamlet.runtime.lifecycle import State
from streamlet.runtime.streams import KafkaStreams
from streamlet.topic import Topic
from streamlet.topology import Topology

LINES = Topic("lines", serdes.string, serdes.string)
TIMEOUT = 60.0
NOW = time_ns() // 1_000_000  # as of now: brokers delete what is older than a week


class LogUnderTest:
    """An embedded log or a cluster, with names of its own for this test."""

    def __init__(self, servers: str, directory: Path, make_topic: Callable[..., Any], prefix: str) -> None:
        self.servers = servers
        self.directory = directory
        self.prefix = prefix
        self._make_topic = make_topic
        self.supplier = supplier_for(servers)

    def name(self, name: str) -> str:
        """The name on this log of a topic or an application."""
        return f"{self.prefix}{name}"

    def create(self, name: str, partitions: int = 1, **configs: str) -> str:
        """Make a topic; returns its name on this log."""
        self._make_topic(self.name(name), partitions, configs)
        return self.name(name)

    def config(self, application: str = "app", guarantee: str = "exactly_once_v2", **more: Any) -> dict[str, Any]:
        """A configuration; dots in keys are written as underscores."""
        return {
            "application.id": self.name(application),
            "bootstrap.servers": self.servers,
            "processing.guarantee": guarantee,
            "state.dir": str(self.directory / "state"),
            **{key.replace("__", ".").replace("_", "."): value for key, value in more.items()},
        }

    def write(self, topic: str, records: Iterable[tuple[Any, Any]], timestamp: int = NOW, partition: int = -1) -> None:
        """Write records and wait until they are there."""
        errors: list[KafkaError] = []
        producer = self.supplier.producer({"on_delivery": lambda error, _: errors.append(error) if error else None})
        for key, value in records:
            producer.produce(self.name(topic), value, key, partition, timestamp=timestamp)
            producer.poll(0)
        assert producer.flush(TIMEOUT) == 0
        assert not errors, errors

    def read(
        self,
        topic: str,
        until: Callable[[list[Any]], bool],
        timeout: float = TIMEOUT,
        isolation: str = "read_committed",
    ) -> list[Any]:
        """Read a topic from its beginning until the messages are enough."""
        consumer = self.supplier.consumer(
            {"group.id": f"reader-{self.prefix}{threading.get_ident()}-{monotonic()}", "auto.offset.reset": "earliest",
             "isolation.level": isolation, "enable.auto.commit": False, "fetch.wait.max.ms": 50}
        )  # fmt: skip
        found: list[Any] = []
        try:
            consumer.subscribe([self.name(topic)])
            deadline = monotonic() + timeout
            while not until(found):
                assert monotonic() < deadline, f"{topic}: {len(found)} messages: {[decoded(m) for m in found[-5:]]}"
                for message in consumer.consume(500, 0.1):
                    error = message.error()
                    assert error is None or error.code() in (
                        KafkaError._PARTITION_EOF,
                        KafkaError.UNKNOWN_TOPIC_OR_PART,
                    ), error
                    if error is None:
                        found.append(message)
        finally:
            consumer.close()
        return found

    def await_counts(self, topic: str, wanted: Mapping[str, int], timeout: float = TIMEOUT) -> list[Any]:
        """Read a topic of counts until the last of each key is the wanted one."""
        return self.read(topic, lambda found: last_counts(found) == wanted, timeout)


def decoded(message: Any) -> tuple[Any, Any]:
    """Key and value for a failure's text."""
    return message.key(), message.value()


def last_counts(messages: Iterable[Any]) -> dict[str, int]:
    """The last count of each key."""
    return {m.key().decode(): struct.unpack(">q", m.value())[0] for m in messages}


def word_count(log: LogUnderTest, *, repartition: bool = True) -> Topology:
    """Counts words; with a repartition topic between two sub-topologies, or keys of lines in one."""
    builder = StreamsBuilder()
    lines = builder.stream(Topic(log.name("lines"), serdes.string, serdes.string))
    out = Topic(log.name("counts"), serdes.string, serdes.int64)
    if repartition:
        grouped = lines.flat_map_values(lambda line: line.split()).group_by(
            lambda _, word: word, key_serde=serdes.string, value_serde=serdes.string
        )
    else:
        grouped = lines.group_by_key(key_serde=serdes.string, value_serde=serdes.string)
    grouped.count(store="counts").to_stream().to(out)
    return builder.build()


class States:
    """A state listener that remembers."""

    def __init__(self) -> None:
        self.seen: list[State] = []
        self._changed = threading.Condition()

    def __call__(self, new: State, old: State) -> None:
        with self._changed:
            self.seen.append(new)
            self._changed.notify_all()

    def wait_for(self, state: State, times: int = 1) -> None:
        """Wait until a state was reached so often."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.seen.count(state) >= times, TIMEOUT), self.seen


class Recorder(Sensor):
    """A sensor that remembers, and can be waited for."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.commits: list[tuple[float, float]] = []
        self.aborts: list[str] = []
        self.dropped: list[tuple[str, str, str]] = []
        self.restored = 0
        self.created: list[str] = []
        self.closed: list[str] = []
        self.processed = 0

    def _tell(self, change: Callable[[], object]) -> None:
        with self.changed:
            change()
            self.changed.notify_all()

    def on_processed(self, task: str, records: int) -> None:
        self._tell(lambda: setattr(self, "processed", self.processed + records))

    def on_commit(self, thread: str, tasks: int, seconds: float) -> None:
        self._tell(lambda: self.commits.append((monotonic(), seconds)))

    def on_abort(self, thread: str, reason: str) -> None:
        self._tell(lambda: self.aborts.append(reason))

    def on_dropped(self, task: str, node: str, reason: str) -> None:
        self._tell(lambda: self.dropped.append((task, node, reason)))

    def on_restored(self, task: str, store: str, records: int) -> None:
        self._tell(lambda: setattr(self, "restored", self.restored + records))

    def on_task_created(self, task: str) -> None:
        self._tell(lambda: self.created.append(task))

    def on_task_closed(self, task: str) -> None:
        self._tell(lambda: self.closed.append(task))

    def wait_for(self, condition: Callable[[Recorder], bool], timeout: float = TIMEOUT) -> None:
        """Wait until something has happened."""
        with self.changed:
            assert self.changed.wait_for(lambda: condition(self), timeout), vars(self)


class At(Hooks):
    """Does something the `nth` time a fault point is reached."""

    def __init__(self, point: FaultPoint, action: Callable[[], object], nth: int = 1) -> None:
        self._point = point
        self._action = action
        self._left = nth

    def reached(self, point: FaultPoint) -> None:
        if point is self._point:
            self._left -= 1
            if self._left == 0:
                self._action()


def running(topology: Topology, config: Mapping[str, Any], **options: Any) -> KafkaStreams:
    """Start an application and wait until it runs."""
    app = KafkaStreams(topology, config, **options)
    app.start()
    try:
        assert app.wait_until_running(timedelta(seconds=TIMEOUT))
    except BaseException:
        app.close()
        raise
    return app


def eventually(condition: Callable[[], bool], timeout: float = TIMEOUT) -> None:
    """Wait for what nobody announces."""
    deadline, pause = monotonic() + timeout, threading.Event()
    while not condition():
        assert monotonic() < deadline, "it did not happen in time"
        pause.wait(0.02)


def text(value: bytes | None) -> Any:
    """A JSON value."""
    return None if value is None else json.loads(value)
