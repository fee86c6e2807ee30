"""The life cycle's rules and the table of repairs, one by one."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4, uuid5

import pytest

from spigot_topologies.errors import PlanError, WorkflowFailed
from spigot_topologies.plan import (
    catch,
    each,
    get,
    isolate,
    parallel,
    parallelize,
    quote,
    serial,
    serialize,
    task,
    try_,
)
from spigot_topologies.values import Char, Keyword
from spigot_topologies.workflow import DEFAULT, Workflow, create

RUN = UUID(int=1)


def boom(_: Any, *__: Any) -> Any:
    raise ZeroDivisionError("by nothing")


REGISTRY = DEFAULT.extend(resolvers={"my/boom": boom})


def id_of(path: str) -> UUID:
    return uuid5(RUN, path)


def start(plan: Any, scope: Any = None) -> tuple[Workflow, list[str]]:
    workflow = create(plan, scope, id=RUN, registry=REGISTRY)
    return workflow, paths(workflow)


def paths(workflow: Workflow) -> list[str]:
    return [found.path for found in workflow.next()]


def test_ids_follow_from_the_run_and_the_path() -> None:
    workflow, _ = start(serial(task("a", in_={"x": 1})))
    assert workflow.id == RUN
    (running,) = workflow.rerun()
    assert (running.id, running.tag, running.path, running.attempt) == (uuid5(RUN, "r.0"), "a", "r.0", 1)
    assert running.params == {"x": 1, "spigot/id": uuid5(RUN, "r.0")}
    assert create(["a"]).id != create(["a"]).id


def test_reasons() -> None:
    workflow, _ = start(serial(["a"], parallel(["b"], ["c"]), ["d"]))
    assert workflow.succeed(uuid4()).reason == "unknown-task"
    assert workflow.succeed("no uuid").reason == "unknown-task"
    assert workflow.succeed(id_of("r")).reason == "not-a-task"
    assert workflow.succeed(id_of("r.1")).reason == "unknown-task"  # not started yet
    outcome = workflow.succeed(str(id_of("r.0")))
    assert outcome
    assert outcome.applied
    assert outcome.reason is None
    assert workflow.succeed(id_of("r.0"), {"other": 1}).reason == "duplicate"
    assert not workflow.fail(id_of("r.0"))
    assert workflow.fail(id_of("r.0")).reason == "already-finished"
    assert paths(workflow) == ["r.1.0", "r.1.1"]
    assert workflow.succeed(id_of("r.1")).reason == "not-a-task"
    workflow.fail(id_of("r.1.0"), {"why": 1})
    assert workflow.status == "failure"
    assert workflow.fail(id_of("r.1.0")).reason == "duplicate"
    assert workflow.succeed(id_of("r.1.1")).reason == "workflow-ended"
    assert [running.path for running in workflow.running] == ["r.1.1"]


def test_status_and_result() -> None:
    workflow = create(task("a", out={"?x": get("x")}), {"?y": 1})
    assert workflow.status == "init"
    assert workflow.has_more
    with pytest.raises(RuntimeError, match="has not ended"):
        workflow.result()
    (started,) = workflow.next()
    assert workflow.status == "running"
    assert not workflow.has_more
    workflow.succeed(started.id, {"x": 2})
    assert workflow.status == "success"
    assert workflow.result() == {"?x": 2, "?y": 1}
    assert workflow.error is None


def test_a_failed_workflow_raises_its_error() -> None:
    workflow, _ = start(["a"])
    workflow.fail(id_of("r"), ValueError("no seat"))
    assert workflow.error == {"message": "no seat", "type": "ValueError"}
    with pytest.raises(WorkflowFailed, match="no seat"):
        workflow.result()


@pytest.mark.parametrize(
    ("error", "expected"), [(None, {}), ("x", {"message": "x"}), (5, {"message": "5"}), ({1: 2}, {1: 2})]
)
def test_errors_are_maps(error: Any, expected: Any) -> None:
    workflow, _ = start(["a"])
    workflow.fail(id_of("r"), error)
    assert workflow.error == expected


def test_a_refused_plan_lists_all_faults() -> None:
    with pytest.raises(PlanError) as refusal:
        create(serial(None, ["a", ["b"]]))
    assert [fault.path for fault in refusal.value.faults] == ["r.0", "r.1"]
    with pytest.raises(TypeError, match="the scope must be a map"):
        create(["a"], [])  # type: ignore[arg-type]  # the fault under test


# --- the table ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("items", [[], None, get("?missing"), ""])
def test_1_empty_loops_end_at_once_and_gather_the_empty_list(items: Any) -> None:
    for loop in (parallelize, serialize):
        plan = serial(loop("?i", items, do=["a"], into={"?r": each(1)}), task("b", in_={"r": get("?r")}))
        workflow, started = start(plan)
        assert started == ["r.1"]
        assert workflow.rerun()[0].params["r"] == []


def test_1_empty_groups_end_at_once() -> None:
    workflow, started = start(serial(serial(), parallel(), parallel(serial(), throttle=1)))
    assert started == []
    assert workflow.status == "success"
    assert create(serial()).status == "init"


def test_2_bindings_hold_everywhere_below() -> None:
    plan = parallelize(
        "?row", get("?rows"), do=serialize("?x", get("?row"), do=task("t", in_={"x": get("?x"), "row": get("?row")}))
    )
    workflow, started = start(plan, {"?rows": [[1, 2], [3]]})
    assert started == ["r.0.0", "r.1.0"]
    assert [entry.params["x"] for entry in workflow.rerun()] == [1, 3]
    caught = try_(
        ["a"], catch("?e", isolate(["h"], binding={"?why": get("?e")}, commit={"?o": get("?why"), "?e2": get("?e")}))
    )
    workflow, _ = start(caught)
    workflow.fail(id_of("r.0"), {"n": 1})
    assert paths(workflow) == ["r.1.0.0"]
    workflow.succeed(id_of("r.1.0.0"))
    workflow.next()
    expected = {"n": 1, "spigot/id": id_of("r.0")}
    assert dict(workflow.scope) == {"?o": expected, "?e2": expected}


def test_3_inner_gathers_show_inside_an_isolate() -> None:
    inner = parallelize("?i", [1], do=task("a", out={"?x": get("r")}), into={"?all": each(get("?x"))})
    workflow, _ = start(isolate(serial(inner, task("b", in_={"all": get("?all")})), commit={"?o": get("?all")}))
    workflow.succeed(id_of("r.0.0.0"), {"r": 5})
    assert paths(workflow) == ["r.0.1"]
    assert workflow.rerun()[0].params["all"] == [5]


def test_6_a_late_failure_below_an_ended_try_changes_nothing() -> None:
    workflow, _ = start(serial(try_(parallel(["a"], ["b"]), ["h"]), ["z"]))
    workflow.fail(id_of("r.0.0.0"), {"n": 1})
    workflow.next()
    workflow.succeed(id_of("r.0.1"))
    assert paths(workflow) == ["r.1"]
    assert workflow.fail(id_of("r.0.0.1"), {"n": 2}).applied
    assert (workflow.status, workflow.error) == ("running", None)
    workflow.succeed(id_of("r.1"))
    assert workflow.status == "success"


def test_9_the_childs_own_write_wins_over_outer_bindings() -> None:
    inner = isolate(task("a", out={"?x": get("r")}), commit={"?y": get("?x")})
    workflow, _ = start(isolate(inner, binding={"?x": "outer"}, commit={"?y": get("?y")}))
    workflow.succeed(id_of("r.0.0"), {"r": "own"})
    workflow.next()
    assert dict(workflow.scope) == {"?y": "own"}


def test_10_items_and_bindings_are_evaluated_once() -> None:
    loop = serialize("?i", get("?is"), do=task("t", in_={"i": get("?i")}))
    workflow, _ = start(parallel(loop, task("a", out={"?is": get("is")})), {"?is": [1, 2]})
    workflow.succeed(id_of("r.1"), {"is": ["x"]})
    workflow.succeed(id_of("r.0.0"))
    (second,) = workflow.next()
    assert second.params["i"] == 2


def test_11_false_is_stored_and_results_that_are_no_maps_fail_the_task() -> None:
    workflow, _ = start(task("a", out={"?f": False, "?n": None}))
    workflow.succeed(id_of("r"))
    assert dict(workflow.scope) == {"?f": False, "?n": None}
    workflow, _ = start(try_(["a"], catch("?e", task("h", in_={"e": get("?e")}))))
    assert workflow.succeed(id_of("r.0"), [1]).applied
    (handler,) = workflow.next()
    assert "must be a map or None, not a list" in handler.params["e"]["message"]
    assert handler.params["e"]["path"] == "r.0"


def test_14_rerun_lists_every_running_task_with_the_scope_of_now() -> None:
    body = parallel(["a"], task("b", in_={"x": get("?x")}))
    workflow, _ = start(try_(body, task("h", out={"?x": get("x")})))
    workflow.fail(id_of("r.0.0"))
    assert [entry.path for entry in workflow.rerun()] == ["r.0.1"]
    workflow.next()
    assert [entry.path for entry in workflow.rerun()] == ["r.0.1", "r.1"]
    assert workflow.rerun()[0].id == id_of("r.0.1")


# --- further rules -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        (task("t", in_={"x": ("my/boom",)}), "ZeroDivisionError"),
        (task("t", in_=get("?number")), "ExpressionError"),
        (parallelize("?i", get("?number"), do=["t"]), "ExpressionError"),
        (parallelize("?i", get("?map"), do=["t"]), "ExpressionError"),
        (parallelize("?i", {1}, do=["t"]), "ExpressionError"),
        (parallelize("?i", get("?keyword"), do=["t"]), "ExpressionError"),
        (isolate(["t"], binding={"?x": ("my/boom",)}), "ZeroDivisionError"),
        (isolate(serial(), commit={"?x": ("my/boom",)}), "ZeroDivisionError"),
        (serialize("?i", [], do=["t"], into={"?x": each(1), "?y": each(("my/boom",))}), None),
    ],
    ids=repr,
)
def test_faults_at_the_start_fail_the_node_in_the_same_next(broken: Any, kind: str | None) -> None:
    scope = {"?number": 5, "?map": {}, "?keyword": Keyword("k")}
    workflow, started = start(try_(broken, catch("?e", task("h", in_={"e": get("?e")}))), scope)
    if kind is None:
        assert workflow.status == "success"
        return
    assert started == ["r.1.0"]
    error = workflow.rerun()[0].params["e"]
    assert error["type"] == kind
    assert error["path"] == "r.0"
    assert error["spigot/id"] == id_of("r.0")


def test_a_fault_while_gathering_turns_success_into_failure_and_the_handler_runs() -> None:
    loop = parallelize("?i", [1, 2], do=["t"], into={"?x": each(("my/boom",))})
    body = isolate(serial(loop), commit={"?never": 1})
    workflow, _ = start(try_(body, catch("?e", task("h", in_={"e": get("?e")}))))
    workflow.succeed(id_of("r.0.0.0.0"))
    workflow.succeed(id_of("r.0.0.0.1"))
    assert workflow.status == "success"
    assert paths(workflow) == ["r.1.0"]
    assert workflow.status == "running"
    assert workflow.rerun()[0].params["e"]["path"] == "r.0.0.0"
    assert dict(workflow.scope) == {}
    workflow.succeed(id_of("r.1.0"))
    assert workflow.status == "success"


def test_an_isolate_revived_by_such_a_fault_commits_when_it_really_ends() -> None:
    loop = parallelize("?i", [1], do=["t"], into={"?x": each(("my/boom",))})
    workflow, _ = start(isolate(try_(loop, task("h", out={"?h": 1})), commit={"?o": get("?h")}))
    workflow.succeed(id_of("r.0.0.0"))
    assert workflow.status == "success"
    assert paths(workflow) == ["r.0.1"]
    assert (workflow.status, dict(workflow.scope)) == ("running", {})
    workflow.succeed(id_of("r.0.1"))
    workflow.next()
    assert (workflow.status, dict(workflow.scope)) == ("success", {"?o": 1})


def test_a_fault_in_out_fails_the_task_and_writes_nothing() -> None:
    workflow, _ = start(task("a", out={"?x": 1, "?y": ("my/boom",)}))
    assert workflow.succeed(id_of("r"), {}).applied
    assert (workflow.status, dict(workflow.scope)) == ("failure", {})
    assert workflow.error == {"message": "by nothing", "type": "ZeroDivisionError", "path": "r"}
    assert workflow.fail(id_of("r")).reason == "duplicate"


def test_the_error_is_bound_in_the_handler_only() -> None:
    body = parallel(["a"], catch("?e", task("b", in_={"e": get("?e")})))
    workflow, _ = start(try_(body, catch("?e", task("h", in_={"e": get("?e")}))))
    workflow.fail(id_of("r.0.0"), {"n": 1})
    workflow.next()
    errors = {entry.path: entry.params["e"] for entry in workflow.rerun()}
    assert errors == {"r.0.1.0": None, "r.1.0": {"n": 1, "spigot/id": id_of("r.0.0")}}


def test_results_below_an_ended_loop_vanish_but_its_variable_stays() -> None:
    item = task("t", in_={"i": get("?i"), "x": get("?x")}, out={"?x": get("x")})
    workflow, _ = start(try_(parallelize("?i", [7, 8], do=serial(item, item)), ["h"]), {"?x": "root"})
    workflow.succeed(id_of("r.0.0.0"), {"x": 1})
    workflow.next()
    assert [entry.params["x"] for entry in workflow.rerun()] == [1, "root"]
    workflow.fail(id_of("r.0.1.0"))
    workflow.next()
    assert [(e.path, e.params.get("i"), e.params.get("x")) for e in workflow.rerun()] == [
        ("r.0.0.1", 7, "root"),
        ("r.1", None, None),
    ]
    assert workflow.succeed(id_of("r.0.0.1"), {"x": 2}).applied
    assert dict(workflow.scope) == {"?x": "root"}


def test_strings_loop_by_character_and_quoted_data_stands_as_it_is() -> None:
    plan = serialize("?c", "ab", do=task("t", in_={"c": get("?c"), "q": quote(["spigot/get", ("spigot/get", 1)])}))
    workflow, _ = start(plan)
    params = workflow.rerun()[0].params
    assert type(params["c"]) is Char
    assert params["c"] == "a"
    assert params["q"] == ["spigot/get", ("spigot/get", 1)]
    params["q"].append("changed")
    assert len(workflow.rerun()[0].params["q"]) == 2


def test_keys_of_the_engines_own_follow_the_plan() -> None:
    workflow, _ = start([Keyword("a")])
    (key,) = workflow.rerun()[0].params
    assert type(key) is Keyword
    workflow, _ = start(["a"])
    (key,) = workflow.rerun()[0].params
    assert type(key) is str


def test_an_oversize_task_fails_as_a_task() -> None:
    workflow = create(
        try_(
            parallelize("?x", get("?xs"), do=task("t", in_={"x": get("?x")})),
            catch("?e", task("h", in_=get("?none-but-map"))),
        ),
        {"?xs": ["small", "l" * 100], "?none-but-map": {}},
        id=RUN,
        task_size=lambda task: len(str(task.params)),
        max_task_bytes=120,
    )
    started = workflow.next()
    assert [entry.path for entry in started] == ["r.0.0", "r.1.0"]
    assert workflow.succeed(id_of("r.0.1")).reason == "already-finished"
    alone = create(task("t", in_={"x": "l" * 100}), task_size=lambda _: 101, max_task_bytes=100)
    assert alone.next() == []
    assert alone.error is not None
    assert (alone.error["type"], alone.error["path"]) == ("TaskTooLargeError", "r")
    assert "101 bytes, and 100 may be sent" in alone.error["message"]


def test_the_deepest_plan_runs() -> None:
    value: Any = get("?x")
    for depth in range(250):
        value = [value] if depth % 2 else {"k": value}
    plan: Any = task("a", in_={"x": value})
    for depth in range(255):
        plan = [serial, parallel, isolate, lambda p: try_(p, ["h"])][depth % 4](plan)
    workflow, (path,) = start(plan, {"?x": 1})
    assert path.count(".") == 255
    assert workflow.succeed(id_of(path)).applied
    assert workflow.status == "success"
    workflow.next()
    assert not workflow.has_more
