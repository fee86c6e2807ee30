"""The defects of the original's controller (the specification, section 4), each absent: one test, named after it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from spigot_topologies import catch, get, parallel, parallelize, serial, task, try_
from spigot_topologies.errors import CallbackError
from spigot_topologies.wire import Failure, Result
from tests.spigot.topologies.harness import Bench, Recorder


@pytest.fixture(params=["json", "edn"])
def codec(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def handler() -> Recorder:
    return Recorder()


@pytest.fixture
def bench(handler: Recorder, codec: str) -> Iterator[Bench]:
    with Bench(codec=codec, handler=handler) as bench:
        yield bench


def test_a_failing_task_reaches_the_workflow_and_try_catch_runs(bench: Bench, handler: Recorder) -> None:
    plan = try_(task("risky"), catch("?error", task("repair", in_={"why": get("?error")})))
    bench.create("w", plan)
    (risky,) = bench.tasks()
    bench.fail("w", risky, {"message": "no seat"})
    (repair,) = bench.tasks()
    assert repair.tag == "repair"
    assert repair.params["why"] == {"message": "no seat", "spigot/id": risky.id}
    bench.succeed("w", repair)
    assert handler.names == ["on_create", "on_update", "on_complete"]


def test_a_failing_task_without_try_ends_the_workflow(bench: Bench, handler: Recorder) -> None:
    bench.create("w", serial(task("a"), task("b")))
    (a,) = bench.tasks()
    bench.fail("w", a, {"message": "boom"})
    assert bench.tasks() == []
    assert handler.names == ["on_create", "on_error"]
    (error,) = handler.errors
    assert error.workflow_id == "w"  # type: ignore[attr-defined]  # a WorkflowFailed
    assert "boom" in str(error)
    assert [event.status for event in bench.events()] == ["running", "failure"]


def test_two_results_within_one_commit_both_start_their_tasks(codec: str, handler: Recorder) -> None:
    # The driver commits after each record; here both results are processed before one commit.
    with Bench(codec=codec, handler=handler) as bench:
        bench.create("w", parallel(serial(task("a"), task("after-a")), serial(task("b"), task("after-b"))))
        a, b = bench.tasks()
        unit = bench.driver._units[0]
        messages = []
        for sent in (a, b):
            bench.driver._pending.clear()
            value = bench.workflows.value_serde.serialize(Result(sent.id, None))
            messages.append(_message(bench, "w", value))
        unit.task.add_records("workflows", 0, messages)
        assert unit.task.process(10) == 2
        bench.driver._commit(unit)
        assert sorted(sent.tag for sent in bench.tasks()) == ["after-a", "after-b"]


def _message(bench: Bench, workflow_id: str, value: bytes) -> Any:
    from streamlet.testing.messages import TestMessage

    offset = bench.driver._next_offset("workflows")
    return TestMessage("workflows", bench.key(workflow_id), value, 1_000, (), 0, offset)


def test_an_unknown_workflow_id_does_no_harm(bench: Bench, handler: Recorder) -> None:
    bench.succeed("nobody", uuid4(), {})
    bench.fail("nobody", uuid4(), {})
    assert bench.rejections() == ["unknown-workflow"] * 2
    assert bench.dropped("unknown-workflow") == 2
    assert handler.calls == []
    assert bench.events() == []


def test_an_unknown_task_id_does_no_harm(bench: Bench, handler: Recorder) -> None:
    bench.create("w", serial(task("a")))
    (a,) = bench.tasks()
    for id in (uuid4(), "no uuid", 7, None, [1]):
        bench.send("w", Result(id, {}))
    assert bench.rejections() == ["unknown-task"] * 5
    bench.succeed("w", a)
    assert handler.names == ["on_create", "on_complete"]


def test_an_unknown_message_does_no_harm(bench: Bench, handler: Recorder) -> None:
    bench.pipe(bench.key("w"), bench.codec.write(["what/ever", {}]))
    bench.pipe(bench.key("w"), bench.codec.write({"a": 1}))
    bench.pipe(bench.key("w"), None)
    bench.pipe(None, bench.workflows.value_serde.serialize(Result(uuid4(), {})))
    assert bench.rejections() == ["unknown-message"] * 4
    assert bench.records("dead-letters") == []
    assert handler.calls == []


def test_unreadable_bytes_go_to_the_dead_letter_topic(bench: Bench, handler: Recorder) -> None:
    bench.pipe(bench.key("w"), b"\xff\xfe{[")
    assert bench.rejections() == ["unreadable"]
    (letter,) = bench.records("dead-letters")
    assert (letter.key, letter.value) == (bench.key("w"), b"\xff\xfe{[")
    headers = dict(letter.headers)
    assert headers["__streams.errors.topic"] == b"workflows"
    assert headers["__streams.errors.offset"] == b"0"
    assert handler.calls == []


def test_a_second_create_leaves_the_running_workflow_alone(bench: Bench, handler: Recorder) -> None:
    bench.create("w", serial(task("a"), task("b")))
    (a,) = bench.tasks()
    bench.create("w", serial(task("other")))
    assert bench.rejections() == ["already-exists"]
    assert bench.tasks() == []
    bench.succeed("w", a)
    (b,) = bench.tasks()
    bench.succeed("w", b)
    bench.create("w", serial(task("again")))  # also after the end, until retention is over
    assert bench.rejections() == ["already-exists"]
    assert handler.names == ["on_create", "on_update", "on_complete"]


def test_a_duplicate_result_after_the_end_publishes_no_second_completion(bench: Bench, handler: Recorder) -> None:
    bench.create("w", task("a"))
    (a,) = bench.tasks()
    for _ in range(3):
        bench.succeed("w", a, {"x": 1})
    bench.fail("w", a, {"message": "late"})
    assert bench.rejections() == ["duplicate", "duplicate", "already-finished"]
    assert handler.names == ["on_create", "on_complete"]
    assert [event.status for event in bench.events()] == ["running", "success"]


def test_finished_workflows_are_deleted(codec: str) -> None:
    from datetime import timedelta

    with Bench(codec=codec, retention=timedelta(minutes=1)) as bench:
        bench.create("w", task("a"))
        (a,) = bench.tasks()
        bench.succeed("w", a)
        bench.driver.advance_wall_clock_time(timedelta(seconds=30))
        assert bench.entries()
        bench.driver.advance_wall_clock_time(timedelta(seconds=60))
        assert bench.entries() == {}


@pytest.mark.parametrize("broken", ["on_create", "on_update"])
def test_a_callback_that_raises_does_not_drop_the_tasks(codec: str, broken: str) -> None:
    class Broken(Recorder):
        def _seen(self, name: str, ctx: Any, workflow: Any) -> Any:
            event = super()._seen(name, ctx, workflow)
            if name == broken:
                raise ValueError("bad handler")
            return event

    handler = Broken()
    with Bench(codec=codec, handler=handler) as bench:
        bench.create("w", serial(task("a"), task("b"), task("c")))
        (a,) = bench.tasks()
        bench.succeed("w", a)
        (b,) = bench.tasks()
        assert b.tag == "b"
        (error,) = handler.errors
        assert isinstance(error, CallbackError)
        assert error.callback == broken
        assert isinstance(error.error, ValueError)
        assert [event.value["event"] for event in bench.events()].count("on_error") == 1


def test_a_task_message_does_not_carry_the_whole_workflow(codec: str) -> None:
    sizes = []
    for count in (10, 1000):
        with Bench(codec=codec, handler=Recorder()) as bench:
            plan = parallelize("?i", get("?items"), throttle=1, do=task("t", in_={"i": get("?i")}))
            bench.create("w", plan, {"?items": list(range(10, 10 + count))})
            (record,) = bench.records("tasks")
            sizes.append(len(record.value))
    assert sizes[0] == sizes[1]


def test_a_failure_message_is_the_only_own_message_on_the_wire(codec: str) -> None:
    with Bench(codec=codec) as bench:
        data = bench.workflows.value_serde.serialize(Failure(uuid4(), {"message": "x"}))
        assert b"spigot.controllers.kafka.topologies/failure" in data
