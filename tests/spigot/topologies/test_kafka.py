"""Manager and worker on a real broker: the same as on the embedded log, also when both are killed half way."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from spigot_topologies import WorkflowClient, WorkflowFailed, start
from tests.kafka.cluster import Cluster, ExternalCluster
from tests.spigot.topologies.app import config, expected, plan, topics, topology
from tests.spigot.topologies.processes import Process

TWO_MINUTES = timedelta(minutes=2)


@pytest.fixture
def prefix(kafka_cluster: Cluster | ExternalCluster) -> str:
    """Topics of three partitions, with names of their own."""
    prefix = kafka_cluster.unique("wf") + "-"
    for topic in topics(prefix):
        kafka_cluster.create_topic(topic.name, partitions=3)
    return prefix


def client(kafka_cluster: Cluster | ExternalCluster, prefix: str) -> WorkflowClient:
    workflows, _, events = topics(prefix)
    brokers = {"brokers": kafka_cluster.bootstrap_servers}
    return WorkflowClient(brokers, workflow_topic_cfg=workflows, event_topic_cfg=events)


def test_workflows_run_on_a_broker(kafka_cluster: Cluster | ExternalCluster, prefix: str, tmp_path: Path) -> None:
    def settings(role: str) -> dict[str, Any]:
        return config(role, kafka_cluster.bootstrap_servers, prefix, str(tmp_path / role))

    with (
        start(topology("manager", prefix), settings("manager")),
        start(topology("worker", prefix), settings("worker")),
        client(kafka_cluster, prefix) as workflows,
    ):
        ids = [workflows.start(plan(3), scope={"?items": list(range(n))}, confirm=False) for n in range(30)]
        for size, id in enumerate(ids):
            assert workflows.result(id, TWO_MINUTES)["?all"] == expected(size)
        refused = workflows.start(["double", {"spigot/in": {"x": None}}])
        with pytest.raises(WorkflowFailed, match="unsupported operand"):
            workflows.result(refused, TWO_MINUTES)


def test_a_large_loop_on_a_broker(kafka_cluster: Cluster | ExternalCluster, prefix: str, tmp_path: Path) -> None:
    count = 2_000
    with (
        start(topology("both", prefix), config("both", kafka_cluster.bootstrap_servers, prefix, str(tmp_path))),
        client(kafka_cluster, prefix) as workflows,
    ):
        id = workflows.start(plan(None), scope={"?items": list(range(count))})
        assert workflows.result(id, TWO_MINUTES)["?all"] == expected(count)


def test_killed_on_a_broker(kafka_cluster: Cluster | ExternalCluster, prefix: str, tmp_path: Path) -> None:
    count = 120
    brokers = kafka_cluster.bootstrap_servers
    with (
        Process("manager", brokers, prefix, str(tmp_path / "manager")) as manager,
        Process("worker", brokers, prefix, str(tmp_path / "worker")) as worker,
        client(kafka_cluster, prefix) as workflows,
    ):
        id = workflows.start(plan(8), scope={"?items": list(range(count))})
        seen: list[int] = []
        for event in workflows.events(id, timeout=TWO_MINUTES):
            seen.append(event.sequence)
            if len(seen) == 30:
                manager.restart()
            if len(seen) == 80:
                worker.restart()
        assert (manager.kills, worker.kills) == (1, 1)
        assert seen == sorted(set(seen))
        assert workflows.result(id, TWO_MINUTES)["?all"] == expected(count)
