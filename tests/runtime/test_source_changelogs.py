"""`reuse.ktable.source.topics`: a table comes back from the topic it is read from, as it was when the task stopped."""

from __future__ import annotations

import json
import signal
from datetime import timedelta
from typing import Any

import pytest

from streamlet import Materialized, Record, StreamsBuilder, Topic, log_and_continue, serdes
from streamlet.clients import supplier_for
from streamlet.runtime.hooks import FaultPoint
from streamlet.runtime.streams import KafkaStreams
from streamlet.state import VersionedRecord
from tests.runtime.crash_app import values_per_group
from tests.runtime.harness import NOW, TIMEOUT, LogUnderTest, Recorder, eventually, last_counts, running
from tests.runtime.test_crashes import QUICK, spawn

REUSE = {"topology.optimization": "reuse.ktable.source.topics"}


class Restores:
    """A listener that remembers from where to where each store is restored."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, str, int, int]] = []
        self.ended: list[tuple[str, int]] = []

    def on_restore_start(self, topic: str, partition: int, store: str, start: int, end: int) -> None:
        self.begun.append((topic, store, start, end))

    def on_batch_restored(self, topic: str, partition: int, store: str, end: int, restored: int) -> None: ...

    def on_restore_end(self, topic: str, partition: int, store: str, total: int) -> None:
        self.ended.append((store, total))

    def on_restore_suspended(self, topic: str, partition: int, store: str, total: int) -> None: ...


def topics(log: LogUnderTest) -> set[str]:
    return set(supplier_for(log.servers).admin({}).list_topics(timeout=TIMEOUT).topics)


def test_the_table_is_restored_from_its_source_up_to_what_was_processed(log: LogUnderTest, guarantee: str) -> None:
    """What was written while the application was down is processed, against the old values of then: had it been
    restored too, it would be subtracted from the wrong groups."""
    source = log.create("lines", 1)
    log.create("counts")
    config = {**log.config(guarantee=guarantee), **REUSE}
    log.write("lines", [(f"k{n}", f"g{n % 3}") for n in range(30)])
    with running(values_per_group(log, config), config):
        log.await_counts("counts", {"g0": 10, "g1": 10, "g2": 10})
    assert log.name("app-rows-changelog") not in topics(log)
    assert log.name("app-groups-changelog") in topics(log)
    assert len(log.read("lines", lambda found: len(found) >= 30)) == 30, "nobody but the test writes to the source"

    log.write("lines", [(f"k{n}", "g0") for n in range(20)])
    restores = Restores()
    app = KafkaStreams(values_per_group(log, config), config)
    app.clean_up()
    app.set_global_state_restore_listener(restores)
    with app:
        app.start()
        log.await_counts("counts", {"g0": 23, "g1": 3, "g2": 4})
    assert (source, "rows", 0, 30) in restores.begun
    assert ("rows", 30) in restores.ended


def test_a_restart_restores_the_tail_only(log: LogUnderTest, guarantee: str) -> None:
    source = log.create("lines", 1)
    log.create("counts")
    config = {**log.config(guarantee=guarantee), **REUSE}
    log.write("lines", [(f"k{n}", f"g{n % 3}") for n in range(30)])
    with running(values_per_group(log, config), config):
        log.await_counts("counts", {"g0": 10, "g1": 10, "g2": 10})
    restores = Restores()
    app = KafkaStreams(values_per_group(log, config), config)
    app.set_global_state_restore_listener(restores)
    with app:
        app.start()
        log.write("lines", [("k0", "g1")])
        log.await_counts("counts", {"g0": 9, "g1": 11, "g2": 10})
    assert not [begun for begun in restores.begun if begun[0] == source], "the state was at what is committed"


@pytest.mark.parametrize(
    "point", [FaultPoint.BEFORE_COMMIT, FaultPoint.AFTER_COMMIT, FaultPoint.AFTER_STORES], ids=lambda point: point.name
)
def test_killed_in_a_commit(log: LogUnderTest, point: FaultPoint) -> None:
    """Every key changes its group over and over: one old value too new or too old, and a group is wrong for ever."""
    log.create("lines", 2)
    log.create("counts", 1)
    log.write("lines", [(f"k{n % 40}", f"g{n * 7 % 5}") for n in range(1_001)])
    config = {**log.config(guarantee="exactly_once_v2"), **QUICK, **REUSE}
    app = spawn(log, config, point, nth=4, program="values_per_group")
    _, said = app.communicate(timeout=TIMEOUT)
    assert app.returncode == -signal.SIGKILL, said
    last = {f"k{n % 40}": f"g{n * 7 % 5}" for n in range(1_001)}
    groups = [*last.values()]
    wanted = {group: groups.count(group) for group in {f"g{n}" for n in range(5)}}
    with running(values_per_group(log, config), config):
        log.read("counts", lambda found: {k: c for k, c in last_counts(found).items() if c} == wanted)


def by_field(record: Record[Any, Any], partition_time: int) -> int:
    return -1 if record.value is None else int(record.value.get("at", -1))


def test_what_was_skipped_stays_out_and_the_rest_is_as_it_was_put(log: LogUnderTest) -> None:
    """Unreadable records, records without key or valid time; bytes that the serde would write otherwise; times that an
    extractor makes."""
    log.create("rows", 1)
    rows = Topic(log.name("rows"), serdes.json, serdes.json)
    builder = StreamsBuilder()
    versioned = Materialized[Any]("rows", history_retention=timedelta(hours=1))
    builder.table(rows, store=versioned, timestamp_extractor=by_field)
    config = {
        **log.config(guarantee="at_least_once"),
        **REUSE,
        "deserialization.exception.handler": log_and_continue,
    }
    written: list[tuple[Any, Any]] = [
        ('{"id": 1}', json.dumps({"at": 5, "v": "a"})),
        ('{"id":1}', json.dumps({"at": 7, "v": "b"})),
        ('"k"', "{broken"),
        ("{broken", json.dumps({"at": 8})),
        (None, json.dumps({"at": 9})),
        ('"negative"', json.dumps({"at": -3})),
        ('"k"', json.dumps({"at": 11, "v": "c"})),
    ]
    log.write("rows", written)

    def content(app: KafkaStreams) -> list[Any]:
        return [app.store("rows").get(key) for key in ("k", {"id": 1}, "negative")]

    wanted = [
        VersionedRecord({"at": 11, "v": "c"}, 11, None),
        VersionedRecord({"at": 7, "v": "b"}, 7, None),
        None,
    ]
    with running(builder.build(config), config) as app:
        eventually(lambda: content(app) == wanted)
    app.clean_up()
    sensor = Recorder()
    with running(builder.build(config), config, sensor=sensor) as app:
        assert content(app) == wanted
        sensor.wait_for(lambda sensor: sensor.restored == 3)


def test_a_topic_that_lost_its_beginning_restores_what_is_left(kafka: LogUnderTest) -> None:
    """Records of an aborted transaction lie in between: they are no part of the table."""
    name = kafka.create("rows", 1)
    producer = kafka.supplier.producer({"transactional.id": kafka.name("writer")})
    producer.init_transactions(TIMEOUT)
    for value, commit in (("one", True), ("never", False), ("two", True)):
        producer.begin_transaction()
        producer.produce(name, value, "k", timestamp=NOW)
        producer.flush(TIMEOUT)
        producer.commit_transaction(TIMEOUT) if commit else producer.abort_transaction(TIMEOUT)
    builder = StreamsBuilder()
    builder.table(Topic(name, serdes.string, serdes.string), store="rows")
    config = {**kafka.config(), **REUSE}
    with running(builder.build(config), config) as app:
        eventually(lambda: app.store("rows").get("k") == "two")
    app.clean_up()
    with running(builder.build(config), config) as app:  # the log ends with a marker, behind what is committed
        assert app.store("rows").get("k") == "two"
