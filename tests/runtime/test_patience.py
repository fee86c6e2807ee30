"""Calls about offsets, configs and the group are repeated while leaders move."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from streamlet.config import StreamsConfig
from streamlet.runtime import internal_topics
from streamlet.runtime.internal_topics import Admin, LogBusyError, _patiently


class Pauses:
    """Time that passes only in pauses."""

    def __init__(self) -> None:
        self.now = 0.0

    def wait(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> Pauses:
    pauses = Pauses()
    monkeypatch.setattr(internal_topics, "Event", lambda: pauses)
    monkeypatch.setattr(internal_topics, "monotonic", lambda: pauses.now)
    return pauses


def test_old_news_of_leaders_is_waited_out(pauses: Pauses) -> None:
    """Seen after a SIGKILL of a broker, on a busy machine: "Leader epoch is older than broker epoch" for over 7 s."""

    def call() -> str:
        if pauses.now < 25:
            raise LogBusyError("Broker: Leader epoch is older than broker epoch")
        return "found"

    assert _patiently(call) == "found"


def test_it_is_not_waited_for_ever(pauses: Pauses) -> None:
    def call() -> str:
        raise LogBusyError("no leader")

    with pytest.raises(LogBusyError, match="no leader"):
        _patiently(call)
    assert 30 < pauses.now < 60


class WaitsForController:
    """As librdkafka's: it waits for a controller that is gone, until it asks who is there."""

    def __init__(self) -> None:
        self.knows = False
        self.made: list[str] = []

    def list_topics(self, timeout: float) -> Any:
        self.knows = True
        return SimpleNamespace(topics={})

    def _answer(self, answer: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if self.knows:
            future.set_result(answer)
        else:
            future.set_exception(KafkaException(KafkaError(KafkaError._TIMED_OUT, "Timed out waiting for controller")))
        return future

    def describe_cluster(self, request_timeout: float) -> Future[Any]:
        return self._answer(SimpleNamespace(cluster_id="one"))

    def create_topics(self, topics: list[Any], request_timeout: float) -> dict[str, Future[Any]]:
        self.made += [topic.topic for topic in topics]
        return {topic.topic: self._answer(None) for topic in topics}


@pytest.fixture
def admin(pauses: Pauses, monkeypatch: pytest.MonkeyPatch) -> Admin:
    config = StreamsConfig.parse({"application.id": "a", "bootstrap.servers": "localhost:1"})
    monkeypatch.setattr(Admin, "_await_partitions", lambda self, wanted: None)
    return Admin(WaitsForController(), config)


def test_the_identity_of_a_log_whose_controller_is_gone(admin: Admin) -> None:
    """Seen in a soak: an instance that started just then ended with "Timed out waiting for controller"."""
    assert admin.cluster_id() == "one"


def test_topics_of_a_log_whose_controller_is_gone(admin: Admin) -> None:
    admin.create({"a": (1, {})})
    assert admin.client.made == ["a", "a"]
