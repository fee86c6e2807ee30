"""A real Kafka cluster on 127.0.0.1: one to three KRaft brokers, each also a controller.

In tests use the fixtures `kafka_cluster` and `kafka_cluster_3`. By hand:

    python -m tests.kafka.cluster --brokers 3

prints the bootstrap servers and runs until Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from uuid import uuid4

from attrs import define, field, frozen
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.kafka import watchdog
from tests.kafka.jars import HERE, BrokerUnavailableError, broker_classpath, java_command

HOST = "127.0.0.1"
JVM = ["-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Djava.awt.headless=true"]

# Quick reactions in place of production's patience: a test waits for each of these.
QUICK: dict[str, str] = {
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "500",
    "group.coordinator.rebalance.protocols": "classic,consumer",
    "group.consumer.min.session.timeout.ms": "500",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.heartbeat.interval.ms": "100",
    "group.consumer.heartbeat.interval.ms": "500",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
    "log.cleaner.dedupe.buffer.size": str(4 << 20),
    "log.cleaner.backoff.ms": "1000",
    "log.index.size.max.bytes": str(1 << 20),
    "num.network.threads": "2",
    "num.io.threads": "4",
    "num.replica.fetchers": "1",
    "background.threads": "2",
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "4000",
    "controlled.shutdown.retry.backoff.ms": "200",
    "replica.fetch.backoff.ms": "100",
}


class ClusterError(RuntimeError):
    """The cluster did not do what was asked; the message has the end of the broker's log."""


@frozen
class Listener:
    """A further way into each node, beside the plain one.

    Attributes:
        name: In capitals; broker settings about it begin with ``listener.name.`` and the name in lower case.
        protocol: Kafka's security protocol.
        detour: Clients are told another port than the one that the node listens on: there a proxy is to listen.
    """

    name: str
    protocol: str = "PLAINTEXT"
    detour: bool = False


@define
class Broker:
    """One node: its ports, its directory, and its process while it runs.

    Attributes:
        doors: For each further listener the port that the node listens on, and the one that clients are told.
    """

    id: int
    port: int
    controller_port: int
    directory: Path
    doors: dict[str, tuple[int, int]] = field(factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """What the broker wrote, over all its starts."""
        return self.directory / "broker.log"

    @property
    def properties(self) -> Path:
        return self.directory / "server.properties"


class Cluster:
    """`brokers` Kafka nodes with ids from 1 on. Use it as a context manager, or call `launch` and `close`.

    Args:
        brokers: Number of nodes; each is broker and controller. With three, topics have replication 3 and min.insync 2.
        config: Broker settings over the defaults for tests (`QUICK`), for every node.
        jvm_args: Further arguments for each JVM.
        listeners: Further listeners of each node.
    """

    def __init__(
        self,
        brokers: int = 1,
        config: Mapping[str, str] | None = None,
        jvm_args: tuple[str, ...] = (),
        listeners: tuple[Listener, ...] = (),
    ) -> None:
        self._size = brokers
        self._listeners = listeners
        self._overrides = dict(config or {})
        self._jvm_args = jvm_args
        self._java = java_command()
        self._classpath = broker_classpath()
        self._brokers: dict[int, Broker] = {}
        self._directory: Path | None = None
        self._watchdog: subprocess.Popen[str] | None = None
        self._admin: AdminClient | None = None
        self._serial = itertools.count(1)

    # Life

    def launch(self, timeout: float = 90.0) -> Cluster:
        """Formats the storage, starts every node, and waits until clients see them all. Returns itself.

        Raises:
            ClusterError: A node ended, or not all were ready after `timeout` seconds.
        """
        self._directory = Path(tempfile.mkdtemp(prefix="streamlet-kafka-"))
        self._watchdog = subprocess.Popen(
            [sys.executable, watchdog.__file__], stdin=subprocess.PIPE, text=True, start_new_session=True
        )
        self._tell_watchdog(f"d{self._directory}")
        try:
            self._configure()
            self._format()
            for broker in self._brokers.values():
                self._spawn(broker)
            self.wait_until_ready(timeout)
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Kills every node and removes its data. May be called again."""
        self._admin = None
        for broker in self._brokers.values():
            self._end(broker, signal.SIGKILL, 10.0)
        if self._watchdog is not None:
            assert self._watchdog.stdin is not None
            self._watchdog.stdin.close()
            self._watchdog.wait(15)
            self._watchdog = None
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> Cluster:
        return self.launch()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # What tests use

    @property
    def bootstrap_servers(self) -> str:
        """All nodes, also those that are down."""
        return ",".join(f"{HOST}:{broker.port}" for broker in self._brokers.values())

    def servers(self, listener: str) -> str:
        """All nodes, by a further listener, as clients are told."""
        return ",".join(f"{HOST}:{broker.doors[listener][1]}" for broker in self._brokers.values())

    def detours(self, listener: str) -> list[tuple[int, int]]:
        """For each node the port that its clients are told, and the one that it listens on."""
        return [(told, port) for port, told in (broker.doors[listener] for broker in self._brokers.values())]

    @property
    def broker_ids(self) -> list[int]:
        return list(self._brokers)

    def admin(self) -> AdminClient:
        """One admin client for the cluster's life."""
        if self._admin is None:
            self._admin = _admin(self.bootstrap_servers)
        return self._admin

    def unique(self, prefix: str) -> str:
        """A name nobody else on this cluster has: for topics, groups, application ids."""
        return f"{prefix}-{next(self._serial)}-{uuid4().hex[:6]}"

    def create_topic(
        self,
        name: str,
        partitions: int = 1,
        replication: int | None = None,
        configs: Mapping[str, str] | None = None,
    ) -> str:
        """Creates a topic and waits until each partition has a leader. Returns the name.

        Args:
            name: The topic.
            partitions: How many.
            replication: By default the cluster's (3 with three nodes).
            configs: Topic settings.
        """
        return create_topic(self.admin(), name, partitions, replication or min(self._size, 3), configs)

    def kill(self, broker: int) -> None:
        """SIGKILL: the node is gone at once, its storage as it was."""
        self._end(self._brokers[broker], signal.SIGKILL, 10.0)

    def stop(self, broker: int, timeout: float = 30.0) -> None:
        """SIGTERM: hands its leaderships over and ends. After `timeout` seconds, SIGKILL."""
        self._end(self._brokers[broker], signal.SIGTERM, timeout)

    def start(self, broker: int, timeout: float = 60.0) -> None:
        """Starts a killed or stopped node again on its port and storage, and waits until clients see it."""
        node = self._brokers[broker]
        if node.process is not None:
            raise ClusterError(f"broker {broker} is running already")
        self._spawn(node)
        self.wait_until_ready(timeout)

    def pause(self, broker: int) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        self._signal(broker, signal.SIGSTOP)

    def resume(self, broker: int) -> None:
        """SIGCONT after `pause`."""
        self._signal(broker, signal.SIGCONT)

    def running(self) -> list[int]:
        """Ids of the nodes that have a process."""
        return [b.id for b in self._brokers.values() if b.process is not None and b.process.poll() is None]

    def log_tail(self, broker: int, lines: int = 40) -> str:
        """The last lines the node logged."""
        log = self._brokers[broker].log
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else "(no log)"

    def resident_bytes(self) -> int:
        """Memory that the running nodes hold (Linux only)."""
        page = os.sysconf("SC_PAGE_SIZE")
        pids = [b.process.pid for b in self._brokers.values() if b.process is not None and b.process.poll() is None]
        return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page for pid in pids)

    def wait_until_ready(self, timeout: float) -> None:
        """Waits until the metadata of every running node lists all running nodes.

        Raises:
            ClusterError: A node ended, or the time is over.
        """
        running = [broker for broker in self._brokers.values() if broker.process is not None]
        deadline = time.monotonic() + timeout
        for broker in running:
            self._await(lambda b=broker: _listening(b.port), broker, deadline)  # type: ignore[misc]  # default binds b
        ids = {broker.id for broker in running}
        for broker in running:
            admin = _admin(f"{HOST}:{broker.port}")
            self._await(lambda a=admin: _known_brokers(a) >= ids, broker, deadline)  # type: ignore[misc]  # as above

    def make_coordinators(self, timeout: float = 60.0) -> None:
        """Waits until every group and every transactional id has its coordinator.

        A new cluster makes their topics at first use. A consumer that is assigned a partition without an offset in that
        moment gets one NOT_COORDINATOR and then stays silent for good (librdkafka 2.16), so tests do not begin there.

        Raises:
            ClusterError: They were not there after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        # A coordinator is chosen by String.hashCode() modulo the topic's partitions: one digit finds each.
        for name in map(str, range(int(QUICK["offsets.topic.num.partitions"]))):
            consumer = Consumer({"bootstrap.servers": self.bootstrap_servers, "group.id": name, "log_level": 2})
            while True:
                try:
                    consumer.committed([TopicPartition("any", 0)], timeout=5)
                    break
                except KafkaException as error:
                    if time.monotonic() > deadline:
                        raise ClusterError(f"group {name} has no coordinator: {error}") from error
                    time.sleep(0.05)
            consumer.close()
        for name in map(str, range(int(QUICK["transaction.state.log.num.partitions"]))):
            producer = Producer({"bootstrap.servers": self.bootstrap_servers, "transactional.id": name, "log_level": 2})
            producer.init_transactions(max(1.0, deadline - time.monotonic()))

    # Inside

    def _configure(self) -> None:
        assert self._directory is not None
        ports = iter(_free_ports((2 + 2 * len(self._listeners)) * self._size))
        for id in range(1, self._size + 1):
            directory = self._directory / f"broker-{id}"
            directory.mkdir()
            broker = self._brokers[id] = Broker(id, next(ports), next(ports), directory)
            for listener in self._listeners:
                port, detour = next(ports), next(ports)
                broker.doors[listener.name] = (port, detour if listener.detour else port)
        protocols = "".join(f",{listener.name}:{listener.protocol}" for listener in self._listeners)
        replication = str(min(self._size, 3))
        in_sync = str(max(1, min(self._size, 3) - 1))
        voters = ",".join(f"{b.id}@{HOST}:{b.controller_port}" for b in self._brokers.values())
        for broker in self._brokers.values():
            doors = broker.doors.items()
            opened = "".join(f",{name}://{HOST}:{port}" for name, (port, _) in doors)
            told = "".join(f",{name}://{HOST}:{port}" for name, (_, port) in doors)
            plain = f"PLAINTEXT://{HOST}:{broker.port}"
            settings = {
                "process.roles": "broker,controller",
                "node.id": str(broker.id),
                "controller.quorum.voters": voters,
                "controller.listener.names": "CONTROLLER",
                "inter.broker.listener.name": "PLAINTEXT",
                "listener.security.protocol.map": f"CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT{protocols}",
                "listeners": f"{plain}{opened},CONTROLLER://{HOST}:{broker.controller_port}",
                "advertised.listeners": f"{plain}{told}",
                "log.dirs": str(broker.directory / "data"),
                "default.replication.factor": replication,
                "min.insync.replicas": in_sync,
                "offsets.topic.replication.factor": replication,
                "transaction.state.log.replication.factor": replication,
                "transaction.state.log.min.isr": in_sync,
                **QUICK,
                **self._overrides,
            }
            placeholders = {"port": broker.port, "controller_port": broker.controller_port}
            lines = (f"{key}={value.format_map(placeholders)}\n" for key, value in settings.items())
            broker.properties.write_text("".join(lines))

    def _format(self) -> None:
        cluster_id = uuid4().hex[:22]
        arguments = ["kafka.tools.StorageTool", "format", "--cluster-id", cluster_id, "--config"]
        formats = [
            subprocess.Popen(
                self._java_line([*arguments, str(broker.properties)]),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            for broker in self._brokers.values()
        ]
        for process in formats:
            output, _ = process.communicate(timeout=120)
            if process.returncode:
                raise ClusterError(f"formatting the storage failed:\n{output.decode(errors='replace')}")

    def _java_line(self, arguments: list[str]) -> list[str]:
        logging = f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}"
        return [self._java, *JVM, *self._jvm_args, logging, "-cp", self._classpath, *arguments]

    def _spawn(self, broker: Broker) -> None:
        with broker.log.open("ab") as log:
            broker.process = subprocess.Popen(
                self._java_line(["kafka.Kafka", str(broker.properties)]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=broker.directory,
                start_new_session=True,
            )
        self._tell_watchdog(f"+{broker.process.pid}")

    def _signal(self, id: int, what: signal.Signals) -> None:
        process = self._brokers[id].process
        if process is None:
            raise ClusterError(f"broker {id} is not running")
        process.send_signal(what)

    def _end(self, broker: Broker, how: signal.Signals, timeout: float) -> None:
        process, broker.process = broker.process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(how)
            if how is not signal.SIGKILL:
                process.send_signal(signal.SIGCONT)  # a paused node would never see it
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        self._tell_watchdog(f"-{process.pid}")

    def _tell_watchdog(self, line: str) -> None:
        if self._watchdog is not None and self._watchdog.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                print(line, file=self._watchdog.stdin, flush=True)

    def _await(self, condition: Callable[[], bool], broker: Broker, deadline: float) -> None:
        while not condition():
            if broker.process is None or broker.process.poll() is not None:
                raise ClusterError(f"broker {broker.id} ended while starting:\n{self.log_tail(broker.id)}")
            if time.monotonic() > deadline:
                raise ClusterError(f"broker {broker.id} was not ready in time:\n{self.log_tail(broker.id)}")
            time.sleep(0.05)


class ExternalCluster:
    """A cluster that runs already, in the place of a one-broker `Cluster`: its nodes cannot be killed from here."""

    def __init__(self, bootstrap_servers: str) -> None:
        self.bootstrap_servers = bootstrap_servers
        self._admin = _admin(bootstrap_servers)
        self._serial = itertools.count(1)

    def admin(self) -> AdminClient:
        return self._admin

    def unique(self, prefix: str) -> str:
        """As `Cluster.unique`."""
        return f"{prefix}-{next(self._serial)}-{uuid4().hex[:6]}"

    def create_topic(
        self,
        name: str,
        partitions: int = 1,
        replication: int | None = None,
        configs: Mapping[str, str] | None = None,
    ) -> str:
        """As `Cluster.create_topic`; the default replication is the cluster's own."""
        return create_topic(self._admin, name, partitions, replication or -1, configs)


def create_topic(
    admin: AdminClient, name: str, partitions: int, replication: int, configs: Mapping[str, str] | None = None
) -> str:
    """Creates a topic, waits until every partition has a leader, and returns the name."""
    topic = NewTopic(name, num_partitions=partitions, replication_factor=replication, config=dict(configs or {}))
    admin.create_topics([topic])[name].result(30)
    deadline = time.monotonic() + 30
    while True:
        found = admin.list_topics(name, timeout=10).topics[name]
        leaders = [p.leader for p in found.partitions.values() if p.leader >= 0]
        if found.error is None and len(leaders) == partitions:
            return name
        if time.monotonic() > deadline:
            raise ClusterError(f"topic {name} has leaders for {len(leaders)} of {partitions} partitions")
        time.sleep(0.02)


def _admin(bootstrap_servers: str) -> AdminClient:
    return AdminClient(
        {
            "bootstrap.servers": bootstrap_servers,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 200,
            "log_level": 2,
        }
    )


def _listening(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=1):
            return True
    except OSError:
        return False


def _known_brokers(admin: AdminClient) -> set[int]:
    try:
        return set(admin.list_topics(timeout=2).brokers)
    except KafkaException:
        return set()


def _free_ports(count: int) -> list[int]:
    """Ports that nothing listens on, below those the system hands out: a node that is down must find its own again."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(15_000, 32_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        if port not in ports:
            ports.append(port)
    return ports


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kafka.cluster", description="Run Kafka until Ctrl-C.")
    parser.add_argument("--brokers", type=int, default=1, help="number of nodes (default: 1)")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="broker setting; repeatable")
    options = parser.parse_args(arguments)
    settings = dict(setting.split("=", 1) for setting in options.set)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    started = time.monotonic()
    try:
        with Cluster(options.brokers, settings) as cluster:
            megabytes = cluster.resident_bytes() >> 20
            print(cluster.bootstrap_servers, flush=True)
            seconds = time.monotonic() - started
            print(f"ready after {seconds:.1f} s, {megabytes} MB resident; Ctrl-C stops", file=sys.stderr)
            signal.pause()
    except BrokerUnavailableError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
