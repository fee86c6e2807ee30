"""What the manager does with each command, beyond the original's defects."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest

from spigot_topologies import (
    StaleViewError,
    WorkflowFailed,
    catch,
    default_builder,
    each,
    get,
    isolate,
    parallel,
    parallelize,
    serial,
    task,
    topic_cfg,
    try_,
)
from spigot_topologies.topologies import ERROR_HEADER
from spigot_topologies.topologies.manager import run_id_of
from spigot_topologies.values import Keyword, Symbol
from spigot_topologies.wire import Create, read_extensions
from streamlet import RecordMetadata, TaskError, TopologyError, TopologyTestDriver, log_and_continue
from tests.spigot.topologies.harness import DEAD, Bench, Recorder, task_headers


def loop(throttle: int | None = None) -> Any:
    options = {} if throttle is None else {"throttle": throttle}
    do = task("t", in_={"i": get("?i")}, out={"?r": get("r")})
    return parallelize("?i", get("?items"), into={"?all": each(get("?r"))}, do=do, **options)


# --- callbacks and events ---------------------------------------------------------------------------------------------


def test_exactly_one_callback_per_applied_command() -> None:
    handler = Recorder()
    with Bench(handler=handler) as bench:
        bench.create("w", serial(parallel(task("a"), task("b")), task("c")), {"?x": 1}, {"my": "ctx"})
        a, b = bench.tasks()
        bench.succeed("w", a)
        bench.succeed("w", b)
        (c,) = bench.tasks()
        bench.succeed("w", c)
        assert handler.names == ["on_create", "on_update", "on_update", "on_complete"]
        assert {str(call[1]) for call in handler.calls} == {"{'my': 'ctx'}"}
        assert {call[2] for call in handler.calls} == {"w"}
        events = bench.events()
        assert [event.said.sequence for event in events if event.said] == [1, 2, 3, 4]
        assert [event.status for event in events] == ["running"] * 3 + ["success"]
        assert {event.said.run_id for event in events if event.said} == {c.run_id}
        assert {event.said.workflow_id for event in events if event.said} == {bench.key("w")}


def test_a_workflow_that_ends_as_it_is_created_has_one_callback() -> None:
    handler = Recorder()
    with Bench(handler=handler) as bench:
        bench.create("empty", serial())
        bench.create("broken", parallelize("?i", get("?n"), do=task("t")), {"?n": 7})
        assert handler.names == ["on_complete", "on_error"]
        assert bench.tasks() == []


@pytest.mark.parametrize("handler", [None, "silent"])
def test_the_end_is_always_published(handler: str | None) -> None:
    class Silent:
        def on_complete(self, ctx: Any, workflow: Any) -> None:
            return None

    with Bench(handler=Silent() if handler else None) as bench:
        bench.create("w", task("a", out={"?x": get("x")}))
        (a,) = bench.tasks()
        assert bench.events() == []
        bench.succeed("w", a, {"x": 5})
        (end,) = bench.events()
        assert end.status == "success"
        assert end.value == (None if handler else {"?x": 5})
        bench.create("f", task("a"))
        (a,) = bench.tasks()
        bench.fail("f", a, {"message": "boom"})
        (end,) = bench.events()
        assert end.status == "failure"
        assert orjson.loads(end.headers[ERROR_HEADER] or b"")["message"] == "boom"


def test_without_an_event_topic_nothing_is_published_but_callbacks_run() -> None:
    handler = Recorder()
    with Bench(handler=handler, events=False) as bench:
        bench.create("w", serial())
        assert handler.names == ["on_complete"]
        assert bench.events() == []


def test_the_view_is_readable_during_the_call_and_only_then() -> None:
    kept: list[Any] = []

    class Looks:
        def on_create(self, ctx: Any, workflow: Any) -> Any:
            kept.extend([workflow, workflow.scope, workflow.running])
            assert workflow.id == "w"
            assert isinstance(workflow.run_id, UUID)
            assert workflow.status == "running"
            assert workflow.error is None
            assert workflow.extra == {"workflows/name": "mine"}
            assert workflow.scope["?x"] == 1
            assert "?nothing" not in workflow.scope
            assert dict(workflow.scope) == {"?x": 1, "?y": 2}
            assert len(workflow.running) == 2
            assert len([*workflow.running]) == 2
            with pytest.raises(AttributeError):
                workflow.status = "success"
            return "looked"

    with Bench(handler=Looks()) as bench:
        bench.create("w", parallel(task("a"), task("b")), {"?x": 1, "?y": 2}, **{"workflows/name": "mine"})
        assert [event.value for event in bench.events()] == ["looked"]
    workflow, scope, running = kept
    for read in (
        lambda: workflow.id,
        lambda: workflow.run_id,
        lambda: workflow.status,
        lambda: workflow.error,
        lambda: workflow.extra,
        lambda: workflow.scope,
        lambda: workflow.running,
        lambda: scope["?x"],
        lambda: [*scope],
        lambda: len(scope),
        lambda: [*running],
        lambda: len(running),
    ):
        with pytest.raises(StaleViewError, match="only while its callback runs"):
            read()


def test_a_handler_that_changes_what_it_is_given_changes_nothing() -> None:
    class Vandal:
        def on_create(self, ctx: Any, workflow: Any) -> Any:
            ctx["my"].append("changed")
            workflow.scope["?list"].append("changed")
            workflow.extra["workflows/name"] = object()
            return None

        on_update = on_create

    with Bench(handler=Vandal()) as bench:
        bench.create("w", serial(task("a"), task("b", in_={"l": get("?list")})), {"?list": [1]}, {"my": [1]})
        (a,) = bench.tasks()
        assert a.message.ctx == {"my": [1]}
        bench.succeed("w", a)
        (b,) = bench.tasks()
        assert b.params == {"l": [1]}
        assert b.message.ctx == {"my": [1]}


def test_a_callback_and_on_error_that_both_raise_still_give_an_event() -> None:
    class Hopeless:
        def on_create(self, ctx: Any, workflow: Any) -> Any:
            raise ValueError("first")

        def on_error(self, ctx: Any, error: BaseException, workflow: Any) -> Any:
            raise KeyError("second")

    with Bench(handler=Hopeless()) as bench:
        bench.create("w", task("a"))
        assert len(bench.tasks()) == 1
        (event,) = bench.events()
        assert event.value["error"]["type"] == "CallbackError"


def test_an_event_that_cannot_be_written_or_is_too_large_becomes_an_error_event() -> None:
    values: list[Any] = [object(), "x" * 2_000_000, float("nan")]

    class Odd:
        def on_create(self, ctx: Any, workflow: Any) -> Any:
            return values[ctx]

    with Bench(handler=Odd()) as bench:
        for index in range(len(values)):
            bench.create(f"w{index}", task("a"), None, index)
        assert len(bench.tasks()) == 3
        assert [event.value["error"]["type"] for event in bench.events()] == ["WireError"] * 3


def test_on_error_gets_the_workflows_error_and_its_scope() -> None:
    seen: list[Any] = []

    class Handler:
        def on_error(self, ctx: Any, error: BaseException, workflow: Any) -> Any:
            seen.append((error, workflow.status, workflow.error, dict(workflow.scope)))
            return "told"

    with Bench(handler=Handler()) as bench:
        bench.create("w", task("a"), {"?x": 1})
        (a,) = bench.tasks()
        bench.fail("w", a, {"message": "boom", "code": 7})
        assert [event.value for event in bench.events()] == ["told"]
    ((error, status, shown, scope),) = seen
    assert isinstance(error, WorkflowFailed)
    assert error.error == shown == {"message": "boom", "code": 7}
    assert (status, scope) == ("failure", {"?x": 1})


# --- identity ---------------------------------------------------------------------------------------------------------


def test_the_run_id_follows_from_key_and_place() -> None:
    first = run_id_of(b"k", RecordMetadata("t", 1, 7))
    assert first == run_id_of(b"k", RecordMetadata("t", 1, 7))
    others = {
        run_id_of(b"k2", RecordMetadata("t", 1, 7)),
        run_id_of(b"k", RecordMetadata("t2", 1, 7)),
        run_id_of(b"k", RecordMetadata("t", 2, 7)),
        run_id_of(b"k", RecordMetadata("t", 1, 8)),
    }
    assert len(others | {first}) == 5
    assert first.version == 5


def test_a_create_that_is_processed_again_gives_the_same_ids() -> None:
    ids = []
    for _ in range(2):
        with Bench() as bench:
            bench.create("w", loop(), {"?items": [1, 2, 3]})
            ids.append([sent.id for sent in bench.tasks()])
    assert ids[0] == ids[1]


def test_an_id_that_is_used_again_after_retention_has_another_run() -> None:
    with Bench(retention=timedelta(0)) as bench:
        bench.create("w", parallel(task("a"), task("b")))
        a, b = bench.tasks()
        bench.fail("w", a)
        bench.driver.advance_wall_clock_time(timedelta(seconds=5))
        bench.create("w", task("a"))
        (again,) = bench.tasks()
        assert again.run_id != a.run_id
        assert again.id not in (a.id, b.id)
        bench.succeed("w", b, {})
        assert bench.rejections() == ["unknown-task"]


def test_the_identity_of_a_workflow_is_its_keys_bytes() -> None:
    id = uuid4()
    with Bench(codec="edn") as bench:
        bench.create(id, task("a"))
        bench.create(str(id), task("a"))
        first, second = bench.tasks()
        assert first.run_id != second.run_id
        assert bench.rejections() == []


def test_the_result_comes_back_under_the_very_bytes_of_the_key() -> None:
    with Bench() as bench:
        key = b'{ "a" :  1 }'  # what another producer may have written: the same value is written otherwise here
        bench.pipe(key, bench.workflows.value_serde.serialize(Create({"workflows/form": task("a")})))
        (record,) = bench.records("tasks")
        assert dict(record.headers)["sp-workflow"] == key


# --- plans ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"workflows/form": ["spigot/try", ["a"]]}, "r: spigot/try takes exactly 2 children"),
        ({"workflows/form": None}, "a node is a list"),
        ({}, "a node is a list"),
        ({"workflows/form": ["a"], "workflows/ctx": [1]}, "must be a map"),
        ({"workflows/form": ["a"], "workflows/ctx": {1: 2}}, "are symbols"),
    ],
)
def test_a_refused_plan_is_a_failed_workflow(params: Any, expected: str) -> None:
    handler = Recorder()
    with Bench(handler=handler) as bench:
        bench.send("w", Create({**params, "workflows/name": "mine"}, {"c": 1}))
        assert bench.tasks() == []
        assert handler.calls == [("on_error", {"c": 1}, "w", "failure", {})]
        (error,) = handler.errors
        assert isinstance(error, WorkflowFailed)
        assert error.error["type"] == "plan-refused"
        assert expected in error.error["faults"][0]["path"] + ": " + error.error["faults"][0]["message"]
        (event,) = bench.events()
        assert event.status == "failure"
        assert "plan-refused" in orjson.loads(event.headers[ERROR_HEADER] or b"")["message"]
        bench.succeed("w", uuid4())
        bench.create("w", task("a"))
        assert bench.rejections() == ["unknown-task", "already-exists"]


def test_a_refused_plans_faults_are_cut_where_there_are_thousands() -> None:
    handler = Recorder()
    with Bench(handler=handler) as bench:
        bench.send("w", Create({"workflows/form": ["spigot/serial", *[["spigot/try"]] * 20_000]}))
        (error,) = handler.errors
        assert isinstance(error, WorkflowFailed)
        assert len(error.error["faults"]) == 100
        assert bench.events()[0].status == "failure"


def test_clojures_words_come_back_as_they_came() -> None:
    with Bench(codec="edn") as bench:
        plan = b"[:spigot/serial [:my/task {:spigot/in {:x (spigot/get ?x)}}]]"
        value = b"[:spigot.controllers.kafka.topologies/create! {:workflows/form %s :workflows/ctx {?x #{1}}} {:u 1}]"
        bench.pipe(b'#uuid "00000000-0000-0000-0000-000000000001"', value % plan)
        (record,) = bench.records("tasks")
        assert b":task [:my/task {:x #{1}, :spigot/id #uuid" in record.value
        assert b':workflow-id #uuid "00000000-0000-0000-0000-000000000001"' in record.value
        sent = bench.codec.read(record.value)
        assert isinstance(sent["task"][0], Keyword)
        assert not isinstance(sent["workflow-id"], Symbol)


# --- headers ----------------------------------------------------------------------------------------------------------


def test_headers_that_came_in_do_not_go_out() -> None:
    with Bench(handler=Recorder()) as bench:
        data = bench.workflows.value_serde.serialize(Create({"workflows/form": task("a")}))
        mine = [("sp-task", bench.key("w")), ("trace", b"1"), *task_headers(bench.key("w"), uuid4(), 9)]
        bench.pipe(bench.key("w"), data, headers=mine)
        (a,) = bench.tasks()
        extensions = read_extensions(a.key, a.headers)
        assert extensions is not None
        assert (extensions.attempt, extensions.run_id) == (1, a.run_id)
        assert "trace" not in dict(a.headers)
        assert "trace" not in bench.events()[0].headers


# --- sizes ------------------------------------------------------------------------------------------------------------


def test_an_oversize_task_fails_as_a_task_which_try_can_catch() -> None:
    with Bench() as bench:
        big = task("big", in_={"x": get("?x"), "y": get("?x"), "z": get("?x")})
        plan = try_(big, catch("?e", task("small", in_={"why": get("?e")})))
        bench.create("w", plan, {"?x": "x" * 400_000})
        (small,) = bench.tasks()
        assert small.tag == "small"
        assert small.params["why"]["type"] == "TaskTooLargeError"


def test_a_task_that_cannot_be_written_fails_as_a_task() -> None:
    """Not a number has a form in EDN, but none in JSON."""
    edn, json = topic_cfg("workflows", "edn"), topic_cfg("tasks", "json")
    topology = default_builder().with_wf_topology(workflow_topic_cfg=edn, task_topic_cfg=json).build()
    with TopologyTestDriver(topology) as driver:
        commands, tasks = driver.create_input_topic(edn), driver.create_output_topic(json)
        plan = try_(task("a", in_={"x": get("?x")}), task("b"))
        commands.pipe_input("w", Create({"workflows/form": plan, "workflows/ctx": {"?x": float("nan")}}))
        (record,) = tasks.read_records_to_list()
        assert record.value.tag == "b"


def test_a_key_that_is_too_large_is_refused() -> None:
    with Bench() as bench:
        bench.create("k" * 20_000, task("a"))
        assert bench.rejections() == ["oversize"]
        assert bench.entries() == {}


def test_large_ctx_scope_and_names_are_kept_in_small_entries() -> None:
    ctx = {"c": "c" * 290_000}
    name = "?" + "n" * 100_000
    with Bench() as bench:
        bench.create("w", serial(task("a"), task("b", in_={"n": get(name)})), {"?x": "x" * 500_000, name: 5}, ctx)
        (a,) = bench.tasks()
        assert a.message.ctx == ctx
        assert max(len(key) for key in bench.entries()) <= 200
        assert max(len(value) for value in bench.entries().values()) <= 300_000
        bench.succeed("w", a)
        (b,) = bench.tasks()
        assert b.params == {"n": 5}
        assert b.message.ctx == ctx


# --- the agenda -------------------------------------------------------------------------------------------------------


def test_a_large_loop_starts_in_portions_each_in_a_transaction_of_its_own() -> None:
    with Bench(handler=Recorder(), max_starts=10) as bench:
        bench.create("w", loop(), {"?items": list(range(35))})
        sent = bench.tasks()
        assert [one.params["i"] for one in sent] == list(range(35))
        steps = [record for record in bench.records("workflows") if "sp-continue" in dict(record.headers)]
        assert len(steps) == 3  # 10 at the create!, then 10, 10, 5
        assert all(record.key == bench.key("w") for record in steps)
        for one in sent:
            bench.succeed("w", one, {"r": one.params["i"]})
        events = bench.events()
        assert [event.value["event"] for event in events] == ["on_create"] + ["on_update"] * 34 + ["on_complete"]
        assert bench.rejections() == []


def test_a_copy_of_a_continuation_does_nothing() -> None:
    with Bench(max_starts=10) as bench:
        bench.create("w", loop(), {"?items": list(range(35))})
        assert len(bench.tasks()) == 35
        for record in bench.records("workflows"):
            bench.pipe(record.key, record.value, headers=record.headers)
        for forged in (b"", b"x" * 40, None, b"0" * 16 + b"/1"):
            bench.pipe(bench.key("w"), None, headers=[("sp-continue", forged)])
        bench.pipe(bench.key("nobody"), None, headers=[("sp-continue", b"0" * 16 + b"/1")])
        assert bench.tasks() == []
        assert bench.rejections() == ["unknown-workflow"]


def test_results_while_a_loop_still_starts_do_not_start_the_rest_themselves() -> None:
    """Else each result of a batch would start another portion, all within one transaction."""
    with Bench(max_starts=10) as bench:
        unit = bench.driver._units[0]
        bench.create("w", loop(throttle=10), {"?items": list(range(100))})
        first = bench.tasks()
        assert len(first) == 10
        for one in first:
            bench.succeed("w", one, {})
        assert len(bench.tasks()) == 10
        assert unit.task.buffered("workflows", 0) == 0


def test_an_end_that_comes_with_a_continuation_is_published() -> None:
    handler = Recorder()
    with Bench(handler=handler, max_starts=5) as bench:
        item = serial(isolate(task("t", in_=get("?j")), binding={"?j": get("?i")}))
        items = [{"n": n} for n in range(7)] + [5]  # the last item's parameters are no map
        bench.create("w", parallelize("?i", get("?items"), do=item), {"?items": items})
        assert len(bench.tasks()) == 7
        assert handler.names == ["on_create", "on_error"]
        assert [event.status for event in bench.events()] == ["running", "failure"]


# --- retention --------------------------------------------------------------------------------------------------------


def test_retention_keeps_what_runs_and_deletes_what_has_ended() -> None:
    with Bench(retention=timedelta(minutes=1)) as bench:
        bench.create("runs", task("a"))
        (a,) = bench.tasks()
        alone = bench.entries()
        for number in range(20):
            bench.create(f"ends-{number}", serial(), {"?x": number})
        bench.send("refused", Create({}))
        bench.driver.advance_wall_clock_time(timedelta(seconds=59))
        assert len(bench.entries()) > len(alone)
        bench.driver.advance_wall_clock_time(timedelta(seconds=10))
        assert bench.entries() == alone
        bench.create("ends-1", serial())
        assert bench.rejections() == []
        bench.succeed("runs", a)
        assert bench.events()[-1].status == "success"


def test_a_large_workflow_is_deleted_in_portions_and_its_id_stays_taken_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("spigot_topologies.topologies.manager.SWEEP_ENTRIES", 50)
    with Bench(retention=timedelta(0)) as bench:
        bench.create("w", loop(), {"?items": list(range(100))})
        sent = bench.tasks()
        for one in sent:
            bench.succeed("w", one, {"r": 1})
        left = [len(bench.entries())]
        bench.driver.advance_wall_clock_time(timedelta(seconds=4.9))
        while bench.entries():
            bench.driver.advance_wall_clock_time(timedelta(milliseconds=100))  # soon after another while there is more
            left.append(len(bench.entries()))
            if bench.entries():
                bench.create("w", serial())
                bench.succeed("w", sent[0])
                bench.pipe(bench.key("w"), None, headers=[("sp-continue", b"0" * 16 + b"/1")])
                assert bench.rejections() == ["already-exists", "unknown-workflow", "unknown-workflow"]
        assert all(before - after <= 50 for before, after in pairwise(left))
        assert len(left) > 3
        bench.create("w", serial(), {"?new": 1})
        assert bench.events()[-1].value == {"?new": 1}


def test_retention_none_keeps_for_ever() -> None:
    with Bench(retention=None) as bench:
        bench.create("w", serial())
        before = bench.entries()
        bench.driver.advance_wall_clock_time(timedelta(days=10_000))
        assert bench.entries() == before


def test_state_in_rocksdb_too(tmp_path: Any) -> None:
    with Bench(config={"state.dir": str(tmp_path)}, retention=timedelta(0)) as bench:
        bench.create("w", loop(throttle=2), {"?items": [1, 2, 3]})
        todo = bench.tasks()
        while todo:
            one = todo.pop()
            bench.succeed("w", one, {"r": one.params["i"] * 10})
            todo += bench.tasks()
        assert bench.events()[-1].value["?all"] == [10, 20, 30]
        bench.driver.advance_wall_clock_time(timedelta(seconds=5))
        assert bench.entries() == {}


def test_dead_letters_go_where_the_configuration_says() -> None:
    with Bench(dead_letter_topic=None, config={"errors.dead.letter.queue.topic.name": DEAD}) as bench:
        bench.pipe(bench.key("w"), b"\x00")
        assert len(bench.records(DEAD)) == 1


def test_without_any_dead_letter_topic_unreadable_records_are_counted() -> None:
    with Bench(dead_letter_topic=None, rejection_topic_cfg=None) as bench:
        bench.pipe(bench.key("w"), b"\x00")
        assert bench.dropped("unreadable") == 1
        assert bench.records(DEAD) == []


def test_a_handler_without_methods_is_refused() -> None:
    class Async:
        async def on_create(self, ctx: Any, workflow: Any) -> None: ...

    with pytest.raises(TopologyError, match="no workflow handler"):
        Bench(handler=object())
    with pytest.raises(TopologyError, match="plain function"):
        Bench(handler=Async())
    with pytest.raises(TopologyError, match="max_bytes"):
        topic_cfg("t", max_bytes=1000)


@pytest.mark.parametrize("part", [b"c", b"m", b"n", b"h"])
def test_lost_state_stops_the_manager_and_costs_no_command(part: bytes) -> None:
    """Whatever the handler for faults in user code says: the command has to be processed again."""
    with Bench(handler=Recorder(), config={"processing.exception.handler": log_and_continue}) as bench:
        bench.create("w", serial(task("a"), task("b")))
        (a,) = bench.tasks()
        for key in bench.entries():
            if key[17:18] == part:
                bench.store().put(key, b"\x07broken" if part == b"h" else None)
        if part == b"n":  # then the task is not known, and that is all there is to see
            bench.succeed("w", a)
            assert bench.rejections() == ["unknown-task"]
            return
        with pytest.raises(TaskError, match="cannot go on"):
            bench.succeed("w", a)
        assert bench.rejections() == []
        assert bench.tasks() == []
