"""The client: it starts workflows, and learns their ends from the event topic."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import UUID

import pytest

from spigot_topologies import (
    PlanError,
    WireError,
    WorkflowClient,
    WorkflowFailed,
    WorkflowTopic,
    default_builder,
    get,
    serial,
    start,
    task,
    topic_cfg,
)
from spigot_topologies.wire import Create
from streamlet import ConfigError, KafkaStreams, StreamsError, Topic, serdes, supplier_for

SOON = timedelta(seconds=60)
NOW = timedelta(milliseconds=300)

Topics = tuple[WorkflowTopic, WorkflowTopic, WorkflowTopic]


class Worker:
    def process_task(self, ctx: Any, task: list[Any]) -> Any:
        if task[0] == "fail":
            raise ValueError("no way")
        return {"out": task[1].get("x")}


@pytest.fixture(params=["json", "edn"])
def topics(request: pytest.FixtureRequest) -> Topics:
    return topic_cfg("workflows", request.param), topic_cfg("tasks", request.param), topic_cfg("events", request.param)


@pytest.fixture
def brokers(tmp_path: Path) -> str:
    return f"embedded:{tmp_path}/log.db?partitions=3"


@pytest.fixture
def app(topics: Topics, brokers: str) -> Iterator[KafkaStreams]:
    workflows, tasks, events = topics
    topology = (
        default_builder()
        .with_wf_topology(task_topic_cfg=tasks, workflow_topic_cfg=workflows, event_topic_cfg=events)
        .with_task_topology(handler=Worker(), task_topic_cfg=tasks, workflow_topic_cfg=workflows)
        .build()
    )
    with start(topology, {"application.id": "app", "brokers": brokers}) as app:
        yield app


def connect(topics: Topics, brokers: str, **options: Any) -> WorkflowClient:
    return WorkflowClient({"brokers": brokers}, workflow_topic_cfg=topics[0], event_topic_cfg=topics[2], **options)


PLAN = serial(task("t", in_={"x": get("?x")}, out={"?y": get("out")}))


@pytest.mark.usefixtures("app")
def test_start_and_wait(topics: Topics, brokers: str) -> None:
    with connect(topics, brokers) as client:
        id = client.start(PLAN, scope={"?x": 5})
        assert isinstance(id, UUID)
        end = client.wait(id, SOON)
        assert (end.workflow_id, end.status, end.error, end.is_end) == (id, "success", None, True)
        assert end.result() == end.value == {"?x": 5, "?y": 5}
        assert client.result(id, SOON) == end.value
        assert client.status(id) == "success"
        assert client.start(PLAN, workflow_id="mine", scope={"?x": 1}) == "mine"
        assert client.result("mine", SOON)["?y"] == 1


@pytest.mark.usefixtures("app")
def test_a_failure_is_raised(topics: Topics, brokers: str) -> None:
    with connect(topics, brokers) as client:
        id = client.start(serial(task("fail")))
        end = client.wait(id, SOON)
        assert end.status == "failure"
        assert end.error is not None
        assert end.error["message"] == "no way"
        with pytest.raises(WorkflowFailed, match="no way") as raised:
            client.result(id, SOON)
        assert raised.value.workflow_id == id


@pytest.mark.usefixtures("app")
def test_many_at_once_and_from_several_threads(topics: Topics, brokers: str) -> None:
    found: dict[int, Any] = {}
    with connect(topics, brokers) as client:

        def one(number: int) -> None:
            id = client.start(PLAN, scope={"?x": number}, confirm=False)
            found[number] = client.result(id, SOON)["?y"]

        threads = [Thread(target=one, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == {number: number for number in range(20)}


@pytest.mark.usefixtures("app")
def test_another_client_learns_of_an_end_too(topics: Topics, brokers: str) -> None:
    with connect(topics, brokers) as first, connect(topics, brokers) as second:
        first.start(PLAN, workflow_id="w", scope={"?x": 1})
        first.wait("w", SOON)
        assert second.wait("w", SOON).status == "success"
        with connect(topics, brokers) as late, pytest.raises(TimeoutError, match="nothing has been heard"):
            late.wait("w", NOW)
        with connect(topics, brokers, from_beginning=True) as late:
            assert late.wait("w", SOON).status == "success"
            assert late.status("w") == "success"
            assert late.status("nobody") is None


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize("remembered", [100, 1])
def test_workflows_can_be_started_again_one_by_one(
    topics: Topics, brokers: str, remembered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a program that begins anew after a crash: the ends come by before they are asked for."""
    monkeypatch.setattr("spigot_topologies.client._REMEMBERED_KEYS", remembered)
    names = ["a", "b", "c", "d"]
    for _ in range(2):
        with connect(topics, brokers, from_beginning=True) as client:
            for number, name in enumerate(names):
                client.start(PLAN, workflow_id=name, scope={"?x": number})
                assert client.result(name, SOON)["?y"] == number


@pytest.mark.usefixtures("app")
def test_a_client_that_told_of_an_end_waits_for_the_next_one_of_that_id(topics: Topics, brokers: str) -> None:
    with connect(topics, brokers, from_beginning=True) as client:
        client.start(PLAN, workflow_id="w", scope={"?x": 1})
        assert client.result("w", SOON)["?y"] == 1
        client.start(PLAN, workflow_id="w", scope={"?x": 2})
        with pytest.raises(TimeoutError, match="its id is taken until the manager's retention has passed"):
            client.wait("w", NOW)
        client.status("nobody")  # goes back to the beginning
        with pytest.raises(TimeoutError, match="its id is taken"):
            client.wait("w", NOW)


@pytest.mark.usefixtures("app")
def test_events_come_in_order_up_to_the_end(topics: Topics, brokers: str) -> None:
    with connect(topics, brokers) as client:
        client.start(PLAN, workflow_id="other", scope={"?x": 2})
        client.start(PLAN, workflow_id="w", scope={"?x": 1})
        (end,) = client.events("w", SOON)
        assert (end.workflow_id, end.sequence, end.value["?y"]) == ("w", 2, 1)
        client.wait("other", SOON)
        assert {event.workflow_id for event in client.events(timeout=NOW)} == {"w", "other"}


@pytest.mark.usefixtures("app")
def test_what_cannot_be_sent_is_refused_here(topics: Topics, brokers: str) -> None:
    with connect(topics, brokers) as client:
        with pytest.raises(PlanError, match="spigot/try takes"):
            client.start(["spigot/try", ["a"]])
        with pytest.raises(WireError, match="oversize"):
            client.start(PLAN, scope={"?x": "x" * 999_000})
        with pytest.raises(WireError, match=r"oversize.*id"):
            client.start(PLAN, workflow_id="x" * 20_000)
        with pytest.raises(WireError, match="unwritable"):
            client.start(PLAN, scope={"?x": object()})
        largest = client.start(PLAN, scope={"?x": "x" * 440_000})
        assert client.wait(largest, SOON).status == "success"


@pytest.mark.usefixtures("app")
def test_a_refused_plan_is_learned_by_whoever_waits(topics: Topics, brokers: str) -> None:
    workflows = topics[0]
    with connect(topics, brokers) as client:
        producer = supplier_for(brokers).producer({})
        value = workflows.value_serde.serialize(Create({"workflows/form": ["spigot/try", ["a"]]}))
        producer.produce(workflows.name, value, workflows.key_serde.serialize("w"))
        producer.flush(30)
        with pytest.raises(WorkflowFailed, match="plan-refused"):
            client.result("w", SOON)


def test_waiting_ends_with_the_timeout(topics: Topics, brokers: str) -> None:
    supplier_for(brokers).admin({}).list_topics("events")
    with connect(topics, brokers) as client:
        id = client.start(PLAN)
        with pytest.raises(TimeoutError, match="nothing has been heard of it"):
            client.wait(id, NOW)
        assert client.status(id) is None


def test_without_an_event_topic_there_is_nothing_to_wait_for(topics: Topics, brokers: str) -> None:
    with WorkflowClient({"brokers": brokers}, workflow_topic_cfg=topics[0]) as client:
        id = client.start(PLAN)
        for ask in (client.wait, client.result, client.status, lambda one: next(client.events(one))):
            with pytest.raises(ConfigError, match="event_topic_cfg"):
                ask(id)


def test_wrong_arguments(topics: Topics, brokers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spigot_topologies.client._ANSWER", 0.5)
    with pytest.raises(ConfigError, match="made with topic_cfg"):
        WorkflowClient({"brokers": brokers}, workflow_topic_cfg=Topic("t", serdes.string, serdes.string))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"bootstrap\.servers is missing"):
        WorkflowClient({}, workflow_topic_cfg=topics[0])
    with pytest.raises(ConfigError, match="did you mean"):
        WorkflowClient({"broker": "x", "brokers": brokers}, workflow_topic_cfg=topics[0])
    with pytest.raises(StreamsError, match=r"cannot be read|does not exist"):
        WorkflowClient({"brokers": "127.0.0.1:1"}, workflow_topic_cfg=topics[0], event_topic_cfg=topics[2])
