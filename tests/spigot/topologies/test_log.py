"""Manager and worker on the embedded log, as applications: commits, portions, and death at any moment."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from spigot_topologies import WorkflowClient, default_builder, parallel, serial, start, task
from spigot_topologies.wire import Result, TaskMessage, decode_task
from streamlet import supplier_for
from tests.spigot.topologies.app import config, expected, plan, topics, topology
from tests.spigot.topologies.processes import Process

MINUTE = timedelta(seconds=60)


@pytest.fixture
def brokers(tmp_path: Path) -> str:
    return f"embedded:{tmp_path}/log.db"


def client(brokers: str, **options: Any) -> WorkflowClient:
    workflows, _, events = topics()
    return WorkflowClient({"brokers": brokers}, workflow_topic_cfg=workflows, event_topic_cfg=events, **options)


@pytest.fixture
def applications(brokers: str) -> Iterator[list[Any]]:
    started = [start(topology(role), config(role, brokers)) for role in ("manager", "worker")]
    yield started
    for app in started:
        app.close()


def test_a_workflow_runs_to_its_end(applications: list[Any], brokers: str) -> None:
    with client(brokers) as workflows:
        id = workflows.start(plan(throttle=3), scope={"?items": list(range(20))})
        assert workflows.result(id, MINUTE)["?all"] == expected(20)


def test_one_application_may_be_both(brokers: str) -> None:
    with start(topology("both"), config("both", brokers)), client(brokers) as workflows:
        ids = [workflows.start(plan(None), scope={"?items": list(range(size))}, confirm=False) for size in range(12)]
        for size, id in enumerate(ids):
            assert workflows.result(id, MINUTE)["?all"] == expected(size)


def test_a_loop_without_a_throttle_is_started_in_many_transactions(applications: list[Any], brokers: str) -> None:
    count = 1_000
    with client(brokers) as workflows:
        id = workflows.start(plan(None), scope={"?items": list(range(count))})
        end = workflows.wait(id, MINUTE)
        assert end.value["?all"] == expected(count)
        failures = sum(1 for number in range(count) if number % 7 == 3)
        continuations = end.sequence - 1 - count - failures
        assert continuations >= count // 50 - 1


def test_two_results_of_one_workflow_within_one_commit_both_take_effect(brokers: str) -> None:
    """The commit interval is long, and both results are on the log before the manager looks."""
    commands, tasks, events = topics()
    manager = (
        default_builder()
        .with_wf_topology(task_topic_cfg=tasks, workflow_topic_cfg=commands, event_topic_cfg=events)
        .build()
    )
    supplier = supplier_for(brokers)
    reader = supplier.consumer({"group.id": "reader"})
    producer = supplier.producer({})
    settings = {"application.id": "manager", "brokers": brokers, "commit.interval.ms": 60_000}
    both = parallel(serial(task("a"), task("after-a")), serial(task("b"), task("after-b")))

    def read(count: int) -> list[TaskMessage]:
        found: list[TaskMessage] = []
        while len(found) < count:
            for message in reader.consume(10, 1.0):
                decoded = decode_task(message.value(), tasks.codec)
                assert isinstance(decoded, TaskMessage)
                found.append(decoded)
        return found

    try:
        with start(manager, settings), client(brokers) as workflows:
            reader.subscribe([tasks.name])
            workflows.start(both, workflow_id="w")
            first = read(2)
        for one in first:
            value = commands.value_serde.serialize(Result(one.task_id, {}))
            producer.produce(commands.name, value, commands.key_serde.serialize("w"))
        assert producer.flush(30) == 0
        with client(brokers) as workflows, start(manager, settings) as app:
            second = read(2)
            assert sorted(one.tag for one in second) == ["after-a", "after-b"]
            assert app.metrics()["commit-total"] == 1
            for one in second:
                value = commands.value_serde.serialize(Result(one.task_id, {}))
                producer.produce(commands.name, value, commands.key_serde.serialize("w"))
            producer.flush(30)
            assert workflows.wait("w", MINUTE).status == "success"
    finally:
        reader.close()


@pytest.mark.parametrize("throttle", [None, 8])
def test_manager_and_worker_are_killed_again_and_again(brokers: str, throttle: int | None) -> None:
    count = 200
    with Process("manager", brokers) as manager, Process("worker", brokers) as worker, client(brokers) as workflows:
        id = workflows.start(plan(throttle), scope={"?items": list(range(count))}, workflow_id="killed")
        seen: list[int] = []
        for event in workflows.events(id, timeout=MINUTE):
            seen.append(event.sequence)
            if len(seen) in (5, 60, 150):
                manager.restart()
            if len(seen) in (30, 100):
                worker.restart()
            if len(seen) == 180:
                manager.kill()
                worker.restart()
                manager.start()
        assert manager.kills == 4
        assert worker.kills == 3
        assert seen == sorted(set(seen))  # no transition twice, none after another
        assert workflows.result(id, MINUTE)["?all"] == expected(count)


def test_a_manager_killed_between_the_portions_of_a_large_loop_goes_on(brokers: str) -> None:
    """There is no worker yet: all that happens is that the loop starts, portion by portion."""
    count = 2_000
    _, tasks, _ = topics()
    supplier = supplier_for(brokers)
    reader = supplier.consumer({"group.id": "reader", "isolation.level": "read_committed"})
    try:
        with Process("manager", brokers) as manager, client(brokers) as workflows:
            reader.subscribe([tasks.name])
            id = workflows.start(plan(None), scope={"?items": list(range(count))})
            sent: list[Any] = []
            kill_at = [100, 700, 1300]
            while len(sent) < count:
                for message in reader.consume(50, 1.0):
                    assert message.error() is None
                    decoded = decode_task(message.value(), tasks.codec)
                    assert isinstance(decoded, TaskMessage)
                    sent.append(decoded.params["x"])
                if kill_at and len(sent) >= kill_at[0]:
                    kill_at.pop(0)
                    manager.restart()
            assert sent == list(range(count))  # each once, in order
            assert manager.kills == 3
            with start(topology("worker"), config("worker", brokers)):
                assert workflows.result(id, MINUTE)["?all"] == expected(count)
    finally:
        reader.close()
