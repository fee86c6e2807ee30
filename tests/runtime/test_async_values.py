"""Concurrent calls on a log: killed, rebalanced, hanging, refused; nothing lost, nothing twice under exactly-once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from streamlet import serdes
from streamlet.dsl.builder import StreamsBuilder
from streamlet.runtime.handlers import Response
from streamlet.runtime.hooks import FaultPoint
from streamlet.runtime.streams import KafkaStreams
from streamlet.topic import Topic
from streamlet.topology import Topology
from tests.runtime.async_app import uneven
from tests.runtime.harness import TIMEOUT, LogUnderTest, Recorder, eventually, running

ROOT = Path(__file__).parents[2]
QUICK = {"commit.interval.ms": 5, "consumer.session.timeout.ms": 3000, "consumer.heartbeat.interval.ms": 300}


def values(messages: list[Any]) -> Counter[str]:
    return Counter(message.value().decode() for message in messages)


@pytest.mark.parametrize("point", list(FaultPoint), ids=lambda point: point.name)
def test_killed_in_a_commit_with_calls_in_flight(log: LogUnderTest, guarantee: str, point: FaultPoint) -> None:
    log.create("lines", 2)
    log.create("out")
    log.write("lines", [(f"k{n}", f"line {n}") for n in range(400)])
    config = {**log.config(guarantee=guarantee), **QUICK}
    order = {"config": config, "prefix": log.prefix, "point": point.name, "nth": 4}
    command = [sys.executable, "-m", "tests.runtime.async_app", json.dumps(order)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert process.returncode == -signal.SIGKILL, process.stderr
    wanted = Counter(f"LINE {n}" for n in range(400))
    with running(uneven(log), config):
        if guarantee == "exactly_once_v2":
            log.write("lines", [(None, "the end")])
            wanted["THE END"] = 1
            assert values(log.read("out", lambda found: "THE END" in values(found) and len(found) >= 401)) == wanted
        else:
            log.read("out", lambda found: set(values(found)) == set(wanted))


def test_instances_come_and_go_with_calls_in_flight(kafka: LogUnderTest, guarantee: str) -> None:
    """Four tasks, one to two instances and back, while records keep coming; what is in flight then is done again."""
    kafka.create("lines", 4)
    kafka.create("out")
    stop = threading.Event()
    written = 0

    def load() -> None:
        nonlocal written
        while not stop.is_set():
            kafka.write("lines", [(f"k{n}", f"line {written + n}") for n in range(50)])
            written += 50

    def instance(number: int) -> KafkaStreams:
        config = {**kafka.config(guarantee=guarantee), **QUICK, "state.dir": str(kafka.directory / f"state{number}")}
        return KafkaStreams(uneven(kafka), config)

    loader = threading.Thread(target=load)
    with instance(0) as first, instance(1) as second:
        first.start()
        assert first.wait_until_running(timedelta(seconds=TIMEOUT))
        loader.start()
        try:
            second.start()
            eventually(lambda: _tasks(first) == _tasks(second) == 2)
            second.close()
            eventually(lambda: _tasks(first) == 4)
        finally:
            stop.set()
            loader.join()
        wanted = Counter(f"LINE {n}" for n in range(written))
        if guarantee == "exactly_once_v2":
            assert values(kafka.read("out", lambda found: len(found) >= written)) == wanted
        else:
            kafka.read("out", lambda found: set(values(found)) == set(wanted))


def _tasks(app: KafkaStreams) -> int:
    return sum(len(thread.active_tasks) for thread in app.metadata_for_local_threads())


class Gate:
    """A function of which calls for some texts wait until they are let through, or for ever."""

    def __init__(self, *held: str) -> None:
        self.held = held
        self.open = threading.Event()
        self.calls: list[str] = []

    def __call__(self, text: str) -> str:
        self.calls.append(text)
        if text in self.held:
            assert self.open.wait(TIMEOUT)
        return text.upper()

    def topology(self, log: LogUnderTest, **options: Any) -> Topology:
        builder = StreamsBuilder()
        lines = builder.stream(Topic(log.name("lines"), serdes.string, serdes.string))
        out = Topic(log.name("out"), serdes.string, serdes.string)
        lines.map_values_async(self, ordering="none", **options).to(out)
        return builder.build()


def test_a_call_that_hangs_holds_up_no_commit_and_only_its_record_is_read_again(
    log: LogUnderTest, guarantee: str
) -> None:
    """A `read_committed` reader sees the results behind it, so no transaction is open over it."""
    log.create("lines")
    log.create("out")
    texts = [f"t{n}" for n in range(100)]
    gate = Gate("t3", "t50")
    log.write("lines", [(None, text) for text in texts])
    with running(gate.topology(log), log.config(guarantee=guarantee)) as app:
        log.read("out", lambda found: len(found) >= 98)
        committed = log.read("out", lambda found: len(found) >= 98)
        assert set(values(committed)) == {text.upper() for text in texts} - {"T3", "T50"}
        app.close()
    gate.open.set()

    again = Gate()
    with running(again.topology(log), log.config(guarantee=guarantee)):
        log.write("lines", [(None, "after")])
        found = log.read("out", lambda found: len(found) >= 101)
    assert values(found) == Counter([*(text.upper() for text in texts), "AFTER"])
    assert sorted(again.calls) == ["after", "t3", "t50"]


def test_a_result_the_log_refuses_is_found_among_those_in_flight(log: LogUnderTest, guarantee: str) -> None:
    """Replayed one record at a time, the handler is asked about the right one."""
    log.create("lines")
    log.create("out", **{"max.message.bytes": "2000"})
    seen: list[Any] = []

    def go_on(context: Any, record: Any, error: Exception) -> Response:
        seen.append((context.offset, context.raw_value))
        return Response.resume()

    class Large(Gate):
        def __call__(self, text: str) -> str:
            value = super().__call__(text)
            return value * 5_000 if text == "t7" else value

    texts = [f"t{n}" for n in range(20)]
    large = Large()
    config = {
        **log.config(guarantee=guarantee),
        "production.exception.handler": go_on,
        "producer.message.max.bytes": 1_000_000,
    }
    sensor = Recorder()
    with running(large.topology(log), config, sensor=sensor):
        log.write("lines", [(None, text) for text in texts])
        wanted = {text.upper() for text in texts} - {"T7"}
        found = log.read("out", lambda found: set(values(found)) == wanted)
        log.write("lines", [(None, "after")])
        found = log.read("out", lambda found: "AFTER" in values(found))
    if guarantee == "exactly_once_v2":
        assert values(found) == Counter([*wanted, "AFTER"])
        assert [offset for offset, _ in seen] == [7]
        assert seen[0][1] in (None, b"t7")
    assert {offset for offset, _ in seen} == {7}
