"""The log under test: each test that takes `log` runs on the embedded log and on a real broker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import NewTopic

from tests.runtime.harness import LogUnderTest

_KAFKA = pytest.param("kafka", marks=[pytest.mark.kafka, pytest.mark.xdist_group("kafka_cluster")])


@pytest.fixture(params=["embedded", _KAFKA])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> LogUnderTest:
    return embedded_log(tmp_path) if request.param == "embedded" else kafka_log(request, tmp_path)


@pytest.fixture
def embedded(tmp_path: Path) -> LogUnderTest:
    return embedded_log(tmp_path)


@pytest.fixture(params=[_KAFKA])
def kafka(request: pytest.FixtureRequest, tmp_path: Path) -> LogUnderTest:
    return kafka_log(request, tmp_path)


@pytest.fixture(params=["at_least_once", "exactly_once_v2"])
def guarantee(request: pytest.FixtureRequest) -> Any:
    return request.param


def embedded_log(tmp_path: Path) -> LogUnderTest:
    from streamlet.clients import supplier_for

    servers = f"embedded:{tmp_path / 'log.db'}"
    admin = supplier_for(servers).admin({})

    def make(name: str, partitions: int, configs: dict[str, str]) -> None:
        admin.create_topics([NewTopic(name, partitions, 1, config=configs)])[name].result(10)

    return LogUnderTest(servers, tmp_path, make, "")


def kafka_log(request: pytest.FixtureRequest, tmp_path: Path) -> LogUnderTest:
    cluster = request.getfixturevalue("kafka_cluster")

    def make(name: str, partitions: int, configs: dict[str, str]) -> None:
        cluster.create_topic(name, partitions, configs=configs)

    return LogUnderTest(cluster.bootstrap_servers, tmp_path, make, cluster.unique("t") + "-")
