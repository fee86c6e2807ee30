"""The engine against the model of the specification, in memory, in parts, and started in small portions."""

from __future__ import annotations

from random import Random
from typing import Any
from uuid import UUID, uuid5

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spigot_topologies.workflow import DEFAULT, DictParts, Task, Workflow, create
from tests.spigot.engine.model import Model
from tests.spigot.engine.plans import plans, random_plan, random_script, scopes, scripts

RUN = UUID(int=7)


def boom(_: Any) -> Any:
    raise RuntimeError("boom")


REGISTRY = DEFAULT.extend(resolvers={"my/boom": boom})


def plain_error(error: Any) -> Any:
    """The engine's own errors say more than the model's."""
    if isinstance(error, dict) and set(error) >= {"message", "type", "path"}:
        return {key: value for key, value in error.items() if key not in ("message", "type")}
    if isinstance(error, dict):
        return {key: plain_error(value) for key, value in error.items()}
    return [plain_error(item) for item in error] if isinstance(error, list) else error


def shown(tasks: list[Any]) -> list[Any]:
    listed = [(task.path, task.tag, task.params) if isinstance(task, Task) else task for task in tasks]
    return [
        (path, tag, plain_error({key: value for key, value in params.items() if key != "spigot/id"}))
        for path, tag, params in listed
    ]


def seen(workflow: Workflow | Model) -> Any:
    running = workflow.running
    return (
        workflow.status,
        [entry if isinstance(entry, str) else entry.path for entry in running],
        plain_error(dict(workflow.scope)),
        plain_error(workflow.error),
    )


class Stored:
    """A workflow that is written and loaded again after every step."""

    def __init__(self, plan: Any, scope: Any) -> None:
        self.parts = DictParts()
        create(plan, scope, id=RUN, registry=REGISTRY, parts=self.parts).flush()

    def load(self) -> Workflow:
        workflow = Workflow.load(self.parts, registry=REGISTRY)
        assert workflow is not None
        return workflow

    def do(self, action: Any) -> Any:
        workflow = self.load()
        answer = action(workflow)
        workflow.flush()
        return answer


def in_portions(workflow: Workflow, limit: int) -> list[Task]:
    tasks = []
    while True:
        portion = workflow.next(limit)
        assert len(portion) <= limit
        tasks.extend(portion)
        if not workflow.has_more:
            return tasks


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plans, scopes, scripts)
def test_engine_behaves_like_the_model(plan: Any, scope: Any, script: Any) -> None:
    play(plan, scope, script)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32))
def test_engine_behaves_like_the_model_in_larger_cases(seed: int) -> None:
    rng = Random(seed)
    plan = random_plan(rng)
    play(plan, {"?a": [1, 2], "?b": [[3], [4]]}, random_script(rng, rng.choice([5, 10, 20])))


def play(plan: Any, scope: Any, script: Any) -> None:
    model = Model(plan, scope, RUN)
    workflow = create(plan, scope, id=RUN, registry=REGISTRY)
    portions = create(plan, scope, id=RUN, registry=REGISTRY)
    stored = Stored(plan, scope)
    known: list[str] = []
    for op, choice, result, error in script:
        running = model.running
        if op == "next" or not known:
            expected = model.next()
            known += [path for path, *_ in expected]
            assert shown(workflow.next()) == shown(expected)
            assert shown(in_portions(portions, 1 + choice % 3)) == shown(expected)
            found: list[Task] = []
            while True:
                found += stored.do(lambda w: w.next(2))
                if not stored.load().has_more:
                    break
            assert shown(found) == shown(expected)
            assert not workflow.has_more
        elif op == "rerun":
            expected = model.rerun()
            assert shown(workflow.rerun()) == shown(portions.rerun()) == shown(expected)
            assert shown(stored.do(lambda w: w.rerun())) == shown(expected)
        else:
            paths = known if op == "again" or not running else running
            path = paths[choice % len(paths)]
            id = uuid5(RUN, path)
            kind = "failure" if op == "fail" or (op == "again" and choice % 2) else "success"
            reason = model.result(path, kind, result if kind == "success" else error)
            for outcome in (
                deliver(workflow, id, kind, result, error),
                deliver(portions, id, kind, result, error),
                stored.do(lambda w: deliver(w, id, kind, result, error)),  # noqa: B023 - called at once
            ):
                assert outcome.reason == reason
        assert seen(workflow) == seen(model)
        assert seen(portions) == seen(model)
        assert seen(stored.load()) == seen(model)
    for node in model.root.nodes():
        if not node.is_task and node.entered:
            assert workflow.succeed(uuid5(RUN, node.path)).reason == "not-a-task"
            assert stored.load().succeed(uuid5(RUN, node.path)).reason == "not-a-task"


def deliver(workflow: Workflow, id: UUID, kind: str, result: Any, error: Any) -> Any:
    return workflow.succeed(id, result) if kind == "success" else workflow.fail(id, error)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plans, scopes, scripts)
def test_a_workflow_whose_tasks_all_get_results_ends(plan: Any, scope: Any, script: Any) -> None:
    workflow = create(plan, scope, id=RUN, registry=REGISTRY)
    choices = [*script, *[("succeed", 0, {"r": 1}, {})] * 300]
    waiting = workflow.next()
    for op, choice, result, error in choices:
        if not waiting or workflow.status in ("success", "failure"):
            break
        task = waiting.pop(choice % len(waiting))
        assert (workflow.fail(task.id, error) if op == "fail" else workflow.succeed(task.id, result)).applied
        waiting += workflow.next()
    assert workflow.status in ("success", "failure")
    assert workflow.running_count == len(waiting)
