"""Questions from outside: every kind of store, ranges, other threads, and which instance has what."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlet import SessionWindows, StreamsBuilder, TimeWindows, Topic, serdes
from streamlet.errors import ConfigError, InvalidStateStoreError, SerializationError, StreamsError
from streamlet.processor.api import Processor, ProcessorContext
from streamlet.records import Record, TaskId, Window, Windowed
from streamlet.runtime.members import Instance, Membership, instances, member_client_id
from streamlet.runtime.metadata import HostInfo, KeyQueryMetadata
from streamlet.runtime.placement import standbys
from streamlet.runtime.plan import TaskPlan
from streamlet.runtime.streams import KafkaStreams
from streamlet.state import Stores, ValueAndTimestamp, VersionedRecord
from streamlet.topology import Topology
from tests.runtime.harness import NOW, TIMEOUT, LogUnderTest, eventually, running, word_count

MINUTE = 60_000
START = NOW - NOW % MINUTE
KEYS = [f"k{n}" for n in range(12)]
PRICES = Stores.versioned_key_value("prices", serdes.string, serdes.string, history_retention=timedelta(hours=1))


class Remember(Processor[str, str, str, str]):
    """Puts every record into a versioned store."""

    stores = (PRICES,)

    def init(self, context: ProcessorContext[str, str]) -> None:
        self._prices = context.get_state_store(PRICES)

    def process(self, record: Record[str, str]) -> None:
        self._prices.put(record.key, record.value, record.timestamp)


def every_kind(log: LogUnderTest) -> Topology:
    """One topic, counted by key, by minute and by session, and remembered in versions."""
    builder = StreamsBuilder()
    lines = builder.stream(Topic(log.name("lines"), serdes.string, serdes.string))
    grouped = lines.group_by_key()
    grouped.count(store="counts")
    windows = TimeWindows.of_size(timedelta(minutes=1), grace=timedelta(hours=1))
    grouped.windowed_by(windows).count(store="per-minute")
    sessions = SessionWindows.of_inactivity_gap(timedelta(seconds=10), grace=timedelta(hours=1))
    grouped.windowed_by(sessions).count(store="sessions")
    lines.process(Remember)
    return builder.build()


def fill(log: LogUnderTest) -> None:
    """Every key in each of three minutes."""
    for minute in range(3):
        log.write("lines", [(key, f"v{minute}") for key in KEYS], timestamp=START + minute * MINUTE)


def in_another_thread(ask: Any) -> Any:
    """What a function returns there."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(ask()))
    thread.start()
    thread.join(TIMEOUT)
    return found[0]


def test_every_kind_of_store_from_another_thread(embedded: LogUnderTest) -> None:
    embedded.create("lines", 3)
    with running(every_kind(embedded), embedded.config()) as app:
        fill(embedded)
        versions = app.store(PRICES)
        eventually(lambda: all(_value(versions.get(key)) == "v2" for key in KEYS))

        counts = app.store("counts")
        assert in_another_thread(lambda: dict(counts.all())) == dict.fromkeys(KEYS, 3)
        assert {key for key, _ in counts.range("k1", "k11")} == {"k1", "k10", "k11"}

        windows = app.store("per-minute")
        times = [START + minute * MINUTE for minute in range(3)]
        assert in_another_thread(lambda: windows.fetch("k1", START)) == 1
        assert windows.fetch("k1", START + 1) is None
        assert windows.fetch("nobody", START) is None
        assert list(windows.fetch("k1", START, START + MINUTE)) == [(time, 1) for time in times[:2]]
        assert list(windows.backward_fetch("k1", START, times[2])) == [(time, 1) for time in reversed(times)]
        everything = {(Windowed(key, Window(time, time + MINUTE)), 1) for key in KEYS for time in times}
        assert set(in_another_thread(lambda: list(windows.all()))) == everything
        assert set(windows.backward_all()) == everything
        assert set(windows.fetch_all(times[1], times[1])) == {
            entry for entry in everything if entry[0].window.start == times[1]
        }
        assert set(windows.backward_fetch_all(0, times[2])) == everything
        assert {entry[0].key for entry in windows.fetch("k1", "k11", START, times[2])} == {"k1", "k10", "k11"}
        assert {entry[0].key for entry in windows.backward_fetch(None, "k1", START, times[2])} == {"k0", "k1"}

        sessions = app.store("sessions")
        of_k1 = [(Windowed("k1", Window(time, time)), 1) for time in times]
        assert in_another_thread(lambda: sessions.fetch_session("k1", START, START)) == 1
        assert sessions.fetch_session("k1", START, START + 1) is None
        assert list(sessions.fetch("k1")) == of_k1
        assert list(sessions.backward_fetch("k1")) == of_k1[::-1]
        assert list(sessions.find_sessions("k1", times[1], times[1])) == of_k1[1:2]
        assert list(sessions.backward_find_sessions("k1", 0, times[1])) == of_k1[1::-1]
        assert {entry[0].key for entry in sessions.fetch("k1", "k11")} == {"k1", "k10", "k11"}
        assert {entry[0].key for entry in sessions.backward_fetch("k1", "k11")} == {"k1", "k10", "k11"}
        assert len(list(sessions.find_sessions(None, None, 0, times[2]))) == len(KEYS) * 3
        assert len(list(sessions.backward_find_sessions("k2", None, 0, times[0]))) == 8

        assert in_another_thread(lambda: versions.get("k1", times[1])) == VersionedRecord("v1", times[1], times[2])
        assert versions.get("k1") == VersionedRecord("v2", times[2], None)
        assert versions.get("k1", START - 1) is None
        assert app.store("prices").get("nobody") is None
    for view in (counts, windows, sessions):
        with pytest.raises(InvalidStateStoreError, match="NOT_RUNNING"):
            list(view.fetch("k1", 0, 1) if view is windows else view.fetch("k1") if view is sessions else view.all())


def _value(record: Any) -> Any:
    return None if record is None else record.value


def test_the_builder_shows_timestamps_and_the_name_does_not(embedded: LogUnderTest) -> None:
    embedded.create("lines")
    topology = every_kind(embedded)
    builders = {store.name: store for part in topology.sub_topologies for store in part.stores}
    with running(topology, embedded.config()) as app:
        fill(embedded)
        eventually(lambda: app.store("counts").get("k3") == 3)
        assert app.store(builders["counts"]).get("k3") == ValueAndTimestamp(3, START + 2 * MINUTE)
        assert app.store(builders["per-minute"]).fetch("k3", START) == ValueAndTimestamp(1, START)
        assert list(app.store("per-minute").fetch("k3", START, START)) == [(START, 1)]


def test_queries_see_nothing_that_is_not_committed(embedded: LogUnderTest) -> None:
    """Thousands of commits, and at no time a total that no commit can have left."""
    embedded.create("lines")
    embedded.create("counts")
    config = {**embedded.config(), "commit.interval.ms": 1}
    pairs = 400
    with running(word_count(embedded, repartition=False), config) as app:
        store = app.store("counts")
        seen: list[dict[str, int]] = []
        done = threading.Event()

        def ask() -> None:
            while not done.is_set():
                seen.append(dict(store.all()))

        thread = threading.Thread(target=ask)
        thread.start()
        for n in range(pairs):
            embedded.write("lines", [("a", str(n)), ("b", str(n))])
        eventually(lambda: store.get("b") == pairs)
        done.set()
        thread.join(TIMEOUT)
    totals = [sum(counts.values()) for counts in seen]
    assert totals == sorted(totals)
    assert all(0 <= counts.get("a", 0) - counts.get("b", 0) <= 1 for counts in seen)


def test_one_partition_of_a_store(embedded: LogUnderTest) -> None:
    embedded.create("lines", 4)
    embedded.create("counts")
    config = {**embedded.config(), "application.server": "here:1"}
    with running(word_count(embedded, repartition=False), config) as app:
        fill(embedded)
        eventually(lambda: sum(count for _, count in app.store("counts").all()) == 3 * len(KEYS))
        for key in KEYS:
            partition = app.query_metadata_for_key("counts", key).partition
            for other in range(4):
                found = app.store("counts", partition=other).get(key)
                assert found == (3 if other == partition else None)
        with pytest.raises(InvalidStateStoreError, match="partition 7 of store 'counts' is not on this instance"):
            app.store("counts", partition=7).get("k1")


# --- which instance ---------------------------------------------------------------------------------------------------


def test_which_instance_has_a_key(log: LogUnderTest) -> None:
    """Two instances: each key is found where the metadata say, and nowhere else; as the producer placed it."""
    log.create("lines", 4)
    log.create("counts")
    log.write("lines", [(key, "x") for key in KEYS])
    placed = {m.key().decode(): m.partition() for m in log.read("lines", lambda found: len(found) == len(KEYS))}
    apps = {
        HostInfo("host", number): KafkaStreams(
            word_count(log, repartition=False),
            {
                **log.config(),
                "state.dir": str(log.directory / f"state{number}"),
                "application.server": f"host:{number}",
            },
        )
        for number in (1, 2)
    }
    one, two = apps.values()
    with one, two:
        one.start()
        assert one.wait_until_running(timedelta(seconds=TIMEOUT))
        eventually(lambda: one.query_metadata_for_key("counts", "k1").active_host == HostInfo("host", 1))
        two.start()
        eventually(lambda: _hosts(one) == _hosts(two) and len(_hosts(one)) == 2)
        for app in (one, two):
            for key in KEYS:
                found = app.query_metadata_for_key("counts", key, serdes.string)
                assert found.partition == placed[key]
                assert found.standby_hosts == frozenset()
                for host, other in apps.items():
                    eventually(
                        lambda other=other, key=key, owns=host == found.active_host: (  # type: ignore[misc]
                            _asked(other, key) == (1 if owns else None)
                        )
                    )
        metadata = one.streams_metadata_for_store("counts")
        assert {m.host_info for m in metadata} == set(apps)
        assert [m.state_store_names for m in metadata] == [{"counts"}, {"counts"}]
        owned = [place for m in metadata for place in m.topic_partitions]
        assert sorted(owned) == [(log.name("lines"), n) for n in range(4)]
        assert all(not m.standby_topic_partitions for m in metadata)
        assert set(one.metadata_for_all_streams_clients()) == set(metadata)
        two.close()
        eventually(lambda: _hosts(one) == {HostInfo("host", 1)})


def _hosts(app: KafkaStreams) -> set[HostInfo]:
    return {app.query_metadata_for_key("counts", key).active_host for key in KEYS}


def _asked(app: KafkaStreams, key: str) -> Any:
    try:
        return app.store("counts").get(key)
    except InvalidStateStoreError:
        return "not now"


def test_what_cannot_be_known_is_said(embedded: LogUnderTest) -> None:
    embedded.create("lines", 2)
    embedded.create("counts")
    topology = word_count(embedded, repartition=False)
    app = KafkaStreams(topology, {**embedded.config(), "application.server": "h:1"})
    with pytest.raises(InvalidStateStoreError, match="CREATED"):
        app.query_metadata_for_key("counts", "k")
    with app:
        app.start()
        assert app.wait_until_running(timedelta(seconds=TIMEOUT))
        with pytest.raises(InvalidStateStoreError, match="no store 'nope'"):
            app.query_metadata_for_key("nope", "k")
        with pytest.raises(InvalidStateStoreError, match="no store 'nope'"):
            app.streams_metadata_for_store("nope")
        with pytest.raises(SerializationError, match="'counts'"):
            app.query_metadata_for_key("counts", 3)
        eventually(lambda: app.query_metadata_for_key("counts", "k") != KeyQueryMetadata.NOT_AVAILABLE)
        chosen = app.query_metadata_for_key("counts", "k", partitioner=lambda topic, key, value, count: count - 1)
        assert (chosen.partition, chosen.active_host) == (1, HostInfo("h", 1))
        with pytest.raises(StreamsError, match="of several partitions none has the key"):
            app.query_metadata_for_key("counts", "k", partitioner=lambda topic, key, value, count: [0, 1])
    nameless = running(topology, embedded.config())
    with nameless, pytest.raises(ConfigError, match=r"application\.server is not set"):
        nameless.query_metadata_for_key("counts", "k")


def test_a_global_store_is_everywhere(embedded: LogUnderTest) -> None:
    embedded.create("lines")
    embedded.create("names")
    embedded.create("out")
    builder = StreamsBuilder()
    names = builder.global_table(Topic("names", serdes.string, serdes.string), store="names")
    lines = builder.stream(Topic("lines", serdes.string, serdes.string))
    lines.join(names, lambda _, value: value, lambda value, name: name).to(Topic("out", serdes.string, serdes.string))
    with running(builder.build(), {**embedded.config(), "application.server": "h:1"}) as app:
        assert app.query_metadata_for_key("names", "k") == KeyQueryMetadata(HostInfo("h", 1), frozenset(), -1)
        eventually(lambda: [m.host_info for m in app.streams_metadata_for_store("names")] == [HostInfo("h", 1)])


@pytest.mark.parametrize("server", ["host", "host:", ":80", "host:x", "host:0", "host:70000", "ho st:80", 3])
def test_application_server_is_checked(embedded: LogUnderTest, server: object) -> None:
    with pytest.raises(ConfigError, match=r"application\.server must be"):
        KafkaStreams(word_count(embedded), {**embedded.config(), "application.server": server})


@pytest.mark.parametrize("key", ["consumer.client.id", "main.consumer.client.id"])
def test_the_id_that_carries_it_cannot_be_replaced(embedded: LogUnderTest, key: str) -> None:
    with pytest.raises(ConfigError, match=r"set client\.id"):
        KafkaStreams(word_count(embedded), {**embedded.config(), key: "mine"})


names = st.text("ab-@:.StreamThread-1consumer", min_size=1, max_size=30)


@given(
    members=st.lists(
        st.tuples(names, st.sets(st.integers(0, 9)), st.sampled_from([None, "host:1", "[::1]:2", "a@b:3"]))
    )
)
def test_client_ids_come_back(members: list[tuple[str, set[int], str | None]]) -> None:
    """Threads of one instance are put together; whatever a prefix is made of."""
    given_ids = [
        (member_client_id(f"{instance}-StreamThread-{number}", server), tasks)
        for number, (instance, tasks, server) in enumerate(members)
    ]
    tasks: defaultdict[str, set[int]] = defaultdict(set)
    hosts: dict[str, HostInfo] = {}
    for instance, owned, server in members:
        tasks[instance] |= owned
        if server is not None:
            hosts[instance] = HostInfo.parse(server)
    assert instances(given_ids) == {id: Instance(id, hosts.get(id), frozenset(owned)) for id, owned in tasks.items()}


def test_foreign_members_are_instances_of_their_own() -> None:
    found = instances([("rdkafka", [1]), ("app-1-StreamThread-1-consumer", []), ("rdkafka", [2])])
    assert found == {
        "rdkafka": Instance("rdkafka", None, frozenset({1, 2})),
        "app-1": Instance("app-1", None, frozenset()),
    }


# --- where copies are kept --------------------------------------------------------------------------------------------

TASKS = [TaskId(0, n) for n in range(60)]
some_instances = st.lists(st.text("abc", min_size=1, max_size=6), unique=True, min_size=1, max_size=6)


@given(ids=some_instances, replicas=st.integers(0, 3), data=st.data())
def test_copies_are_kept_elsewhere_and_move_little(ids: list[str], replicas: int, data: st.DataObject) -> None:
    owner = {task: data.draw(st.sampled_from([*ids, None])) for task in TASKS[:10]}
    placed = standbys(owner, ids, replicas)
    for task, keepers in placed.items():
        others = [instance for instance in ids if instance != owner[task]]
        assert len(keepers) == len(set(keepers)) == min(replicas, len(others))
        assert set(keepers) <= set(others)
    assert standbys(owner, reversed(ids), replicas) == placed, "everyone finds the same"

    gone = data.draw(st.sampled_from(ids))
    after = standbys(owner, [instance for instance in ids if instance != gone], replicas)
    for task, keepers in placed.items():
        if gone not in keepers and owner[task] != gone:
            assert after[task] == keepers, "a copy moves only if its keeper leaves"
        elif gone in keepers:
            assert set(keepers) - {gone} <= set(after[task])

    for task, keepers in placed.items():
        if keepers:  # the task moves to its first copy: the rest stay where they are
            moved = standbys({task: keepers[0]}, ids, replicas)[task]
            assert set(keepers[1:]) <= set(moved)


def test_copies_are_spread() -> None:
    ids = [f"app-{n:08x}" for n in range(4)]
    load: defaultdict[str, int] = defaultdict(int)
    for keepers in standbys({TaskId(s, n): None for s in range(5) for n in range(40)}, ids, 1).values():
        load[keepers[0]] += 1
    assert sorted(load) == ids
    assert all(30 <= count <= 70 for count in load.values()), "each about 50 of 200, four sigma"


def test_who_owns_what() -> None:
    known: Iterable[Instance] = (
        Instance("a", HostInfo("h", 1), frozenset({0, 2})),
        Instance("b", None, frozenset({5})),
    )
    plan = TaskPlan("f", (TaskId(0, 0), TaskId(0, 1), TaskId(1, 0)))
    membership = Membership.of({instance.id: instance for instance in known}, plan)
    assert membership.owners == {TaskId(0, 0): "a", TaskId(0, 1): None, TaskId(1, 0): "a"}
    assert membership.host("a") == HostInfo("h", 1)
    assert membership.host("b") == membership.host("c") == HostInfo.unavailable()
