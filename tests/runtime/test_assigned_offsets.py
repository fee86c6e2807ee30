"""Whoever assigns a partition says from which offset.

librdkafka's consumer that is to begin at the stored offset asks the group's coordinator for it, gets one
NOT_COORDINATOR from a cluster that has none yet, and stays silent for good. So nothing of ours may begin like that.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from confluent_kafka import OFFSET_INVALID, OFFSET_STORED, TopicPartition

from spigot_topologies import WorkflowClient, default_builder, get, serial, start, task, topic_cfg
from streamlet import serdes
from streamlet.cli import main
from streamlet.clients.embedded.consumer import Consumer
from streamlet.dsl.builder import StreamsBuilder
from streamlet.topic import Topic
from tests.runtime.harness import TIMEOUT, LogUnderTest, running, word_count


@pytest.fixture
def assigned(monkeypatch: pytest.MonkeyPatch) -> list[TopicPartition]:
    """What is assigned to any consumer."""
    seen: list[TopicPartition] = []

    def watched(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(consumer: Consumer, partitions: list[TopicPartition]) -> Any:
            seen.extend(partitions)
            return method(consumer, partitions)

        return call

    for name in ("assign", "incremental_assign"):
        monkeypatch.setattr(Consumer, name, watched(getattr(Consumer, name)))
    return seen


def check(assigned: list[TopicPartition], *topics: str) -> None:
    assert {partition.topic for partition in assigned} >= set(topics)
    ours = [partition for partition in assigned if partition.topic in topics]
    assert not [partition for partition in ours if partition.offset in (OFFSET_INVALID, OFFSET_STORED)]


def test_of_an_application(embedded: LogUnderTest, guarantee: str, assigned: list[TopicPartition]) -> None:
    embedded.write("lines", [(None, "a b a")])
    config = embedded.config(guarantee=guarantee)
    with running(word_count(embedded), config):
        embedded.await_counts("counts", {"a": 2, "b": 1})
    shutil.rmtree(embedded.directory / "state")  # to be restored
    with running(word_count(embedded), config):
        embedded.write("lines", [(None, "a")])
        embedded.await_counts("counts", {"a": 3, "b": 1})
    check(assigned, "app-tasks", "lines", "app-counts-repartition", "app-counts-changelog")


def test_of_a_global_store_and_the_command_line(
    embedded: LogUnderTest, assigned: list[TopicPartition], capsys: pytest.CaptureFixture[str]
) -> None:
    embedded.write("colours", [("a", "red")])
    embedded.write("lines", [("x", "a")])
    builder = StreamsBuilder()
    colours = builder.global_table(Topic("colours", serdes.string, serdes.string), store="colours")
    lines = builder.stream(Topic("lines", serdes.string, serdes.string))
    lines.join(colours, lambda _, line: line, lambda _, colour: colour).to(Topic("out", serdes.string, serdes.string))
    with running(builder.build(), embedded.config()):
        assert main(["consume", "out", "-b", embedded.servers, "-n", "1"]) == 0
    assert main(["consume", "out", "-b", embedded.servers, "--latest", "--exit"]) == 0
    assert capsys.readouterr().out == "x\tred\n"
    check(assigned, "colours", "lines", "out")


def test_of_a_workflow_client(embedded: LogUnderTest, assigned: list[TopicPartition]) -> None:
    workflows, tasks, events = topic_cfg("workflows"), topic_cfg("tasks"), topic_cfg("events")

    class Worker:
        def process_task(self, ctx: Any, task: list[Any]) -> Any:
            return {"out": task[1]["x"]}

    topology = (
        default_builder()
        .with_wf_topology(task_topic_cfg=tasks, workflow_topic_cfg=workflows, event_topic_cfg=events)
        .with_task_topology(handler=Worker(), task_topic_cfg=tasks, workflow_topic_cfg=workflows)
        .build()
    )
    soon = timedelta(seconds=TIMEOUT)
    config = {"bootstrap.servers": embedded.servers}
    with (
        start(topology, {**embedded.config("wf"), **config}),
        WorkflowClient(config, workflow_topic_cfg=workflows, event_topic_cfg=events, from_beginning=True) as client,
    ):
        id = client.start(serial(task("t", in_={"x": get("?x")}, out={"?y": get("out")})), scope={"?x": 5})
        assert client.result(id, soon)["?y"] == 5
        assert [event.value["?y"] for event in client.events(id, soon)] == [5]
    check(assigned, "workflows", "tasks", "events")
