"""TLS and SASL, against a broker that requires them; and secrets that appear nowhere."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from confluent_kafka.admin import ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion

import spigot_topologies
import streamlet
from spigot_topologies import WorkflowClient, default_builder, get, serial, task, topic_cfg
from streamlet import ConfigError, serdes
from streamlet.cli import main
from streamlet.dsl.builder import StreamsBuilder
from streamlet.errors import LogUnreachableError
from streamlet.runtime.streams import KafkaStreams
from streamlet.topic import Topic
from streamlet.topology import Topology
from tests.kafka.cluster import Cluster
from tests.kafka.launched import launched
from tests.kafka.secured import (
    KEY_PASSWORD,
    LISTENERS,
    PLAIN_PASSWORD,
    SCRAM_PASSWORD,
    USER,
    Security,
    make_security,
)
from tests.runtime.harness import TIMEOUT

pytestmark = [pytest.mark.kafka, pytest.mark.xdist_group("secured")]

SOON = timedelta(seconds=TIMEOUT)
SECRETS = (PLAIN_PASSWORD, SCRAM_PASSWORD, KEY_PASSWORD)


@frozen
class Secured:
    cluster: Cluster
    security: Security

    def client(self, way: str) -> dict[str, str]:
        """Address and settings of a client: by ``plain`` or ``scram`` passwords, or by ``certificate``."""
        listener = "MTLS" if way == "certificate" else "SASL"
        return {"bootstrap.servers": self.cluster.servers(listener), **getattr(self.security, way)}


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    directory = tmp_path_factory.mktemp("security")
    made: list[Security] = []

    def make() -> Cluster:
        made.append(make_security(directory))
        return Cluster(1, config=made[0].broker_config, listeners=LISTENERS)

    for cluster in launched(make, coordinators=False):
        user = UserScramCredentialUpsertion(
            USER, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), SCRAM_PASSWORD.encode()
        )
        cluster.admin().alter_user_scram_credentials([user])[USER].result(30)
        yield Secured(cluster, made[0])


class Everything(logging.Handler):
    """Everything that is logged, at every level, with the exceptions."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def everything(capfd: pytest.CaptureFixture[str]) -> Iterator[Everything]:
    """All that is logged or printed, by librdkafka too; no secret may be in it."""
    handler, root = Everything(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield handler
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    printed = capfd.readouterr()
    hide_nothing("\n".join(handler.lines), printed.out, printed.err)


def hide_nothing(*texts: str) -> None:
    """No secret is in any of the texts."""
    for text in texts:
        assert not [secret for secret in SECRETS if secret in text]


def doubling(lines: str, out: str) -> Topology:
    builder = StreamsBuilder()
    source = builder.stream(Topic(lines, serdes.string, serdes.int64))
    counted = source.group_by_key().count(store="counts")
    counted.to_stream().to(Topic(out, serdes.string, serdes.int64))
    return builder.build()


def arguments(config: Mapping[str, str], directory: Path) -> list[str]:
    """The settings in a file, as an argument."""
    file = directory / "client.properties"
    file.write_text("# a client\n\n" + "".join(f"{key}={value}\n" for key, value in config.items()))
    return ["--config-file", str(file)]


@pytest.mark.parametrize(
    ("way", "guarantee"),
    [("plain", "at_least_once"), ("scram", "exactly_once_v2"), ("certificate", "exactly_once_v2")],
)
def test_an_application_and_the_command_line(
    secured: Secured, everything: Everything, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str, guarantee: str
) -> None:
    """Every client of an application passes; what librdkafka says when asked for all of it has no secret either."""
    client = secured.client(way)
    where = arguments(client, tmp_path)
    lines, out = (secured.cluster.unique(name) for name in ("lines", "out"))
    for topic in (lines, out):
        assert main(["topics", "--create", topic, *where]) == 0
    monkeypatch.setattr(sys, "stdin", io.StringIO("a=1\nb=2\na=3\n"))
    assert main(["produce", lines, "-s", "=", "--value", "int64", *where]) == 0
    debug = {f"{kind}.debug": "conf,security,broker,feature" for kind in ("consumer", "producer", "admin")}
    config = {
        **client,
        **debug,
        "application.id": secured.cluster.unique("app"),
        "processing.guarantee": guarantee,
        "state.dir": str(tmp_path),
    }
    with streamlet.start(doubling(lines, out), config, timeout=SOON) as app:
        reading = ["consume", out, "-n", "3", "--value", "int64"]
        assert main([*reading, *where]) == 0
        hide_nothing(repr(app), str(app.config), repr(app.config), str(app.topology.describe()), str(app.metrics()))
    said = "\n".join(everything.lines)
    assert "sasl.password" in said or "ssl.key.password" in said, "librdkafka was asked to show its configuration"


def test_workflows(secured: Secured, everything: Everything, tmp_path: Path) -> None:
    client = secured.client("scram")
    workflows, tasks, events = (topic_cfg(secured.cluster.unique(name)) for name in ("workflows", "tasks", "events"))
    for topic in (workflows, tasks, events):
        secured.cluster.create_topic(topic.name)

    class Worker:
        def process_task(self, ctx: Any, task: list[Any]) -> Any:
            return {"out": task[1]["x"]}

    topology = (
        default_builder()
        .with_wf_topology(task_topic_cfg=tasks, workflow_topic_cfg=workflows, event_topic_cfg=events)
        .with_task_topology(handler=Worker(), task_topic_cfg=tasks, workflow_topic_cfg=workflows)
        .build()
    )
    config = {**client, "application.id": secured.cluster.unique("wf"), "state.dir": str(tmp_path)}
    plan = serial(task("t", in_={"x": get("?x")}, out={"?y": get("out")}))
    with (
        spigot_topologies.start(topology, config, timeout=SOON),
        WorkflowClient(client, workflow_topic_cfg=workflows, event_topic_cfg=events) as starter,
    ):
        assert starter.result(starter.start(plan, scope={"?x": 5}), SOON) == {"?x": 5, "?y": 5}
        hide_nothing(repr(starter), repr(vars(starter)))
    assert everything.lines


def test_a_wrong_password_is_named_as_the_cause(secured: Secured, everything: Everything, tmp_path: Path) -> None:
    wrong = {**secured.client("plain"), "sasl.password": KEY_PASSWORD}
    config = {**wrong, "application.id": "wrong", "state.dir": str(tmp_path)}
    app = KafkaStreams(doubling("lines", "out"), config)
    with pytest.raises(LogUnreachableError, match=r"security settings.*[Aa]uthentication") as raised:
        app.start(timedelta(seconds=4))
    hide_nothing(str(raised.value), repr(raised.value))
    assert everything.lines


def test_a_server_that_the_ca_does_not_vouch_for(secured: Secured, everything: Everything, tmp_path: Path) -> None:
    stranger = make_security(tmp_path)
    config = {**secured.client("plain"), "ssl.ca.location": str(stranger.ca), "application.id": "wrong"}
    app = KafkaStreams(doubling("lines", "out"), {**config, "state.dir": str(tmp_path)})
    with pytest.raises(LogUnreachableError, match=r"security settings.*certificate") as raised:
        app.start(timedelta(seconds=4))
    hide_nothing(str(raised.value))
    assert everything.lines


@pytest.mark.parametrize(
    "wrong",
    [
        {"ssl.key.password": SCRAM_PASSWORD},  # not the key's
        {"security.protocol": "nonsense"},
        {"sasl.passwort": PLAIN_PASSWORD},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_settings_that_librdkafka_refuses(secured: Secured, tmp_path: Path, wrong: dict[str, str]) -> None:
    config = {**secured.client("certificate"), **wrong, "application.id": "wrong", "state.dir": str(tmp_path)}
    with pytest.raises(ConfigError, match="admin client") as raised:
        KafkaStreams(doubling("lines", "out"), config).start()
    hide_nothing(str(raised.value), repr(raised.value))
