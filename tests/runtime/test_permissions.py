"""A broker that allows not everything, and one that does not answer while an application is closed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, ResourcePatternType, ResourceType

from streamlet import serdes
from streamlet.dsl.builder import StreamsBuilder
from streamlet.errors import ProductionError, StreamsError
from streamlet.runtime.lifecycle import State
from streamlet.runtime.streams import KafkaStreams
from streamlet.topic import Topic
from streamlet.topology import Topology
from tests.kafka.cluster import Cluster, Listener
from tests.kafka.launched import launched
from tests.runtime.harness import TIMEOUT, LogUnderTest, running

pytestmark = [pytest.mark.kafka, pytest.mark.xdist_group("permissions")]

USER, PASSWORD = "alice", "of no importance"
SOON = timedelta(seconds=TIMEOUT)
LOGIN = {
    "security.protocol": "SASL_PLAINTEXT",
    "sasl.mechanism": "PLAIN",
    "sasl.username": USER,
    "sasl.password": PASSWORD,
}
TOPIC, GROUP, TRANSACTIONAL_ID = ResourceType.TOPIC, ResourceType.GROUP, ResourceType.TRANSACTIONAL_ID
READ, WRITE, DESCRIBE = AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    login = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
    config = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "listener.name.users.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.users.plain.sasl.jaas.config": login,
    }
    yield from launched(lambda: Cluster(1, config=config, listeners=(Listener("USERS", "SASL_PLAINTEXT"),)))


@pytest.fixture
def log(cluster: Cluster, tmp_path: Path) -> LogUnderTest:
    def make(name: str, partitions: int, configs: dict[str, str]) -> None:
        cluster.create_topic(name, partitions, configs=configs)

    log = LogUnderTest(cluster.bootstrap_servers, tmp_path, make, cluster.unique("p") + "-")
    for topic in ("lines", "counts"):
        log.create(topic)
    for kind in (TOPIC, GROUP, TRANSACTIONAL_ID):
        rule(cluster, kind, log.prefix, AclOperation.ALL, AclPermissionType.ALLOW, ResourcePatternType.PREFIXED)
    return log


def rule(
    cluster: Cluster,
    kind: ResourceType,
    name: str,
    operation: AclOperation,
    permission: AclPermissionType,
    pattern: ResourcePatternType = ResourcePatternType.LITERAL,
) -> None:
    binding = AclBinding(kind, name, pattern, f"User:{USER}", "*", operation, permission)
    cluster.admin().create_acls([binding])[binding].result(30)


def counting(log: LogUnderTest) -> Topology:
    builder = StreamsBuilder()
    lines = builder.stream(Topic(log.name("lines"), serdes.string, serdes.string))
    lines.group_by_key().count(store="c").to_stream().to(Topic(log.name("counts"), serdes.string, serdes.int64))
    return builder.build()


def started_and_ended(app: KafkaStreams) -> None:
    app.start()
    app.wait(SOON)


DENIED = [
    (GROUP, "app", READ, "not allowed to join: .*It needs READ and DESCRIBE on group {p}app"),
    (GROUP, "app", DESCRIBE, "not allowed to join: .*It needs READ and DESCRIBE on group {p}app"),
    (TOPIC, "app-tasks", READ, "topic {p}app-tasks could not be read: .*authorization failed"),
    (TOPIC, "lines", READ, "source topic {p}lines .*cannot be read: .*authorization failed"),
    (TOPIC, "counts", WRITE, "{p}counts.*refused a record .*{p}lines, partition 0, offset 0.*authorization failed"),
    (TOPIC, "app-c-changelog", WRITE, "refused a record .*{p}lines, partition 0, offset 0.*authorization failed"),
]


@pytest.mark.parametrize(("kind", "name", "operation", "message"), DENIED)
def test_what_is_denied_is_named(
    cluster: Cluster,
    log: LogUnderTest,
    guarantee: str,
    kind: ResourceType,
    name: str,
    operation: AclOperation,
    message: str,
) -> None:
    """It never waits in silence for what it will not get."""
    rule(cluster, kind, log.name(name), operation, AclPermissionType.DENY)
    log.write("lines", [("k", "v")])
    config = {**log.config(guarantee=guarantee), **LOGIN, "bootstrap.servers": cluster.servers("USERS")}
    app = KafkaStreams(counting(log), config)
    with pytest.raises((StreamsError, ProductionError), match="(?i)" + message.format(p=log.prefix)):
        started_and_ended(app)
    app.close()
    assert app.state is State.ERROR


def test_a_transactional_id_that_is_denied_is_named(cluster: Cluster, log: LogUnderTest) -> None:
    deny = (AclPermissionType.DENY, ResourcePatternType.PREFIXED)
    rule(cluster, TRANSACTIONAL_ID, log.prefix, WRITE, *deny)
    app = KafkaStreams(counting(log), {**log.config(), **LOGIN, "bootstrap.servers": cluster.servers("USERS")})
    app.start()
    with pytest.raises(StreamsError, match="initialise transactions: TRANSACTIONAL_ID_AUTHORIZATION_FAILED"):
        app.wait(SOON)
    app.close()


@pytest.mark.long
def test_closing_does_not_wait_for_brokers_that_are_away(cluster: Cluster, log: LogUnderTest, guarantee: str) -> None:
    """The last commit is tried for seconds, not for task.timeout.ms; a restart does again what it would have held."""
    taken, go_on = threading.Event(), threading.Event()

    def wait(line: str) -> str:
        taken.set()
        assert go_on.wait(TIMEOUT)
        return line

    builder = StreamsBuilder()
    lines = builder.stream(Topic(log.name("lines"), serdes.string, serdes.string)).map_values(wait)
    counted = lines.group_by_key(key_serde=serdes.string, value_serde=serdes.string).count(store="c")
    counted.to_stream().to(Topic(log.name("counts"), serdes.string, serdes.int64))
    topology = builder.build()
    config = log.config(guarantee=guarantee, task__timeout__ms=3_600_000)
    app = running(topology, config)
    log.write("lines", [("k", "v")])
    assert taken.wait(TIMEOUT)
    cluster.pause(1)
    try:
        go_on.set()
        assert app.close(SOON)
    finally:
        cluster.resume(1)
    assert app.state is State.NOT_RUNNING
    with running(topology, config):
        log.write("lines", [("k", "v")])
        log.await_counts("counts", {"k": 2})
