"""Fixtures for the whole test suite: a real Kafka cluster where a test asks for one.

A test that takes one of `CLUSTER_FIXTURES` carries the marker `kafka` by itself. Under pytest-xdist with
`--dist loadgroup` (as `make test` runs it) all tests of one cluster go to one worker, so each cluster starts once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis
import pytest

from tests.kafka.cluster import Cluster, ExternalCluster, Listener
from tests.kafka.launched import launched

hypothesis.settings.register_profile(
    "busy machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy machine")  # how long an example takes says nothing about the code

CLUSTER_FIXTURES = ("kafka_cluster", "kafka_cluster_3", "new_cluster")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        used = [name for name in CLUSTER_FIXTURES if name in getattr(item, "fixturenames", ())]
        if used:
            item.add_marker(pytest.mark.kafka)
            item.add_marker(pytest.mark.xdist_group(used[-1]))


@pytest.fixture(scope="session")
def kafka_cluster() -> Iterator[Cluster | ExternalCluster]:
    """One broker, shared by all tests of the worker: use names from `kafka_cluster.unique(prefix)`.

    `STREAMLET_TEST_BOOTSTRAP_SERVERS` names a running cluster to use instead.
    """
    servers = os.environ.get("STREAMLET_TEST_BOOTSTRAP_SERVERS")
    if servers:
        yield ExternalCluster(servers)
    else:
        yield from launched(lambda: Cluster(1))


@pytest.fixture(scope="session")
def kafka_cluster_3() -> Iterator[Cluster]:
    """Three brokers, replication 3, min.insync 2. A test that kills or stops one starts it again before it ends.

    Clients that begin at `kafka_cluster_3.servers("DETOUR")` need a proxy (`tests/kafka/proxy.py`) at the ports they
    are told.
    """
    yield from launched(lambda: Cluster(3, listeners=(Listener("DETOUR", detour=True),)))


@pytest.fixture
def new_cluster() -> Iterator[Cluster]:
    """One broker that has never had a group or a transaction, for one test."""
    yield from launched(lambda: Cluster(1), coordinators=False)
