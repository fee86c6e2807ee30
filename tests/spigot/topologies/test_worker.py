"""What the worker does with each task."""

from __future__ import annotations

import asyncio
import sys
import threading
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from spigot_topologies import catch, create_wf_msg, get, parallel, serial, task, topic_cfg, try_
from spigot_topologies.builder import default_builder
from spigot_topologies.wire import Failure, Result, TaskMessage, decode_command, read_extensions
from streamlet import TopologyError, TopologyTestDriver
from tests.spigot.topologies.harness import DEAD, TASKS, WORKFLOWS, Bench, worker_bench


class Handler:
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def process_task(self, ctx: Any, task: list[Any]) -> Any:
        self.seen.append((ctx, task))
        tag, params = task
        if tag == "raise":
            raise ValueError(params.get("text", "boom"))
        if tag == "return":
            return params["value"]
        return {"done": tag}

    def on_error(self, ctx: Any, error: BaseException, workflow: Any) -> Any:
        assert workflow is None
        return {"error": f"{type(error).__name__}: {error}"[:100]}


def sent(
    manager: bool, tag: str, workflow_id: Any = "w", **params: Any
) -> tuple[UUID, bytes, bytes, list[tuple[str, bytes | None]]]:
    """A task's record, of a manager of this library or of the original."""
    with Bench() as bench:
        bench.create(workflow_id, ["spigot/serial", [tag, {"spigot/in": params}]], None, {"my": "ctx"})
        (one,) = bench.tasks()
        data = bench.tasks_topic.value_serde.serialize(one.message)
        return one.id, one.key, data, one.headers if manager else [("sp-other", b"1")]


def answers(bench: Bench) -> list[Any]:
    return [decode_command(record.value, bench.codec) for record in bench.records(WORKFLOWS)]


def test_a_result_goes_to_the_workflow() -> None:
    handler = Handler()
    with worker_bench(handler) as bench:
        id, key, data, headers = sent(True, "book", x=1)
        bench.pipe(key, data, TASKS, headers)
        assert handler.seen == [({"my": "ctx"}, ["book", {"x": 1, "spigot/id": id}])]
        (record,) = bench.records(WORKFLOWS)
        assert record.key == b'"w"'
        assert decode_command(record.value, bench.codec) == Result(id, {"done": "book"})
        extensions = read_extensions(record.key, record.headers)
        assert extensions is not None
        assert extensions.attempt == 1
        assert bench.events() == []


def test_none_is_a_result() -> None:
    with worker_bench(Handler()) as bench:
        id, key, data, headers = sent(True, "return", value=None)
        bench.pipe(key, data, TASKS, headers)
        assert answers(bench) == [Result(id, None)]


def test_an_exception_gives_an_event_and_a_failure() -> None:
    with worker_bench(Handler()) as bench:
        id, key, data, headers = sent(True, "raise", text="no seat")
        bench.pipe(key, data, TASKS, headers)
        assert answers(bench) == [Failure(id, {"message": "no seat", "type": "ValueError"})]
        (event,) = bench.events()
        assert event.value == {"error": "ValueError: no seat"}
        assert event.said is not None
        assert (event.said.workflow_id, event.said.status, event.said.sequence) == (b'"w"', "running", 1)


def test_towards_a_clojure_manager_an_exception_gives_an_event_only() -> None:
    with worker_bench(Handler()) as bench:
        _, key, data, headers = sent(False, "raise")
        bench.pipe(key, data, TASKS, headers)
        assert answers(bench) == []
        assert [event.value for event in bench.events()] == [{"error": "ValueError: boom"}]


def test_extensions_of_another_record_are_not_trusted() -> None:
    with worker_bench(Handler()) as bench:
        _, _, data, headers = sent(True, "raise")
        bench.pipe(bench.codec.write(uuid4()), data, TASKS, headers)
        assert answers(bench) == []


@pytest.mark.parametrize("value", [[1], "text", 7, True])
def test_a_result_that_is_no_map_is_a_failure(value: Any) -> None:
    with worker_bench(Handler()) as bench:
        _, key, data, headers = sent(True, "return", value=value)
        bench.pipe(key, data, TASKS, headers)
        (failure,) = answers(bench)
        assert isinstance(failure, Failure)
        assert failure.error["type"] == "TypeError"
        assert "must return a map or None" in failure.error["message"]


def test_a_result_that_is_too_large_or_has_no_form_is_a_failure() -> None:
    results: dict[str, Any] = {"large": {"x": "x" * 2_000_000}, "odd": {"x": object()}, "nan": {"x": float("nan")}}

    class Odd:
        def process_task(self, ctx: Any, task: list[Any]) -> Any:
            return results[task[0]]

    with worker_bench(Odd()) as bench:
        for tag in results:
            _, key, data, headers = sent(True, tag)
            bench.pipe(key, data, TASKS, headers)
        found = answers(bench)
        assert [type(one) for one in found] == [Failure] * 3
        assert [one.error["type"] for one in found] == ["WireError"] * 3
        assert bench.events() == []  # there is no on_error


def test_coroutines_are_run() -> None:
    loops: set[int] = set()

    class Async:
        async def process_task(self, ctx: Any, task: list[Any]) -> Any:
            loops.add(id(asyncio.get_running_loop()))
            await asyncio.sleep(0)
            if task[0] == "raise":
                raise asyncio.CancelledError
            return {"async": True}

    with worker_bench(Async()) as bench:
        for tag in ("ok", "raise", "ok"):
            _, key, data, headers = sent(True, tag)
            bench.pipe(key, data, TASKS, headers)
        assert [type(one) for one in answers(bench)] == [Result, Failure, Result]
        assert len(loops) == 1


class Leaves:
    def process_task(self, ctx: Any, task: list[Any]) -> Any:
        sys.exit(f"{task[0]} is over")


class LeavesTheLoop:
    async def process_task(self, ctx: Any, task: list[Any]) -> Any:
        sys.exit(f"{task[0]} is over")


@pytest.mark.parametrize("handler", [Leaves(), LeavesTheLoop()])
def test_sys_exit_ends_the_task_and_not_one_worker_after_the_other(handler: Any) -> None:
    with worker_bench(handler) as bench:
        id, key, data, headers = sent(True, "backup")
        bench.pipe(key, data, TASKS, headers)
        assert answers(bench) == [Failure(id, {"message": "backup is over", "type": "SystemExit"})]


def test_exceptions_that_cannot_be_shown_are_failures_too() -> None:
    class NastyError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

        __repr__ = __str__

    class Handler:
        def process_task(self, ctx: Any, task: list[Any]) -> Any:
            raise NastyError

        def on_error(self, ctx: Any, error: BaseException, workflow: Any) -> Any:
            raise KeyError("on_error itself")

    with worker_bench(Handler()) as bench:
        _, key, data, headers = sent(True, "t")
        bench.pipe(key, data, TASKS, headers)
        (failure,) = answers(bench)
        assert failure.error == {"message": "NastyError", "type": "NastyError"}
        assert bench.events()[0].value["error"]["type"] == "KeyError"


def test_what_is_no_task_is_refused() -> None:
    with worker_bench(Handler()) as bench:
        bench.pipe(b"1", b"\xff\x00", TASKS)
        bench.pipe(b"1", bench.codec.write({"a": 1}), TASKS)
        bench.pipe(None, None, TASKS)
        bench.pipe(b"1", bench.workflows.value_serde.serialize(Result(uuid4(), {})), TASKS)
        assert bench.rejections() == ["unreadable"] + ["unknown-message"] * 3
        assert [letter.value for letter in bench.records(DEAD)] == [b"\xff\x00"]
        assert bench.records(WORKFLOWS) == []


def test_a_task_without_headers_is_answered_under_its_workflow_id() -> None:
    with worker_bench(Handler(), codec="edn") as bench:
        id, workflow_id = uuid4(), uuid4()
        message = TaskMessage({}, "t", {"spigot/id": id}, workflow_id)
        bench.pipe(bench.codec.write(id), bench.tasks_topic.value_serde.serialize(message), TASKS)
        (record,) = bench.records(WORKFLOWS)
        assert record.key == f'#uuid "{workflow_id}"'.encode()
        assert [*record.headers] == []


def both(handler: Any, plan: Any, **options: Any) -> list[Any]:
    """Run a workflow by a manager and a worker in one topology; returns its events."""
    workflows, tasks, events = topic_cfg("w"), topic_cfg("t"), topic_cfg("e")
    topology = (
        default_builder()
        .with_wf_topology(task_topic_cfg=tasks, workflow_topic_cfg=workflows, event_topic_cfg=events)
        .with_task_topology(handler=handler, task_topic_cfg=tasks, workflow_topic_cfg=workflows, **options)
        .build()
    )
    with TopologyTestDriver(topology) as driver:
        commands, published = driver.create_input_topic(workflows), driver.create_output_topic(events)
        commands.pipe_input("w", create_wf_msg({"workflows/form": plan}, {}))
        return published.read_values_to_list()


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_a_slow_task_holds_up_no_other(kind: str) -> None:
    """The first one takes until the others, three of them one after the other, have reached the workflow."""
    last = threading.Event()

    class Plain:
        def process_task(self, ctx: Any, task: list[Any]) -> Any:
            if task[0] == "slow":
                assert last.wait(60)
            if task[0] == "three":
                last.set()
            return {"done": task[0]}

    class Coroutine:
        async def process_task(self, ctx: Any, task: list[Any]) -> Any:
            if task[0] == "slow":
                async with asyncio.timeout(60):
                    while not last.is_set():
                        await asyncio.sleep(0.001)
            if task[0] == "three":
                last.set()
            return {"done": task[0]}

    done = {f"?{name}": name for name in ("slow", "one", "two", "three")}
    steps = [task(name, out={f"?{name}": get("done")}) for name in ("slow", "one", "two", "three")]
    handler = Plain() if kind == "plain" else Coroutine()
    assert both(handler, parallel(steps[0], serial(*steps[1:]))) == [done]


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_a_task_that_takes_too_long_fails_and_the_workflow_can_catch_it(kind: str) -> None:
    release = threading.Event()

    class Plain:
        def process_task(self, ctx: Any, task: list[Any]) -> Any:
            if task[0] == "hangs":
                release.wait(60)
            return dict(task[1])

    class Coroutine:
        async def process_task(self, ctx: Any, task: list[Any]) -> Any:
            if task[0] == "hangs":
                await asyncio.get_running_loop().create_future()
            return dict(task[1])

    told: list[BaseException] = []

    class Handler(Plain if kind == "plain" else Coroutine):  # type: ignore[misc]
        def on_error(self, ctx: Any, error: BaseException, workflow: Any) -> None:
            told.append(error)

    plan = try_(task("hangs"), catch("?e", task("note", in_={"error": get("?e")}, out={"?why": get("error")})))
    (end,) = both(Handler(), plan, task_timeout=timedelta(milliseconds=50))
    release.set()
    assert end["?why"]["type"] == "TimeoutError"
    assert "longer than 0:00:00.05" in end["?why"]["message"]
    assert [type(one) for one in told] == [TimeoutError]


def test_one_after_the_other_if_so_wished() -> None:
    running: list[str] = []
    most: list[int] = []

    class Handler:
        def process_task(self, ctx: Any, task: list[Any]) -> Any:
            running.append(task[0])
            most.append(len(running))
            running.remove(task[0])
            return {}

    assert both(Handler(), parallel(*[task(f"t{n}") for n in range(20)]), max_in_flight=1) == [{}]
    assert most == [1] * 20


def test_wrong_limits_are_refused() -> None:
    topics = {"task_topic_cfg": topic_cfg("t"), "workflow_topic_cfg": topic_cfg("w")}
    with pytest.raises(TopologyError, match="max_in_flight"):
        default_builder().with_task_topology(handler=Handler(), max_in_flight=0, **topics)
    with pytest.raises(TopologyError, match="timeout"):
        default_builder().with_task_topology(handler=Handler(), task_timeout=timedelta(0), **topics)


@pytest.mark.parametrize("codec", ["json", "edn"])
def test_manager_and_worker_in_one_topology(codec: str) -> None:
    handler = Handler()
    workflows, tasks, events = topic_cfg("w", codec), topic_cfg("t", codec), topic_cfg("e", codec)
    topology = (
        default_builder()
        .with_wf_topology(task_topic_cfg=tasks, workflow_topic_cfg=workflows, event_topic_cfg=events)
        .with_task_topology(handler=handler, task_topic_cfg=tasks, workflow_topic_cfg=workflows, event_topic_cfg=events)
        .build()
    )
    plan = serial(
        task("one", out={"?one": get("done")}),
        try_(task("raise", in_={"text": get("?one")}), catch("?e", task("two", in_={"e": get("?e")}))),
    )
    with TopologyTestDriver(topology) as driver:
        commands, published = driver.create_input_topic(workflows), driver.create_output_topic(events)
        commands.pipe_input("w", create_wf_msg({"workflows/form": plan}, {}))
        values = published.read_values_to_list()
        assert values == [{"error": "ValueError: one"}, {"?one": "one"}]
        assert [task[0] for _, task in handler.seen] == ["one", "raise", "two"]


def test_another_codec_than_the_other_side_has_is_explained_once(caplog: pytest.LogCaptureFixture) -> None:
    with worker_bench(Handler(), codec="edn") as bench:
        for _ in range(2):
            _, key, data, headers = sent(True, "book")
            bench.pipe(key, data, TASKS, headers)
        assert bench.dropped("unreadable") == 2
    (said,) = [one.getMessage() for one in caplog.records if "refused as unreadable" in one.getMessage()]
    assert said.endswith("do both sides have the same codec in topic_cfg?")


def test_what_is_no_task_processor_is_refused() -> None:
    with pytest.raises(TopologyError, match=r"is a class: give it an object of it, Handler\("):
        worker_bench(Handler)

    class Async:
        def process_task(self, ctx: Any, task: list[Any]) -> Any: ...

        async def on_error(self, ctx: Any, error: BaseException, workflow: Any) -> Any: ...

    with pytest.raises(TopologyError, match="process_task"):
        worker_bench(object())
    with pytest.raises(TopologyError, match="on_error"):
        worker_bench(Async())
