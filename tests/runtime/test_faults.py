"""What brokers, the network and slow code do to an application: nothing is lost or invented, and it goes on.

Each fault hits two applications at once, one under each guarantee, that count the same lines. `docs/faults.md` lists
what the user sees.
"""

from __future__ import annotations

import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import ElectionType, KafkaError, KafkaException, TopicPartition

from streamlet import serdes
from streamlet.clients import supplier_for
from streamlet.dsl.builder import StreamsBuilder
from streamlet.errors import StreamsError
from streamlet.runtime.lifecycle import State
from streamlet.runtime.streams import KafkaStreams
from streamlet.time import Clock, SystemClock
from streamlet.topic import Topic
from streamlet.topology import Topology
from tests.kafka.cluster import Cluster
from tests.kafka.proxy import Proxy
from tests.runtime.harness import NOW, LogUnderTest, Recorder, eventually, last_counts

TIMEOUT = 150.0  # of what takes seconds: the clusters of other tests may keep the machine busy
GUARANTEES = ("at_least_once", "exactly_once_v2")
KEYS = [f"k{n}" for n in range(12)]
QUICK = {
    "consumer.session.timeout.ms": 6_000,
    "consumer.heartbeat.interval.ms": 300,
    "producer.transaction.timeout.ms": 4_000,
    "consumer.topic.metadata.refresh.interval.ms": 3_000,  # topics are looked for again in the worst moments
}


def await_that(condition: Callable[[], bool]) -> None:
    eventually(condition, TIMEOUT)


def counts(guarantee: str) -> str:
    return f"counts-{guarantee}"


class Load:
    """A thread that writes one line of each key again and again, until the block ends.

    Attributes:
        says: The lines.
    """

    def __init__(self, log: LogUnderTest) -> None:
        self.rounds = 0
        self.says = "x"
        self._refused: list[KafkaError] = []
        self._topic = log.name("lines")
        self._producer = log.supplier.producer(
            {"on_delivery": lambda error, _: self._refused.append(error) if error else None}
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.wait(0.05):
            for key in KEYS:
                self._producer.produce(self._topic, self.says, key, timestamp=NOW)
            self._producer.poll(0)
            self.rounds += 1

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        assert self._producer.flush(TIMEOUT) == 0
        assert not self._refused, self._refused


class Instance:
    """A running instance, and what its sensor was told."""

    def __init__(
        self,
        log: LogUnderTest,
        guarantee: str,
        number: int,
        servers: str,
        *,
        clock: Clock | None = None,
        look: Callable[[Any], Any] = lambda line: line,
        **more: Any,
    ) -> None:
        self.log = log
        self.guarantee = guarantee
        self.sensor = Recorder()
        config = {
            **log.config(f"app-{guarantee}", guarantee),
            **QUICK,
            "bootstrap.servers": servers,
            "state.dir": str(log.directory / f"state{number}"),
            **{key.replace("_", "."): value for key, value in more.items()},
        }
        self.app = KafkaStreams(counting(log, guarantee, look), config, sensor=self.sensor, clock=clock)

    def start(self) -> Instance:
        self.app.start()
        assert self.app.wait_until_running(timedelta(seconds=TIMEOUT))
        return self

    def tasks(self) -> int:
        return sum(len(thread.active_tasks) for thread in self.app.metadata_for_local_threads())

    def goes_on(self) -> None:
        """Wait until it has taken in, and committed, what was not there when this was called."""
        processed, commits = self.sensor.processed, len(self.sensor.commits)
        self.sensor.wait_for(lambda s: s.processed > processed + 60 and len(s.commits) > commits + 2, TIMEOUT)
        assert self.app.state.is_running_or_rebalancing


def counting(log: LogUnderTest, guarantee: str, look: Callable[[Any], Any] = lambda line: line) -> Topology:
    """Count lines by their keys; `look` sees each value."""
    builder = StreamsBuilder()
    lines = builder.stream(Topic(log.name("lines"), serdes.string, serdes.string)).map_values(look)
    counted = lines.group_by_key(key_serde=serdes.string, value_serde=serdes.string).count(store="counts")
    counted.to_stream().to(Topic(log.name(counts(guarantee)), serdes.string, serdes.int64))
    return builder.build()


def check(log: LogUnderTest, guarantee: str, wanted: dict[str, int], *, repeated: bool) -> None:
    """Wait for all counts; each came once, or, at least once, may have come again after something was repeated."""
    if guarantee == "at_least_once" and repeated:
        found = log.read(
            counts(guarantee), lambda found: all(last_counts(found).get(k, 0) >= n for k, n in wanted.items()), TIMEOUT
        )
        assert set(last_counts(found)) == set(wanted)
        return
    total = sum(wanted.values())
    found = log.read(counts(guarantee), lambda found: len(found) >= total, TIMEOUT)
    every = Counter((m.key().decode(), struct.unpack(">q", m.value())[0]) for m in found)
    assert every == Counter((key, n) for key, count in wanted.items() for n in range(1, count + 1))


def check_all(instances: list[Instance], load: Load) -> None:
    """Every instance is well, and every line was counted."""
    for guarantee in GUARANTEES:
        ours = [instance for instance in instances if instance.guarantee == guarantee]
        repeated = any(instance.sensor.aborts for instance in ours) or len(ours) > 1
        check(ours[0].log, guarantee, dict.fromkeys(KEYS, load.rounds), repeated=repeated)
    for instance in instances:
        await_that(lambda instance=instance: instance.app.state is State.RUNNING)  # type: ignore[misc]  # binds it


@pytest.fixture
def three(kafka_cluster_3: Cluster, tmp_path: Path) -> LogUnderTest:
    prefix = kafka_cluster_3.unique("f") + "-"

    def make(name: str, partitions: int, configs: dict[str, str]) -> None:
        kafka_cluster_3.create_topic(name, partitions, configs=configs)

    log = LogUnderTest(kafka_cluster_3.bootstrap_servers, tmp_path, make, prefix)
    log.create("lines", 3)
    for guarantee in GUARANTEES:
        log.create(counts(guarantee))
    return log


@pytest.fixture
def instances(three: LogUnderTest) -> Iterator[list[Instance]]:
    """One instance of each application; all that a test adds are closed too."""
    running = [Instance(three, guarantee, 0, three.servers) for guarantee in GUARANTEES]
    try:
        yield [instance.start() for instance in running]
    finally:
        for instance in running:
            instance.app.close()


def leaders(cluster: Cluster, log: LogUnderTest) -> dict[tuple[str, int], int]:
    found = cluster.admin().list_topics(timeout=10).topics
    return {
        (name, number): partition.leader
        for name, topic in found.items()
        if name.startswith(log.prefix)
        for number, partition in topic.partitions.items()
    }


@pytest.mark.long
def test_one_broker_of_three_is_lost_and_leaders_move(
    kafka_cluster_3: Cluster, three: LogUnderTest, instances: list[Instance]
) -> None:
    """SIGKILL; everything goes on without it, goes on when it is back, and when leaders move to it again."""
    before = leaders(kafka_cluster_3, three)
    gone = before[three.name("lines"), 0]
    with Load(three) as load:
        for instance in instances:
            instance.goes_on()
        kafka_cluster_3.kill(gone)
        try:
            for instance in instances:
                instance.goes_on()
            assert gone not in leaders(kafka_cluster_3, three).values()
        finally:
            kafka_cluster_3.start(gone, TIMEOUT)
        moved = [place for place, leader in before.items() if leader == gone]

        def move() -> bool:
            wanted = [TopicPartition(*place) for place in moved]
            kafka_cluster_3.admin().elect_leaders(ElectionType.PREFERRED, wanted).result(20)
            now = leaders(kafka_cluster_3, three)
            return all(now[place] == gone for place in moved)

        await_that(move)  # once its replicas have caught up
        for instance in instances:
            instance.goes_on()
    check_all(instances, load)


def coordinator(cluster: Cluster, group: str) -> int:
    """The broker that coordinates a group; -1 while that is not known."""
    admin = supplier_for(cluster.bootstrap_servers).admin({})
    try:
        return int(admin.describe_consumer_groups([group], request_timeout=5)[group].result(6).coordinator.id)
    except (KafkaException, TimeoutError):
        return -1


@pytest.mark.long
def test_the_coordinators_broker_is_restarted(
    kafka_cluster_3: Cluster, three: LogUnderTest, instances: list[Instance]
) -> None:
    """SIGTERM and start, as in a rolling upgrade: the group's coordinator moves."""
    group = three.name("app-exactly_once_v2")
    with Load(three) as load:
        for instance in instances:
            instance.goes_on()
        await_that(lambda: coordinator(kafka_cluster_3, group) > 0)
        old = coordinator(kafka_cluster_3, group)
        kafka_cluster_3.stop(old)
        try:
            for instance in instances:
                instance.goes_on()
            await_that(lambda: coordinator(kafka_cluster_3, group) not in (-1, old))
        finally:
            kafka_cluster_3.start(old, TIMEOUT)
        for instance in instances:
            instance.goes_on()
    check_all(instances, load)


class CutWithin:
    """Cuts the network when so many instances are at a line that says "cut": each has something to commit then."""

    def __init__(self, proxy: Proxy, instances: int) -> None:
        self.cut = threading.Event()
        self._proxy = proxy
        self._all = threading.Barrier(instances, self._cut, TIMEOUT)

    def look(self, line: str) -> str:
        """Look at each line."""
        if line == "cut" and not self.cut.is_set():
            self._all.wait()
        return line

    def _cut(self) -> None:
        self._proxy.cut()
        self.cut.set()


@pytest.mark.long
def test_an_instance_is_cut_off(kafka_cluster_3: Cluster, three: LogUnderTest) -> None:
    """Nothing gets through between it and the brokers: the other one takes over, and shares again afterwards."""
    servers = kafka_cluster_3.servers("DETOUR")
    with Proxy(kafka_cluster_3.detours("DETOUR")) as proxy:
        limits = {"consumer_session_timeout_ms": 3_000}
        cut_off = [Instance(three, guarantee, 1, servers, **limits) for guarantee in GUARANTEES]
        others = [Instance(three, guarantee, 2, three.servers, **limits) for guarantee in GUARANTEES]
        try:
            for instance in (*cut_off, *others):
                instance.start()
            await_that(lambda: all(0 < instance.tasks() < 3 for instance in (*cut_off, *others)))
            with Load(three) as load:
                for instance in (*cut_off, *others):
                    instance.goes_on()
                proxy.cut()
                await_that(lambda: all(instance.tasks() == 3 for instance in others))
                for instance in others:
                    instance.goes_on()
                proxy.mend()
                await_that(lambda: all(0 < instance.tasks() < 3 for instance in (*cut_off, *others)))
                for instance in cut_off:
                    instance.goes_on()
            check_all([*cut_off, *others], load)
        finally:
            proxy.mend()
            for instance in (*cut_off, *others):
                instance.app.close()


@pytest.mark.long
def test_task_timeout_bounds_retries(kafka_cluster_3: Cluster, three: LogUnderTest) -> None:
    """Cut off for longer than task.timeout.ms: it ends and says so; the next start repeats what was not committed."""
    with Proxy(kafka_cluster_3.detours("DETOUR")) as proxy:
        servers = kafka_cluster_3.servers("DETOUR")
        # the group must not take the tasks away first: without any there would be nothing to be repeated
        limits = {"task_timeout_ms": 5_000, "consumer_session_timeout_ms": 60_000}
        cut = CutWithin(proxy, 2)
        bounded = [Instance(three, guarantee, 1, servers, look=cut.look, **limits).start() for guarantee in GUARANTEES]
        try:
            with Load(three) as load:
                for instance in bounded:
                    instance.goes_on()
                load.says = "cut"
                for instance in bounded:
                    await_its_end(instance)
        finally:
            proxy.mend()
            for instance in bounded:
                instance.app.close()
    again = [Instance(three, guarantee, 1, three.servers) for guarantee in GUARANTEES]
    try:
        for instance in again:
            instance.start()
            instance.sensor.aborts.append("the first instance went back")
        check_all(again, load)
    finally:
        for instance in again:
            instance.app.close()


class Shifted(SystemClock):
    """A clock that a test puts forward; it counts how often the time since a start was asked for."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.asked = 0

    def monotonic(self) -> float:
        self.asked += 1
        return super().monotonic() + self.ahead


@pytest.mark.long
@pytest.mark.parametrize("busy", [False, True], ids=["nothing to commit", "something to commit"])
def test_others_have_the_tasks_before_task_timeout(kafka_cluster_3: Cluster, three: LogUnderTest, busy: bool) -> None:
    """Cut off for longer than task.timeout.ms: who has lost its tasks, and has no transaction to end, joins again."""
    clock = Shifted()
    with Proxy(kafka_cluster_3.detours("DETOUR")) as proxy:
        servers = kafka_cluster_3.servers("DETOUR")
        limits = {"consumer_session_timeout_ms": 3_000}
        cut = CutWithin(proxy, 2)
        cut_off = [
            Instance(three, guarantee, 1, servers, clock=clock, look=cut.look, **limits) for guarantee in GUARANTEES
        ]
        others = [Instance(three, guarantee, 2, three.servers, **limits) for guarantee in GUARANTEES]
        try:
            for instance in (*cut_off, *others):
                instance.start()
            await_that(lambda: all(0 < instance.tasks() < 3 for instance in (*cut_off, *others)))
            with Load(three) as load:
                for instance in (*cut_off, *others):
                    instance.goes_on()
                if busy:
                    load.says = "cut"
                    assert cut.cut.wait(TIMEOUT)
            if not busy:
                check_all([*cut_off, *others], load)
                for instance in cut_off:
                    await_that(lambda instance=instance: not uncommitted(instance))  # type: ignore[misc]  # binds it
                proxy.cut()
            await_that(lambda: all(instance.tasks() == 3 for instance in others))
            clock.ahead += 3_600  # task.timeout.ms is five minutes
            waiting = cut_off
            if busy:
                plain, exact = cut_off
                await_its_end(exact)  # what becomes of its transaction is not for the group to say
                await_that(lambda: bool(plain.sensor.aborts))
                waiting = [plain]
            await_that(lambda: all(instance.tasks() == 0 for instance in waiting))
            clock.ahead += 3_600
            asked = clock.asked
            await_that(lambda: clock.asked > asked + 100)
            for guarantee in GUARANTEES:
                check(three, guarantee, dict.fromkeys(KEYS, load.rounds), repeated=True)
            proxy.mend()
            await_that(lambda: all(0 < instance.tasks() < 3 for instance in waiting))
            with Load(three) as more:
                for instance in waiting:
                    instance.goes_on()
            # Not of the plain one that had something on its way: what it had sent comes late (docs/faults.md).
            for guarantee in GUARANTEES[1:] if busy else GUARANTEES:
                check(three, guarantee, dict.fromkeys(KEYS, load.rounds + more.rounds), repeated=True)
        finally:
            proxy.mend()
            for instance in (*cut_off, *others):
                instance.app.close()


def await_its_end(instance: Instance) -> None:
    """Wait until it has ended because of task.timeout.ms."""
    with pytest.raises(StreamsError, match=r"task\.timeout\.ms"):
        instance.app.wait(timedelta(seconds=TIMEOUT))
    assert instance.app.state is State.ERROR


def uncommitted(instance: Instance) -> bool:
    """Whether it has taken in lines that it has not committed."""
    return any(task.uncommitted for thread in instance.app._threads.values() for task in thread.tasks)


@pytest.mark.long
def test_internal_topics_are_made_while_a_broker_is_away(kafka_cluster_3: Cluster, three: LogUnderTest) -> None:
    """Each of three brokers is to have a replica, and one of them does not run: it gets its own when it is back."""
    gone = kafka_cluster_3.broker_ids[-1]
    kafka_cluster_3.stop(gone)
    made = [Instance(three, guarantee, 0, three.servers, replication_factor=3) for guarantee in GUARANTEES]
    try:
        for instance in made:
            instance.start()
        with Load(three) as load:
            for instance in made:
                instance.goes_on()
            kafka_cluster_3.start(gone, TIMEOUT)
            for instance in made:
                instance.goes_on()
        check_all(made, load)
        await_that(lambda: gone in in_sync(kafka_cluster_3, three.name("app-exactly_once_v2-counts-changelog")))
    finally:
        for instance in made:
            instance.app.close()
        if gone not in kafka_cluster_3.running():
            kafka_cluster_3.start(gone, TIMEOUT)


def in_sync(cluster: Cluster, topic: str) -> set[int]:
    """The brokers that have all of a topic's first partition."""
    return set(cluster.admin().list_topics(topic, timeout=10).topics[topic].partitions[0].isrs)


class CountingProducer:
    """A producer that counts how often its queue was full."""

    def __init__(self, inner: Any, full: list[int]) -> None:
        self._inner = inner
        self._full = full

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __len__(self) -> int:
        return len(self._inner)

    def produce(self, *args: Any, **kwargs: Any) -> None:
        try:
            self._inner.produce(*args, **kwargs)
        except BufferError:
            self._full.append(1)
            raise


def test_a_full_producer_queue_is_waited_for(kafka: LogUnderTest, guarantee: str) -> None:
    """More comes of one line than the queue holds, results and changes alike."""
    kafka.create("lines")
    kafka.create(counts(guarantee))
    full: list[int] = []

    class Supplier:
        def __getattr__(self, name: str) -> Any:
            return getattr(kafka.supplier, name)

        def producer(self, config: Any) -> Any:
            return CountingProducer(kafka.supplier.producer(config), full)

    builder = StreamsBuilder()
    lines = builder.stream(Topic(kafka.name("lines"), serdes.string, serdes.string))
    words = lines.flat_map(lambda key, line: [(f"{key}-{n}", line) for n in range(100)])
    counted = words.group_by_key(key_serde=serdes.string, value_serde=serdes.string).count(store="counts")
    counted.to_stream().to(Topic(kafka.name(counts(guarantee)), serdes.string, serdes.int64))
    config = {**kafka.config(guarantee=guarantee), "producer.queue.buffering.max.messages": 10}
    app = KafkaStreams(builder.build(), config, supplier=Supplier())  # type: ignore[arg-type]  # forwards
    with app:
        app.start()
        assert app.wait_until_running(timedelta(seconds=TIMEOUT))
        kafka.write("lines", [("a", "x"), ("b", "x"), ("a", "x")])
        wanted = {**{f"a-{n}": 2 for n in range(100)}, **{f"b-{n}": 1 for n in range(100)}}
        check(kafka, guarantee, wanted, repeated=False)
        assert app.state is State.RUNNING
    assert full


def members(log: LogUnderTest, group: str) -> int:
    admin = supplier_for(log.servers).admin({})
    try:
        return len(admin.describe_consumer_groups([group])[group].result(20).members)
    except KafkaException:
        return 0


def test_user_code_slower_than_the_poll_interval(kafka: LogUnderTest, guarantee: str) -> None:
    """It returns when the group has thrown the instance out, and is called again; after that, it is quick."""
    kafka.create("lines")
    kafka.create(counts(guarantee))
    slow = threading.Event()

    def look(line: str) -> str:
        if line == "slow" and not slow.is_set():
            slow.set()
            await_that(lambda: not members(kafka, kafka.name("app")))
        return line

    sensor = Recorder()
    limits = {"consumer.session.timeout.ms": 1_000, "consumer.max.poll.interval.ms": 1_000}
    config = {**kafka.config(guarantee=guarantee), **QUICK, **limits}
    with KafkaStreams(counting(kafka, guarantee, look), config, sensor=sensor) as app:
        app.start()
        assert app.wait_until_running(timedelta(seconds=TIMEOUT))
        kafka.write("lines", [("a", "x"), ("b", "slow"), ("a", "x")])
        check(kafka, guarantee, {"a": 2, "b": 1}, repeated=True)
        kafka.write("lines", [("a", "x")])
        check(kafka, guarantee, {"a": 3, "b": 1}, repeated=True)
        await_that(lambda: app.state is State.RUNNING)
    assert sensor.aborts


def test_user_code_that_is_always_too_slow(kafka: LogUnderTest, guarantee: str) -> None:
    """Each attempt ends outside of the group: after task.timeout.ms it is given up."""
    kafka.create("lines")
    kafka.create(counts(guarantee))

    def look(line: str) -> str:
        await_that(lambda: not members(kafka, kafka.name("app")))
        return line

    limits = {
        "consumer.session.timeout.ms": 1_000,
        "consumer.max.poll.interval.ms": 1_000,
        "task.timeout.ms": 500,
    }
    with KafkaStreams(
        counting(kafka, guarantee, look), {**kafka.config(guarantee=guarantee), **QUICK, **limits}
    ) as app:
        app.start()
        assert app.wait_until_running(timedelta(seconds=TIMEOUT))
        kafka.write("lines", [("a", "x")])
        with pytest.raises(StreamsError, match=r"max\.poll\.interval\.ms"):
            app.wait(timedelta(seconds=TIMEOUT))


def test_a_new_cluster_without_coordinators(tmp_path: Path, new_cluster: Cluster) -> None:
    """No group and no transaction was ever there: their topics are made while the applications start."""

    def make(name: str, partitions: int, configs: dict[str, str]) -> None:
        new_cluster.create_topic(name, partitions, configs=configs)

    log = LogUnderTest(new_cluster.bootstrap_servers, tmp_path, make, "")
    log.create("lines", 3)
    for guarantee in GUARANTEES:
        log.create(counts(guarantee))
    assert not [name for name in new_cluster.admin().list_topics(timeout=10).topics if name.startswith("__")]
    instances = [Instance(log, guarantee, 0, log.servers) for guarantee in GUARANTEES]
    try:
        for instance in instances:
            instance.app.start()
        with Load(log) as load:
            for instance in instances:
                instance.goes_on()
        check_all(instances, load)
    finally:
        for instance in instances:
            instance.app.close()
