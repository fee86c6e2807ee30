"""Standby replicas: a task that comes to a warm copy goes on from it; a copy never shows what was not committed."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from streamlet import Materialized, StreamsBuilder, Topic, serdes
from streamlet.config import StreamsConfig
from streamlet.errors import InvalidStateStoreError, StateStoreError
from streamlet.records import TaskId
from streamlet.runtime import standby
from streamlet.runtime.context import TaskClaims
from streamlet.runtime.failures import LogRefusalError, Remedy
from streamlet.runtime.follow import Follower, StandbyTask
from streamlet.runtime.hooks import FaultPoint, Hooks
from streamlet.runtime.internal_topics import Admin, LogBusyError
from streamlet.runtime.lifecycle import State
from streamlet.runtime.metadata import HostInfo
from streamlet.runtime.streams import KafkaStreams
from streamlet.state import StateMemory, Stores, TaskState
from streamlet.time import ManualClock
from tests.runtime.harness import TIMEOUT, LogUnderTest, Recorder, eventually, word_count

ROOT = Path(__file__).parents[2]
MEMBERS = {"consumer.session.timeout.ms": 3000, "consumer.heartbeat.interval.ms": 300}
KEYS = [f"k{n}" for n in range(3_000)]


class Copies(Recorder):
    """Remembers what standby copies take in, and where restoring begins."""

    def __init__(self) -> None:
        super().__init__()
        self.copied = 0
        self.begun: list[tuple[int, int]] = []
        self.ended_at: list[float] = []

    def on_standby_updated(self, task: str, store: str, records: int) -> None:
        self._tell(lambda: setattr(self, "copied", self.copied + records))

    def on_restore_start(self, topic: str, partition: int, store: str, start: int, end: int) -> None:
        self._tell(lambda: self.begun.append((start, end)))

    def on_batch_restored(self, topic: str, partition: int, store: str, end: int, restored: int) -> None: ...

    def on_restore_end(self, topic: str, partition: int, store: str, total: int) -> None: ...

    def on_restore_suspended(self, topic: str, partition: int, store: str, total: int) -> None: ...


def config(log: LogUnderTest, number: int, guarantee: str, replicas: int, protocol: str = "classic") -> dict[str, Any]:
    return {
        **log.config(guarantee=guarantee),
        "state.dir": str(log.directory / f"state{number}"),
        "num.standby.replicas": replicas,
        "application.server": f"host:{number + 1}",
        "group.protocol": protocol,
        **(MEMBERS if protocol == "classic" else {}),
    }


def instance(log: LogUnderTest, number: int, guarantee: str, replicas: int = 1, **more: str) -> tuple[Any, Copies]:
    sensor = Copies()
    app = KafkaStreams(
        word_count(log, repartition=False), config(log, number, guarantee, replicas, **more), sensor=sensor
    )
    app.set_global_state_restore_listener(sensor)
    return app, sensor


def tasks(app: KafkaStreams) -> set[str]:
    return {str(task) for thread in app.metadata_for_local_threads() for task in thread.active_tasks}


def started(app: KafkaStreams) -> None:
    app.start()
    assert app.wait_until_running(timedelta(seconds=TIMEOUT))


def shown(app: KafkaStreams, *, stale: bool) -> dict[str, int]:
    """What an instance shows; nothing while it cannot."""
    try:
        return dict(app.store("counts", stale_stores=stale).all())
    except InvalidStateStoreError:
        return {}


@contextmanager
def process(log: LogUnderTest, settings: dict[str, Any]) -> Iterator[subprocess.Popen[bytes]]:
    """An instance in a process of its own, killed in the end."""
    order = json.dumps({"config": settings, "prefix": log.prefix})
    running = subprocess.Popen([sys.executable, "-m", "tests.runtime.standby_app", order], cwd=ROOT)
    try:
        yield running
    finally:
        running.kill()
        running.wait()


@pytest.mark.parametrize("replicas", [1, 0], ids=["warm", "cold"])
def test_killed_and_taken_over(kafka: LogUnderTest, guarantee: str, replicas: int) -> None:
    """SIGKILL of the instance that runs half of the tasks: with a copy next to nothing is left to be restored."""
    kafka.create("lines", 4)
    kafka.create("counts", 1)
    app, sensor = instance(kafka, 0, guarantee, replicas)
    with app:
        with process(kafka, config(kafka, 1, guarantee, replicas)) as other:
            started(app)
            eventually(lambda: len(tasks(app)) == 2)
            kafka.write("lines", [(key, "x") for key in KEYS])
            kafka.write("lines", [(key, "x") for key in KEYS])
            _wait_for_counts(kafka, 2)
            if replicas:
                eventually(lambda: shown(app, stale=True) == dict.fromkeys(KEYS, 2))
            sensor.begun.clear()
            restored = sensor.restored
            own = tasks(app)
            other.kill()
            other.wait()
            eventually(lambda: len(tasks(app)) == 4 and not app.restore_progress())
            eventually(lambda: shown(app, stale=False) == dict.fromkeys(KEYS, 2))
        assert own < tasks(app)
        restored = sensor.restored - restored
        changelog = _changelog_records(kafka, [int(task.partition("_")[2]) for task in tasks(app) - own])
        if replicas:
            assert restored <= 5, "what the copy had not read when its instance died"
            assert all(start > 0 for start, _ in sensor.begun)
        else:
            assert restored >= changelog > 500
        kafka.write("lines", [(key, "x") for key in KEYS[:50]])
        eventually(lambda: shown(app, stale=False) == {**dict.fromkeys(KEYS, 2), **dict.fromkeys(KEYS[:50], 3)})


def _wait_for_counts(log: LogUnderTest, wanted: int) -> None:
    def reached(found: list[Any]) -> bool:
        last = {m.key(): struct.unpack(">q", m.value())[0] for m in found}
        return len(last) == len(KEYS) and min(last.values()) >= wanted

    log.read("counts", reached)


def _changelog_records(log: LogUnderTest, partitions: list[int]) -> int:
    """How many records the changelogs of these tasks have."""
    consumer = log.supplier.consumer({"group.id": "count", "enable.partition.eof": True})
    topic = f"{log.name('app')}-counts-changelog"
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    count, ends = 0, 0
    while ends < len(partitions):
        for message in consumer.consume(1_000, 0.2):
            ends += message.error() is not None
            count += message.error() is None
    consumer.close()
    return count


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_closed_and_taken_over(kafka: LogUnderTest, protocol: str) -> None:
    """Both group protocols; the copies follow who comes and goes, and step aside for tasks that come."""
    kafka.create("lines", 4)
    kafka.create("counts", 1)
    pairs = [instance(kafka, number, "exactly_once_v2", protocol=protocol) for number in range(2)]
    (one, first), (two, second) = pairs
    with one, two:
        started(one)
        kafka.write("lines", [(key, "x") for key in KEYS])
        _wait_for_counts(kafka, 1)
        eventually(lambda: len(tasks(one)) == 4)
        assert one.metrics()["standby-tasks"] == 0
        started(two)
        eventually(lambda: [app.metrics()["standby-tasks"] for app in (one, two)] == [2, 2])
        eventually(lambda: shown(one, stale=True) == shown(two, stale=True) == dict.fromkeys(KEYS, 1))
        assert first.copied == 0, "what it keeps copies of now it had itself until now"
        found = two.query_metadata_for_key("counts", "k1")
        assert {found.active_host, *found.standby_hosts} == {HostInfo("host", 1), HostInfo("host", 2)}

        kafka.write("lines", [(key, "x") for key in KEYS])
        eventually(lambda: shown(one, stale=True) == shown(two, stale=True) == dict.fromkeys(KEYS, 2))
        assert first.copied > 0
        second.begun.clear()
        before = second.restored
        one.close()
        eventually(lambda: len(tasks(two)) == 4 and shown(two, stale=False) == dict.fromkeys(KEYS, 2))
        assert second.restored - before <= 5
        assert all(start > 0 for start, _ in second.begun)
        eventually(lambda: two.metrics()["standby-tasks"] == 0)
        kafka.write("lines", [(key, "x") for key in KEYS])
        eventually(lambda: shown(two, stale=False) == dict.fromkeys(KEYS, 3))


def test_tasks_and_copies_change_places_under_load(kafka: LogUnderTest) -> None:
    """Three instances with two copies of each task come and go while records keep coming: every count once."""
    kafka.create("lines", 6)
    kafka.create("counts", 2)
    written = 0
    stop = threading.Event()

    def load() -> None:
        nonlocal written
        while not stop.is_set():
            kafka.write("lines", [(f"k{n}", "x") for n in range(60)])
            written += 1

    loader = threading.Thread(target=load)
    apps = [instance(kafka, number, "exactly_once_v2", replicas=2)[0] for number in range(3)]
    try:
        started(apps[0])
        loader.start()
        for app in apps[1:]:
            app.start()
        eventually(lambda: [len(tasks(app)) for app in apps] == [2, 2, 2])
        eventually(lambda: [app.metrics()["standby-tasks"] for app in apps] == [4, 4, 4])
        apps[0].close()
        eventually(lambda: [len(tasks(app)) for app in apps[1:]] == [3, 3])
        eventually(lambda: [app.metrics()["standby-tasks"] for app in apps[1:]] == [3, 3])
        again = apps[0] = instance(kafka, 0, "exactly_once_v2", replicas=2)[0]
        again.start()
        eventually(lambda: [len(tasks(app)) for app in apps] == [2, 2, 2])
        apps[1].close()
        eventually(lambda: [len(tasks(app)) for app in (apps[0], apps[2])] == [3, 3])
        stop.set()
        loader.join()
        found = kafka.read("counts", lambda found: len(found) >= written * 60)
        counts = Counter((m.key().decode(), struct.unpack(">q", m.value())[0]) for m in found)
        assert counts == Counter((f"k{n}", count) for n in range(60) for count in range(1, written + 1))
        wanted = {f"k{n}": written for n in range(60)}
        for app in (apps[0], apps[2]):
            eventually(lambda app=app: shown(app, stale=True) == wanted)  # type: ignore[misc]
    finally:
        stop.set()
        if loader.ident is not None:
            loader.join()
        for app in apps:
            app.close()


class Flaky(Hooks):
    """Has every third transaction aborted when all of it is on the log; counts the attempts."""

    def __init__(self) -> None:
        self.attempt = 0
        self.broken = True
        self._commits = 0

    def reached(self, point: FaultPoint) -> None:
        if point is FaultPoint.BEFORE_COMMIT and self.broken:
            self._commits += 1
            if self._commits % 3 == 0:
                self.attempt += 1
                raise LogRefusalError("a test", Remedy.ABORT)


def test_copies_never_show_what_was_not_committed(kafka: LogUnderTest) -> None:
    """Values name the attempt at which they were made, so those of an aborted transaction are never committed."""
    kafka.create("lines", 2)
    kafka.create("counts", 1)
    pairs = [_flaky(kafka, number) for number in range(2)]
    (one, _), (two, _) = pairs
    seen: defaultdict[str, set[str]] = defaultdict(set)
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            for app in (one, two):
                for key, value in shown(app, stale=True).items():
                    seen[key].add(value)

    watcher = threading.Thread(target=look)
    with one, two:
        one.start()
        two.start()
        eventually(lambda: [app.metrics()["standby-tasks"] for app in (one, two)] == [1, 1])
        watcher.start()
        try:
            for batch in range(25):
                kafka.write("lines", [(f"k{n}", str(batch)) for n in range(20)])
            for _, hooks in pairs:
                hooks.broken = False
            kafka.write("lines", [(f"k{n}", "last") for n in range(20)])
            eventually(lambda: shown(one, stale=True) == shown(two, stale=True) and _all_last(shown(one, stale=True)))
        finally:
            done.set()
            watcher.join(TIMEOUT)
        assert all(app.metrics().get("abort-total", 0) > 0 for app, _ in pairs)
    committed: defaultdict[str, set[str]] = defaultdict(set)
    for message in kafka.read("counts", lambda found: len(found) >= 26 * 20):
        committed[message.key().decode()].add(message.value().decode())
    assert len(seen) == 20
    assert all(seen[key] <= committed[key] for key in seen)


def _all_last(values: dict[str, str]) -> bool:
    return len(values) == 20 and all(value.startswith("last ") for value in values.values())


def _flaky(log: LogUnderTest, number: int) -> tuple[KafkaStreams, Flaky]:
    hooks = Flaky()
    strings = (serdes.string, serdes.string)
    kept: Materialized[str, str] = Materialized("counts", value_serde=serdes.string)
    builder = StreamsBuilder()
    latest = (
        builder.stream(Topic(log.name("lines"), *strings))
        .group_by_key()
        .aggregate(lambda: "", lambda _, value, __: f"{value} at attempt {hooks.attempt}", store=kept)
    )
    latest.to_stream().to(Topic(log.name("counts"), *strings))
    settings = {**config(log, number, "exactly_once_v2", 1), "commit.interval.ms": 20}
    return KafkaStreams(builder.build(), settings, hooks=hooks), hooks


# --- without a broker -------------------------------------------------------------------------------------------------


def test_two_instances_in_one_process(embedded: LogUnderTest, guarantee: str) -> None:
    """On the embedded log other instances are in the same process; copies are kept all the same."""
    embedded.create("lines", 4)
    embedded.create("counts")
    (one, _), (two, second) = (instance(embedded, number, guarantee) for number in range(2))
    with one, two:
        started(one)
        started(two)
        embedded.write("lines", [(key, "x") for key in KEYS[:100]])
        eventually(lambda: shown(one, stale=True) == shown(two, stale=True) == dict.fromkeys(KEYS[:100], 1))
        halves = [shown(app, stale=False) for app in (one, two)]
        assert sum(map(len, halves)) == 100, "without stale_stores each shows its own tasks only"
        before = second.restored
        one.close()
        eventually(lambda: shown(two, stale=False) == dict.fromkeys(KEYS[:100], 1))
        assert second.restored == before
        assert second.aborts == []


def test_alone_there_is_nothing_to_keep(embedded: LogUnderTest) -> None:
    embedded.create("lines", 2)
    embedded.create("counts")
    app, sensor = instance(embedded, 0, "exactly_once_v2", replicas=2)
    with app:
        started(app)
        embedded.write("lines", [("k", "x")])
        eventually(lambda: shown(app, stale=False) == {"k": 1})
        eventually(lambda: app.query_metadata_for_key("counts", "k").active_host == HostInfo("host", 1))
        assert app.query_metadata_for_key("counts", "k").standby_hosts == frozenset()
        assert app.metrics()["standby-tasks"] == 0
        assert sensor.copied == 0


def test_what_goes_wrong_with_copies_does_not_end_the_instance(
    embedded: LogUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copies are closed and begun again; and while nobody says who is in the group they stay as they are."""
    monkeypatch.setattr(standby, "_AGAIN_SECONDS", 0.01)
    failures = iter([StateStoreError("a test"), ValueError("another")])
    step = Follower.step

    def failing(self: Follower, timeout: float) -> Any:
        if self.taken > 0 and (error := next(failures, None)):
            raise error
        return step(self, timeout)

    embedded.create("lines", 4)
    embedded.create("counts")
    (one, _), (two, _) = (instance(embedded, number, "exactly_once_v2") for number in range(2))
    with one, two:
        started(one)
        started(two)
        eventually(lambda: [app.metrics()["standby-tasks"] for app in (one, two)] == [2, 2])
        monkeypatch.setattr(Follower, "step", failing)
        for count in range(1, 4):
            embedded.write("lines", [(key, "x") for key in KEYS[:100]])
            wanted = dict.fromkeys(KEYS[:100], count)
            eventually(lambda wanted=wanted: shown(one, stale=True) == shown(two, stale=True) == wanted)  # type: ignore[misc]
        assert next(failures, None) is None

        def silent(_: Admin) -> Any:
            raise LogBusyError("a test")

        monkeypatch.setattr(Admin, "group", silent)
        embedded.write("lines", [(key, "x") for key in KEYS[:100]])
        eventually(lambda: shown(one, stale=True) == shown(two, stale=True) == dict.fromkeys(KEYS[:100], 4))
        eventually(lambda: _raises_busy(one))
        assert [app.metrics()["standby-tasks"] for app in (one, two)] == [2, 2]
        assert [app.state for app in (one, two)] == [State.RUNNING, State.RUNNING]


def _raises_busy(app: KafkaStreams) -> bool:
    try:
        app.metadata_for_all_streams_clients()
    except LogBusyError:
        return True
    return False


# --- the parts --------------------------------------------------------------------------------------------------------

COUNTS = Stores.key_value("counts", serdes.string, serdes.string)
TASK = TaskId(0, 0)
CHANGELOG = "app-counts-changelog"
DAY = 24 * 60 * 60 * 1000


@contextmanager
def following(log: LogUnderTest, clock: ManualClock) -> Iterator[tuple[Follower, StandbyTask]]:
    """A copy of one store, opened over what is in the directory."""
    parsed = StreamsConfig.parse(log.config())
    consumer = log.supplier.consumer(
        {"group.id": "copy", "enable.partition.eof": True, "auto.offset.reset": "error", "enable.auto.commit": False}
    )
    follower = Follower(
        consumer,
        Admin(log.supplier.admin({}), parsed),
        application_id="app",
        configs={},
        clock=clock,
        sensor=Recorder(),
    )
    directory = log.directory / "copy"
    directory.mkdir(exist_ok=True)
    state = TaskState.open([COUNTS], directory=directory, memory=StateMemory(64 << 20), timestamp=lambda: -1)
    task = StandbyTask(TASK, state, (COUNTS,))
    try:
        yield follower, task
    finally:
        follower.remove([task])
        state.close()
        follower.close()


def follow_until(follower: Follower, condition: Any) -> None:
    deadline = monotonic() + TIMEOUT
    while not condition():
        assert monotonic() < deadline
        follower.step(0.05)


def test_a_copy_goes_on_from_where_it_was(embedded: LogUnderTest) -> None:
    embedded.create(CHANGELOG)
    clock = ManualClock()
    embedded.write(CHANGELOG, [(f"k{n}", "1") for n in range(100)])
    with following(embedded, clock) as (follower, task):
        assert follower.start([task]) == []
        follow_until(follower, lambda: follower.taken == 100)
        embedded.write(CHANGELOG, [("k0", None), ("k1", "2")])
        follow_until(follower, lambda: follower.taken == 102)
        view = task.state.read_only("counts")
        assert (view.get("k0"), view.get("k1"), view.get("k2")) == (None, "2", "1")
    with following(embedded, clock) as (follower, task):
        position = task.state.position("counts")
        assert position is not None
        assert position.offset == 102
        embedded.write(CHANGELOG, [("k2", "3")])
        follower.start([task])
        follow_until(follower, lambda: task.state.read_only("counts").get("k2") == "3")
        assert follower.taken == 1


def test_an_idle_copy_does_not_grow_old(embedded: LogUnderTest) -> None:
    """It was at the end all the time: after a day it is not rebuilt. One that was closed that long is."""
    embedded.create(CHANGELOG)
    clock = ManualClock()
    embedded.write(CHANGELOG, [(f"k{n}", "1") for n in range(100)])
    with following(embedded, clock) as (follower, task):
        follower.start([task])
        follow_until(follower, lambda: follower.taken == 100)
        for _ in range(30):
            clock.advance(timedelta(hours=1))
            follower.refresh()
    embedded.write(CHANGELOG, [("k0", "2")])
    with following(embedded, clock) as (follower, task):
        follower.start([task])
        follow_until(follower, lambda: task.state.read_only("counts").get("k0") == "2")
        assert follower.taken == 1
    clock.advance(timedelta(milliseconds=DAY + 1))
    embedded.write(CHANGELOG, [("k0", "3")])
    with following(embedded, clock) as (follower, task):
        follower.start([task])
        follow_until(follower, lambda: task.state.read_only("counts").get("k0") == "3")
        assert follower.taken == 102


def test_a_copy_that_has_not_caught_up_stays_as_old_as_it_is(embedded: LogUnderTest) -> None:
    embedded.create(CHANGELOG)
    clock = ManualClock()
    with following(embedded, clock) as (follower, task):
        follower.start([task])
        follower.refresh()
        before = task.state.position("counts")
        embedded.write(CHANGELOG, [("k0", "2")])
        clock.advance(timedelta(hours=1))
        follower.refresh()
        assert task.state.position("counts") == before
        follow_until(follower, lambda: follower.taken == 1)
        clock.advance(timedelta(hours=1))
        follower.refresh()
        after = task.state.position("counts")
        assert before is not None
        assert after is not None
        assert (after.offset, after.committed_at) == (1, before.committed_at + 2 * 3_600_000)


def test_a_copy_steps_aside_for_whoever_waits() -> None:
    claims = TaskClaims()
    one, two = object(), object()
    assert claims.claim_copy(TASK)
    assert not claims.claim(TASK)
    claims.want(one, [TASK])
    assert claims.called.is_set()
    assert claims.wanted() == {TASK}
    claims.called.clear()
    claims.want(one, [TASK])
    assert not claims.called.is_set(), "it is said once"
    claims.release(TASK)
    assert not claims.claim_copy(TASK), "a thread waits for it"
    assert claims.claim(TASK)
    claims.want(one, [])
    claims.want(two, [TASK])
    claims.want(one, [])
    assert claims.wanted() == {TASK}
    claims.want(two, [])
    assert claims.wanted() == frozenset()
